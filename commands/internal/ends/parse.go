package ends

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"

	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/commands/internal/quote"
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
// --tar, or the JSON alone. Its texts can be printed. ErrNone: it has none. A *[SchemaError]: it
// is of another version.
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
	if json.NewDecoder(bytes.NewReader(b)).Decode(&list) != nil || len(list.Ends) != 1 || list.Ends[0].Program == "" {
		return nil, ErrNone
	}
	if list.Schema != output.Schema {
		return nil, &SchemaError{list.Schema}
	}
	printable(reflect.ValueOf(&list.Ends[0]))
	return &list.Ends[0], nil
}

// A SchemaError: the JSON has another schema than that of this program, so its fields can mean
// something else.
type SchemaError struct{ Schema int }

func (e *SchemaError) Error() string {
	return fmt.Sprintf("its schema is %d, and this program knows %d: the programs of the two ends are of different versions", e.Schema, output.Schema)
}

// printable escapes what cannot be printed in all texts: they come from another host, and
// become parts of lines.
func printable(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			printable(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				printable(v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			printable(v.Index(i))
		}
	case reflect.String:
		v.SetString(quote.Printable(v.String()))
	}
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
