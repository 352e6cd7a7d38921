package conf

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/quote"
)

// defaultName names the section that gives missing parameters to all conns.
const defaultName = "%default"

// A section is a section as it stands in its file.
type section struct {
	kind, name string
	pos        Pos
	params     []Param
}

func (s *section) title() string {
	if s == nil {
		return ""
	}
	return s.kind + " " + s.name
}

// A File is all conns of a file and of those that it includes.
type File struct {
	name     string
	defaults []*section
	conns    map[string]*section
	setup    map[string]Param // of config setup
}

// Setup returns a parameter of config setup; one that is missing or has an empty
// value has the zero Pos.
func (f *File) Setup(name string) Param {
	if p := f.setup[name]; p.Value != "" {
		return p
	}
	return Param{Name: name, Section: "config setup"}
}

// SetupUnknown returns the parameters of config setup that known does not report
// as known, in the order of their lines. Those that begin with x- or X_ are known.
func (f *File) SetupUnknown(known func(name string) bool) (list []Param) {
	for name, p := range f.setup {
		if !isExtension(name) && !known(name) {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, byPos)
	return list
}

// Names returns the names of all conns but %default, in alphabetical order.
func (f *File) Names() []string { return slices.Sorted(maps.Keys(f.conns)) }

func isExtension(name string) bool {
	return strings.HasPrefix(name, "x-") || strings.HasPrefix(name, "X_")
}

func byPos(a, b Param) int {
	return cmp.Or(strings.Compare(a.Pos.File, b.Pos.File), a.Pos.Line-b.Pos.Line)
}

// A Conn is a connection whose parameters have been put together.
type Conn struct {
	Name   string // all names that were asked for, with blanks between them
	params map[string]Param
	pos    Pos
}

// maxName is the length of the longest name of a section or parameter, in bytes.
const maxName = 64

// CheckName says what is wrong with the name of a conn: it begins with a letter
// and goes on with letters, digits, ".", "_" and "-".
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("it has no name")
	case len(name) > maxName:
		return fmt.Errorf("the name is longer than %d characters", maxName)
	case !isName(name):
		return fmt.Errorf("%s is no name; a name is a letter, then letters, digits, dots, hyphens and underscores", quote.Value(name))
	}
	return nil
}

func isName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		case i > 0 && ('0' <= c && c <= '9' || c == '.' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return true
}

// Conn puts together the parameters of one or more conns, which make one
// connection: their own, those of the sections they name with also= and
// alsoflip=, and for what is then missing those of %default. A parameter that
// is there twice, or that known does not report as known, is an error; names
// are what unknown ones are compared with. Parameters that begin with x- or X_
// are left out.
func (f *File) Conn(names []string, known func(name string) bool, all []string) (*Conn, error) {
	e := &expansion{file: f, used: map[string]Pos{}, params: map[string]Param{}}
	for _, name := range names {
		if err := CheckName(name); err != nil {
			return nil, fmt.Errorf("conn: %w", err)
		}
		s := f.conns[name]
		if s == nil {
			return nil, f.missing(name, Pos{}, "")
		}
		if err := e.add(s, false, s.pos); err != nil {
			return nil, err
		}
	}
	defaults := map[string]Param{}
	for _, s := range f.defaults {
		twice := map[string]bool{}
		for _, p := range s.params {
			switch {
			case p.Name == "also" || p.Name == "alsoflip":
				return nil, p.Error("it is not allowed in conn %default")
			case twice[p.Name]:
				return nil, p.Error("it was given before in this section")
			}
			twice[p.Name] = true
			defaults[p.Name] = p
		}
	}
	for name, p := range defaults {
		if _, ok := e.params[name]; !ok {
			e.params[name] = p
		}
	}
	c := &Conn{Name: strings.Join(names, " "), params: e.params, pos: f.conns[names[0]].pos}
	return c, c.check(known, all)
}

// check refuses unknown parameters, the first in the order of the file.
func (c *Conn) check(known func(string) bool, all []string) error {
	var wrong []Param
	for name, p := range c.params {
		if isExtension(name) {
			delete(c.params, name)
		} else if !known(name) {
			wrong = append(wrong, p)
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	p := slices.MinFunc(wrong, byPos)
	near := getopt.Nearest(p.Name, all)
	switch {
	case near != "":
		return &Error{p.Pos, p.Section, fmt.Sprintf("no parameter %s; did you mean %s?", quote.Value(p.Name), near)}
	case strings.Trim(p.Value, "=") == "":
		// It can be the rest of a key in base64, on a line of its own.
		return &Error{p.Pos, p.Section, "no such parameter; a value stands on the line of its parameter"}
	}
	return &Error{p.Pos, p.Section, fmt.Sprintf("no parameter %s; the name of one of your own begins with x-", quote.Value(p.Name))}
}

// missing says that there is no conn of that name, and which was perhaps meant.
func (f *File) missing(name string, pos Pos, section string) error {
	msg := fmt.Sprintf("no conn %s", quote.Value(name))
	if pos == (Pos{}) {
		msg += " in " + quote.File(f.name)
	}
	if near := getopt.Nearest(name, f.Names()); near != "" {
		msg += fmt.Sprintf("; did you mean %s?", near)
	}
	return &Error{pos, section, msg}
}

// An expansion collects the parameters of a connection.
type expansion struct {
	file   *File
	used   map[string]Pos // sections that are in it, and who named them
	params map[string]Param
}

// add adds a section, with left and right exchanged if flip is set; from is
// what names it.
func (e *expansion) add(s *section, flip bool, from Pos) error {
	if at, ok := e.used[s.name]; ok {
		return &Error{from, s.title(), "it is part of the connection already, by " + at.String()}
	}
	e.used[s.name] = from
	var also []Param
	for _, p := range s.params {
		if p.Name == "also" || p.Name == "alsoflip" {
			also = append(also, p)
			continue
		}
		if flip {
			p.Name = Flip(p.Name)
		}
		if other, ok := e.params[p.Name]; ok {
			return p.Error("it was given before, at " + other.Pos.String())
		}
		e.params[p.Name] = p
	}
	for _, p := range also {
		t := e.file.conns[p.Value]
		if t == nil {
			return e.file.missing(p.Value, p.Pos, p.Section)
		}
		if err := e.add(t, flip != (p.Name == "alsoflip"), p.Pos); err != nil {
			return err
		}
	}
	return nil
}

// Flip exchanges left and right at the beginning of a parameter's name.
func Flip(name string) string {
	if rest, ok := strings.CutPrefix(name, "left"); ok {
		return "right" + rest
	}
	if rest, ok := strings.CutPrefix(name, "right"); ok {
		return "left" + rest
	}
	return name
}

// Get returns a parameter; one with an empty value counts as missing and has
// the zero Param's Pos.
func (c *Conn) Get(name string) Param {
	if p := c.params[name]; p.Value != "" {
		return p
	}
	return Param{Name: name}
}

// Has reports whether a parameter is there and not empty.
func (c *Conn) Has(name string) bool { return c.params[name].Value != "" }

// Errorf makes an Error of the whole connection.
func (c *Conn) Errorf(format string, args ...any) error {
	return &Error{c.pos, "conn " + c.Name, fmt.Sprintf(format, args...)}
}
