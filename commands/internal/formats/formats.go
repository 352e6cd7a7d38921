// Package formats has what the commands share that write and read configuration of other
// programs: the operand FORMAT, and the options --out and --force.
package formats

import (
	"fmt"
	"slices"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/keyfile"
	"github.com/klips-go/ipsec/commands/internal/quote"
)

// A Format is a language.
type Format struct {
	Name string // as on the command line
	Help string // one line of the usage text
}

// A List has the formats of a command, in the order of its usage text.
type List []Format

// Names returns the names.
func (l List) Names() []string {
	names := make([]string, len(l))
	for i, f := range l {
		names[i] = f.Name
	}
	return names
}

// Usage returns the lines of the usage text.
func (l List) Usage() string {
	var b strings.Builder
	b.WriteString("Formats:\n")
	for _, f := range l {
		fmt.Fprintf(&b, "  %-10s %s\n", f.Name, f.Help)
	}
	return b.String()
}

// Choose returns the format among the operands of a command line, which is the first. The error
// is one of the command line.
func (l List) Choose(operands []string) (name string, err error) {
	names := l.Names()
	if len(operands) == 0 {
		return "", cli.Usagef("FORMAT is missing: one of %s", strings.Join(names, ", "))
	}
	name = operands[0]
	if slices.Contains(names, name) {
		return name, nil
	}
	if near := getopt.Nearest(name, names); near != "" {
		return "", cli.Usagef("no format %s; did you mean %s?", quote.Name(name, true), near)
	}
	return "", cli.Usagef("no format %s; there are %s", quote.Name(name, false), strings.Join(names, ", "))
}

// An Out is where a command writes its text: the options --out and --force.
type Out struct {
	File  string // empty: standard output
	Force bool   // File may exist
}

// Option takes an option of an Out. Others are ignored.
func (o *Out) Option(name, value string) error {
	switch name {
	case "force":
		o.Force = true
	case "out":
		if value == "" {
			return cli.Usagef("--out: there is no file name")
		}
		o.File = value
	}
	return nil
}

// Check returns an error if the options do not go together.
func (o *Out) Check() error {
	if o.Force && o.File == "" {
		return cli.Usagef("--force is for --out FILE; without a file nothing is overwritten")
	}
	return nil
}

// Write writes the text. Only the owner of the file can read it.
func (o *Out) Write(env *cli.Env, text []byte) error {
	if o.File != "" {
		return keyfile.Write([]keyfile.File{{Path: o.File, Text: text}}, o.Force)
	}
	if _, err := env.Out.Write(text); err != nil {
		return fmt.Errorf("standard output: %w", err)
	}
	return nil
}
