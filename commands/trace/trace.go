// Package trace is the applet trace: what happens to a packet, and why.
//
// facts.go reads what the answer depends on, judge.go finds the answer without reading
// anything else, and report.go prints it.
package trace

import (
	"context"
	"fmt"
	"io"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/netdb"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/syntax"
)

// Exit codes besides those of package cli.
const (
	exitClear   = 3 // it passes in clear
	exitDropped = 4 // it is dropped or refused
	exitHeld    = 5 // it is kept, or key daemons are asked for an SA
)

// App returns the applet.
func App() *cli.App {
	return &cli.App{
		Name:     "trace",
		Short:    "show what happens to a packet, and why",
		Synopsis: []string{"[--in | --forward] [--dev DEVICE] [--len BYTES] [--json] SRC DST [PROTOCOL [SPORT DPORT]]"},
		Options: append([]getopt.Option{
			{Name: "in", Help: "the packet comes out of a tunnel; otherwise it leaves this host"},
			{Name: "forward", Help: "it comes from another host and leaves this one; the default if SRC is no address of this host"},
			{Name: "dev", Arg: "DEVICE", Help: "the device by which it arrives: with --in an ipsecN, otherwise the device of the network of SRC", Values: []string{"<device>", "<virtual>"}},
			{Name: "len", Arg: "BYTES", Help: "its length with the IP header (default 60)"},
			cli.JSONOption("the answer"),
		}, cli.CommonOptions()...),
		Notes: func() string {
			return "PROTOCOL is a name or a number, by default that of ping. SPORT and DPORT are ports\n" +
				"of tcp and udp. Exit status: 0 it is protected, or an SA admits it; 3 it passes\n" +
				"in clear; 4 it is dropped; 5 it is held.\n"
		},
		Parse: command,
	}
}

// A request is a parsed command line.
type request struct {
	cli.Common
	flow    klips.Flow
	forward bool
	device  string // empty: not given
}

// defaultLength is the length of a packet without --len.
const defaultLength = 60

func command(env *cli.Env, args []string) (cli.Command, error) {
	r := &request{flow: klips.Flow{Length: defaultLength}}
	r.TakesOperands = true
	err := r.Parse(App().Options, args, getopt.EnvMode(env.Getenv), r.option)
	if err == nil && !r.Help && !r.Version {
		err = r.finish(env)
	}
	return r.Command(env, App, err, cli.Reader(r.run))
}

func (r *request) option(name, value string) error {
	switch name {
	case "in":
		r.flow.Inbound = true
	case "forward":
		r.forward = true
	case "dev":
		r.device = value
	case "len":
		n, err := syntax.ParseNumber(value, 10, 0xffff)
		if err != nil {
			return cli.Usagef("--len %s: %w", quote.Value(value), err)
		}
		r.flow.Length = int(n)
	}
	return nil
}

// finish parses the operands.
func (r *request) finish(env *cli.Env) (err error) {
	f := &r.flow
	switch n := len(r.Operands); {
	case f.Inbound && r.forward:
		return cli.Usagef("--in and --forward exclude each other; the host forwards what comes out of a tunnel by itself")
	case n < 2:
		return cli.Usagef("name the packet's source and destination, as in ipsec trace 10.1.0.5 10.2.0.7 tcp 1024 443")
	case n == 4 || n > 5:
		return cli.Usagef("after SRC DST follow nothing, PROTOCOL, or PROTOCOL SPORT DPORT")
	}
	if f.Src, err = syntax.ParseAddr(r.Operands[0], syntax.FamilyAny, env.Resolver); err != nil {
		return cli.Usagef("source %s: %w", quote.Value(r.Operands[0]), err)
	}
	if f.Dst, err = syntax.ParseAddr(r.Operands[1], syntax.FamilyOf(f.Src), env.Resolver); err != nil {
		return cli.Usagef("destination %s: %w", quote.Value(r.Operands[1]), err)
	}
	f.Proto = unix.IPPROTO_ICMP
	least := 20
	if f.Dst.Is6() {
		f.Proto, least = unix.IPPROTO_ICMPV6, 40
	}
	if f.Length < least {
		return cli.Usagef("--len %d: the IP header alone has %d bytes", f.Length, least)
	}
	if len(r.Operands) > 2 {
		if f.Proto, err = netdb.ParseProtocol(r.Operands[2]); err != nil {
			return cli.Usagef("protocol %s: %w", quote.Value(r.Operands[2]), err)
		}
	}
	if len(r.Operands) == 5 {
		if f.Proto != unix.IPPROTO_TCP && f.Proto != unix.IPPROTO_UDP {
			return cli.Usagef("protocol %s has no ports; those of tcp and udp can be given", quote.Value(r.Operands[2]))
		}
		for i, port := range []*uint16{&f.SrcPort, &f.DstPort} {
			if *port, err = netdb.ParsePort(r.Operands[3+i]); err != nil {
				return cli.Usagef("port %s: %w", quote.Value(r.Operands[3+i]), err)
			}
		}
	}
	return nil
}

func (r *request) run(ctx context.Context, env *cli.Env, s klips.Stack) error {
	r.DebugStack(env, s)
	f, err := read(ctx, s, r)
	if err != nil {
		return err
	}
	a := f.judge()
	if r.JSON {
		err = output.Print(env, f.json(a))
	} else {
		err = cli.Print(env, func(w io.Writer) error { return f.write(w, a) })
	}
	if code := a.verdict.exit(); err == nil && code != cli.ExitOK {
		return &cli.ExitError{Code: code}
	}
	return err
}

// describe returns a flow in words: "10.1.0.5 -> 10.2.0.7 (tcp 1024 to 443, 60 bytes)".
func describe(f klips.Flow) string {
	text := fmt.Sprintf("%v -> %v (%s", f.Src, f.Dst, netdb.ProtocolName(f.Proto))
	switch {
	case f.SrcPort != 0 && f.DstPort != 0:
		text += fmt.Sprintf(" %d to %d", f.SrcPort, f.DstPort)
	case f.DstPort != 0:
		text += fmt.Sprintf(" to %d", f.DstPort)
	case f.SrcPort != 0:
		text += fmt.Sprintf(" from %d", f.SrcPort)
	}
	return fmt.Sprintf("%s, %d bytes)", text, f.Length)
}

// host returns a prefix with one address.
func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
