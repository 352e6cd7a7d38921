package conf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/quote"
)

// Limits for wrong files and for loops of include lines.
const (
	maxFile  = 1 << 20 // bytes in a file
	maxDepth = 10      // files included by each other
	maxFiles = 1000    // files in all
)

// A Loader reads files. The zero Loader uses the file system.
type Loader struct {
	NoInclude bool // include lines are ignored
	// ReadFile and Glob replace the functions of the system; nil means those.
	ReadFile func(name string) ([]byte, error)
	Glob     func(pattern string) ([]string, error)
}

// Load reads a file and the files that it includes. Errors of the text are *[Error].
// For errors of the system, errors.Is works.
func (l Loader) Load(name string) (*File, error) {
	if l.ReadFile == nil {
		l.ReadFile = readFile
	}
	if l.Glob == nil {
		l.Glob = filepath.Glob
	}
	r := &reader{loader: l, file: &File{name: name, conns: map[string]*section{}, setup: map[string]Param{}}}
	if err := r.read(name, Pos{}); err != nil {
		return nil, err
	}
	return r.file, nil
}

// plainPath returns err with its file name in a form for a message.
func plainPath(err error) error {
	var e *fs.PathError
	if errors.As(err, &e) {
		return &fs.PathError{Op: e.Op, Path: quote.File(e.Path), Err: e.Err}
	}
	return err
}

// readFile reads at most a little more than maxFile bytes.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return read(f)
}

func read(f *os.File) ([]byte, error) { return io.ReadAll(io.LimitReader(f, maxFile+1)) }

// A reader reads one file with its included files.
type reader struct {
	loader Loader
	file   *File
	chain  []string // the files that are being read, the innermost last
	files  int

	cur   *section // nil outside of sections
	last  *section // the latest section, and where it ended
	ended Pos
	named bool // a conn other than %default has been read
}

// read reads one file; from is the include line that names it.
func (r *reader) read(name string, from Pos) error {
	fail := func(format string, args ...any) error {
		return &Error{Pos: from, Msg: fmt.Sprintf(format, args...)}
	}
	// A loop through two names of one file is not found here; maxDepth ends it.
	if slices.Contains(r.chain, name) {
		return fail("include: %s is being read already; it would include itself", quote.File(name))
	}
	if len(r.chain) == maxDepth {
		return fail("include: more than %d files that include each other", maxDepth)
	}
	if r.files++; r.files > maxFiles {
		return fail("include: more than %d files", maxFiles)
	}
	text, err := r.loader.ReadFile(name)
	switch {
	case err != nil && from != (Pos{}):
		return fmt.Errorf("%s: include: %w", from, plainPath(err))
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w; name another file with --config", plainPath(err))
	case err != nil:
		return plainPath(err)
	case len(text) > maxFile:
		return &Error{Pos: Pos{name, 1}, Msg: fmt.Sprintf("the file is longer than %d bytes; is it the right one?", maxFile)}
	case bytes.HasPrefix(text, []byte("\xff\xfe")) || bytes.HasPrefix(text, []byte("\xfe\xff")):
		return &Error{Pos: Pos{name, 1}, Msg: "the file is in UTF-16; save it as plain text (UTF-8)"}
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // a byte order mark, which some editors write
	r.chain = append(r.chain, name)
	defer func() { r.chain = r.chain[:len(r.chain)-1] }()
	pos := Pos{File: name}
	for line := range strings.Lines(string(text)) {
		pos.Line++
		if err := r.line(strings.TrimRight(line, "\r\n"), pos); err != nil {
			return err
		}
	}
	r.end(pos)
	return nil
}

func (r *reader) end(pos Pos) {
	if r.cur != nil {
		r.last, r.ended, r.cur = r.cur, pos, nil
	}
}

// line handles one line without its line end.
func (r *reader) line(line string, pos Pos) error {
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\r':
			return &Error{pos, r.cur.title(), "a carriage return in the middle of the line; end lines with a line feed (LF or CR LF)"}
		case c < ' ' && c != '\t' || c == 0x7f:
			return &Error{pos, r.cur.title(), fmt.Sprintf("control character 0x%02x; is this a text file?", c)}
		}
	}
	indented := line != "" && (line[0] == ' ' || line[0] == '\t')
	text := strings.TrimSpace(Uncomment(line))
	if !indented && (text != "" || line == "") {
		r.end(pos)
	}
	switch {
	case text == "":
		return nil
	case strings.HasSuffix(text, `\`):
		return &Error{pos, r.cur.title(), `a \ at the end does not continue a line; write all of it on one line`}
	case indented:
		return r.param(text, pos)
	}
	word, rest, _ := strings.Cut(strings.ReplaceAll(text, "\t", " "), " ")
	rest = strings.TrimSpace(rest)
	fail := func(format string, args ...any) error {
		return &Error{Pos: pos, Msg: fmt.Sprintf(format, args...)}
	}
	switch word {
	case "version":
		if rest != "2" && !strings.HasPrefix(rest, "2.") {
			return fail("version: only version 2 of the format is supported; write version 2")
		}
		if r.last != nil {
			return fail("version: it must come before all sections")
		}
		return nil
	case "include":
		return r.include(rest, pos)
	case "config":
		if rest != "setup" {
			return fail("config: the only section of this kind is config setup")
		}
		r.cur = &section{kind: "config", name: "setup", pos: pos}
		return nil
	case "conn":
		return r.conn(rest, pos)
	case "ca":
		// Sections of certificate authorities are for connections with automatic
		// keying.
		r.cur = &section{kind: "ca", name: quote.Value(rest), pos: pos}
		return nil
	}
	if strings.Contains(text, "=") {
		return fail("a parameter must be indented; only version, include, config, conn and ca begin a line")
	}
	if near := getopt.Nearest(strings.ToLower(word), marginWords); near != "" {
		return fail("%s begins no line; did you mean %s?", quote.Value(word), near)
	}
	return fail("neither version, include, config, conn nor ca")
}

// marginWords are the words that begin a line without indentation.
var marginWords = []string{"version", "include", "config", "conn", "ca"}

// Uncomment returns a line of a file without its comment. A "#" begins one at the start of the
// line or after a blank, and not between double quotes.
func Uncomment(line string) string {
	quoted := false
	for i := 0; i < len(line); i++ {
		switch {
		case line[i] == '"':
			quoted = !quoted
		case line[i] == '#' && !quoted && (i == 0 || line[i-1] == ' ' || line[i-1] == '\t'):
			return line[:i]
		}
	}
	return line
}

func (r *reader) include(pattern string, pos Pos) error {
	if n := len(pattern); n >= 2 && pattern[0] == '"' && pattern[n-1] == '"' {
		pattern = pattern[1 : n-1]
	}
	if pattern == "" {
		return &Error{Pos: pos, Msg: "include needs a file name"}
	}
	if r.loader.NoInclude {
		return nil
	}
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(filepath.Dir(pos.File), pattern)
	}
	names := []string{filepath.Clean(pattern)}
	if strings.ContainsAny(pattern, "*?[") {
		var err error
		if names, err = r.loader.Glob(pattern); err != nil {
			return &Error{Pos: pos, Msg: "include: the pattern is wrong: " + err.Error()}
		}
	}
	for _, name := range names {
		if err := r.read(name, pos); err != nil {
			return err
		}
	}
	return nil
}

// conn begins a section.
func (r *reader) conn(name string, pos Pos) error {
	s := &section{kind: "conn", name: name, pos: pos}
	if name == defaultName {
		if r.named {
			return &Error{pos, s.title(), "it must come before all other conns"}
		}
		r.file.defaults = append(r.file.defaults, s)
		r.cur = s
		return nil
	}
	r.named = true
	if err := CheckName(name); err != nil {
		return &Error{Pos: pos, Msg: "conn: " + err.Error()}
	}
	if other := r.file.conns[name]; other != nil {
		return &Error{pos, s.title(), "it is defined at " + other.pos.String() + " already"}
	}
	r.file.conns[name] = s
	r.cur = s
	return nil
}

// param handles an indented line.
func (r *reader) param(text string, pos Pos) error {
	if r.cur == nil {
		msg := "a parameter outside of a section"
		if r.last != nil && r.ended.File == pos.File {
			msg += fmt.Sprintf("; line %d, which is empty or not indented, ended %s", r.ended.Line, r.last.title())
		}
		return &Error{Pos: pos, Msg: msg}
	}
	fail := func(msg string) error { return &Error{pos, r.cur.title(), msg} }
	name, value, ok := strings.Cut(text, "=")
	if !ok {
		if word := strings.Fields(text)[0]; slices.Contains(marginWords, word) {
			return fail(word + " must not be indented")
		}
		return fail("a line without =; write parameter=value, all of it on one line")
	}
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	if !isName(name) {
		return fail("no parameter's name before =; a value stands on the line of its parameter")
	}
	shown := quote.Value(name)
	if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
		value = value[1 : n-1]
	} else if n >= 2 && value[0] == '{' && value[n-1] == '}' {
		// Only connections with automatic keying have lists.
	} else if strings.ContainsAny(value, " \t") {
		return fail(shown + ": a value with blanks stands in double quotes")
	}
	if strings.Contains(value, `"`) {
		return fail(shown + ": double quotes stand around the whole value, none in it")
	}
	p := Param{name, value, pos, r.cur.title()}
	if r.cur.kind == "config" {
		if other, ok := r.file.setup[name]; ok {
			return p.Error("it was given before, at " + other.Pos.String())
		}
		r.file.setup[name] = p
	}
	r.cur.params = append(r.cur.params, p)
	return nil
}
