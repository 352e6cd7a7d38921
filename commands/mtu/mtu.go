// Package mtu is the applet that explains how long packets through a tunnel may be.
package mtu

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/syntax"
)

// App returns the applet.
func App() *cli.App { return app(nil, nil) }

// app returns the applet for a network and an echo that tests replace; nil: those of this
// host.
func app(n network, e echoer) *cli.App {
	a := &cli.App{
		Name:     "mtu",
		Short:    "explain how long packets through a tunnel may be",
		Synopsis: []string{"[--src SRC] [--len N] [--probe] [--json] DST | NAME | SAID"},
		Options: append([]getopt.Option{
			{Name: "src", Arg: "SRC", Help: "the source of the packets; without it, the address of this host that they would have"},
			{Name: "len", Arg: "N", Help: "show what becomes of a packet of N bytes, with its IP header"},
			{Name: "probe", Help: "send echo requests to DST that may not be fragmented, and find the longest that is answered"},
			cli.JSONOption("the lengths"),
		}, cli.CommonOptions()...),
		Operands: []string{"<conn>", "<said>"},
		Notes: func() string {
			return "DST is an address behind the tunnel, NAME a connection that was routed or brought\n" +
				"up, SAID an SA of the group.\n"
		},
	}
	a.Parse = func(env *cli.Env, args []string) (cli.Command, error) {
		r := &request{network: n, echo: e}
		r.TakesOperands = true
		err := r.Parse(a.Options, args, getopt.EnvMode(env.Getenv), func(name, value string) error { return r.option(env, name, value) })
		if err == nil && !r.Help && !r.Version {
			err = r.finish()
		}
		return r.Command(env, App, err, cli.Reader(r.run))
	}
	return a
}

// A request is a parsed command line.
type request struct {
	cli.Common
	network network
	echo    echoer
	src     netip.Addr // invalid: that of the route
	length  int        // 0: the longest that fits
	probe   bool

	dst  netip.Addr // one of these three
	said klips.SAID
	name string
}

func (r *request) option(env *cli.Env, name, value string) (err error) {
	switch name {
	case "src":
		if r.src, err = syntax.ParseAddr(value, syntax.FamilyAny, env.Resolver); err != nil {
			return cli.Usagef("--src %s: %w", quote.Value(value), err)
		}
	case "len":
		n, err := syntax.ParseNumber(value, 10, 65535)
		if err != nil || n < 20 {
			return cli.Usagef("--len %s: it is no length of an IP packet; write a number from 20 to 65535", quote.Value(value))
		}
		r.length = int(n)
	case "probe":
		r.probe = true
	}
	return nil
}

func (r *request) finish() error {
	switch len(r.Operands) {
	case 0:
		return cli.Usagef("DST is missing: an address behind the tunnel, the name of a connection, or an SAID")
	case 1:
	default:
		return cli.Usagef("unexpected argument %s: one destination at a time", quote.Word(r.Operands[1], r.Places[1]))
	}
	text := r.Operands[0]
	if a, err := syntax.ParseAddr(text, syntax.FamilyAny, nil); err == nil {
		r.dst = a
	} else if id, err := syntax.ParseSAID(text, nil); err == nil {
		r.said = id
	} else {
		r.name = text
	}
	switch {
	case r.probe && !r.dst.IsValid():
		return cli.Usagef("--probe needs an address behind the tunnel instead of %s: a host there must answer", quote.Word(text, r.Places[0]))
	case r.src.IsValid() && !r.dst.IsValid():
		return cli.Usagef("--src goes with an address behind the tunnel, not with %s", quote.Word(text, r.Places[0]))
	case r.src.IsValid() && r.src.Is4() != r.dst.Is4():
		return cli.Usagef("--src %v and %v: one is IPv4 and one is IPv6; write two addresses of one family", r.src, r.dst)
	}
	return nil
}

func (r *request) run(ctx context.Context, env *cli.Env, s klips.Stack) error {
	r.DebugStack(env, s)
	if r.network == nil {
		r.network = hostNetwork{}
	}
	p, err := r.find(ctx, env, s)
	if err != nil {
		return err
	}
	m, err := p.lengths(r.network, s.Info().Name, r.length)
	if err != nil {
		return err
	}
	if r.probe {
		if err := r.measure(ctx, &m); err != nil {
			return err
		}
	}
	if r.JSON {
		return output.Print(env, output.MtuList{Head: output.NewHead(s.Info().Name), Paths: []output.MTU{m}})
	}
	return cli.Print(env, func(w io.Writer) error { return write(w, &m) })
}

// write prints the lengths for people.
func write(w io.Writer, m *output.MTU) error {
	what := "packets of " + m.Family
	switch {
	case m.Source.IsValid():
		what = fmt.Sprintf("packets from %v to %v", m.Source, m.Destination)
	case m.Destination.IsValid():
		what = fmt.Sprintf("packets to %v", m.Destination)
	}
	by := ""
	if m.Eroute != "" {
		by = ", by the eroute " + m.Eroute
	}
	fmt.Fprintf(w, "%s go through %s%s\n", what, strings.Join(m.Group, " "), by)
	fmt.Fprintf(w, "%s has the MTU %d", m.PhysicalDevice, m.PhysicalMTUBytes)
	if m.RouteMTUBytes != 0 {
		fmt.Fprintf(w, ", the route to the other end %d", m.RouteMTUBytes)
	}
	if m.PathMTUBytes != 0 {
		fmt.Fprintf(w, ", and a router on the path has reported %d", m.PathMTUBytes)
	}
	fmt.Fprintf(w, ": on the wire a packet may have %d bytes\n", m.LimitBytes)
	fmt.Fprintf(w, "a packet of %d bytes has %d bytes on the wire", m.PacketBytes, m.WireBytes)
	if m.WireBytes > m.LimitBytes {
		fmt.Fprint(w, ", too many: it is fragmented, or reported to its sender")
	}
	fmt.Fprintln(w, ":")
	for _, p := range m.Parts {
		fmt.Fprintf(w, "    %5d %s", p.Bytes, partWords(p.Part))
		if p.SAID != "" {
			fmt.Fprintf(w, " (%s)", p.SAID)
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "the longest packet without fragments has %d bytes, a TCP segment in it %d (MSS)\n", m.LongestPacketBytes, m.SegmentBytes)
	if m.Device != "" && m.Device != m.PhysicalDevice {
		fmt.Fprintf(w, "%s has the MTU %d\n", m.Device, m.DeviceMTUBytes)
	}
	for _, a := range m.Advice {
		fmt.Fprintln(w, a)
	}
	writeProbe(w, m.Probe)
	return nil
}

func writeProbe(w io.Writer, p *output.MTUProbe) {
	switch {
	case p == nil:
	case p.LargestAnsweredBytes == 0:
		fmt.Fprintf(w, "probe: not even a packet of %d bytes was answered: %s\n", p.SmallestLostBytes, p.Reason)
	case p.SmallestLostBytes == 0:
		fmt.Fprintf(w, "probe: packets of up to %d bytes were answered, all that were tried\n", p.LargestAnsweredBytes)
	default:
		fmt.Fprintf(w, "probe: packets of up to %d bytes were answered, one of %d was not: %s\n", p.LargestAnsweredBytes, p.SmallestLostBytes, p.Reason)
	}
}

// partWords returns a part for people.
func partWords(part string) string {
	switch part {
	case partIP:
		return "IP header"
	case partUDP:
		return "UDP header"
	case partAH:
		return "AH with ICV"
	case partESP:
		return "ESP header"
	case partIV:
		return "IV"
	case partPacket:
		return "the packet"
	case partPayload:
		return "the packet after its IP header"
	case partPadding:
		return "padding"
	case partTrailer:
		return "pad length and next header"
	}
	return "ICV"
}
