package manual

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/manual/host"
)

// Apply returns the applet that makes the connections of files as the files have them.
func Apply(start Start) *cli.App {
	return applyApp(&cli.App{
		Name: "apply", Short: "make connections as files have them, and change nothing else",
		Synopsis: []string{"[--prune] [--dry-run] [--show] FILE ..."}, Operands: []string{"<file>"},
		Options: []getopt.Option{
			{Name: "dry-run", Help: "print the commands, without keys, and change nothing"},
			{Name: "prune", Help: "take down connections that no file has any more; their flows stay closed"},
			showOption,
		},
	}, start)
}

// Diff returns the applet that compares the connections of files with what is there.
func Diff() *cli.App {
	return applyApp(&cli.App{
		Name: "diff", Short: "compare connections of files with what is made",
		Synopsis: []string{"FILE ..."}, Operands: []string{"<file>"},
	}, nil)
}

// Reload returns the applet that reads the files again that connections are looked for in.
func Reload(start Start) *cli.App {
	return applyApp(&cli.App{
		Name: "reload", Short: "read the files again, and apply them",
		Synopsis: []string{"[--show] [--config FILE] [NAME ...]"}, Operands: connOperand,
		Options: []getopt.Option{configOption, showOption},
		Notes:   func() string { return verbNotes },
	}, start)
}

// Reapply does what the applet reload does for all connections, with a stack that runs.
func Reapply(ctx context.Context, env *cli.Env) error {
	running := func(context.Context, *cli.Env) error { return nil }
	h, n := host.This(ctx, env)
	return (&application{applet: "reload"}).apply(ctx, env, h, n, running)
}

func applyApp(a *cli.App, start Start) *cli.App {
	a.Options = append(a.Options, cli.CommonOptions()...)
	a.Parse = func(env *cli.Env, args []string) (cli.Command, error) {
		return applyCommand(env, a, args, nil, nil, start)
	}
	return a
}

// An application is the parsed command line of one of these applets.
type application struct {
	cli.Common
	applet           string
	config           string
	prune, dry, show bool
}

func parseApplication(env *cli.Env, app *cli.App, args []string) (*application, error) {
	a := &application{applet: app.Name}
	a.TakesOperands = true
	err := a.Parse(app.Options, args, getopt.EnvMode(env.Getenv), func(option, value string) error {
		switch option {
		case "prune":
			a.prune = true
		case "dry-run":
			a.dry = true
		case "show":
			a.show = true
		case "config":
			return setConfig(&a.config, value)
		}
		return nil
	})
	if err != nil || a.Help || a.Version {
		return a, err
	}
	if a.applet == "reload" {
		return a, checkNames(a.Operands)
	}
	if len(a.Operands) == 0 {
		return a, cli.Usagef("which file is missing: give its name")
	}
	for i, f := range a.Operands {
		if slices.Contains(a.Operands[:i], f) {
			return a, cli.Usagef("%s is there twice", quote.File(f))
		}
	}
	return a, nil
}

// applyCommand returns the command for a host and its network, which a test can replace;
// nil: this host.
func applyCommand(env *cli.Env, app *cli.App, args []string, h host.Host, n host.Network, start Start) (cli.Command, error) {
	a, err := parseApplication(env, app, args)
	return a.Command(env, func() *cli.App { return app }, err, onHost(h, n, func(ctx context.Context, env *cli.Env, h host.Host, n host.Network) error {
		if a.applet == "diff" {
			return a.diff(ctx, env, h, n)
		}
		return a.apply(ctx, env, h, n, start)
	}))
}

// read reads the files. One that cannot be read is an error: what it has is not known.
func (a *application) read(env *cli.Env, h host.Host) (*files, error) {
	if a.applet == "reload" {
		fs, err := readFiles(env, h, a.config)
		if err != nil {
			return nil, err
		}
		return fs, fs.unreadable()
	}
	for _, p := range a.Operands {
		if _, err := os.Stat(p); err != nil {
			return nil, quote.FileError(p, err)
		}
	}
	fs := readPaths(h, a.Operands)
	return fs, fs.unreadable()
}

// names returns the connections that the command is about; none: all.
func (a *application) names(fs *files) ([]string, error) {
	if a.applet != "reload" {
		return nil, nil
	}
	for _, name := range a.Operands {
		if _, err := fs.find(name); err != nil {
			return nil, err
		}
	}
	return a.Operands, nil
}

func (a *application) apply(ctx context.Context, env *cli.Env, h host.Host, n host.Network, start Start) error {
	fs, err := a.read(env, h)
	if err != nil {
		return err
	}
	names, err := a.names(fs)
	if err != nil {
		return err
	}
	prepared, err := fs.prepare(env, n, a.show, names)
	if err != nil {
		return err
	}
	makes, err := a.makes(h, prepared)
	if err != nil {
		return err
	}
	if makes {
		if err := start(ctx, env); err != nil {
			return err
		}
	}
	s, err := newSurvey(env, h, n, a.show, makes)
	if err != nil {
		return err
	}
	defer s.close()
	list, err := s.lacking(ctx, prepared)
	if err != nil {
		return err
	}
	if a.prune {
		gone, err := s.gone(ctx, fs)
		if err != nil {
			return err
		}
		list = append(list, gone...)
	}
	if err := s.oneMTU(list); err != nil {
		return err
	}
	if a.dry {
		return cli.Print(env, func(w io.Writer) error { return s.write(ctx, w, list) })
	}
	if err := s.perform(ctx, list); err != nil || !makes {
		return err
	}
	var files []*configuration
	for _, p := range prepared {
		if p.starts != "" {
			files = append(files, p.file)
		}
	}
	return control(h, files...)
}

// makes reports whether the command can make something: of connections that their files
// start or route, and of those that were made before.
func (a *application) makes(h host.Host, prepared []*pending) (bool, error) {
	records, err := readRecords(h)
	if a.dry || err != nil {
		return false, err
	}
	return slices.ContainsFunc(prepared, func(p *pending) bool {
		_, made := records[p.name]
		return p.starts != "" || made
	}), nil
}

// differ is the exit code of diff for a difference, and wrong that for an error, as with
// diff(1).
const (
	differ = 1
	wrong  = 2
)

func (a *application) diff(ctx context.Context, env *cli.Env, h host.Host, n host.Network) error {
	lines, err := a.lines(ctx, env, h, n)
	if err == nil {
		err = cli.Print(env, func(w io.Writer) error {
			for _, l := range lines {
				if _, err := fmt.Fprintln(w, l); err != nil {
					return err
				}
			}
			return nil
		})
	}
	switch {
	case err != nil:
		fmt.Fprintln(env.Err, quote.Line(env.Name+": "+explain.Line(err)))
		return &cli.ExitError{Code: wrong}
	case len(lines) > 0:
		return &cli.ExitError{Code: differ}
	}
	return nil
}

// lines returns what differs, a line each.
func (a *application) lines(ctx context.Context, env *cli.Env, h host.Host, n host.Network) (lines []string, err error) {
	fs, err := a.read(env, h)
	if err != nil {
		return nil, err
	}
	prepared, err := fs.prepare(env, n, false, nil)
	if err != nil {
		return nil, err
	}
	s, err := newSurvey(env, h, n, false, false)
	if err != nil {
		return nil, err
	}
	defer s.close()
	list, err := s.lacking(ctx, prepared)
	if err != nil {
		return nil, err
	}
	gone, err := s.gone(ctx, fs)
	if err != nil {
		return nil, err
	}
	for _, p := range append(list, gone...) {
		for _, why := range p.why {
			lines = append(lines, "conn "+p.name+": "+why)
		}
	}
	return lines, nil
}
