package batch

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/klips"
)

// A task is a parsed command of the file.
type task struct {
	command
	env     cli.Env // its outputs are the file's
	cmd     cli.Command
	changer cli.Changer // the same, if it changes the stack; else nil
	err     error       // why it cannot be parsed

	changes []klips.Change // that it makes
	printed []printed      // held back until it is carried out
	counted bool           // as done
}

// understand parses the words of a command.
func (x *executor) understand(c command) *task {
	t := &task{command: c, env: *x.env}
	t.env.Name, t.env.In = "", nil // standard input may hold the next commands
	t.env.Out, t.env.Err = &x.out, &x.err
	app, args, err := x.find(c)
	if err != nil {
		t.err = err
		return t
	}
	t.env.Name = "ipsec " + app.Name
	t.env.Later = func(name string, f cli.Check) { x.checks = append(x.checks, check{c.line, name, f}) }
	t.env.Stack = func(ctx context.Context) (klips.Stack, error) {
		s, err := x.open(ctx)
		return kept{s}, err
	}
	x.line = c.line
	t.cmd, t.err = app.Parse(&t.env, args)
	t.changer, _ = t.cmd.(cli.Changer)
	return t
}

// message returns the text and the exit status for an error of t.
func (t *task) message(err error) (text string, status int) {
	if t.cmd == nil && t.env.Name == "" { // not a command
		return err.Error(), cli.ExitUsage
	}
	return cli.Message(t.env.Name, err)
}

// hold keeps what f prints, for t.
func (x *executor) hold(t *task, f func()) {
	x.line = t.line
	x.out.held, x.err.held = &t.printed, &t.printed
	f()
	x.out.held, x.err.held = nil, nil
}

// show prints what was held back.
func (x *executor) show(t *task) {
	x.line = t.line
	for _, p := range t.printed {
		p.to.Write(p.text)
	}
	t.printed = nil
}

// ask gets the changes of a changer on a stack.
func (x *executor) ask(ctx context.Context, t *task, s klips.Stack) {
	x.hold(t, func() { t.changes, t.err = t.changer.Changes(ctx, &t.env, s) })
}

// clearTasks overwrites the keys of tasks.
func clearTasks(list []*task) {
	for _, t := range list {
		if t.changer != nil {
			t.changer.Clear()
		}
	}
}

// A kept is a stack that stays open when a command closes it.
type kept struct{ klips.Stack }

func (kept) Close() error { return nil }

// open opens the one stack that all commands use. A failure is remembered; there is no
// second attempt.
func (x *executor) open(ctx context.Context) (klips.Stack, error) {
	if x.stack == nil && x.noStack == nil {
		x.stack, x.noStack = x.env.Stack(ctx)
	}
	return x.stack, x.noStack
}

func (x *executor) close() error {
	if x.stack == nil {
		return nil
	}
	return x.stack.Close()
}

// find returns the applet of a command and its arguments. Errors do not repeat words
// that can be keys.
func (x *executor) find(c command) (*cli.App, []string, error) {
	if c.err != nil {
		return nil, nil, c.err
	}
	name, args := c.words[0], c.words[1:]
	if name == "ipsec" && len(args) > 0 {
		name, args = args[0], args[1:]
		if name == "--stack" || strings.HasPrefix(name, "--stack=") {
			return nil, nil, fmt.Errorf("one stack serves the whole file; choose it in front: ipsec --stack NAME batch")
		}
	} else if rest, ok := strings.CutPrefix(name, "ipsec_"); ok {
		name = rest
	}
	if app := x.apps[name]; app != nil {
		return app, args, nil
	}
	list := names(x.request.entries)
	i := slices.IndexFunc(x.request.entries, func(e cli.Entry) bool { return e.Name == name })
	switch {
	case i >= 0 && x.request.entries[i].InFile:
		app := x.request.entries[i].App()
		x.apps[name] = app
		return app, args, nil
	case i >= 0, name == "help", name == "completion":
		return nil, nil, fmt.Errorf("%s cannot be run from a file; the commands are %s", name, list)
	case name == commit:
		return nil, nil, fmt.Errorf("commit ends a part of standard input; a file is carried out as a whole")
	case strings.HasPrefix(name, "-"):
		return nil, nil, fmt.Errorf("a line begins with the name of a command, not with an option; does the line before want a backslash at its end?")
	case name == "" || len(name) > maxName || quote.Name(name, false) != name:
		return nil, nil, fmt.Errorf("a line begins with the name of a command; the commands are %s", list)
	}
	return nil, nil, fmt.Errorf("no command %s; the commands are %s", name, list)
}

// maxName is the length of the longest word that an error shows as a misspelled
// command. Longer words may be keys.
const maxName = 12
