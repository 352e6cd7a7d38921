// Package openmetrics writes metrics as text, in the form of OpenMetrics 1.0 or in that of
// Prometheus before it (version 0.0.4).
//
// Samples are whole numbers: everything that a stack counts is one. A family is written in
// one piece, as OpenMetrics demands, so that only one sample is in memory at a time.
package openmetrics

import (
	"io"
	"strconv"

	"github.com/klips-go/ipsec/commands/internal/quote"
)

// A Form is a form of the text.
type Form uint8

// The forms.
const (
	OpenMetrics Form = iota // OpenMetrics 1.0
	Prometheus              // version 0.0.4 of Prometheus' own form
)

// ContentType returns the media type of a form.
func (f Form) ContentType() string {
	if f == Prometheus {
		return "text/plain; version=0.0.4; charset=utf-8"
	}
	return "application/openmetrics-text; version=1.0.0; charset=utf-8"
}

// A Type is the type of a family.
type Type string

// The types that the program has.
const (
	Gauge    Type = "gauge"
	Counter  Type = "counter"
	Info     Type = "info"
	StateSet Type = "stateset"
)

// A Family is a set of samples that have one name and different labels.
type Family struct {
	// Name is without the suffix _total or _info. It ends in the unit, if there is one.
	Name string
	Type Type
	Unit string // "seconds", "bytes"; empty: none
	Help string // one sentence, without control characters
}

// sample returns the name of the family's samples. Those of Prometheus' form have the names
// that Prometheus stores, which are the same.
func (f *Family) sample() string {
	switch f.Type {
	case Counter:
		return f.Name + "_total"
	case Info:
		return f.Name + "_info"
	}
	return f.Name
}

// A Label is a name and a value, by which the samples of a family differ. An empty value is
// the same as no label.
type Label struct{ Name, Value string }

// A Writer writes families. Its methods return no errors; End returns the first one of the
// output.
type Writer struct {
	out    io.Writer
	form   Form
	family Family
	line   []byte
	err    error
}

// NewWriter returns a Writer to out, which should be buffered: a sample is one Write.
func NewWriter(out io.Writer, form Form) *Writer { return &Writer{out: out, form: form} }

// Begin begins a family. Each must be written only once.
func (w *Writer) Begin(f Family) {
	w.family = f
	name, typ := f.Name, f.Type
	if w.form == Prometheus {
		// That form has no such types, and describes samples by their whole names.
		name = f.sample()
		if typ == Info || typ == StateSet {
			typ = Gauge
		}
	}
	w.line = append(w.line[:0], "# TYPE "+name+" "+string(typ)+"\n"...)
	if f.Unit != "" && w.form == OpenMetrics {
		w.line = append(w.line, "# UNIT "+name+" "+f.Unit+"\n"...)
	}
	w.line = append(w.line, "# HELP "+name+" "...)
	w.line = append(appendEscaped(w.line, f.Help), '\n')
	w.write()
}

// Sample writes a sample of the family that was begun last.
func (w *Writer) Sample(value uint64, labels ...Label) {
	w.line = append(append(w.line[:0], w.family.sample()...), '{')
	for _, l := range labels {
		w.label(l)
	}
	w.value(value)
}

// States writes the samples of a state set: one for each of all states, of which the object
// with the labels has the state now.
func (w *Writer) States(all []string, now string, labels ...Label) {
	for _, state := range all {
		w.line = append(append(w.line[:0], w.family.Name...), '{')
		for _, l := range labels {
			w.label(l)
		}
		w.label(Label{w.family.Name, state})
		w.value(Bool(state == now))
	}
}

// Bool returns the value of a sample that is either 0 or 1.
func Bool(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// End writes the end of the text. It returns the first error of the output.
func (w *Writer) End() error {
	if w.form == OpenMetrics {
		w.line = append(w.line[:0], "# EOF\n"...)
		w.write()
	}
	return w.err
}

// Err returns the first error of the output so far.
func (w *Writer) Err() error { return w.err }

// label appends a label to the line. Names of devices can contain any bytes, so unprintable
// characters are escaped as in all other output.
func (w *Writer) label(l Label) {
	if l.Value == "" {
		return
	}
	if w.line[len(w.line)-1] != '{' {
		w.line = append(w.line, ',')
	}
	w.line = append(append(w.line, l.Name...), `="`...)
	w.line = append(appendEscaped(w.line, quote.Printable(l.Value)), '"')
}

// value ends the line.
func (w *Writer) value(v uint64) {
	if last := len(w.line) - 1; w.line[last] == '{' {
		w.line = w.line[:last]
	} else {
		w.line = append(w.line, '}')
	}
	w.line = append(strconv.AppendUint(append(w.line, ' '), v, 10), '\n')
	w.write()
}

func (w *Writer) write() {
	if w.err == nil {
		_, w.err = w.out.Write(w.line)
	}
}

// appendEscaped appends a text with the escapes that both forms have.
func appendEscaped(b []byte, text string) []byte {
	for i := range len(text) {
		switch c := text[i]; c {
		case '\n':
			b = append(b, `\n`...)
		case '\\', '"':
			b = append(b, '\\', c)
		default:
			b = append(b, c)
		}
	}
	return b
}
