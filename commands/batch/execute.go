package batch

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/klips"
)

// An executor runs commands.
type executor struct {
	env     *cli.Env
	name    string // of the file, in messages
	request *request
	apps    map[string]*cli.App // those used so far

	stack   klips.Stack // nil until it is opened
	noStack error       // why it cannot be opened
	checks  []check     // of commands that are done

	out, err     output // of commands
	progress     progress
	total        int // number of commands; 0: not known
	done, failed int
	line         int // of the command whose output is printed
	chunk        chunk
}

func newExecutor(env *cli.Env, name string, r *request) *executor {
	x := &executor{env: env, name: name, request: r, apps: map[string]*cli.App{}, chunk: firstChunk}
	x.out = output{w: env.Out, progress: &x.progress}
	x.err = output{w: env.Err, progress: &x.progress, prefix: func() string { return x.where(x.line) }}
	if cli.IsTerminal(env.Err) {
		x.progress.w = env.Err
	}
	return x
}

// pause is how long to wait for the next command of a pipe before the collected changes
// are carried out.
const pause = 20 * time.Millisecond

// each carries out the commands of a source one after the other. An error does not stop
// it. Changes that arrive close together are collected and sent to the stack at once.
func (x *executor) each(ctx context.Context, src source) error {
	var waiting []*task
	defer func() { clearTasks(waiting) }()
	settle := func() error {
		err := x.settle(ctx, waiting)
		clearTasks(waiting)
		waiting = nil
		return err
	}
	for {
		if len(x.checks) >= maxChecks {
			x.advise(ctx)
		}
		var patience time.Duration
		if len(waiting) > 0 {
			patience = pause
		}
		c, err := src(ctx, patience)
		if ctx.Err() != nil {
			return x.interrupted()
		}
		var t *task // a task that is not collected
		if err == nil && !isCommit(c) {
			t = x.prepare(ctx, c)
			if t.changer != nil && t.err == nil {
				if waiting = append(waiting, t); len(waiting) < int(x.chunk) {
					continue
				}
				t = nil
			}
		}
		if err := settle(); err != nil {
			return err
		}
		switch {
		case t != nil:
			if t.err == nil {
				t.err = x.alone(ctx, t)
			} else {
				clearTasks([]*task{t})
				x.show(t)
			}
			if err := x.judge(t, t.err); err != nil {
				return err
			}
		case err == io.EOF:
			return x.finish()
		case err == errPause:
			x.advise(ctx)
		case err != nil:
			return fmt.Errorf("%s: %w", x.name, err)
		}
	}
}

// prepare parses a command, and gets the changes of one that changes the stack.
func (x *executor) prepare(ctx context.Context, c command) *task {
	t := x.understand(c)
	if t.changer == nil || t.err != nil {
		return t
	}
	s, err := x.open(ctx)
	if err != nil {
		t.err = err
		return t
	}
	x.ask(ctx, t, s)
	return t
}

// settle carries out the collected tasks. After an error it goes on with a few at a
// time, because similar commands are likely to fail too.
func (x *executor) settle(ctx context.Context, list []*task) error {
	few := int(x.chunk)
	if len(list) == few {
		x.chunk.grow()
	}
	for len(list) > 0 {
		ended := x.apply(ctx, list[:min(few, len(list))], nil)
		list = list[len(ended):]
		few = min(2*few, int(lastChunk))
		for _, e := range ended {
			if e.err != nil {
				few = 1
			}
			if err := x.judge(e.task, e.err); err != nil {
				return err
			}
		}
	}
	return nil
}

// judge counts a command as done or failed. It returns an error if the rest of the file
// cannot be carried out: without a stack, all other commands would fail as well.
func (x *executor) judge(t *task, err error) error {
	text, status := t.message(err)
	x.say(t.line, text)
	if status == cli.ExitOK {
		x.carriedOut(t)
		return nil
	}
	x.failed++
	if x.noStack == nil {
		return nil
	}
	x.progress.hide()
	if x.done == 0 && x.failed <= 1 {
		cli.Notef(x.env, "nothing was done")
	} else {
		cli.Notef(x.env, "stopped; %s done before", x.count(x.done))
	}
	return &cli.ExitError{Code: status}
}

// say prints an error of a command.
func (x *executor) say(line int, text string) {
	if text != "" {
		x.progress.hide()
		fmt.Fprintf(x.env.Err, "%s%s\n", x.where(line), text)
	}
}

// where returns the prefix of messages about a command.
func (x *executor) where(line int) string {
	return fmt.Sprintf("%s: %s:%d: ", x.env.Name, x.name, line)
}

// finish returns an error with the number of failed commands, or nil.
func (x *executor) finish() error {
	if x.failed == 0 {
		return nil
	}
	x.progress.hide()
	verb := "failed"
	if x.request.dryRun {
		verb = "would fail"
	}
	cli.Notef(x.env, "%d of %d commands %s", x.failed, x.failed+x.done, verb)
	return &cli.ExitError{Code: cli.ExitFailed}
}

func (x *executor) interrupted() error {
	switch {
	case x.request.dryRun || x.done+x.failed == 0:
		return fmt.Errorf("interrupted; nothing was done")
	case x.failed > 0:
		return fmt.Errorf("interrupted; %s done, %d failed", x.count(x.done), x.failed)
	}
	return fmt.Errorf("interrupted; %s done", x.count(x.done))
}

// count returns the words for how many commands are done, and of how many.
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
