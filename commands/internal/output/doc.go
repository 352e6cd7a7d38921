// Package output defines the JSON that applets print with --json. Its types are an
// interface for other programs. The types of package klips, which daemons and commands
// exchange, are not.
//
// Names are whole words in snake case. A name ends in its unit if the unit is not
// obvious. Enumerations are words, times are seconds, SAIDs and addresses are text,
// SPIs are numbers. Missing values are left out; an empty list is []. A program that
// reads version 1 of [Schema] continues to work when fields are added.
//
// The page ipsec_json(5) is generated from this package: first from the types of
// lists.go, whose names end in List, then from the types that they contain. The comment
// of a type or field is its text on the page, so it is written for readers of the page.
// A field has only one JSON type. The tag options omitempty and omitzero mark fields
// that may be left out. The tag words names the algorithms whose words the page lists.
package output

import (
	"io"

	"github.com/klips-go/ipsec/commands/internal/cli"
)

// Schema is the version of all objects. It changes when a field is removed or gets
// another meaning; a new field does not change it.
const Schema = 1

// A List is the output of one applet: a struct of this package that begins with a
// [Head].
type List interface{ head() Head }

// Write writes a list.
func Write(w io.Writer, list List) error {
	e := encoder(w)
	e.SetIndent("", "  ")
	return e.Encode(list)
}

// Print prints a list.
func Print(env *cli.Env, list List) error {
	return cli.Print(env, func(w io.Writer) error { return Write(w, list) })
}

// each converts each value to a record. Without values it returns an empty list, which
// is [] in JSON, and not nil.
func each[T, R any](values []T, record func(*T) R) []R {
	records := make([]R, len(values))
	for i := range values {
		records[i] = record(&values[i])
	}
	return records
}
