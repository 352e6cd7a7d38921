// Package top is the applet top: SAs and eroutes with their rates, the highest first, again
// and again.
package top

import (
	"cmp"
	"context"
	"io"
	"os"
	"slices"
	"time"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/redraw"
	"github.com/klips-go/ipsec/commands/internal/reopen"
	"github.com/klips-go/ipsec/klips"
)

// App returns the applet.
func App() *cli.App {
	return &cli.App{
		Name:     "top",
		Short:    "show which SAs and eroutes have the most packets now",
		Synopsis: []string{"[--interval SECONDS] [--count N]"},
		Options: append([]getopt.Option{
			{Name: "interval", Arg: "SECONDS", Help: "the time between two readings, 2 if it is not given"},
			{Name: "count", Arg: "N", Help: "end after N tables"},
		}, cli.CommonOptions()...),
		Parse: command,
	}
}

func command(env *cli.Env, args []string) (cli.Command, error) {
	var c cli.Common
	var given cli.Given
	o := redraw.Options{Interval: 2 * time.Second, WaitFirst: true}
	err := c.Parse(App().Options, args, getopt.EnvMode(env.Getenv), given.Add)
	if text, ok := given.Value("interval"); ok && err == nil {
		o.Interval, err = redraw.ParseInterval("--interval", text)
	}
	if text, ok := given.Value("count"); ok && err == nil {
		o.Count, err = cli.ParseCount(text, "tables")
	}
	return c.Command(env, App, err, cli.Func(func(ctx context.Context, env *cli.Env) error {
		t := top{env: env, common: &c, stacks: reopen.New(env), now: time.Now}
		return t.watch(ctx, o)
	}))
}

// A top reads the stack again and again.
type top struct {
	env     *cli.Env
	common  *cli.Common
	stacks  *reopen.Opener
	now     func() time.Time
	sas     meter[klips.SAID]
	eroutes meter[klips.Selector]
}

// watch prints tables. The first reading has no rates: only on a terminal it is shown.
func (t *top) watch(ctx context.Context, o redraw.Options) error {
	first, err := t.read(ctx)
	if err != nil {
		return err
	}
	terminal := cli.IsTerminal(t.env.Out)
	return redraw.Watch(ctx, t.env, o, func(ctx context.Context, w io.Writer, size redraw.Size) error {
		v := first
		if first = nil; v == nil || !terminal {
			if v, err = t.read(ctx); err != nil {
				return err
			}
		}
		return v.write(w, size)
	})
}

// read reads the stack. After a reading that fails, the next one has no rates: what was not
// read would be taken for new.
func (t *top) read(ctx context.Context) (_ *view, err error) {
	s, err := t.stacks.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	defer func() {
		if err != nil {
			t.sas, t.eroutes = meter[klips.SAID]{}, meter[klips.Selector]{}
		}
	}()
	t.common.DebugStack(t.env, s)
	v := &view{stack: s.Info().Name, at: t.now()}
	v.host, _ = os.Hostname()
	t.sas.begin(v.at)
	for part, err := range klips.SAParts(ctx, s) {
		if err != nil {
			return nil, explain.Listing("SAs", err)
		}
		for i := range part {
			r := saRow(&part[i])
			r.rate, r.known = t.sas.rate(part[i].ID, r.count)
			v.sas = append(v.sas, r)
		}
	}
	t.eroutes.begin(v.at)
	for part, err := range klips.ErouteParts(ctx, s) {
		if err != nil {
			return nil, explain.Listing("eroutes", err)
		}
		for i := range part {
			r := erouteRow(&part[i])
			r.rate, r.known = t.eroutes.rate(part[i].Selector, r.count)
			v.eroutes = append(v.eroutes, r)
		}
	}
	// The listing has SAs in the order of a hash table.
	slices.SortFunc(v.sas, func(a, b row) int { return cmp.Compare(a.name, b.name) })
	sortRows(v.sas)
	sortRows(v.eroutes)
	return v, nil
}
