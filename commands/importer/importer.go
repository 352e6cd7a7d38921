// Package importer is the applet import, which reads SAs and policies of other programs. (A Go
// package cannot have the name of the applet.)
package importer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/foreign"
	"github.com/klips-go/ipsec/commands/internal/formats"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/internal/render"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/plan"
)

// App returns the applet.
func App() *cli.App {
	a := &cli.App{
		Name:     "import",
		Short:    "turn SAs and policies of another program into commands",
		Synopsis: []string{"FORMAT [--apply | --out FILE [--force]] {FILE | -}"},
		Options: append([]getopt.Option{
			{Name: "apply", Help: "make the SAs and eroutes, all or none, and print no commands"},
			{Name: "out", Arg: "FILE", Help: "write the commands to the new file FILE that only its owner can read", Values: []string{"<file>"}},
			{Name: "force", Help: "overwrite the FILE of --out"},
		}, cli.CommonOptions()...),
		Operands: append(languages().Names(), "<file>"),
		Notes: func() string {
			return languages().Usage() + "The commands are for ipsec batch. They have the keys of the text.\n"
		},
	}
	a.Parse = func(env *cli.Env, args []string) (cli.Command, error) {
		r, err := parse(env, a, args)
		return r.Command(env, func() *cli.App { return a }, err, cli.Func(r.run))
	}
	return a
}

// languages returns all formats.
func languages() (l formats.List) {
	for _, f := range foreign.Formats() {
		l = append(l, formats.Format{Name: f.Name, Help: f.Help})
	}
	return l
}

// A request is a parsed command line.
type request struct {
	cli.Common
	apply        bool
	out          formats.Out
	format, file string // the file is "-" for standard input
}

func parse(env *cli.Env, app *cli.App, args []string) (*request, error) {
	r := &request{}
	r.TakesOperands = true
	err := r.Parse(app.Options, args, getopt.EnvMode(env.Getenv), func(name, value string) error {
		if name == "apply" {
			r.apply = true
		}
		return r.out.Option(name, value)
	})
	if err != nil || r.Help || r.Version {
		return r, err
	}
	if r.format, err = languages().Choose(r.Operands); err != nil {
		return r, err
	}
	switch n := len(r.Operands); {
	case n == 1:
		return r, cli.Usagef("FILE is missing (- is standard input)")
	case n > 2:
		// The error does not repeat the operands: they can be a text with its keys.
		return r, cli.Usagef("%d arguments where a format and one file are wanted", n)
	case r.apply && r.out.File != "":
		return r, cli.Usagef("--out does not go with --apply, which prints no commands")
	}
	r.file = r.Operands[1]
	return r, r.out.Check()
}

func (r *request) run(ctx context.Context, env *cli.Env) error {
	text, name, err := r.read(env)
	if err != nil {
		return err
	}
	c, err := foreign.Read(r.format, text)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer c.Clear()
	commands, err := render.Render("ipsec", c)
	defer commands.Clear()
	if err != nil {
		return err
	}
	if len(c.Groups)+len(c.Eroutes) == 0 {
		return fmt.Errorf("%s: it has neither SAs nor policies", name)
	}
	if r.apply {
		err = r.make(ctx, env, c.Changes())
	} else {
		err = r.out.Write(env, commands.Body)
	}
	if err != nil {
		return err
	}
	for _, n := range commands.Notes {
		cli.Notef(env, "%s", n)
	}
	if slices.ContainsFunc(commands.Notes, func(n render.Note) bool { return n.Left }) {
		return &cli.ExitError{Code: cli.ExitFailed} // the notes have named what is missing
	}
	return nil
}

// read returns the text and its name.
func (r *request) read(env *cli.Env) (text []byte, name string, err error) {
	in, name := env.In, "standard input"
	if r.file != "-" {
		f, err := os.Open(r.file)
		if err != nil {
			return nil, "", quote.FileError(r.file, err)
		}
		defer f.Close()
		in, name = io.Reader(f), quote.File(r.file)
	}
	if in == nil {
		return nil, "", errors.New("there is no standard input")
	}
	if text, err = foreign.ReadAll(in); err != nil {
		return nil, "", fmt.Errorf("%s: %w", name, err)
	}
	return text, name, nil
}

// make carries out the changes, all or none.
func (r *request) make(ctx context.Context, env *cli.Env, changes []klips.Change) error {
	s, err := env.Stack(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	r.DebugStack(env, s)
	result, err := plan.Apply(ctx, s, changes...)
	if err != nil {
		return fmt.Errorf("nothing is made: %w", explain.Error(refused(changes, err), "", err))
	}
	cli.NoteOutcomes(env, result.Outcomes)
	return nil
}

// refused returns the change that an error is about.
func refused(changes []klips.Change, err error) klips.Change {
	var oe *klips.OpError
	if errors.As(err, &oe) {
		for _, c := range changes {
			if c.Op() == oe.Op && c.Object() == oe.Object {
				return c
			}
		}
	}
	return changes[0]
}
