// Package look is the applet look: all tables of a stack on one screen, in the layout
// of KLIPS' look.
package look

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/listing"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/internal/redraw"
	"github.com/klips-go/ipsec/commands/internal/reopen"
	"github.com/klips-go/ipsec/commands/internal/routes"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/procfs"
)

// App returns the applet.
func App() *cli.App {
	return &cli.App{
		Name:     "look",
		Short:    "show eroutes, groups, devices, SAs, routes and counters",
		Synopsis: []string{"", "--json", "--watch [SECONDS]"},
		Options: append([]getopt.Option{
			{Name: "json", Help: "print everything as a JSON object, see ipsec_json(5)"},
			{Name: "watch", Help: "print everything again and again, until a signal or the key q, each SECONDS (2 without them)", Whole: true},
		}, cli.CommonOptions()...),
		Parse: command,
	}
}

// A view holds the tables of a stack, read once.
type view struct {
	Stack   string
	Host    string
	Time    time.Time
	Eroutes []klips.Eroute
	Devices []klips.Device
	SAs     []klips.SA
	Foreign []string // made by other programs
	Routes  []routes.Route
	Drops   drop.Counts // of packets that belong to no device
	listing.Oddities
}

// json returns the view for programs.
func (v *view) json() output.LookList {
	return output.LookList{
		Head: output.NewHead(v.Stack), Host: v.Host, Time: v.Time,
		SAs: output.SAs(v.SAs), Groups: output.Groups(v.SAs), Eroutes: output.Eroutes(v.Eroutes), Devices: output.Devices(v.Devices),
		Routes: output.Routes(v.Routes), Drops: v.Drops, Foreign: v.Foreign,
		LinkFaults: output.LinkFaults(v.Links), Unread: output.UnreadLines(v.Unread),
	}
}

func command(env *cli.Env, args []string) (cli.Command, error) {
	common := cli.Common{TakesOperands: true}
	watches := false
	err := common.Parse(App().Options, args, 0, func(string, string) error { watches = true; return nil })
	interval := 2 * time.Second
	if err == nil {
		interval, err = checkWatch(env, &common, watches, interval)
	}
	if watches {
		return common.Command(env, App, err, cli.Func(func(ctx context.Context, env *cli.Env) error {
			return watch(ctx, env, &common, redraw.Options{Interval: interval})
		}))
	}
	return common.Command(env, App, err, cli.Reader(func(ctx context.Context, env *cli.Env, s klips.Stack) error {
		common.DebugStack(env, s)
		return show(ctx, env, s, common.JSON)
	}))
}

// checkWatch checks what may follow --watch, and returns the interval.
func checkWatch(env *cli.Env, c *cli.Common, watches bool, interval time.Duration) (time.Duration, error) {
	switch {
	case !watches && len(c.Operands) == 0 || c.Help || c.Version:
		return interval, nil
	case !watches:
		return 0, cli.Usagef("unexpected argument %s; everything here is given with options", quote.Word(c.Operands[0], c.Places[0]))
	case c.JSON:
		return 0, cli.Usagef("--json prints everything once; it does not go with --watch")
	case env.Later != nil:
		return 0, cli.Usagef("--watch has no end; leave it out of a file of commands")
	case len(c.Operands) == 0:
		return interval, nil
	case len(c.Operands) > 1:
		return 0, cli.Usagef("unexpected argument %s; one number of seconds follows --watch", quote.Word(c.Operands[1], c.Places[1]))
	}
	return redraw.ParseInterval("--watch", c.Operands[0])
}

// watch prints everything again and again. It opens the stack each time: a daemon may have
// been started again.
func watch(ctx context.Context, env *cli.Env, c *cli.Common, o redraw.Options) error {
	stacks := reopen.New(env)
	return redraw.Watch(ctx, env, o, func(ctx context.Context, w io.Writer, _ redraw.Size) error {
		s, err := stacks.Open(ctx)
		if err != nil {
			return err
		}
		defer s.Close()
		c.DebugStack(env, s)
		v, err := read(ctx, s)
		if err != nil {
			return err
		}
		return v.write(w)
	})
}

func show(ctx context.Context, env *cli.Env, s klips.Stack, asJSON bool) error {
	v, err := read(ctx, s)
	if err != nil {
		return err
	}
	if asJSON {
		return output.Print(env, v.json())
	}
	return cli.Print(env, v.write)
}

func read(ctx context.Context, s klips.Stack) (v view, err error) {
	v.Stack, v.Time = s.Info().Name, time.Now()
	v.Host, _ = os.Hostname()
	if v.Eroutes, err = klips.ReadEroutes(ctx, s); err != nil {
		return v, explain.Listing("eroutes", err)
	}
	if v.SAs, err = klips.ReadSAs(ctx, s); err != nil {
		return v, explain.Listing("SAs", err)
	}
	if v.Devices, err = klips.ReadDevices(ctx, s); err != nil {
		return v, explain.Listing("devices", err)
	}
	if v.Oddities, err = listing.ReadOddities(ctx, s, v.SAs); err != nil {
		return v, explain.Listing("tables", err)
	}
	t, err := s.Snapshot(ctx, klips.Want{Foreign: true})
	if err != nil {
		return v, explain.Listing("what other programs have made", err)
	}
	v.Foreign = t.Foreign
	if t, err = s.Snapshot(ctx, klips.Want{Drops: true}); err != nil {
		return v, explain.Listing("dropped packets", err)
	}
	v.Drops = t.Drops
	if v.Routes, err = routes.List(); err != nil {
		return v, explain.Listing("routes", err)
	}
	return v, nil
}

// write prints the view: host and date, eroutes with their groups, devices, SAs
// sorted by text, routes, statistics.
func (v *view) write(w io.Writer) error {
	fmt.Fprintf(w, "%s %s\n", v.Host, v.Time.Format("Mon Jan _2 15:04:05 MST 2006"))
	group := map[klips.SAID]string{}
	for _, sa := range v.SAs {
		var sb strings.Builder
		for _, id := range append([]klips.SAID{sa.ID}, sa.Next...) {
			sb.WriteString(id.String())
			sb.WriteByte(' ')
		}
		group[sa.ID] = sb.String()
	}
	also := func(ids []klips.SAID) (text string) {
		for _, id := range ids {
			text += " also " + strings.TrimSuffix(cmp.Or(group[id], id.String()), " ")
		}
		return text
	}
	for _, e := range byAddress(v.Eroutes) {
		said := e.ID.String()
		if g, ok := group[e.ID]; ok && e.Proto == 0 {
			said = g
		} else if e.Proto != 0 {
			said = fmt.Sprintf("%s:%d", said, e.Proto)
		}
		fmt.Fprintf(w, "%-18s -> %-18s => %s (%d)%s\n",
			procfs.FlowEnd(e.Src, e.SrcPort), procfs.FlowEnd(e.Dst, e.DstPort), said, e.Packets, also(e.Also))
	}
	for _, d := range v.Devices {
		phys := d.Physical
		if phys == "" {
			if d.MTU == 0 {
				continue // never used
			}
			phys = "NULL"
		}
		fmt.Fprintf(w, "%s->%s mtu=%d(%d)->%d\n", d.Name, phys, d.MTU, d.AttMTU, d.PhysMTU)
	}
	var buf bytes.Buffer
	if err := procfs.WriteSPI(&buf, v.SAs); err != nil {
		return err
	}
	lines := strings.SplitAfter(strings.TrimSuffix(buf.String(), "\n"), "\n")
	slices.Sort(lines)
	for _, l := range lines {
		if l != "" {
			fmt.Fprintln(w, strings.TrimSuffix(l, "\n"))
		}
	}
	if notes := v.Notes(); len(notes) > 0 {
		fmt.Fprintln(w, "NOTES")
		for _, n := range notes {
			fmt.Fprintln(w, n)
		}
	}
	if len(v.Foreign) > 0 {
		fmt.Fprintln(w, "MADE BY OTHER PROGRAMS")
		for _, f := range v.Foreign {
			fmt.Fprintln(w, f)
		}
	}
	fmt.Fprintln(w, "ROUTING TABLES")
	for _, r := range v.Routes {
		fmt.Fprintln(w, r)
	}
	return v.writeStats(w)
}

// writeStats prints the counters of the devices, and how many packets were dropped for
// each reason: by devices, by SAs, and others. ip -s link counts the packets that pass
// the device; only this shows those that the stack has dropped.
func (v *view) writeStats(w io.Writer) error {
	fmt.Fprintln(w, "STATISTICS")
	for _, d := range v.Devices {
		if d.MTU == 0 {
			continue // never used
		}
		s := d.Stats
		fmt.Fprintf(w, "%s tx packets=%d bytes=%d errors=%d dropped=%d rx packets=%d bytes=%d errors=%d dropped=%d\n", d.Name,
			s.TxPackets, s.TxBytes, s.TxErrors, s.TxDropped, s.RxPackets, s.RxBytes, s.RxErrors, s.RxDropped)
		writeDrops(w, d.Name, d.Drops)
	}
	for _, sa := range v.SAs {
		writeDrops(w, sa.ID.String(), sa.Drops)
	}
	writeDrops(w, "other", v.Drops)
	writeUnchecked(w, v.SAs)
	return nil
}

// writeDrops prints how many packets were dropped for each reason, if any were.
func writeDrops(w io.Writer, of string, c drop.Counts) {
	if len(c) > 0 {
		fmt.Fprintf(w, "%s drops %v\n", of, c)
	}
}

// byAddress sorts eroutes by source, then by destination address and mask, in the order
// of KLIPS' look: IPv4 first.
func byAddress(l []klips.Eroute) []klips.Eroute {
	l = slices.Clone(l)
	prefix := func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	}
	slices.SortStableFunc(l, func(a, b klips.Eroute) int {
		return cmp.Or(prefix(a.Src, b.Src), prefix(a.Dst, b.Dst))
	})
	return l
}
