package klipstest

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/plan"
	"github.com/klips-go/ipsec/klips/serial"
)

// A Model is the oracle for stacks: the product's model, and a simple rule for the
// eroute of a packet.
type Model struct {
	*plan.Model
	packets map[klips.Selector]uint64 // that eroutes have counted
}

// NewModel makes a Model with two devices, ipsec0 and ipsec1.
func NewModel(local func(netip.Addr) bool, physical func(string) (int, bool)) *Model {
	if physical == nil {
		physical = func(string) (int, bool) { return 0, false }
	}
	return &Model{plan.NewModel(local, physical), map[klips.Selector]uint64{}}
}

// Eroutes lists the eroutes.
func (m *Model) Eroutes(ctx context.Context) ([]klips.Eroute, error) {
	l, err := m.Model.Eroutes(ctx)
	for i := range l {
		l[i].Packets = m.packets[l[i].Selector]
	}
	return l, err
}

// Count adds packets to the counter of an eroute.
func (m *Model) Count(s klips.Selector, packets uint64) {
	m.packets[s] += packets
}

// Match returns the eroute for a packet, nil if none matches: of the matching ones that
// no other matching one refines, the one with the greatest key.
func (m *Model) Match(src, dst netip.Addr, proto uint8, sport, dport uint16) *klips.Eroute {
	var all []klips.Eroute
	for _, r := range m.EroutesByAge() {
		if r.Src.Contains(src) && r.Dst.Contains(dst) && (r.Proto == 0 || r.Proto == proto) &&
			(r.SrcPort == 0 || r.SrcPort == sport) && (r.DstPort == 0 || r.DstPort == dport) {
			all = append(all, r)
		}
	}
	var best *klips.Eroute
	for i := range all {
		refined := slices.ContainsFunc(all, func(o klips.Eroute) bool { return refines(o.Selector, all[i].Selector) })
		if !refined && (best == nil || greater(all[i].Selector, best.Selector)) {
			best = &all[i]
		}
	}
	return best
}

// refines reports whether a's mask has all bits of b's, and more; both match
// the same packet.
func refines(a, b klips.Selector) bool {
	ge := func(x, y uint16) bool { return y == 0 || x != 0 }
	return a != b && a.Src.Bits() >= b.Src.Bits() && a.Dst.Bits() >= b.Dst.Bits() &&
		ge(uint16(a.Proto), uint16(b.Proto)) && ge(a.SrcPort, b.SrcPort) && ge(a.DstPort, b.DstPort)
}

func greater(a, b klips.Selector) bool {
	return cmp.Or(a.Src.Addr().Compare(b.Src.Addr()), a.Dst.Addr().Compare(b.Dst.Addr()),
		cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.SrcPort, b.SrcPort), cmp.Compare(a.DstPort, b.DstPort),
		cmp.Compare(a.Src.Bits()+a.Dst.Bits(), b.Src.Bits()+b.Dst.Bits())) > 0
}

// SameTables compares the tables of two stacks, without values that depend on time or
// chance. It returns a text about the difference, "" if there is none.
func SameTables(ctx context.Context, want, got serial.Reader) (string, error) {
	w, err := tables(ctx, want)
	if err != nil {
		return "", err
	}
	g, err := tables(ctx, got)
	if err != nil {
		return "", err
	}
	return diff(w, g), nil
}

// A table is all tables of a stack.
type table struct {
	SAs     []klips.SA
	Eroutes []klips.Eroute
	Devices []klips.Device
	Debug   klips.Debug
}

func tables(ctx context.Context, s serial.Reader) (t table, err error) {
	if t.SAs, err = s.SAs(ctx); err != nil {
		return t, err
	}
	for i := range t.SAs {
		sa := &t.SAs[i]
		clear(sa.IV)
		sa.Ref, sa.Idle = 0, 0
		sa.Life.AddTime.Count, sa.Life.UseTime.Count = 0, 0
		sa.Idle = time.Duration(0)
	}
	if t.Eroutes, err = s.Eroutes(ctx); err != nil {
		return t, err
	}
	for i := range t.Eroutes {
		t.Eroutes[i].PID = 0
	}
	if t.Devices, err = s.Devices(ctx); err != nil {
		return t, err
	}
	t.Debug, err = s.Debug(ctx)
	return t, err
}
