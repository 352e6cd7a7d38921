package capture

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/klips-go/ipsec/commands/internal/links"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/afpacket"
	"github.com/klips-go/ipsec/klips/rtnl"
	"github.com/klips-go/ipsec/klips/trace"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// A device is one whose packets are captured.
type device struct {
	name  string
	clear bool // its packets are in clear: it is an ipsecN
}

// tables are the tables of the stack and the host at one time.
type tables struct {
	time     time.Time
	snapshot *klips.Snapshot
	links    []rtnl.Link

	groups  *klips.Groups
	eroutes map[klips.SAID][]klips.Selector // by target
	decide  *trace.Tables
	flows   map[klips.Flow]said // what is known about flows in clear
}

// said is what the tables have about a packet.
type said struct {
	text    string
	fate    string       // what is to become of it; empty: nothing special
	ids     []klips.SAID // its SAs, or the shunt
	unknown bool         // it has an SA that is not in the tables
}

// maxFlows limits the memory for flows.
const maxFlows = 4096

// newTables returns tables. byFlow is as in [trace.New]; addrs are the addresses of this host.
func newTables(now time.Time, t *klips.Snapshot, byFlow bool, devices []rtnl.Link, addrs []rtnl.Addr) *tables {
	own := make(map[netip.Addr]bool, len(addrs))
	for _, a := range addrs {
		own[a.Prefix.Addr()] = true
	}
	tab := &tables{time: now, snapshot: t, links: devices, groups: klips.NewGroups(t.SAs), eroutes: map[klips.SAID][]klips.Selector{}, flows: map[klips.Flow]said{}}
	for _, e := range t.Eroutes {
		for _, id := range e.SAIDs() {
			tab.eroutes[id] = append(tab.eroutes[id], e.Selector)
		}
	}
	tab.decide = trace.New(t, byFlow, func(a netip.Addr) bool { return a.IsLoopback() || own[a] })
	return tab
}

// readHost reads the devices and the addresses of this host.
func readHost() (l []rtnl.Link, addrs []rtnl.Addr, err error) {
	err = rtnl.With(func(ctx context.Context, c *rtnl.Conn) (err error) {
		if l, err = c.Links(ctx); err != nil {
			return err
		}
		addrs, err = c.Addrs(ctx)
		return err
	})
	return l, addrs, err
}

// devices returns the devices to capture, by index. names are those that were asked for;
// none: all virtual devices that are attached, and their physical ones.
func (t *tables) devices(names []string) map[int]device {
	wanted := map[string]device{}
	for _, name := range names {
		wanted[name] = device{name, links.IsVirtual(name)}
	}
	for _, d := range t.snapshot.Devices {
		if len(names) == 0 && d.Physical != "" {
			if _, ok := wanted[d.Physical]; !ok { // an ipsecN below another one is in clear
				wanted[d.Physical] = device{d.Physical, links.IsVirtual(d.Physical)}
			}
			wanted[d.Name] = device{d.Name, true}
		}
	}
	byIndex := map[int]device{}
	for _, l := range t.links {
		if d, ok := wanted[l.Name]; ok {
			byIndex[l.Index] = d
		}
	}
	return byIndex
}

// ports returns the UDP ports that may carry ESP, in ascending order.
func (t *tables) ports() []uint16 { return afpacket.Ports(t.snapshot.SAs, portIKE, portESP) }

// group returns the group of an SA, in processing order, and its SAIDs; nil if there is no
// such SA.
func (t *tables) group(id klips.SAID) (sas []klips.SA, ids []klips.SAID) {
	sas, _ = t.groups.Of(id) // the only error is that there is none
	for i := range sas {
		ids = append(ids, sas[i].ID)
	}
	return sas, ids
}

// protected returns what is known about a packet on a physical device. ok is false if it is
// none of IPsec.
func (t *tables) protected(v *view) (s said, ok bool) {
	if len(v.layers) == 0 {
		return t.bare(&v.headers[0])
	}
	var parts, more []string
	for _, l := range v.layers {
		text := l.id.String()
		if l.id.Proto != klips.ProtoComp {
			text += fmt.Sprintf(" number %d", l.number)
		}
		sas, ids := t.group(l.id)
		switch {
		case sas == nil:
			text = "unknown SA " + text
			s.unknown = true
			s.ids = append(s.ids, l.id)
		case !slices.Contains(s.ids, l.id):
			s.ids = append(s.ids, ids...)
			more = append(more, t.purpose(sas, ids)...)
		}
		parts = append(parts, text)
	}
	s.text = strings.Join(append([]string{strings.Join(parts, ", ")}, more...), "; ")
	return s, true
}

// bare returns what is known about a packet on a physical device in which no header of an SA
// can be seen.
func (t *tables) bare(h *header) (s said, ok bool) {
	switch h.proto {
	case packet.ProtoESP, packet.ProtoAH, packet.ProtoComp:
		if h.fragment {
			return said{text: "a later fragment; the first one names the SA"}, true
		}
		return said{text: "too short for its header"}, true
	case packet.ProtoIPIP, packet.ProtoIPv6:
	default:
		return said{}, false
	}
	for i := range t.snapshot.SAs { // a tunnel without ESP or AH, or around a packet that IPComp did not shorten
		sa := &t.snapshot.SAs[i]
		if sa.ID.Proto != klips.ProtoTun || sa.ID.Dst != h.dst || sa.HasSource() && sa.Src != h.src {
			continue
		}
		sas, ids := t.group(sa.ID)
		return said{text: strings.Join(append([]string{sa.ID.String()}, t.purpose(sas, ids)...), "; "), ids: ids}, true
	}
	return said{}, false
}

// purpose returns the group of an SA, and the eroute or the inbound policy that it serves.
func (t *tables) purpose(sas []klips.SA, ids []klips.SAID) (l []string) {
	if len(ids) > 1 {
		l = append(l, "group "+list(ids))
	}
	for i := range sas {
		if p := sas[i].Policy; p != nil {
			l = append(l, "policy "+p.String())
		}
	}
	switch flows := t.eroutes[ids[0]]; len(flows) {
	case 0:
	case 1:
		l = append(l, "eroute "+flows[0].String())
	default:
		l = append(l, fmt.Sprintf("one of %d eroutes", len(flows)))
	}
	return l
}

// list returns SAIDs with commas.
func list(ids []klips.SAID) string {
	return strings.ReplaceAll(klips.JoinSAIDs(ids), " ", ", ")
}

// inClear returns what is known about a packet on a virtual device.
func (t *tables) inClear(v *view, name string, out bool) said {
	h := &v.headers[0]
	f := klips.Flow{Inbound: !out, Src: h.src, Dst: h.dst, Proto: h.proto, SrcPort: h.srcPort, DstPort: h.dstPort}
	if out {
		f.Device = name
	}
	s, ok := t.flows[f]
	if !ok {
		if s = describe(t.decide.Decide(f), f.Inbound); len(t.flows) < maxFlows {
			t.flows[f] = s
		}
	}
	if h.fragment {
		s.text = "fragment; " + s.text
	}
	return s
}

// describe returns a decision about a packet in words.
func describe(d *klips.Decision, inbound bool) (s said) {
	var parts []string
	for _, leg := range d.Legs {
		parts = append(parts, "eroute "+leg.Eroute.String())
		s.ids = append(append(s.ids, leg.Target), leg.SAs...)
		switch {
		case leg.Target.IsMagic():
			parts = append(parts, "to "+leg.Target.String())
		case len(leg.SAs) == 0:
			parts = append(parts, "unknown SA "+leg.Target.String())
			s.unknown = true
		default:
			parts = append(parts, "group "+list(leg.SAs))
		}
	}
	for i, a := range d.Admissions {
		s.ids = append(s.ids, a.SAs...)
		by := "from " + list(a.SAs)
		if i > 0 {
			by = "or " + by
		}
		parts = append(parts, by)
	}
	switch d.Fate {
	case klips.FateBypass:
		parts = append(parts, "ESP, AH or IKE of this host")
	case klips.FateDrop, klips.FateReject:
		s.unknown = s.unknown || len(d.Legs) == 0
		switch {
		case !inbound:
			s.fate = "to be dropped: " + d.Reason
		case len(d.Admissions) == 0: // it has come out of a group all the same
			parts = append(parts, "no inbound policy admits it")
		}
	}
	s.text = strings.Join(parts, "; ")
	return s
}
