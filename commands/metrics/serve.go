package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/httpd"
	"github.com/klips-go/ipsec/commands/internal/reopen"
)

// page is the path of the metrics.
const page = "/metrics"

// Time limits of a scrape. Prometheus gives up after ten seconds, unless it is configured otherwise.
const (
	headTime   = 10 * time.Second
	answerTime = time.Minute
)

// serve serves the metrics at a place until a signal arrives. A stack that is not there, now
// or later, does not end it.
func serve(ctx context.Context, env *cli.Env, c *cli.Common, p place) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	src := source{reopen.New(env), env.Version()}
	s, err := src.stacks.Open(ctx)
	var usage *cli.UsageError
	switch {
	case errors.As(err, &usage):
		return err // IPSEC_STACK is wrong, and stays wrong
	case err != nil:
		cli.Notef(env, "there are no metrics yet: %s", explain.Line(err))
	default:
		c.DebugStack(env, s)
		s.Close()
	}
	l, err := p.listen()
	if err != nil {
		return err
	}
	defer l.Close()
	if err := cli.Print(env, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "serving %s on %s\n", page, p.at(l))
		return err
	}); err != nil {
		return err
	}
	var mu sync.Mutex
	server := httpd.Server{Path: page, Page: src.page, HeadTime: headTime, AnswerTime: answerTime, Log: func(line string) {
		mu.Lock()
		defer mu.Unlock()
		c.Debugf(env, "%s", line)
	}}
	return server.Serve(ctx, l)
}

// A source is where a server gets the metrics from. Several goroutines use it.
type source struct {
	stacks  *reopen.Opener
	program string // version
}

// page is the [httpd.Page] of the metrics.
func (s *source) page(ctx context.Context, accept string) (string, func(io.Writer) error, error) {
	stack, err := s.stacks.Open(ctx)
	if err != nil {
		return "", nil, errors.New(explain.Line(err))
	}
	t, err := read(ctx, stack, s.program)
	if err != nil {
		stack.Close()
		return "", nil, err
	}
	form := formFor(accept)
	return form.ContentType(), func(w io.Writer) error {
		defer stack.Close()
		return t.write(w, form)
	}, nil
}
