package getopt

import "strings"

// A Mode is a set of variations of the rules.
type Mode uint8

const (
	// LongOnly accepts long options with one dash ("-virtual"), as getopt_long_only
	// does.
	LongOnly Mode = 1 << iota
	// InOrder ends the options at the first operand, as in POSIX.
	InOrder
)

// EnvMode returns InOrder if the environment requests POSIX rules (POSIXLY_CORRECT is
// set and not empty), else zero.
func EnvMode(getenv func(string) string) Mode {
	if getenv != nil && getenv("POSIXLY_CORRECT") != "" {
		return InOrder
	}
	return 0
}

// Canonical returns the canonical name of o: Same if it is set, else Name.
func (o *Option) Canonical() string {
	if o.Same != "" {
		return o.Same
	}
	return o.Name
}

// A Scanner returns the options of a command line in their order.
type Scanner struct {
	opts     []Option
	rest     []string
	operands []string
	places   []int // of the operands, see Place
	args     int   // number of arguments at the start
	last     int   // place of the option that Next has returned last
	left     int   // at most this many of them are at the end of rest
	mode     Mode
	inserts  int
}

// NewScanner returns a Scanner of args, which do not include the program's name. It
// keeps opts and does not change args.
func NewScanner(opts []Option, args []string, mode Mode) *Scanner {
	return &Scanner{opts: opts, rest: args, args: len(args), left: len(args), mode: mode}
}

// Next returns the next option as its entry in the table, and its value. It does not
// replace synonyms, see [Option.Canonical]. After the last option it returns nil. An
// error is an *[Error].
func (s *Scanner) Next() (*Option, string, error) {
	for len(s.rest) > 0 {
		arg := s.rest[0]
		if len(arg) < 2 || arg[0] != '-' {
			if s.mode&InOrder != 0 {
				s.operand(len(s.rest))
				return nil, "", nil
			}
			s.operand(1)
			continue
		}
		if arg == "--" {
			s.take()
			s.operand(len(s.rest))
			return nil, "", nil
		}
		s.last = s.place()
		s.take()
		return s.option(arg)
	}
	return nil, "", nil
}

// operand stores the next n arguments as operands.
func (s *Scanner) operand(n int) {
	for range n {
		s.places = append(s.places, s.place())
		s.operands = append(s.operands, s.take())
	}
}

// take removes the next argument and returns it.
func (s *Scanner) take() string {
	arg := s.rest[0]
	s.rest = s.rest[1:]
	s.left = min(s.left, len(s.rest))
	return arg
}

// place returns the number of the next argument, from 1; 0 if it was inserted.
func (s *Scanner) place() int {
	if len(s.rest) > s.left {
		return 0
	}
	return s.args - len(s.rest) + 1
}

// Place returns the number of operand i among the arguments, from 1; 0 if it was
// inserted.
func (s *Scanner) Place(i int) int { return s.places[i] }

// Operands returns the operands found so far; all of them after Next has returned nil.
func (s *Scanner) Operands() []string { return s.operands }

// Insert inserts arguments before the remaining ones.
func (s *Scanner) Insert(args []string) {
	s.rest = append(append(make([]string, 0, len(args)+len(s.rest)), args...), s.rest...)
}

// option parses the option in arg; s.rest follows it.
func (s *Scanner) option(arg string) (*Option, string, error) {
	dashes := "--"
	if arg[1] != '-' {
		dashes = "-"
	}
	name, value, hasValue := strings.Cut(arg[len(dashes):], "=")
	fail := func(kind Kind, arg, want string, candidates []string, near bool) (*Option, string, error) {
		return nil, "", &Error{Kind: kind, Arg: arg, Place: s.last, Candidates: candidates, Want: want, near: near}
	}
	if dashes == "-" && s.mode&LongOnly == 0 {
		// A single dash was meant for a long option.
		if o, _ := s.find(name); o != nil && len(name) > 1 {
			return fail(Unknown, dashes+name, "", []string{"--" + o.Name}, true)
		}
		if near := s.near(name); near != nil {
			return fail(Unknown, dashes+name, "", near, true)
		}
		return fail(Unknown, dashes+name, "", s.glued(name), false)
	}
	o, candidates := s.find(name)
	switch {
	case len(candidates) > 0:
		return fail(Ambiguous, dashes+name, "", candidates, true)
	case o == nil:
		if near := s.near(name); near != nil {
			return fail(Unknown, dashes+name, "", near, true)
		}
		return fail(Unknown, dashes+name, "", s.glued(name), false)
	case o.Arg == "" && hasValue:
		return fail(UnwantedValue, "--"+o.Name, "", nil, true)
	case o.Arg == "" || hasValue:
		return o, value, nil
	case len(s.rest) == 0:
		return fail(MissingValue, "--"+o.Name, o.Arg, nil, true)
	}
	return o, s.take(), nil
}

// find looks a name up: the option with exactly this name, else the only one that
// begins with it, without those that must be written in full. If different options
// begin with name, they are the candidates.
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

// glued suggests the option that takes a value and that is the beginning of name: the
// rest of name is probably its value.
func (s *Scanner) glued(name string) []string {
	for i := range s.opts {
		if o := &s.opts[i]; o.Arg != "" && !o.Hidden && len(o.Name) > 2 && strings.HasPrefix(name, o.Name) {
			return []string{"--" + o.Name}
		}
	}
	return nil
}

// near suggests the options that differ from name in at most two letters, and in fewer
// than half of them.
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

// distance returns the smallest number of edits that turn a into b. An edit inserts,
// removes or replaces a byte, or swaps two neighbours; no byte takes part in two edits
// (optimal string alignment, a form of Damerau-Levenshtein).
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, before
		row[0] = i
		for j := 1; j <= len(b); j++ {
			d := last[j-1]
			if a[i-1] != b[j-1] {
				d++
			}
			row[j] = min(d, last[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}

// Parse calls on for each option of args in order, with its entry of the table and its
// value, and returns the operands. It stops at the first error: that of the command
// line (an *[Error]), or that of on.
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
