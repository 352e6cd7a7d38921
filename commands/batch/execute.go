package batch

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/klips-go/ipsec/commands/eroute"
	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/klipsdebug"
	"github.com/klips-go/ipsec/commands/look"
	"github.com/klips-go/ipsec/commands/ranbits"
	"github.com/klips-go/ipsec/commands/spi"
	"github.com/klips-go/ipsec/commands/spigrp"
	"github.com/klips-go/ipsec/commands/tncfg"
	"github.com/klips-go/ipsec/commands/version"
)

// commands are the applets that can stand in a file: those that end by
// themselves and read no standard input.
var commands = [...]struct {
	name string
	app  func() *cli.App
}{
	{"spi", spi.App},
	{"spigrp", spigrp.App},
	{"eroute", eroute.App},
	{"tncfg", tncfg.App},
	{"klipsdebug", klipsdebug.App},
	{"look", look.App},
	{"version", version.App},
	{"ranbits", ranbits.App},
}

// others are the applets that cannot.
var others = [...]string{"batch", "manual", "pf_key", "setup", "klipsd", "help", "completion"}

// names lists the commands in words.
func names() string {
	list := make([]string, len(commands))
	for i, c := range commands {
		list[i] = c.name
	}
	return strings.Join(list[:len(list)-1], ", ") + " and " + list[len(list)-1]
}

// An executor runs commands.
type executor struct {
	env     *cli.Env
	name    string // of the file, in messages
	request *request
	apps    map[string]*cli.App // those that have been used
	conn    connection

	out, err     output // of commands
	progress     progress
	total        int // how many commands there are; 0: not known
	done, failed int
	changing     bool // commands are being run, not only checked
}

func newExecutor(env *cli.Env, name string, r *request) *executor {
	x := &executor{env: env, name: name, request: r, apps: map[string]*cli.App{}}
	x.conn.open = env.Stack
	x.out = output{w: env.Out, progress: &x.progress}
	x.err = output{w: env.Err, progress: &x.progress}
	if isTerminal(env.Err) {
		x.progress.w = env.Err
	}
	return x
}

// run runs, or only checks, the commands of a source. What there is to say of
// commands has been said when it returns.
func (x *executor) run(ctx context.Context, next source, check bool) error {
	x.done, x.failed, x.changing = 0, 0, !check
	x.progress.total = x.total
	for {
		c, err := next(ctx)
		switch {
		case err == io.EOF:
			return x.finish()
		case ctx.Err() != nil:
			return x.interrupted()
		case err != nil:
			return fmt.Errorf("%s: %w", x.name, err)
		}
		status := x.one(ctx, c, check)
		if status != cli.ExitOK {
			x.failed++
			// Without a stack, all the others would fail as well.
			if !x.request.keepGoing || x.conn.err != nil {
				return x.stopped(status)
			}
			continue
		}
		x.done++
		if !check {
			x.progress.step(x.done+x.failed, time.Now())
		}
	}
}

// one runs or checks a command, says what is wrong, and returns its exit status.
func (x *executor) one(ctx context.Context, c command, check bool) int {
	text, status := "", cli.ExitUsage
	app, args, err := x.find(c)
	if err != nil {
		text = err.Error()
	} else {
		env := *x.env
		env.Name = "ipsec " + app.Name
		env.In = nil // the next commands may be in it
		env.Out, env.Err, env.Stack = &x.out, &x.err, x.conn.get
		x.err.prefix = x.where(c.line)
		if check {
			err = cli.Try(ctx, &env, app, args)
		} else {
			// A request that has been sent is waited for: what it did must be known.
			err = app.Run(context.WithoutCancel(ctx), &env, args)
		}
		text, status = cli.Message(env.Name, err)
	}
	if text != "" {
		x.progress.hide()
		fmt.Fprintf(x.env.Err, "%s%s\n", x.where(c.line), text)
	}
	return status
}

// where is what messages about a command begin with.
func (x *executor) where(line int) string {
	return fmt.Sprintf("%s: %s:%d: ", x.env.Name, x.name, line)
}

// find returns the applet of a command and its arguments. Errors repeat no word
// that can be a key.
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
	for _, k := range commands {
		if k.name == name {
			app := k.app()
			x.apps[name] = app
			return app, args, nil
		}
	}
	switch {
	case slices.Contains(others[:], name):
		return nil, nil, fmt.Errorf("%s cannot be run from a file; the commands are %s", name, names())
	case strings.HasPrefix(name, "-"):
		return nil, nil, fmt.Errorf("a line begins with the name of a command, not with an option; does the line before want a backslash at its end?")
	case !isName(name):
		return nil, nil, fmt.Errorf("a line begins with the name of a command; the commands are %s", names())
	}
	return nil, nil, fmt.Errorf("no command %s; the commands are %s", getopt.Quote(name), names())
}

// isName reports whether a word can be the name of a command and is too short
// to be a key.
func isName(word string) bool {
	for _, c := range word {
		if c != '_' && c != '-' && (c < 'a' || c > 'z') {
			return false
		}
	}
	return word != "" && len(word) <= 12
}

// stopped says what became of the other commands after one has failed, and
// returns what ends the program.
func (x *executor) stopped(status int) error {
	x.progress.hide()
	switch {
	case !x.changing && x.request.dryRun:
	case !x.changing, x.done == 0 && x.failed <= 1:
		cli.Notef(x.env, "nothing was done")
	default:
		cli.Notef(x.env, "stopped; %s done before", x.count(x.done))
	}
	return &cli.ExitError{Code: status}
}

// finish says how many commands have failed.
func (x *executor) finish() error {
	if x.failed == 0 {
		return nil
	}
	x.progress.hide()
	verb := "failed"
	if !x.changing {
		verb = "would fail"
	}
	cli.Notef(x.env, "%d of %d commands %s", x.failed, x.failed+x.done, verb)
	return &cli.ExitError{Code: cli.ExitFailed}
}

func (x *executor) interrupted() error {
	switch {
	case !x.changing || x.done+x.failed == 0:
		return fmt.Errorf("interrupted; nothing was done")
	case x.failed > 0:
		return fmt.Errorf("interrupted; %s done, %d failed", x.count(x.done), x.failed)
	}
	return fmt.Errorf("interrupted; %s done", x.count(x.done))
}

// count says how many commands have been done, and of how many.
func (x *executor) count(n int) string {
	verb := "were"
	if n == 1 {
		verb = "was"
	}
	switch {
	case x.total > 0:
		return fmt.Sprintf("%d of %d commands %s", n, x.total, verb)
	case n == 1:
		return "1 command was"
	}
	return fmt.Sprintf("%d commands %s", n, verb)
}
