// Package capture is the applet capture: records packets in clear and protected, each with a
// comment about its SAs.
package capture

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/netdb"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/internal/reopen"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/afpacket"
	"github.com/klips-go/ipsec/klips/syntax"
)

// App returns the applet.
func App() *cli.App {
	return &cli.App{
		Name:     "capture",
		Short:    "record packets in clear and protected",
		Synopsis: []string{"[--interface DEVICE] ... [--write FILE [--force] [--show-keys]] [--snaplen BYTES] [--count N] [--src ADDR] [--dst ADDR] [--proto PROTO] [--port PORT] [--said SAID]"},
		Options: append([]getopt.Option{
			{Name: "interface", Arg: "DEVICE", Help: "packets of this device only, an ipsecN or a physical one; also -i (repeatable)", Values: []string{"<virtual>", "<device>"}},
			{Name: "write", Arg: "FILE", Help: "write a pcapng file that only its owner can read; - is standard output; also -w", Values: []string{"<file>"}},
			{Name: "force", Help: "overwrite FILE"},
			{Name: "show-keys", Help: "write the keys, too, for Wireshark: to the file FILE.esp_sa"},
			{Name: "snaplen", Arg: "BYTES", Help: "write so many bytes of each packet (default all)"},
			{Name: "count", Arg: "N", Help: "end after N packets"},
			{Name: "src", Arg: "ADDR", Help: "packets from this address or network"},
			{Name: "dst", Arg: "ADDR", Help: "packets to this address or network"},
			{Name: "proto", Arg: "PROTO", Help: "packets of this protocol, name or number", Values: []string{"tcp", "udp", "icmp", "ipv6-icmp", "esp", "ah", "ipcomp"}},
			{Name: "port", Arg: "PORT", Help: "packets from or to this port of TCP or UDP"},
			{Name: "said", Arg: "SAID", Help: "packets of this SA and its group, in clear and protected", Values: []string{"<said>"}},
		}, cli.CommonOptions()...),
		Notes: func() string { return "Without --write, a line for each packet is printed.\n" },
		Parse: command,
	}
}

// A request is a parsed command line.
type request struct {
	cli.Common
	named    []string // empty: those that are attached, and their physical ones
	file     string   // empty: print lines
	force    bool
	showKeys bool
	snaplen  int
	count    uint64 // 0: no limit
	filter
}

func command(env *cli.Env, args []string) (cli.Command, error) {
	r := &request{snaplen: afpacket.MaxLength}
	err := r.Parse(App().Options, args, getopt.LongOnly|getopt.EnvMode(env.Getenv), func(name, value string) error {
		return r.option(env, name, value)
	})
	switch {
	case err != nil || r.Help || r.Version:
	case r.force && (r.file == "" || r.file == standardOutput):
		err = cli.Usagef("--force is for --write FILE; without a file nothing is overwritten")
	case r.showKeys && (r.file == "" || r.file == standardOutput):
		err = cli.Usagef("--show-keys needs --write FILE: the keys go to FILE.esp_sa, and never among the packets")
	}
	return r.Command(env, App, err, cli.Func(r.run))
}

func (r *request) option(env *cli.Env, name, value string) (err error) {
	switch name {
	case "interface":
		if value == "" {
			return cli.Usagef("--interface: there is no name of a device")
		}
		r.named = append(r.named, value)
	case "write":
		if value == "" {
			return cli.Usagef("--write: there is no file name")
		}
		r.file = value
	case "force":
		r.force = true
	case "show-keys":
		r.showKeys = true
	case "snaplen":
		n, err := syntax.ParseNumber(value, 10, afpacket.MaxLength)
		if err != nil || n == 0 {
			return cli.Usagef("--snaplen %s: want a number of bytes, from 1 to %d", quote.Value(value), afpacket.MaxLength)
		}
		r.snaplen = int(n)
	case "count":
		r.count, err = cli.ParseCount(value, "packets")
	case "src":
		r.src, err = parseNet(env, name, value)
	case "dst":
		r.dst, err = parseNet(env, name, value)
	case "proto":
		n, err := netdb.ParseProtocol(value)
		if err != nil {
			return cli.Usagef("--proto %s: %w", quote.Value(value), err)
		}
		r.proto = &n
	case "port":
		if r.port, err = netdb.ParsePort(value); err != nil {
			return cli.Usagef("--port %s: %w", quote.Value(value), err)
		}
		if r.port == 0 {
			return cli.Usagef("--port 0: no packet has this port; want a number from 1 to 65535, or a name")
		}
	case "said":
		if r.said, err = syntax.ParseSAID(value, env.Resolver); err != nil {
			return cli.Usagef("--said %s: %w", quote.Value(value), err)
		}
	}
	return err
}

// parseNet parses an address, or a network.
func parseNet(env *cli.Env, name, value string) (p netip.Prefix, err error) {
	if strings.Contains(value, "/") {
		p, err = syntax.ParseSubnet(value, syntax.FamilyAny, env.Resolver)
	} else {
		var a netip.Addr
		if a, err = syntax.ParseAddr(value, syntax.FamilyAny, env.Resolver); err == nil {
			p = netip.PrefixFrom(a, a.BitLen())
		}
	}
	if err != nil {
		return p, cli.Usagef("--%s %s: %w", name, quote.Value(value), err)
	}
	return p, nil
}

func (r *request) run(ctx context.Context, env *cli.Env) (err error) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	c := &capturer{request: r, env: env, stacks: reopen.New(env), now: time.Now}
	defer c.close()
	if err := c.open(ctx); err != nil {
		c.discard()
		if ctx.Err() != nil { // a signal came before it began
			return nil
		}
		return err
	}
	err = c.follow(ctx)
	if ferr := c.finish(); err == nil {
		err = ferr
	}
	return err
}

// openSocket opens a packet socket. Its error names what is missing.
func openSocket() (*afpacket.Socket, error) {
	s, err := afpacket.Open()
	switch {
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("packets cannot be read: %w; run it as root (CAP_NET_RAW is needed)", err)
	case errors.Is(err, syscall.EAFNOSUPPORT):
		return nil, fmt.Errorf("packets cannot be read: this kernel has no packet sockets (%w); load the module af_packet", err)
	case err != nil:
		return nil, fmt.Errorf("packets cannot be read: %w", err)
	}
	return s, nil
}

// A filter selects packets. Its zero values select all.
type filter struct {
	src, dst netip.Prefix
	proto    *uint8
	port     uint16
	said     klips.SAID
}

// selects reports whether a packet is wanted, as far as its own headers show: all that is
// asked for must be true of one of them.
func (f *filter) selects(v *view) bool {
	if !f.src.IsValid() && !f.dst.IsValid() && f.proto == nil && f.port == 0 {
		return true
	}
	for i := range v.headers {
		h := &v.headers[i]
		if (!f.src.IsValid() || f.src.Contains(h.src)) && (!f.dst.IsValid() || f.dst.Contains(h.dst)) &&
			(f.proto == nil || *f.proto == h.proto || *f.proto == h.upper) && (f.port == 0 || h.srcPort == f.port || h.dstPort == f.port) {
			return true
		}
	}
	return false
}
