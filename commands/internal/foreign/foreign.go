// Package foreign reads SAs and policies in the languages of other programs, for package
// render. The readers are strict: what they do not know is an error with its line, and what
// this program cannot have is an error or a note, never dropped silently.
package foreign

import (
	"fmt"
	"io"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/render"
	"github.com/klips-go/ipsec/klips"
)

// MaxText is the maximum size of a text, in bytes, in case the name is wrong and the file has
// no end, such as a device.
const MaxText = 4 << 20

// A Format is a language.
type Format struct {
	Name string // as on the command line
	Help string // what its text is
	read func(*reader) error
}

// Formats returns the languages, in the order of usage texts.
func Formats() []Format {
	return []Format{
		{"ip-xfrm", "commands of ip xfrm, or what ip xfrm state and ip xfrm policy list", readIPXfrm},
		{"setkey", "a file of setkey -f", readSetkey},
		{"ipsecctl", "a file of ipsecctl -f of OpenBSD, with manual keys", readIpsecctl},
	}
}

// An Error is an error in a text.
type Error struct {
	Line int // from 1
	Msg  string
}

func (e *Error) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Msg) }

func errorf(line int, format string, args ...any) error {
	return &Error{line, fmt.Sprintf(format, args...)}
}

// Read reads a text. It overwrites text, which has keys. The caller clears the Config. Errors
// about the text are *[Error], and show no keys.
func Read(format string, text []byte) (*render.Config, error) {
	defer clear(text)
	for _, f := range Formats() {
		if f.Name != format {
			continue
		}
		r := &reader{text: text, tuns: map[klips.SAID]bool{}}
		err := f.read(r)
		if err == nil {
			err = r.assemble()
		}
		if err != nil {
			r.clear()
			return nil, err
		}
		return &r.config, nil
	}
	var names []string
	for _, f := range Formats() {
		names = append(names, f.Name)
	}
	return nil, fmt.Errorf("no such format; there are %s", strings.Join(names, ", "))
}

// ReadAll reads a text from in, in one buffer that the caller clears.
func ReadAll(in io.Reader) ([]byte, error) {
	text := make([]byte, 0, 64<<10)
	for {
		if len(text) == cap(text) {
			if len(text) > MaxText {
				clear(text)
				return nil, fmt.Errorf("it is longer than %d bytes", MaxText)
			}
			longer := append(make([]byte, 0, 2*cap(text)), text...)
			clear(text)
			text = longer
		}
		n, err := in.Read(text[len(text):cap(text)])
		text = text[:len(text)+n]
		if err == io.EOF && len(text) > MaxText {
			err = fmt.Errorf("it is longer than %d bytes", MaxText)
		}
		if err == io.EOF {
			return text, nil
		}
		if err != nil {
			clear(text)
			return nil, err
		}
	}
}
