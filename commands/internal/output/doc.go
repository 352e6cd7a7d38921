// Package output has the JSON that applets print with --json. Its types are an
// interface for programs of others; those of package klips, which daemons and
// commands send to each other, are not.
//
// Names are whole words in snake case. A unit that is not plain from the name is the
// end of it. Enumerations are words, times are seconds, SAIDs and addresses are text,
// SPIs are numbers. What is not there is left out, an empty list is []. A program
// that reads version 1 of [Schema] goes on to work when fields are added.
//
// The page ipsec_json(5) is made from this package: from the types of lists.go, whose
// names end in List, and then from those that they are made of. The comment of a type or
// a field is its text on the page, so it is written for readers of the page, and a field
// has one type of JSON only. The options omitempty and omitzero mark the fields that may
// be left out. The tag words names the algorithms whose words the page lists.
package output

import (
	"encoding/json"
	"io"

	"github.com/klips-go/ipsec/commands/internal/cli"
)

// Schema is the version of all objects. It changes when a field goes, or gets another
// meaning; a new field does not change it.
const Schema = 1

// A List is what one applet prints: a struct of this package that begins with a [Head].
type List interface{ head() Head }

// Print prints a list.
func Print(env *cli.Env, list List) error {
	return cli.Print(env, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false) // or -> in a line of a table becomes unreadable
		return e.Encode(list)
	})
}

// each makes a record of each value; of none it makes an empty list, which JSON has
// as [].
func each[T, R any](values []T, record func(*T) R) []R {
	records := make([]R, len(values))
	for i := range values {
		records[i] = record(&values[i])
	}
	return records
}
