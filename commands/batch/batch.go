// Package batch is the applet that runs the commands of a file, one per line, over one
// connection to the stack.
//
// A file is split into commands, and a command into words. The words are the arguments
// of another applet, which runs in this process.
package batch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/quote"
)

// App returns the applet. A file may contain the applets of those entries that have
// InFile set.
func App(entries []cli.Entry) *cli.App {
	var self *cli.App
	self = &cli.App{
		Name:     "batch",
		Short:    "run the commands of a file over one connection",
		Synopsis: []string{"[--keep-going] [--dry-run] {FILE | -}"},
		Options:  options(),
		Operands: []string{"<file>"},
		Notes: func() string {
			return "FILE has one command to a line, written as for the shell but without variables,\n" +
				"patterns and pipes; - is standard input. The commands are " + names(entries) + ".\n"
		},
		Parse: func(env *cli.Env, args []string) (cli.Command, error) {
			r, err := parse(env, args)
			r.entries = entries
			return r.Command(env, func() *cli.App { return self }, err, r)
		},
	}
	return self
}

// names lists the commands that a file may contain.
func names(entries []cli.Entry) string {
	var list []string
	for _, e := range entries {
		if e.InFile {
			list = append(list, e.Name)
		}
	}
	last := len(list) - 1
	return strings.Join(list[:last], ", ") + " and " + list[last]
}

func options() []getopt.Option {
	return append([]getopt.Option{
		{Name: "keep-going", Help: "carry out the commands one by one, and go on after an error"},
		{Name: "dry-run", Help: "change nothing, and report what would be refused"},
	}, cli.CommonOptions()...)
}

// A request is a parsed command line.
type request struct {
	cli.Common
	keepGoing, dryRun bool
	file              string
	entries           []cli.Entry
}

func parse(env *cli.Env, args []string) (*request, error) {
	r := &request{}
	r.TakesOperands = true
	err := r.Parse(options(), args, getopt.EnvMode(env.Getenv), func(name, _ string) error {
		switch name {
		case "keep-going":
			r.keepGoing = true
		case "dry-run":
			r.dryRun = true
		}
		return nil
	})
	if err != nil || r.Help || r.Version {
		return r, err
	}
	switch len(r.Operands) {
	case 0:
		return r, cli.Usagef("FILE is missing (- is standard input)")
	case 1:
		r.file = r.Operands[0]
		return r, nil
	}
	// The error does not repeat the operands: they can be a command with its keys.
	return r, cli.Usagef("%d arguments where one file is wanted; commands stand in the file", len(r.Operands))
}

// gcPercent is how much the memory in use grows before garbage is collected, in percent.
const gcPercent = 200

// Run carries out the commands of the file.
func (r *request) Run(ctx context.Context, env *cli.Env) error {
	in, name := env.In, "standard input"
	if r.file != "-" {
		// Open the file before signals are caught: opening a pipe blocks until another
		// process opens it for writing.
		f, err := os.Open(r.file)
		if err != nil {
			return quote.FileError(r.file, err)
		}
		defer f.Close()
		in, name = f, quote.File(r.file)
	}
	if in == nil {
		return errors.New("there is no standard input")
	}
	// The process ends soon: less garbage collection is worth the memory.
	defer debug.SetGCPercent(debug.SetGCPercent(gcPercent))
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, stop)() // a second signal ends a command that hangs

	x := newExecutor(env, name, r)
	err := x.file(ctx, in)
	x.advise(ctx)
	x.progress.hide()
	return errors.Join(err, x.close())
}

// file carries out the commands of a file: all or none, or with --keep-going each by
// itself.
func (x *executor) file(ctx context.Context, in io.Reader) error {
	lines := newReader(in)
	var src source
	if !isRegular(in) {
		src = arriving(ctx, lines)
	} else {
		list, err := lines.all(ctx)
		switch {
		case ctx.Err() != nil:
			return x.interrupted()
		case err != nil:
			return fmt.Errorf("%s: %w", x.name, err)
		}
		x.total = len(list)
		x.progress.total = x.total
		src = listed(list)
	}
	if x.request.keepGoing && !x.request.dryRun {
		return x.each(ctx, src)
	}
	return x.units(ctx, src)
}

// isRegular reports whether the input is a regular file, so that all of it can be read
// at once.
func isRegular(in io.Reader) bool {
	f, ok := in.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode().IsRegular()
}
