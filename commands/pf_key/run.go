// Package pf_key is the applet that prints the PF_KEY messages of the stack: ACQUIRE,
// EXPIRE and others.
package pf_key

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/klips"
)

// App returns the applet.
func App() *cli.App {
	return &cli.App{
		Name:  "pf_key",
		Short: "print PF_KEY messages (ACQUIRE, EXPIRE and others)",
		Synopsis: []string{
			"[--ah] [--esp] [--ipip] [--ipcomp] [--words] [--daemon FILE]",
			"[--words] --dumpfile FILE",
		},
		Options: options(),
		Parse:   command,
	}
}

func command(env *cli.Env, args []string) (cli.Command, error) {
	req, err := parse(env, args)
	return req.Command(env, App, err, req)
}

// Run prints messages.
func (req *request) Run(ctx context.Context, env *cli.Env) error {
	p := &printer{env.Out, env.Name, req.words}
	switch {
	case req.dump != "":
		return dump(p, req.dump)
	case req.daemon != "" && req.readyFD == 0:
		return inBackground(env, req)
	}
	ctx, stop := untilSignal(ctx)
	defer stop()
	messages, done, err := listen(ctx, env, req)
	if err != nil {
		return err
	}
	defer done()
	if req.daemon != "" {
		defer writePID(env, req.daemon)()
		ready(req.readyFD)
	}
	return follow(ctx, p, messages)
}

// dump prints the messages of a file.
func dump(p *printer, name string) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	defer clear(b)
	if err := p.file(b); err != nil {
		return output(err)
	}
	return output(p.say("exited normally"))
}

func output(err error) error {
	if err != nil {
		return fmt.Errorf("standard output: %w", err)
	}
	return nil
}

// listen registers with the stack. done ends the registration.
func listen(ctx context.Context, env *cli.Env, req *request) (messages iter.Seq2[klips.Event, error], done func(), err error) {
	stack, err := env.Stack(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			stack.Close()
		}
	}()
	req.Debugf(env, "stack %s, registering for %v", stack.Info().Name, req.satypes)
	if !stack.Info().Has(klips.CapEvents) {
		return nil, nil, fmt.Errorf("stack %s has no PF_KEY messages to listen to; choose another one with --stack", stack.Info().Name)
	}
	var want klips.EventWant
	for _, t := range req.satypes {
		want.Register = append(want.Register, uint8(t))
	}
	if messages, err = stack.Events(ctx, want); err != nil {
		return nil, nil, fmt.Errorf("not registered with stack %s: %w", stack.Info().Name, err)
	}
	return messages, func() { stack.Close() }, nil
}

// follow prints messages until the stack ends or a signal arrives.
func follow(ctx context.Context, p *printer, messages iter.Seq2[klips.Event, error]) error {
	for event, err := range messages {
		if err == nil {
			if err := p.message(event.PFKey); err != nil {
				return output(err)
			}
			continue
		}
		var s signalled
		switch {
		case errors.As(context.Cause(ctx), &s):
			return output(p.say("Exiting on signal %d", s.signal))
		case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
			return output(p.say("exited normally"))
		}
		return fmt.Errorf("receive from the stack: %w", err)
	}
	return nil
}

// A signalled error means that a signal has ended this program.
type signalled struct{ signal syscall.Signal }

func (s signalled) Error() string { return "signal " + strconv.Itoa(int(s.signal)) }

// untilSignal returns a context that a signal ends. stop ends it too.
func untilSignal(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		select {
		case s := <-c:
			cancel(signalled{s.(syscall.Signal)})
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(c)
		cancel(nil)
	}
}
