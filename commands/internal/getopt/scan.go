package getopt

import "strings"

// A Mode is a set of variations of the rules.
type Mode uint8

const (
	// LongOnly lets one dash be enough for a long option ("-virtual"), as
	// getopt_long_only does.
	LongOnly Mode = 1 << iota
	// InOrder ends the options at the first operand, as POSIX has it.
	InOrder
)

// EnvMode is InOrder if the environment asks for POSIX rules (POSIXLY_CORRECT
// is set and not empty), else zero.
func EnvMode(getenv func(string) string) Mode {
	if getenv != nil && getenv("POSIXLY_CORRECT") != "" {
		return InOrder
	}
	return 0
}

// Canonical returns the name of the option that o stands for: Same where it is
// set, else Name.
func (o *Option) Canonical() string {
	if o.Same != "" {
		return o.Same
	}
	return o.Name
}

// A Scanner hands out the options of a command line in the order in which they
// stand there.
type Scanner struct {
	opts     []Option
	rest     []string
	operands []string
	mode     Mode
	inserts  int
}

// NewScanner returns a Scanner of args, which do not hold the program's name.
// It keeps opts and does not change args.
func NewScanner(opts []Option, args []string, mode Mode) *Scanner {
	return &Scanner{opts: opts, rest: args, mode: mode}
}

// Next returns the next option, as an entry of the table (a synonym is not
// replaced, see [Option.Canonical]), and its value; nil after the last one. An
// error is an *[Error].
func (s *Scanner) Next() (*Option, string, error) {
	for len(s.rest) > 0 {
		arg := s.rest[0]
		if len(arg) < 2 || arg[0] != '-' {
			if s.mode&InOrder != 0 {
				s.operands, s.rest = append(s.operands, s.rest...), nil
				return nil, "", nil
			}
			s.operands, s.rest = append(s.operands, arg), s.rest[1:]
			continue
		}
		if arg == "--" {
			s.operands, s.rest = append(s.operands, s.rest[1:]...), nil
			return nil, "", nil
		}
		s.rest = s.rest[1:]
		return s.option(arg)
	}
	return nil, "", nil
}

// Operands returns the arguments that are no options and no values of options,
// as far as they have been met; all of them once Next has returned nil.
func (s *Scanner) Operands() []string { return s.operands }

// Insert puts arguments in front of those that are left.
func (s *Scanner) Insert(args []string) {
	s.rest = append(append(make([]string, 0, len(args)+len(s.rest)), args...), s.rest...)
}

// option reads the option that arg names; s.rest follows it.
func (s *Scanner) option(arg string) (*Option, string, error) {
	dashes := "--"
	if arg[1] != '-' {
		if s.mode&LongOnly == 0 {
			return nil, "", &Error{Kind: Unknown, Arg: arg, Candidates: s.oneDash(arg)}
		}
		dashes = "-"
	}
	name, value, hasValue := strings.Cut(arg[len(dashes):], "=")
	o, candidates := s.find(name)
	switch {
	case len(candidates) > 0:
		return nil, "", &Error{Kind: Ambiguous, Arg: dashes + name, Candidates: candidates}
	case o == nil:
		return nil, "", &Error{Kind: Unknown, Arg: dashes + name, Candidates: s.near(name)}
	case o.Arg == "" && hasValue:
		return nil, "", &Error{Kind: UnwantedValue, Arg: "--" + o.Name}
	case o.Arg == "" || hasValue:
		return o, value, nil
	case len(s.rest) == 0:
		return nil, "", &Error{Kind: MissingValue, Arg: "--" + o.Name, Want: o.Arg}
	}
	value, s.rest = s.rest[0], s.rest[1:]
	return o, value, nil
}

// find looks a name up: the exact one, else the only one that it begins, not
// counting those that are to be named as a whole. If it begins different options,
// these are the candidates.
func (s *Scanner) find(name string) (found *Option, candidates []string) {
	ambiguous := false
	for i := range s.opts {
		o := &s.opts[i]
		if o.Name == name {
			return o, nil
		}
		if o.Whole || !strings.HasPrefix(o.Name, name) {
			continue
		}
		candidates = append(candidates, "--"+o.Name)
		switch {
		case found == nil:
			found = o
		case found.Canonical() != o.Canonical():
			ambiguous = true
		}
	}
	if ambiguous {
		return nil, candidates
	}
	return found, nil
}

// oneDash suggests the option that a single dash was meant for.
func (s *Scanner) oneDash(arg string) []string {
	name, _, _ := strings.Cut(arg[1:], "=")
	if o, _ := s.find(name); o != nil && len(name) > 1 {
		return []string{"--" + o.Name}
	}
	return nil
}

// near suggests the options that differ from name in at most two letters, and
// in fewer than half of them.
func (s *Scanner) near(name string) []string {
	if len(name) > 32 {
		return nil
	}
	best, names := 3, []string(nil)
	for i := range s.opts {
		o := &s.opts[i]
		if o.Hidden {
			continue
		}
		d := distance(name, o.Name)
		if 2*d >= len(o.Name) || d > best {
			continue
		}
		if d < best {
			best, names = d, nil
		}
		if d < 3 {
			names = append(names, "--"+o.Name)
		}
	}
	return names
}

// distance is the least number of bytes to insert, remove or replace that makes
// b of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 0; i < len(a); i++ {
		diag := row[0]
		row[0] = i + 1
		for j := 0; j < len(b); j++ {
			d := diag
			if a[i] != b[j] {
				d++
			}
			diag = row[j+1]
			row[j+1] = min(d, row[j]+1, diag+1)
		}
	}
	return row[len(b)]
}

// Parse calls on for every option of args in their order, with its entry of the
// table and its value, and returns the operands. It stops at the first error:
// that of the command line (an *[Error]), or the one on returns.
func Parse(opts []Option, args []string, mode Mode, on func(o *Option, value string) error) (operands []string, err error) {
	s := NewScanner(opts, args, mode)
	for {
		o, value, err := s.Next()
		if err != nil {
			return nil, err
		}
		if o == nil {
			return s.Operands(), nil
		}
		if err := on(o, value); err != nil {
			return nil, err
		}
	}
}
