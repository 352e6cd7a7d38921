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

// defaultName is the name of the section with the default parameters of all conns.
const defaultName = "%default"

// A section is a section of a file.
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

// A File holds all conns of a file and of the files that it includes.
type File struct {
	name     string
	defaults []*section
	conns    map[string]*section
	setup    map[string]Param // of config setup
}

// Setup returns a parameter of config setup. A missing or empty parameter has the zero
// Pos.
func (f *File) Setup(name string) Param {
	if p := f.setup[name]; p.Value != "" {
		return p
	}
	return Param{Name: name, Section: "config setup"}
}

// SetupUnknown returns the parameters of config setup for which known returns false, in
// the order of their lines. Parameters that begin with x- or X_ are left out.
func (f *File) SetupUnknown(known func(name string) bool) (list []Param) {
	for name, p := range f.setup {
		if !isExtension(name) && !known(name) {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, byPos)
	return list
}

// Name returns the name that the file was loaded by.
func (f *File) Name() string { return f.name }

// Where returns the place of a conn; ok is false if there is none of that name.
func (f *File) Where(name string) (p Pos, ok bool) {
	if s := f.conns[name]; s != nil {
		return s.pos, true
	}
	return p, false
}

// Names returns the names of all conns except %default, in alphabetical order.
func (f *File) Names() []string { return slices.Sorted(maps.Keys(f.conns)) }

func isExtension(name string) bool {
	return strings.HasPrefix(name, "x-") || strings.HasPrefix(name, "X_")
}

func byPos(a, b Param) int {
	return cmp.Or(strings.Compare(a.Pos.File, b.Pos.File), a.Pos.Line-b.Pos.Line)
}

// A Conn is a connection with all its parameters.
type Conn struct {
	Name   string // all requested names, with blanks between them
	params map[string]Param
	pos    Pos
}

// maxName is the length of the longest name of a section or parameter, in bytes.
const maxName = 64

// CheckName returns an error if the name of a conn is not valid. A name begins with a
// letter and continues with letters, digits, ".", "_" and "-".
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

// Conn returns the parameters of one connection that consists of one or more conns:
// their own parameters, then those of the sections in also= and alsoflip=, and for
// missing ones those of %default. It is an error if a parameter appears twice, or if
// known returns false for it; all are the names that unknown ones are compared with.
// Parameters that begin with x- or X_ are left out.
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

// check refuses unknown parameters; it returns the first in the order of the file.
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
		// The text can be the rest of a base64 key, on a line of its own.
		return &Error{p.Pos, p.Section, "no such parameter; a value stands on the line of its parameter"}
	}
	return &Error{p.Pos, p.Section, fmt.Sprintf("no parameter %s; the name of one of your own begins with x-", quote.Value(p.Name))}
}

// missing returns the error that no conn has this name. It suggests the conn that was
// probably meant.
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
	used   map[string]Pos // the sections in it, and where they were named
	params map[string]Param
}

// add adds a section, with left and right exchanged if flip is set. from is the line
// that names it.
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

// Get returns a parameter. A missing or empty parameter has the zero Pos.
func (c *Conn) Get(name string) Param {
	if p := c.params[name]; p.Value != "" {
		return p
	}
	return Param{Name: name}
}

// Set sets a parameter.
func (c *Conn) Set(p Param) { c.params[p.Name] = p }

// Has reports whether a parameter exists and is not empty.
func (c *Conn) Has(name string) bool { return c.params[name].Value != "" }

// Errorf returns an Error about the whole connection.
func (c *Conn) Errorf(format string, args ...any) error {
	return &Error{c.pos, "conn " + c.Name, fmt.Sprintf(format, args...)}
}
