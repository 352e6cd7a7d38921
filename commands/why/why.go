// Package why is the applet why: which packets were dropped, why, and what to do.
//
// findings.go collects what was counted, causes.go finds the likely causes, and kernel.go
// describes the counters of the kernel.
package why

import (
	"context"
	"fmt"
	"io"
	"os/signal"
	"syscall"
	"time"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/internal/reopen"
	"github.com/klips-go/ipsec/klips"
)

// App returns the applet.
func App() *cli.App {
	return &cli.App{
		Name:     "why",
		Short:    "explain why packets were dropped, and how to mend it",
		Synopsis: []string{"[--since TIME] [--json]", "--watch", "[--json] FILE"},
		Options: append([]getopt.Option{
			{Name: "since", Arg: "TIME", Help: "leave out reasons without a packet after TIME: 10m (ago), or 2026-01-02T15:04:05Z"},
			{Name: "watch", Help: "go on, and print each reason again when more packets are dropped for it"},
			cli.JSONOption("the reasons"),
		}, cli.CommonOptions()...),
		Operands: []string{"<file>"},
		Notes: func() string {
			return "FILE is the output of ipsec barf on the other end, - the standard input: what does\n" +
				"not fit together is printed, and the exit status is 1 if there is anything.\n"
		},
		Parse: command,
	}
}

// A request is a parsed command line.
type request struct {
	cli.Common
	since time.Time
	watch bool
	peer  string // the file about the other end; empty: none
}

func command(env *cli.Env, args []string) (cli.Command, error) {
	r := &request{}
	r.TakesOperands = true
	err := r.Parse(App().Options, args, getopt.EnvMode(env.Getenv), r.option)
	if err == nil && r.watch && r.JSON {
		err = cli.Usagef("--watch and --json exclude each other; ipsec monitor --json prints events")
	}
	switch {
	case err != nil || len(r.Operands) == 0:
	case len(r.Operands) > 1:
		err = cli.Usagef("unexpected argument %s; name one file, with the output of ipsec barf on the other end", quote.Word(r.Operands[1], r.Places[1]))
	case r.watch || !r.since.IsZero():
		err = cli.Usagef("--watch and --since are for dropped packets; leave them out to compare with %s", quote.File(r.Operands[0]))
	default:
		r.peer = r.Operands[0]
		return r.Command(env, App, err, cli.Func(r.compare))
	}
	return r.Command(env, App, err, cli.Reader(r.run))
}

func (r *request) option(name, value string) error {
	switch name {
	case "watch":
		r.watch = true
	case "since":
		if d, err := time.ParseDuration(value); err == nil && d >= 0 {
			r.since = time.Now().Add(-d)
		} else if t, err := time.Parse(time.RFC3339, value); err == nil {
			r.since = t
		} else {
			return cli.Usagef("--since %s: neither a time such as 10m or 2h ago, nor one such as 2026-01-02T15:04:05Z", quote.Value(value))
		}
	}
	return nil
}

func (r *request) run(ctx context.Context, env *cli.Env, s klips.Stack) error {
	r.DebugStack(env, s)
	var came *arrivals
	if r.watch {
		var stop context.CancelFunc
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		if s.Info().Name == "xfrm" {
			if t, err := s.Snapshot(ctx, klips.Want{SAs: true, Devices: true, KernelDrops: true}); err == nil {
				came = listen(ctx, t)
			}
		}
	}
	l, err := read(ctx, s, r.since)
	switch {
	case err != nil:
		return err
	case r.JSON:
		return output.Print(env, json(s.Info().Name, l))
	}
	if len(l) == 0 && !r.watch {
		return cli.Print(env, func(w io.Writer) error {
			text := "no packet was dropped"
			if !r.since.IsZero() {
				text += " since then"
			}
			_, err := fmt.Fprintln(w, text+"; ipsec trace shows what happens to one")
			return err
		})
	}
	if err := cli.Print(env, func(w io.Writer) error { return write(w, l) }); err != nil || !r.watch {
		return err
	}
	return watch(ctx, env, came, l)
}

// interval is the time between two looks of --watch.
const interval = time.Second

// watch prints the findings that have grown, until a signal. While the stack cannot be read, as
// when it is restarted, it waits. came has the packets for counters without packets; nil: there
// are none.
func watch(ctx context.Context, env *cli.Env, came *arrivals, before []finding) error {
	stacks := reopen.New(env)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		s, err := stacks.Open(ctx)
		if err != nil {
			continue
		}
		t, err := snapshot(ctx, s)
		s.Close()
		if err != nil {
			continue
		}
		came.explain(t, time.Now().Add(-2*interval))
		l := collect(t)
		if more := grown(before, l); len(more) > 0 {
			if err := cli.Print(env, func(w io.Writer) error { return write(w, more) }); err != nil {
				return err
			}
		}
		before = l
	}
}

// grown returns the findings of now that have more packets than before. Fewer packets are those
// of a stack that was started again.
func grown(before, now []finding) (l []finding) {
	had := packetsOf(before)
	for _, f := range now {
		if f.packets != had[f.reason] {
			l = append(l, f)
		}
	}
	return l
}

// packetsOf returns the number of packets by reason.
func packetsOf(l []finding) map[string]uint64 {
	n := map[string]uint64{}
	for _, f := range l {
		n[f.reason] = f.packets
	}
	return n
}

// write prints findings: the number, the reason and the likely cause in the first line, then
// the newest packet, who counts, and what to do.
func write(w io.Writer, l []finding) error {
	for _, f := range l {
		packets := "packets"
		if f.packets == 1 {
			packets = "packet"
		}
		fmt.Fprintf(w, "%s: %d %s: %s\n", f.reason, f.packets, packets, f.cause)
		if f.last != nil {
			fmt.Fprintf(w, "  last     %s\n", describe(f.last))
		}
		for _, text := range f.where {
			fmt.Fprintf(w, "  counted  %s\n", text)
		}
		if f.means != "" {
			fmt.Fprintf(w, "  means    %s\n", f.means)
		}
		for _, text := range f.see {
			fmt.Fprintf(w, "  see      %s\n", text)
		}
		for _, text := range f.mend {
			fmt.Fprintf(w, "  mend     %s\n", text)
		}
	}
	return nil
}

// json returns findings for programs.
func json(stack string, l []finding) output.WhyList {
	list := output.WhyList{Head: output.NewHead(stack), Reasons: []output.Why{}}
	for _, f := range l {
		list.Reasons = append(list.Reasons, output.Why{
			Reason: f.reason, Packets: f.packets, Cause: f.cause, Meaning: f.means, Counted: f.where, See: f.see, Mend: f.mend, Last: output.Dropped(f.last),
		})
	}
	return list
}

// snapshot reads what findings are made of.
func snapshot(ctx context.Context, s klips.Stack) (*klips.Snapshot, error) {
	t, err := s.Snapshot(ctx, klips.Want{SAs: true, Eroutes: true, Devices: true, Drops: true, LastDrops: true, KernelDrops: true})
	if err != nil {
		return nil, explain.Listing("dropped packets", err)
	}
	return t, nil
}

// read reads the findings. Those whose newest packet is known to be older than since are left
// out.
func read(ctx context.Context, s klips.Stack, since time.Time) ([]finding, error) {
	t, err := snapshot(ctx, s)
	if err != nil {
		return nil, err
	}
	var l []finding
	for _, f := range collect(t) {
		if since.IsZero() || f.last == nil || !f.last.Time.Before(since) {
			l = append(l, f)
		}
	}
	return l, nil
}
