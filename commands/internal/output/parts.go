package output

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"iter"

	"github.com/klips-go/ipsec/klips"
)

// The functions of this file write a list as [Print] does, but one part of its records
// after the other, without the whole list in memory. Each snapshot has a part; without a
// part nothing is written. After an error, which they return, the list has no end, so that
// nobody takes it for a whole one.

// WriteSPIParts writes an [SPIList].
func WriteSPIParts(w io.Writer, stack string, parts iter.Seq2[*klips.Snapshot, error]) error {
	return writeParts(w, NewHead(stack), "spi", parts, func(s *klips.Snapshot, add func(record any) error) error {
		return addEach(s.SAs, newSA, add)
	})
}

// WriteErouteParts writes an [ErouteList].
func WriteErouteParts(w io.Writer, stack string, parts iter.Seq2[*klips.Snapshot, error]) error {
	return writeParts(w, NewHead(stack), "eroute", parts, func(s *klips.Snapshot, add func(record any) error) error {
		return addEach(s.Eroutes, newEroute, add)
	})
}

func addEach[T, R any](values []T, record func(*T) R, add func(any) error) error {
	for i := range values {
		if err := add(record(&values[i])); err != nil {
			return err
		}
	}
	return nil
}

func writeParts(w io.Writer, h Head, name string, parts iter.Seq2[*klips.Snapshot, error], records func(s *klips.Snapshot, add func(record any) error) error) error {
	begun, n := false, 0
	var b bytes.Buffer
	e := encoder(&b)
	e.SetIndent("    ", "  ")
	add := func(r any) error {
		if n++; n > 1 {
			b.WriteByte(',')
		}
		b.WriteString("\n    ")
		if err := e.Encode(r); err != nil {
			return err
		}
		b.Truncate(b.Len() - 1) // the newline
		_, err := b.WriteTo(w)
		return err
	}
	for part, err := range parts {
		if err != nil {
			return err
		}
		if !begun {
			begun = true
			fmt.Fprintf(&b, "{\n  %q: %d,\n", "schema", h.Schema)
			if h.Stack != "" {
				fmt.Fprintf(&b, "  %q: %q,\n", "stack", h.Stack)
			}
			fmt.Fprintf(&b, "  %q: [", name)
		}
		if err := records(part, add); err != nil {
			return err
		}
	}
	if !begun {
		return nil
	}
	if n > 0 {
		b.WriteString("\n  ")
	}
	b.WriteString("]\n}\n")
	_, err := b.WriteTo(w)
	return err
}

// encoder returns an encoder that does not escape for HTML: -> in a line of a table would
// become unreadable.
func encoder(w io.Writer) *json.Encoder {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e
}
