// Package monitor is the applet monitor: what happens on the stack, as it happens.
package monitor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/internal/redraw"
	"github.com/klips-go/ipsec/commands/internal/reopen"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/watch"
)

// App returns the applet.
func App() *cli.App {
	var kinds []string
	for _, k := range watch.Kinds() {
		kinds = append(kinds, k.String())
	}
	return &cli.App{
		Name:     "monitor",
		Short:    "print what happens on the stack",
		Synopsis: []string{"[--json] [--only EVENT,...] [--acquire] [--exec PROGRAM] [--interval SECONDS] [--count N]"},
		Options: append([]getopt.Option{
			{Name: "json", Help: "print each event as a JSON object on one line, see ipsec_json(5)", Whole: true},
			{Name: "only", Arg: "EVENT,...", Help: "print these events only", Values: kinds},
			{Name: "acquire", Help: "ask the stack for ACQUIRE and for new addresses of peers, as a key daemon does; packets of %trap then wait"},
			{Name: "exec", Arg: "PROGRAM", Help: "run PROGRAM for each event, one after the other, with the event in its environment", Values: []string{"<file>"}},
			{Name: "interval", Arg: "SECONDS", Help: "how often to read what the stack sends no messages about (default 1)"},
			{Name: "count", Arg: "N", Help: "end after N events"},
		}, cli.CommonOptions()...),
		Notes: func() string { return "EVENT is " + strings.Join(kinds, ", ") + ".\n" },
		Parse: command,
	}
}

// A request is a parsed command line.
type request struct {
	cli.Common
	only     []string // empty: all
	acquire  bool
	program  string // empty: none
	interval time.Duration
	count    uint64 // 0: no limit
}

func command(env *cli.Env, args []string) (cli.Command, error) {
	r := &request{interval: time.Second}
	err := r.Parse(App().Options, args, getopt.EnvMode(env.Getenv), r.option)
	return r.Command(env, App, err, cli.Func(r.run))
}

func (r *request) option(name, value string) (err error) {
	switch name {
	case "only":
		r.only = strings.Split(value, ",")
		for _, word := range r.only {
			if !slices.ContainsFunc(watch.Kinds(), func(k watch.Kind) bool { return k.String() == word }) {
				return cli.Usagef("--only %s: there is no such event; ipsec monitor --help lists them", quote.Value(word))
			}
		}
	case "acquire":
		r.acquire = true
	case "exec":
		if r.program, err = findProgram(value); err != nil {
			return cli.Usagef("--exec %s: %w", quote.Value(value), err)
		}
	case "interval":
		r.interval, err = redraw.ParseInterval("--interval", value)
	case "count":
		r.count, err = cli.ParseCount(value, "events")
	}
	return err
}

func (r *request) run(ctx context.Context, env *cli.Env) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	m := &monitor{request: r, env: env, stacks: reopen.New(env), now: time.Now, after: time.After, notices: make(chan watch.Notice, 64)}
	err := m.follow(ctx)
	if errors.Is(err, errEnough) || ctx.Err() != nil {
		return nil
	}
	return err
}

// errEnough: as many events as were asked for have been printed.
var errEnough = errors.New("enough events")

// A monitor prints what happens.
type monitor struct {
	*request
	env     *cli.Env
	stacks  *reopen.Opener
	now     func() time.Time
	after   func(time.Duration) <-chan time.Time
	notices chan watch.Notice // messages of the stack

	stack  string          // its name
	before *klips.Snapshot // nil: the stack cannot be read
	told   watch.Told
	events uint64 // printed
}

// settle is how long the monitor waits after a message: a command makes several changes, and
// one reading shows all of them.
const settle = 20 * time.Millisecond

// follow prints events until the context ends.
func (m *monitor) follow(ctx context.Context) error {
	var err error
	if m.before, err = m.read(ctx); err != nil {
		return err
	}
	go m.listen(ctx)
	tick := m.after(m.interval)
	for {
		select {
		case <-ctx.Done():
			return nil
		case n := <-m.notices:
			if err := m.notice(n); err != nil {
				return err
			}
			if n.Event != nil && n.Event.Kind == watch.PeerMoved {
				continue // it changes no table, and a kernel sends it for each packet
			}
			if err := m.drain(ctx); err != nil {
				return err
			}
		case <-tick:
			tick = m.after(m.interval)
		}
		if err := m.look(ctx); err != nil {
			return err
		}
	}
}

// drain takes the messages that follow soon.
func (m *monitor) drain(ctx context.Context) error {
	end := m.after(settle)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-end:
			return nil
		case n := <-m.notices:
			if err := m.notice(n); err != nil {
				return err
			}
		}
	}
}

// look reads the stack and prints what has changed.
func (m *monitor) look(ctx context.Context) error {
	t, err := m.read(ctx)
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil && m.before == nil:
		return nil
	case err != nil:
		m.before = nil
		return m.print(watch.Event{Time: m.now(), Kind: watch.Gone, Polled: true})
	case m.before == nil:
		m.before = t
		return m.print(watch.Event{Time: m.now(), Kind: watch.Back, Polled: true})
	}
	events := watch.Compare(m.before, t, m.now(), &m.told)
	m.before = t
	for _, e := range events {
		if err := m.print(e); err != nil {
			return err
		}
	}
	return nil
}

// read reads the stack.
func (m *monitor) read(ctx context.Context) (*klips.Snapshot, error) {
	s, err := m.stacks.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	m.stack = s.Info().Name
	t, err := s.Snapshot(ctx, klips.Want{SAs: true, Eroutes: true, Devices: true, Drops: true})
	if err != nil {
		return nil, explain.Listing("tables", err)
	}
	return t, nil
}

// notice handles a message of the stack.
func (m *monitor) notice(n watch.Notice) error {
	if n.Event != nil && n.Event.Kind == watch.PeerMoved {
		return m.moved(*n.Event)
	}
	m.told.Changed()
	if n.Expired != (klips.SAID{}) {
		m.told.Expired(n.Expired, n.Hard)
	}
	if n.Event == nil {
		return nil
	}
	e := *n.Event
	e.Time = m.now()
	return m.print(e)
}

// moved prints that a peer has moved, once.
func (m *monitor) moved(e watch.Event) error {
	if !e.SA.Dst.IsValid() && m.before != nil { // the message of PF_KEY has no destination
		for i := range m.before.SAs {
			if id := m.before.SAs[i].ID; id.SPI == e.SA.SPI && id.Proto == e.SA.Proto && m.before.SAs[i].Dir == klips.Inbound {
				e.SA = id
			}
		}
	}
	if !m.told.Moved(e.SA, e.To) {
		return nil
	}
	e.Time = m.now()
	return m.print(e)
}

// listen sends the messages of the stack to notices, until the context ends. A stack without
// messages is read only. After an error it begins again with the next interval.
func (m *monitor) listen(ctx context.Context) {
	for ctx.Err() == nil {
		if err := m.receive(ctx); errors.Is(err, syscall.EOPNOTSUPP) {
			return
		}
		select {
		case <-ctx.Done():
		case <-m.after(m.interval):
		}
	}
}

func (m *monitor) receive(ctx context.Context) error {
	s, err := m.stacks.Open(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	l, err := watch.Notices(ctx, s, m.acquire)
	if err != nil {
		return err
	}
	for n, err := range l {
		if err != nil {
			return err
		}
		select {
		case m.notices <- n:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// print prints an event, if it is wanted, and runs the program for it.
func (m *monitor) print(e watch.Event) error {
	if len(m.only) > 0 && !slices.Contains(m.only, e.Kind.String()) {
		return nil
	}
	err := cli.Print(m.env, func(w io.Writer) error {
		if m.JSON {
			return writeJSON(w, m.stack, e)
		}
		_, err := fmt.Fprintln(w, describe(e))
		return err
	})
	if err != nil {
		return err
	}
	if m.program != "" {
		if err := runProgram(m.program, m.stack, e, m.env); err != nil {
			cli.Notef(m.env, "--exec %s, for %v: %v", m.program, e.Kind, err)
		}
	}
	if m.events++; m.events == m.count {
		return errEnough
	}
	return nil
}
