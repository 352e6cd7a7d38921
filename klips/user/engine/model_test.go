package engine_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/serial"
	"github.com/klips-go/ipsec/klips/trace"
	"github.com/klips-go/ipsec/klips/user/engine"
)

// A naive is a simple model of the data path: two models of tables, and a packet between
// them. It has no bytes except those of the packet in clear.
type naive struct {
	out, in *klipstest.Model
	keys    [2]map[klips.SAID]byte // which key an SA has, on both sides
}

// A sight is what an observer sees of a packet on its way.
type sight struct {
	layers []klips.SAID // on the packet, the last one is outermost
	src    []netip.Addr // of the IP header before each layer
	dst    []netip.Addr
	inner  []byte
}

// send returns what the sender sends for a packet, nil: nothing, and the counters that
// change.
func (n *naive) send(p []byte, sport, dport uint16) (s *sight, want klips.DeviceStats) {
	ctx := context.Background()
	src, dst := netip.AddrFrom4([4]byte(p[12:])), netip.AddrFrom4([4]byte(p[16:]))
	r := n.out.Match(src, dst, p[9], sport, dport)
	if src == gwA4 && p[9] == 17 && sport == 500 && (r == nil || r.ID.Dst == dst || r.ID.IsMagic()) {
		return &sight{inner: p}, klips.DeviceStats{TxPackets: 1}
	}
	if r == nil {
		return nil, klips.DeviceStats{TxDropped: 1}
	}
	n.out.Count(r.Selector, 1)
	if r.ID == klips.Magic(klips.SPIPass) {
		return &sight{inner: p}, klips.DeviceStats{TxPackets: 1}
	}
	first, err := n.out.GetSA(ctx, r.ID)
	if r.ID.IsMagic() || err != nil {
		return nil, klips.DeviceStats{TxDropped: 1}
	}
	s = &sight{inner: p}
	proto := p[9]
	for _, id := range append([]klips.SAID{first.ID}, first.Next...) {
		sa, _ := n.out.GetSA(ctx, id)
		if id.Proto == klips.ProtoTun {
			src, dst = sa.Src, id.Dst
		}
		// A packet is compressed if it is large enough, is no AH packet, and is neither
		// encrypted nor compressed already.
		if id.Proto == klips.ProtoComp && (len(p) < 200 || proto == 51 || slices.ContainsFunc(s.layers, func(l klips.SAID) bool {
			return l.Proto == klips.ProtoESP || l.Proto == klips.ProtoComp
		})) {
			continue
		}
		proto = uint8(id.Proto)
		s.layers, s.src, s.dst = append(s.layers, id), append(s.src, src), append(s.dst, dst)
	}
	if len(s.layers) > 0 {
		sport, dport = 0, 0
	}
	if again := n.out.Match(src, dst, proto, sport, dport); again != nil {
		n.out.Count(again.Selector, 1) // all tunnels here end at one gateway
	}
	return s, klips.DeviceStats{TxPackets: 1}
}

// receive returns whether the receiver delivers a packet, and how many layers it has
// removed.
func (n *naive) receive(s *sight) (delivered bool, off int) {
	ctx := context.Background()
	var whole, rest []klips.SAID // a group, and the part of it that must still follow
	begun := false
	at := len(s.layers) - 1
	for ; at >= 0; at-- {
		id := s.layers[at]
		for begun && len(rest) > 0 && rest[0].Proto == klips.ProtoComp && id.Proto != klips.ProtoComp {
			rest = rest[1:] // it was sent uncompressed
		}
		if id.Proto == klips.ProtoTun && len(rest) > 0 && rest[0].Proto == klips.ProtoTun {
			id = rest[0] // a tunnel header does not name its SA
		}
		switch {
		case id.Proto == klips.ProtoTun && begun && len(rest) == 0:
			return n.admits(whole, s, at+1), len(s.layers) - 1 - at // the host gets the tunnel packet
		case id.Proto == klips.ProtoTun && !begun, id.Proto == klips.ProtoComp && !begun:
			return false, 0
		case begun && (len(rest) == 0 || rest[0] != id):
			return false, 0
		}
		sa, err := n.in.GetSA(ctx, id)
		if err != nil || sa.Src != s.src[at] || id.Dst != s.dst[at] {
			return false, 0
		}
		if !begun {
			all, _ := n.in.SAs(ctx)
			if slices.ContainsFunc(all, func(o klips.SA) bool { return slices.Contains(o.Next, id) }) {
				return false, 0 // it is not the first of its group
			}
			begun, whole = true, append([]klips.SAID{id}, sa.Next...)
			rest = whole
		}
		rest = rest[1:]
		if n.keys[0][id] != n.keys[1][id] && id.Proto != klips.ProtoTun && id.Proto != klips.ProtoComp {
			return false, 0
		}
		if id.Proto == klips.ProtoTun {
			if !takes(sa.Policy, s, at) {
				return false, 0
			}
			if len(rest) == 0 {
				return n.admits(whole, s, at), len(s.layers) - at // whatever the packet inside is
			}
		}
	}
	for len(rest) > 0 && rest[0].Proto == klips.ProtoComp {
		rest = rest[1:]
	}
	return begun && len(rest) == 0 && n.admits(whole, s, 0), len(s.layers)
}

// takes reports whether an inbound policy admits what is left of a packet with its
// innermost layers. A nil policy admits all.
func takes(p *klips.InboundPolicy, s *sight, layers int) bool {
	src, dst, proto := netip.AddrFrom4([4]byte(s.inner[12:])), netip.AddrFrom4([4]byte(s.inner[16:])), s.inner[9]
	var sport, dport uint16
	switch {
	case layers > 0:
		src, dst, proto = s.src[layers-1], s.dst[layers-1], uint8(s.layers[layers-1].Proto)
	case proto == 17:
		sport, dport = binary.BigEndian.Uint16(s.inner[20:]), binary.BigEndian.Uint16(s.inner[22:])
	}
	return p == nil || p.Src.Contains(src) && p.Dst.Contains(dst) && (p.Proto == 0 || p.Proto == proto) &&
		(p.SrcPort == 0 || p.SrcPort == sport) && (p.DstPort == 0 || p.DstPort == dport)
}

// admits reports whether the SAs in transport mode of a group admit its inner packet with
// its innermost layers.
func (n *naive) admits(group []klips.SAID, s *sight, layers int) bool {
	return !slices.ContainsFunc(group, func(id klips.SAID) bool {
		sa, err := n.in.GetSA(context.Background(), id)
		return err == nil && id.Proto != klips.ProtoTun && !takes(sa.Policy, s, layers)
	})
}

// TestRandomPackets gives random packets to two stacks with random tables.
func TestRandomPackets(t *testing.T) {
	p := bare(t)
	ctx := context.Background()
	rapid.Check(t, func(r *rapid.T) {
		n := &naive{keys: [2]map[klips.SAID]byte{{}, {}}}
		local := func(a netip.Addr) func(netip.Addr) bool { return func(b netip.Addr) bool { return a == b } }
		n.out, n.in = klipstest.NewModel(local(gwA4), nil), klipstest.NewModel(local(gwB4), nil)
		ends := []struct {
			e *engine.Engine
			m *klipstest.Model
		}{{p.a, n.out}, {p.b, n.in}}
		both := func(side int, f func(serial.Doer) error) {
			want, got := f(ends[side].m), f(ends[side].e)
			if (want == nil) != (got == nil) {
				r.Fatalf("the stack has %v, the model %v", got, want)
			}
		}
		for side := range ends {
			both(side, func(s serial.Doer) error { return s.ClearSAs(ctx) })
			both(side, func(s serial.Doer) error { return s.ClearEroutes(ctx) })
		}
		groups := drawTables(r, n, both)
		draw := func(name string, l ...string) netip.Prefix {
			return netip.MustParsePrefix(rapid.SampledFrom(l).Draw(r, name))
		}
		for range rapid.IntRange(1, 6).Draw(r, "eroutes") {
			e := klips.Eroute{ID: rapid.SampledFrom(groups).Draw(r, "target")}
			e.Src = draw("source", "10.1.0.0/16", "10.1.0.0/24", "10.1.0.5/32", "192.0.2.1/32", "0.0.0.0/0")
			e.Dst = draw("destination", "10.2.0.0/16", "10.2.0.0/24", "192.0.2.2/32", "0.0.0.0/0")
			if e.Proto = rapid.SampledFrom([]uint8{0, 17, 50, 253}).Draw(r, "protocol"); e.Proto == 17 {
				e.DstPort = rapid.SampledFrom([]uint16{0, 7}).Draw(r, "port")
			}
			both(0, func(s serial.Doer) error { return s.SetEroute(ctx, e, klips.ErouteReplace) })
		}
		for range rapid.IntRange(1, 10).Draw(r, "packets") {
			n.check(r, p)
		}
		if d, err := klipstest.SameTables(ctx, n.out, tablesOnly{p.a}); err != nil || d != "" {
			r.Fatalf("the sender's tables (-want +got):\n%s%v", d, err)
		}
	})
}

// tablesOnly hides what packets change in SAs, which is not in the model.
type tablesOnly struct{ *engine.Engine }

func (s tablesOnly) SAs(ctx context.Context) ([]klips.SA, error) {
	l, err := s.Engine.SAs(ctx)
	for i := range l {
		sa := &l[i]
		sa.Seq, sa.Bitmap, sa.MaxSeqDiff, sa.ReplayErrs, sa.AuthErrs, sa.Used = 0, 0, 0, 0, 0, false
		sa.Uncompressed, sa.Compressed = 0, 0
		sa.Life.Bytes.Count, sa.Life.Packets.Count = 0, 0
	}
	return l, err
}

func (s tablesOnly) Devices(context.Context) ([]klips.Device, error) {
	return []klips.Device{{Name: "ipsec0"}, {Name: "ipsec1"}}, nil
}

// drawTables makes SAs and groups on both sides, mostly the same, and returns the SAIDs
// that eroutes may have.
func drawTables(r *rapid.T, n *naive, both func(int, func(serial.Doer) error)) []klips.SAID {
	ctx := context.Background()
	targets := []klips.SAID{klips.Magic(klips.SPIPass), klips.Magic(klips.SPIDrop), {Dst: gwB4, SPI: 0x999, Proto: klips.ProtoTun}}
	odd := func(what string) bool { return rapid.IntRange(0, 14).Draw(r, what) == 0 }
	udp, udp7 := sel("0.0.0.0/0", "0.0.0.0/0"), sel("0.0.0.0/0", "0.0.0.0/0")
	udp.Proto = 17
	udp7.Proto, udp7.SrcPort, udp7.DstPort = 17, 1000, 7
	kinds := [][]layer{{tun, tdes}, {tun, ahMD5}, {tun, tdes, ahMD5}, {tun, comp, tdes}, {tun}, {tdes}, {ahMD5}, {tdes, ahMD5}, {comp, tdes}, {tun, comp}}
	var before klips.SAID // the last SA of the group before
	for g := range rapid.IntRange(1, 4).Draw(r, "groups") {
		var ids []klips.SAID
		kind := rapid.SampledFrom(kinds).Draw(r, "group")
		var members [2][]klips.SAID
		for i, l := range kind {
			id := klips.SAID{Dst: gwB4, SPI: klips.SPI(0x1000 + 16*g + i), Proto: l.proto}
			ids = append(ids, id)
			for side := range 2 {
				if side == 1 && odd("missing") {
					continue
				}
				s := &klips.SASpec{ID: id, Src: gwA4, Transform: l.tr}
				if side == 1 && odd("another source") {
					s.Src = netip.MustParseAddr("192.0.2.99")
				}
				key := byte(1)
				if side == 1 && odd("another key") {
					key = 2
				}
				enc, _ := l.tr.Enc.Info()
				auth, _ := l.tr.Auth.Info()
				if l.proto == klips.ProtoESP || l.proto == klips.ProtoAH {
					s.EncKey, s.AuthKey = testKey(enc.KeyBits[0]/8), bytes.Repeat([]byte{key}, auth.KeyBits[0]/8)
				}
				n.keys[side][id] = key
				both(side, func(k serial.Doer) error { return k.AddSA(ctx, s) })
				members[side] = append(members[side], id)
			}
		}
		for side, m := range members {
			if len(m) > 1 && !(side == 1 && odd("not grouped")) {
				both(side, func(k serial.Doer) error { return k.Group(ctx, m) })
			}
			if rapid.IntRange(0, 3).Draw(r, "join") == 0 && before.SPI != 0 && len(m) > 0 {
				both(side, func(k serial.Doer) error { return k.Group(ctx, []klips.SAID{before, m[0]}) })
			}
			if side == 1 && rapid.IntRange(0, 3).Draw(r, "policy") == 0 {
				e := klips.Eroute{ID: rapid.SampledFrom(ids).Draw(r, "policy of"), Selector: rapid.SampledFrom([]klips.Selector{
					sel("10.1.0.0/16", "10.2.0.0/24"), sel("192.0.2.1/32", "192.0.2.2/32"), udp, udp7,
				}).Draw(r, "admitted")}
				both(side, func(k serial.Doer) error { return k.SetEroute(ctx, e, klips.ErouteAddIn) })
			}
		}
		before = ids[len(ids)-1]
		targets = append(targets, ids...)
		targets = append(targets, ids[0], ids[0])
	}
	return targets
}

// check sends one packet through both stacks and compares the result with the model.
func (n *naive) check(r *rapid.T, p *pair) {
	src := rapid.SampledFrom([]string{"10.1.0.5", "10.1.0.6", "10.1.7.7", "192.0.2.1"}).Draw(r, "from")
	dst := rapid.SampledFrom([]string{"10.2.0.5", "10.2.9.9", "192.0.2.2"}).Draw(r, "to")
	proto := rapid.SampledFrom([]uint8{17, 17, 253}).Draw(r, "of")
	q := ip(netip.MustParseAddr(src), netip.MustParseAddr(dst), proto, rapid.SampledFrom([]int{8, 400, 1200}).Draw(r, "size"))
	var sport, dport uint16
	if proto == 17 {
		sport, dport = rapid.SampledFrom([]uint16{500, 1000}).Draw(r, "sport"), rapid.SampledFrom([]uint16{7, 500}).Draw(r, "dport")
		binary.BigEndian.PutUint16(q[20:], sport)
		binary.BigEndian.PutUint16(q[22:], dport)
	}
	flow := klips.Flow{Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst), Proto: proto, SrcPort: sport, DstPort: dport, Length: len(q)}
	asked := p.trace(r, p.a, gwA4, flow)
	beforeA, beforeB := p.stats(p.a), p.stats(p.b)
	sent, _ := p.out(q)
	a := p.stats(p.a)
	s, want := n.send(q, sport, dport)
	got := klips.DeviceStats{TxPackets: a.TxPackets - beforeA.TxPackets, TxErrors: a.TxErrors - beforeA.TxErrors, TxDropped: a.TxDropped - beforeA.TxDropped}
	what := fmt.Sprintf("%s -> %s of %d bytes, protocol %d, ports %d, %d", src, dst, len(q), proto, sport, dport)
	if got != want || len(sent) != int(want.TxPackets) {
		r.Fatalf("%s: counts %+v, sent %x; want %+v", what, got, sent, want)
	}
	if fate := foretold(s, asked); asked.Fate != fate {
		r.Fatalf("%s: traced as %v, it was %v", what, asked, fate)
	}
	if s == nil {
		return
	}
	if len(s.layers) == 0 {
		if !bytes.Equal(sent[0], q) {
			r.Fatalf("%s: sent %x, want it as it is", what, sent[0])
		}
		return
	}
	if last := s.layers[len(s.layers)-1]; sent[0][9] != uint8(last.Proto) {
		r.Fatalf("%s: sent as protocol %d, want %v outermost of %v", what, sent[0][9], last, s.layers)
	}
	flow.Inbound = true
	admitted := p.trace(r, p.b, gwB4, flow)
	out := p.in(sent[0])
	delivered, off := n.receive(s)
	if d := klips.FateAdmit; delivered && off == len(s.layers) && admitted.Fate != d {
		r.Fatalf("%s through %v: delivered, but traced as %v", what, s.layers, admitted)
	}
	if delivered != (len(out) == 1) || p.stats(p.b).RxPackets != beforeB.RxPackets+1 {
		r.Fatalf("%s through %v: delivered %x, want %v", what, s.layers, out, delivered)
	}
	if delivered && off == len(s.layers) && !bytes.Equal(out[0], q) {
		r.Fatalf("%s through %v came out as\n%x, want\n%x", what, s.layers, out[0], q)
	}
	if delivered && off < len(s.layers) && out[0][9] != uint8(s.layers[len(s.layers)-1-off].Proto) {
		r.Fatalf("%s through %v came out as %x with %d layers off", what, s.layers, out[0], off)
	}
}

// foretold returns the fate of a packet that the model sends as s. For an observer a packet
// is in clear, too, if it is traffic of the stack, or if its group could not compress it.
func foretold(s *sight, asked *klips.Decision) klips.Fate {
	switch {
	case s == nil:
		return klips.FateDrop
	case len(s.layers) > 0:
		return klips.FateProtect
	case asked.Fate == klips.FateProtect && !slices.ContainsFunc(asked.Legs[0].SAs, func(id klips.SAID) bool { return id.Proto != klips.ProtoComp }):
		return klips.FateProtect
	case asked.Fate == klips.FateBypass:
		return klips.FateBypass
	}
	return klips.FatePass
}

// trace asks a stack about a packet, and checks that its listings lead to the same decision.
// Nothing may have changed.
func (p *pair) trace(r *rapid.T, e *engine.Engine, own netip.Addr, f klips.Flow) *klips.Decision {
	ctx := context.Background()
	read := func() *klips.Snapshot {
		t, err := serial.Snapshot(ctx, e, klips.Want{SAs: true, Eroutes: true, Devices: true, Drops: true, LastDrops: true})
		if err != nil {
			r.Fatal(err)
		}
		return t
	}
	before := read()
	d, err := e.Trace(ctx, f)
	if err != nil {
		r.Fatalf("Trace(%+v): %v", f, err)
	}
	if diff := cmp.Diff(before, read(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		r.Fatalf("Trace(%+v) has changed:\n%s", f, diff)
	}
	before.Eroutes = e.EroutesByAge()
	want := trace.New(before, true, func(a netip.Addr) bool { return a == own }).Decide(f)
	d.MTU, d.Longest = 0, 0
	if diff := cmp.Diff(want, d, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		r.Fatalf("Trace(%+v): by the listings, and by the stack:\n%s", f, diff)
	}
	return d
}
