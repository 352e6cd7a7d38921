package trace

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/hints"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/guard"
	"github.com/klips-go/ipsec/klips/rtnl"
	"github.com/klips-go/ipsec/klips/trace"
	"github.com/klips-go/ipsec/klips/user/overhead"
)

// facts are all that an answer depends on.
type facts struct {
	flow      klips.Flow
	forwarded bool   // it comes from another host
	arrives   string // the device by which it does, or by which it came out of a tunnel; empty: not known

	stack    string
	tables   *klips.Snapshot
	decision *klips.Decision

	way  way // of the packet on this host
	peer way // of the protected packet; zero: there is none

	closed     bool // a guard closes the flow: its packets must not leave or arrive in clear
	forwarding bool // the host forwards packets of this family
}

// A way is where the kernel sends a packet.
type way struct {
	to      netip.Addr
	err     error // why it does not; an errno of rtnl.LookUp
	here    bool  // it is for this host
	device  string
	gateway netip.Addr // not valid: the destination is on the link
	src     netip.Addr // the source address that the route prefers
	table   uint32
	mtu     int // of the device, or of the route if that is smaller; in bytes
	// neighbour: the link-layer address of the next host is known. It is looked up for peers.
	neighbour bool
	// assumed: no route leads there by the device, so the destination is taken to be on its link.
	assumed bool
}

// read reads the facts for a request.
func read(ctx context.Context, s klips.Stack, r *request) (*facts, error) {
	f := &facts{flow: r.flow, arrives: r.device, stack: s.Info().Name}
	var err error
	if f.tables, err = s.Snapshot(ctx, klips.Want{SAs: true, Eroutes: true, Devices: true, Foreign: true, ForeignPolicies: true}); err != nil {
		return nil, explain.Listing("tables", err)
	}
	rules, err := guard.Read()
	if err != nil {
		return nil, fmt.Errorf("cannot read the guards of flows: %w", err)
	}
	f.closed = closes(rules, f.flow)
	f.forwarding = forwards(f.flow.Dst)
	err = rtnl.With(func(_ context.Context, c *rtnl.Conn) error { return f.readHost(ctx, s, c, r.forward) })
	return f, err
}

// readHost reads what the kernel does with the packet, and asks the stack.
func (f *facts) readHost(ctx context.Context, s klips.Stack, c *rtnl.Conn, forward bool) error {
	links, err := c.Links(ctx)
	if err != nil {
		return err
	}
	addrs, err := c.Addrs(ctx)
	if err != nil {
		return err
	}
	local := func(a netip.Addr) bool {
		return a.IsLoopback() || slices.ContainsFunc(addrs, func(l rtnl.Addr) bool { return l.Prefix.Addr() == a })
	}
	named := func(name string) rtnl.Link {
		i := slices.IndexFunc(links, func(l rtnl.Link) bool { return l.Name == name })
		if i < 0 {
			return rtnl.Link{}
		}
		return links[i]
	}
	if f.arrives != "" && named(f.arrives).Index == 0 {
		return fmt.Errorf("--dev %s: there is no such device", f.arrives)
	}
	f.forwarded = !f.flow.Inbound && (forward || !local(f.flow.Src))
	query := rtnl.Query{To: f.flow.Dst, From: f.flow.Src, Proto: f.flow.Proto, SrcPort: f.flow.SrcPort, DstPort: f.flow.DstPort}
	switch {
	case f.flow.Inbound && f.arrives == "":
		f.arrives = attached(f.tables.Devices)
	case f.forwarded && f.arrives == "": // it comes from where answers to it would go
		back, err := f.find(ctx, c, links, rtnl.Query{To: f.flow.Src})
		if err != nil {
			return err
		}
		f.arrives = back.device
	}
	if f.flow.Inbound || f.forwarded {
		query.In = named(f.arrives).Index
	}
	if query.In == 0 && f.forwarded { // the kernel would refuse a source that is not its own
		query.From = netip.Addr{}
	}
	if f.way, err = f.find(ctx, c, links, query); err != nil {
		return err
	}
	if f.forwarded && f.way.err == nil { // what routers have reported is not heeded when packets are forwarded
		query.Entry = true
		entry, err := f.find(ctx, c, links, query)
		if err != nil {
			return err
		}
		if entry.err == nil {
			f.way.mtu = entry.mtu
		}
	}
	if f.flow.Device = ""; !f.flow.Inbound && f.virtual(f.way.device) {
		f.flow.Device = f.way.device
	}
	// The device takes the packet as the host routes it: in fragments, if it is too long.
	asked := f.flow
	if f.longer() {
		asked.Length = f.way.mtu
	}
	if f.decision, err = trace.Ask(ctx, s, f.tables, asked, local); err != nil {
		return explain.Listing("the decision about the packet", err)
	}
	return f.readPeer(ctx, c, links, named)
}

// longer reports whether an outbound packet is longer than its virtual device takes.
func (f *facts) longer() bool {
	return f.flow.Device != "" && f.way.mtu != 0 && f.flow.Length > f.way.mtu
}

// device returns the virtual device of the packet; with its name only, if it is not listed.
func (f *facts) device() klips.Device {
	for _, d := range f.tables.Devices {
		if d.Name == f.flow.Device {
			return d
		}
	}
	return klips.Device{Name: f.flow.Device}
}

// readPeer finds the way of the protected packet.
func (f *facts) readPeer(ctx context.Context, c *rtnl.Conn, links []rtnl.Link, named func(string) rtnl.Link) (err error) {
	d := f.device()
	if f.flow.Inbound || d.Physical == "" || f.decision.Fate != klips.FateProtect {
		return nil
	}
	group := f.decision.Legs[len(f.decision.Legs)-1].SAs
	physical := named(d.Physical)
	query := rtnl.Query{To: group[len(group)-1].Dst}
	if f.stack == "user" { // its socket is bound to the device
		query.Out = physical.Index
	}
	if f.peer, err = f.find(ctx, c, links, query); err != nil || f.peer.err != nil {
		return err
	}
	if query.Out != 0 { // without a route by a device, the kernel looks for the peer on its link
		query.Entry = true
		entry, err := f.find(ctx, c, links, query)
		if err != nil {
			return err
		}
		f.peer.assumed = entry.err != nil
	}
	next := f.peer.to
	if f.peer.gateway.IsValid() {
		next = f.peer.gateway
	}
	n, err := c.Neighbour(ctx, physical.Index, next)
	f.peer.neighbour = n.Usable
	f.fits()
	return err
}

// fits finds the lengths that fit into the way to the peer, where the stack does not know it.
func (f *facts) fits() {
	d := f.decision
	group := f.growths(d.Legs[0])
	if d.MTU != 0 || group == nil || len(d.Legs) > 1 || f.peer.mtu == 0 {
		return
	}
	d.MTU = f.peer.mtu
	d.Longest = overhead.LongestIn(f.plain(), d.MTU, group)
	// Nobody but its sender fragments a packet of IPv6 (RFC 8200 section 5); xfrm interfaces
	// drop it and send an ICMP error.
	if f.stack == "xfrm" && f.flow.Dst.Is6() && f.flow.Length > max(d.Longest, minMTU6) {
		d.Fate, d.Reason = klips.FateDrop, drop.TooBig.String()
	}
}

// minMTU6 is the MTU that every IPv6 link has at least (RFC 8200 section 5).
const minMTU6 = 1280

// findSA returns a listed SA; nil: it does not exist.
func (f *facts) findSA(id klips.SAID) *klips.SA {
	for i := range f.tables.SAs {
		if f.tables.SAs[i].ID == id {
			return &f.tables.SAs[i]
		}
	}
	return nil
}

// growths returns how much each SA of a leg adds to packets; nil: one of them does not exist.
func (f *facts) growths(leg klips.Leg) (group []overhead.Growth) {
	for _, id := range leg.SAs {
		sa := f.findSA(id)
		if sa == nil {
			return nil
		}
		group = append(group, overhead.OfSA(sa))
	}
	return group
}

// plain returns the lengths of the packet.
func (f *facts) plain() overhead.Packet {
	version := uint8(4)
	if f.flow.Dst.Is6() {
		version = 6
	}
	return overhead.Plain(version, f.flow.Length)
}

// find looks a route up. An error of the route is in the way.
func (f *facts) find(ctx context.Context, c *rtnl.Conn, links []rtnl.Link, q rtnl.Query) (way, error) {
	w := way{to: q.To}
	r, err := c.LookUp(ctx, q)
	var errno unix.Errno
	switch {
	case errors.As(err, &errno):
		w.err = errno
		return w, nil
	case err != nil:
		return w, err
	}
	w.here = r.Kind == unix.RTN_LOCAL
	w.gateway, w.src, w.table = r.Gateway, r.Src, r.Table
	for _, l := range links {
		if l.Index == r.Device {
			w.device, w.mtu = l.Name, l.MTU
		}
	}
	if r.MTU != 0 {
		w.mtu = min(w.mtu, r.MTU)
	}
	return w, nil
}

// virtual reports whether a device is one of the stack.
func (f *facts) virtual(name string) bool {
	return slices.ContainsFunc(f.tables.Devices, func(d klips.Device) bool { return d.Name == name })
}

// attached returns the first device with a physical device; empty: there is none.
func attached(l []klips.Device) string {
	for _, d := range l {
		if d.Physical != "" {
			return d.Name
		}
	}
	return ""
}

// closes reports whether a packet of a flow must not pass in clear. The narrowest rule
// decides; a rule that lets packets pass is an exception to a wider one.
func closes(r guard.Rules, f klips.Flow) bool {
	closed := false
	for _, g := range r.Flows {
		if g.In != f.Inbound || !hints.Matches(g.Selector, f) {
			continue
		}
		if g.Pass {
			return false
		}
		closed = true
	}
	return closed
}

// The kernel's parameters for forwarding.
const (
	forward4 = "net.ipv4.ip_forward"
	forward6 = "net.ipv6.conf.all.forwarding"
)

// forwardParam returns the name of the parameter for the family of an address.
func forwardParam(a netip.Addr) string {
	if a.Is6() {
		return forward6
	}
	return forward4
}

// forwards reports whether the host forwards packets to addresses of a family.
func forwards(a netip.Addr) bool {
	b, _ := os.ReadFile("/proc/sys/" + strings.ReplaceAll(forwardParam(a), ".", "/"))
	return strings.TrimSpace(string(b)) != "0"
}
