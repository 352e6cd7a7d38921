package batch

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// A splitter splits the lines of one command into words by the rules of sh, but expands
// nothing. Blanks and tabs separate words. '…' keeps everything. "…" keeps everything
// except a backslash before one of $ ` " and \. Elsewhere a backslash keeps the next
// character. # at the beginning of a word begins a comment. A backslash at the end of a
// line continues the command on the next line.
type splitter struct {
	text []byte // all words, without blanks between them
	ends []int  // where in text each word ends
	open bool   // the last word has no end yet
	// quoted is set if the previous line ended with a backslash within "…".
	quoted bool
}

var (
	errSingle = errors.New("a single quote is not closed on its line")
	errDouble = errors.New("a double quote is not closed on its line")
	errEnd    = errors.New("a backslash at the end of the last line; there is nothing it could go on with")
)

// add reads a line without its newline. more reports that the command continues on the
// next line. It is also set with an error, so that the rest of a wrong command can be
// skipped. Errors do not repeat the line: it can hold keys.
func (s *splitter) add(line []byte) (more bool, err error) {
	if err := checkText(line); err != nil {
		return endsWithBackslash(line), err
	}
	quote := byte(0)
	if s.quoted {
		quote, s.quoted = '"', false
	}
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote == '\'' && c == '\'', quote == '"' && c == '"':
			quote = 0
		case quote == '\'':
			s.text = append(s.text, c)
		case c == '\\' && i+1 == len(line):
			s.quoted = quote == '"'
			return true, nil
		case c == '\\' && quote == '"' && !isEscaped(line[i+1]):
			s.text = append(s.text, c)
		case c == '\\':
			i++
			s.text, s.open = append(s.text, line[i]), true
		case quote == '"':
			s.text = append(s.text, c)
		case c == '\'' || c == '"':
			quote, s.open = c, true
		case c == ' ' || c == '\t':
			s.end()
		case c == '#' && !s.open:
			return false, nil
		default:
			s.text, s.open = append(s.text, c), true
		}
	}
	switch quote {
	case '\'':
		return endsWithBackslash(line), errSingle
	case '"':
		return false, errDouble
	}
	s.end()
	return false, nil
}

// end ends a word if there is one.
func (s *splitter) end() {
	if s.open {
		s.ends, s.open = append(s.ends, len(s.text)), false
	}
}

// words returns the words, and resets the splitter.
func (s *splitter) words() []string {
	s.end()
	var words []string
	if len(s.ends) > 0 {
		text, from := string(s.text), 0
		words = make([]string, len(s.ends))
		for i, to := range s.ends {
			words[i], from = text[from:to], to
		}
	}
	clear(s.text) // there were keys in it
	s.text, s.ends, s.quoted = s.text[:0], s.ends[:0], false
	return words
}

// isEscaped reports whether a backslash before c, within double quotes, is removed.
func isEscaped(c byte) bool { return c == '$' || c == '`' || c == '"' || c == '\\' }

// endsWithBackslash reports whether a line that is in error was meant to continue.
func endsWithBackslash(line []byte) bool {
	n := 0
	for n < len(line) && line[len(line)-1-n] == '\\' {
		n++
	}
	return n%2 == 1
}

// checkText returns an error for bytes that are not text.
func checkText(line []byte) error {
	for i, c := range line {
		if c < ' ' && c != '\t' || c == 0x7f {
			return fmt.Errorf("there is a byte 0x%02x at column %d; this is no text", c, i+1)
		}
	}
	if !utf8.Valid(line) {
		return errors.New("there are bytes that are no UTF-8; this is no text")
	}
	return nil
}
