package ends

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"github.com/klips-go/ipsec/commands/internal/output"
)

// Mark is before and after the name of a section in the text of ipsec barf, and JSONSection
// the name of the one with the JSON.
const (
	Mark        = "===="
	JSONSection = "json"
)

// MaxSize is the length of the longest output of ipsec barf that is read, in bytes.
const MaxSize = 64 << 20

// ErrNone: a text has no JSON of ipsec barf.
var ErrNone = errors.New("it is no output of ipsec barf: the section " + Mark + " " + JSONSection + " " + Mark + " is missing, or cut off")

// Parse returns what an output of ipsec barf has about its host: the text, the archive of
// --tar, or the JSON alone. ErrNone: it has none.
func Parse(b []byte) (*output.Barf, error) {
	if entry := fromArchive(b); entry != nil {
		b = entry
	}
	if i := bytes.LastIndex(b, []byte("\n"+Mark+" "+JSONSection+" "+Mark+"\n")); i >= 0 {
		b = b[i:]
		if j := bytes.IndexByte(b, '{'); j >= 0 {
			b = b[j:]
		}
	}
	var list output.BarfList
	if json.NewDecoder(bytes.NewReader(b)).Decode(&list) != nil || len(list.Ends) != 1 {
		return nil, ErrNone
	}
	return &list.Ends[0], nil
}

// fromArchive returns the JSON in an archive; nil if b is none, or has none.
func fromArchive(b []byte) []byte {
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if err != nil {
			return nil
		}
		if h.Name == "barf/barf.json" {
			text, err := io.ReadAll(r)
			if err != nil {
				return nil
			}
			return text
		}
	}
}
