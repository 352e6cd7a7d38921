package batch

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/klips"
)

// An executor runs commands.
type executor struct {
	env     *cli.Env
	name    string // of the file, in messages
	request *request
	apps    map[string]*cli.App // those that have been used
	conn    connection

	waiting []waiting // commands whose changes are collected, in order
	asked   []check   // by the command that was run last
	checks  []check   // of commands that are done
	again   []command // those that are to be run before any others
	end     error     // of the source

	out, err     output // of commands
	progress     progress
	total        int // how many commands there are; 0: not known
	done, failed int
	line         int  // of the command that speaks
	changing     bool // commands are being run, not only checked
}

// A result is what became of a command.
type result struct {
	status int    // for the program's end
	text   string // what is wrong; may be empty
}

// A waiting is a command that is done but for its changes, which are collected.
type waiting struct {
	command
	result
	checks  []check
	changes int       // that have been collected when it ended
	printed []printed // by it
}

// pause is how long the next command of a pipe may take to come before what has
// been collected is carried out.
const pause = 20 * time.Millisecond

func newExecutor(env *cli.Env, name string, r *request) *executor {
	x := &executor{env: env, name: name, request: r, apps: map[string]*cli.App{}}
	x.conn.open = env.Stack
	x.out = output{w: env.Out, progress: &x.progress}
	x.err = output{w: env.Err, progress: &x.progress, prefix: func() string { return x.where(x.line) }}
	if isTerminal(env.Err) {
		x.progress.w = env.Err
	}
	return x
}

// run runs, or only checks, the commands of a source. What there is to say of
// commands has been said when it returns.
func (x *executor) run(ctx context.Context, src source, check bool) error {
	x.done, x.failed, x.changing, x.end = 0, 0, !check, nil
	x.progress.total = x.total
	for {
		if len(x.checks) >= maxChecks {
			x.advise(ctx)
		}
		c, err := x.next(ctx, src)
		switch {
		case ctx.Err() != nil:
			return x.interrupted()
		case err == nil && check:
			err = x.check(ctx, c)
		case err == nil:
			err = x.take(ctx, c)
		case len(x.waiting) > 0:
			err = x.settle(ctx)
		case len(x.checks) > 0:
			x.advise(ctx)
			err = nil
		case err == io.EOF:
			return x.finish()
		default:
			return fmt.Errorf("%s: %w", x.name, err)
		}
		if err != nil {
			return err
		}
	}
}

// next returns the next command. It waits for one, unless others wait already.
func (x *executor) next(ctx context.Context, src source) (c command, err error) {
	if len(x.again) > 0 {
		c, x.again = x.again[0], x.again[1:]
		return c, ctx.Err()
	}
	if x.end != nil {
		return c, x.end
	}
	var patience time.Duration
	if len(x.waiting) > 0 {
		patience = pause
	}
	if c, err = src(ctx, patience); err != nil && err != errPause {
		x.end = err
	}
	return c, err
}

// check only checks a command.
func (x *executor) check(ctx context.Context, c command) error {
	r := x.perform(c, func(env *cli.Env, app *cli.App, args []string) error { return cli.Try(ctx, env, app, args) })
	return x.say(c, r)
}

// take runs a command. Where the stack collects changes it puts them off, and
// so what the command has to say.
func (x *executor) take(ctx context.Context, c command) error {
	if x.conn.stack != nil && x.conn.collection == nil {
		return x.now(ctx, c)
	}
	var stack *collecting
	w := waiting{command: c}
	x.out.held, x.err.held = &w.printed, &w.printed
	w.result = x.perform(c, func(env *cli.Env, app *cli.App, args []string) error {
		env.Stack = func(ctx context.Context) (klips.Stack, error) {
			s, err := x.conn.get(ctx)
			if err != nil || x.conn.collection == nil {
				return kept{s}, err
			}
			stack = &collecting{Changes: x.conn.collection, stack: s}
			return stack, nil
		}
		return app.Run(context.WithoutCancel(ctx), env, args)
	})
	x.out.held, x.err.held = nil, nil
	w.checks = x.asked
	if stack != nil && stack.asked {
		if len(x.waiting) > 0 {
			x.again = slices.Insert(x.again, 0, c)
			return x.settle(ctx)
		}
		x.conn.collection.Commit(ctx, 0) // of its own
		return x.now(ctx, c)
	}
	if x.conn.collection != nil {
		w.changes = x.conn.collection.Len()
	}
	x.waiting = append(x.waiting, w)
	x.progress.step(x.done+x.failed+len(x.waiting), time.Now())
	if x.conn.collection == nil || w.status != cli.ExitOK && !x.request.keepGoing {
		return x.settle(ctx)
	}
	return nil
}

// settle carries out what has been collected, and lets the commands say what
// they have to. One whose changes are not possible after all is run by itself,
// to say why; those behind it have to be run again.
func (x *executor) settle(ctx context.Context) error {
	list := x.waiting
	x.waiting = nil
	done := 0
	if x.conn.collection != nil {
		// A request that has been sent is waited for: what it did must be known.
		done, _ = x.conn.collection.Commit(context.WithoutCancel(ctx), list[len(list)-1].changes)
	}
	for i, w := range list {
		if w.changes > done {
			var behind []command
			for _, w := range list[i+1:] {
				behind = append(behind, w.command)
			}
			x.again = append(behind, x.again...)
			return x.now(ctx, w.command)
		}
		x.line = w.line
		for _, p := range w.printed {
			p.to.Write(p.text)
		}
		x.checks = append(x.checks, w.checks...)
		if err := x.say(w.command, w.result); err != nil {
			return err
		}
	}
	return nil
}

// now runs a command by itself.
func (x *executor) now(ctx context.Context, c command) error {
	r := x.perform(c, func(env *cli.Env, app *cli.App, args []string) error {
		env.Stack = func(ctx context.Context) (klips.Stack, error) {
			s, err := x.conn.get(ctx)
			return kept{s}, err
		}
		return app.Run(context.WithoutCancel(ctx), env, args)
	})
	x.checks = append(x.checks, x.asked...)
	return x.say(c, r)
}

// perform finds a command's applet and runs it.
func (x *executor) perform(c command, run func(*cli.Env, *cli.App, []string) error) result {
	app, args, err := x.find(c)
	if err != nil {
		return result{cli.ExitUsage, err.Error()}
	}
	env := *x.env
	env.Name = "ipsec " + app.Name
	env.In = nil // the next commands may be in it
	env.Out, env.Err = &x.out, &x.err
	x.line, x.asked = c.line, nil
	env.Later = func(name string, f cli.Check) { x.asked = append(x.asked, check{c.line, name, f}) }
	err = run(&env, app, args)
	text, status := cli.Message(env.Name, err)
	return result{status, text}
}

// say says what is wrong with a command and counts it. The error is not nil if
// that ends the run.
func (x *executor) say(c command, r result) error {
	if r.text != "" {
		x.progress.hide()
		fmt.Fprintf(x.env.Err, "%s%s\n", x.where(c.line), r.text)
	}
	if r.status == cli.ExitOK {
		x.done++
		if x.changing {
			x.progress.step(x.done+x.failed, time.Now())
		}
		return nil
	}
	x.failed++
	// Without a stack, all the others would fail as well.
	if !x.request.keepGoing || x.conn.err != nil {
		return x.stopped(r.status)
	}
	return nil
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
	case name == "" || len(name) > maxName || quote.Name(name, false) != name:
		return nil, nil, fmt.Errorf("a line begins with the name of a command; the commands are %s", names())
	}
	return nil, nil, fmt.Errorf("no command %s; the commands are %s", name, names())
}

// maxName is the length of the longest word that is taken for a misspelled command
// and shown; others may be keys.
const maxName = 12

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
