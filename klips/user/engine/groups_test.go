package engine_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/user/engine"
	"github.com/klips-go/ipsec/klips/user/packet"
)

var allSPF4, allSPF6 = netip.MustParseAddr("224.0.0.5"), netip.MustParseAddr("ff02::5")

// groupSA returns an SA to a destination, with the same key and SPI for each (RFC 4552
// section 7).
func groupSA(dst netip.Addr) *klips.SASpec {
	return &klips.SASpec{
		ID:        klips.SAID{Dst: dst, SPI: 0x100, Proto: klips.ProtoESP},
		Transform: klips.Transform{Enc: alg.Null, Auth: alg.SHA1}, AuthKey: testKey(20),
	}
}

// An SA to a multicast group serves both directions. The host receives what others send
// to the group. It does not receive what it sends itself.
func TestMulticast(t *testing.T) {
	for _, c := range []struct{ group, a, b netip.Addr }{
		{allSPF4, gwA4, gwB4},
		{allSPF6, netip.MustParseAddr("fe80::a"), netip.MustParseAddr("fe80::b")},
	} {
		p := newPair(t)
		p.ha.AddAddr(c.a)
		p.hb.AddAddr(c.b)
		s := groupSA(c.group)
		for _, e := range []*engine.Engine{p.a, p.b} {
			p.must(e.AddSA(t.Context(), s))
			if d := p.sa(e, s.ID).Dir; d != klips.Both {
				t.Errorf("%v: direction %v, want both", s.ID, d)
			}
			anyone := netip.PrefixFrom(c.group, 0).Masked()
			p.must(e.SetEroute(t.Context(), klips.Eroute{
				Selector: klips.Selector{Src: anyone, Dst: netip.PrefixFrom(c.group, c.group.BitLen()), Proto: 89}, ID: s.ID,
			}, klips.ErouteAdd))
		}
		for _, from := range []netip.Addr{c.a, c.b} {
			sender, other := p.ha, p.hb
			if from == c.b {
				sender, other = other, sender
			}
			hello := ip(from, c.group, 89, 40)
			hello[8-c.group.BitLen()/128] = 1 // TTL or hop limit
			packet.FixChecksum(hello)
			p.net.Forget()
			sender.Link("ipsec0").Send(hello)
			sender.Settle()
			other.Settle()
			sender.Settle()
			sent := p.net.Sent()
			if len(sent) != 1 {
				t.Fatalf("%v sent %d packets, want 1", from, len(sent))
			}
			if h, ok := packet.ParseIP(sent[0]); !ok || h.Proto != packet.ProtoESP || h.Dst != c.group || h.TTL != 1 {
				t.Errorf("%v sent %+v, %v", from, h, ok)
			}
			select {
			case got := <-other.Link("ipsec0").Arrived():
				if !slices.Equal(got, hello) {
					t.Errorf("arrived %x, want %x", got, hello)
				}
			default:
				t.Errorf("what %v sent has not arrived", from)
			}
			if n := len(sender.Link("ipsec0").Arrived()); n != 0 {
				t.Errorf("%v received %d packets of its own", from, n)
			}
		}
	}
}

// SAs for both directions can be grouped. A packet that has not passed all of them is
// dropped.
func TestMulticastGroup(t *testing.T) {
	p := newPair(t)
	esp, ah := groupSA(allSPF4), groupSA(allSPF4)
	ah.ID.Proto, ah.ID.SPI, ah.Enc = klips.ProtoAH, 0x101, 0
	for _, e := range []*engine.Engine{p.a, p.b} {
		for _, s := range []*klips.SASpec{esp, ah} {
			p.must(e.AddSA(t.Context(), s))
		}
		p.must(e.Group(t.Context(), []klips.SAID{esp.ID, ah.ID}))
	}
	p.route(p.a, "0.0.0.0/0", "224.0.0.5/32", esp.ID, klips.ErouteAdd)
	p.route(p.b, "0.0.0.0/0", "224.0.0.5/32", ah.ID, klips.ErouteAdd) // without ESP
	hello := func(from netip.Addr) []byte { return ip(from, allSPF4, 89, 40) }
	for _, required := range []bool{false, true} {
		if required {
			p.must(p.b.SetKnobs(map[string]int{"inbound_policy_required": 1}))
			p.route(p.b, "0.0.0.0/0", "224.0.0.5/32", esp.ID, klips.ErouteAddIn)
		}
		p.ha.Link("ipsec0").Send(hello(gwA4))
		p.ha.Settle()
		p.hb.Settle()
		select {
		case got := <-p.hb.Link("ipsec0").Arrived():
			if !slices.Equal(got, hello(gwA4)) {
				t.Errorf("arrived %x, want %x", got, hello(gwA4))
			}
		default:
			t.Errorf("with a policy required %v: what went through both SAs has not arrived", required)
		}
	}
	p.hb.Link("ipsec0").Send(hello(gwB4))
	p.hb.Settle()
	p.ha.Settle()
	if n := len(p.ha.Link("ipsec0").Arrived()); n != 0 {
		t.Error("what went through one SA has arrived")
	}
}

// The source of an SA to a multicast group decides its direction.
func TestMulticastSource(t *testing.T) {
	p := newPair(t)
	for _, c := range []struct {
		src  netip.Addr
		want klips.Direction
		in   []int // the devices on which the group is joined
	}{{netip.Addr{}, klips.Both, []int{1}}, {netip.IPv4Unspecified(), klips.Both, []int{1}}, {gwA4, klips.Outbound, nil}, {gwB4, klips.Inbound, []int{1}}} {
		s := groupSA(allSPF4)
		s.Src = c.src
		p.must(p.a.AddSA(t.Context(), s))
		if got := p.sa(p.a, s.ID).Dir; got != c.want {
			t.Errorf("from %v: direction %v, want %v", c.src, got, c.want)
		}
		if got := p.ha.Members(allSPF4); !slices.Equal(got, c.in) {
			t.Errorf("from %v: joined on %v, want %v", c.src, got, c.in)
		}
		p.must(p.a.DeleteSA(t.Context(), s.ID))
		settled(t, "left", func() bool { return p.ha.Members(allSPF4) == nil })
	}
}

// The host is a member of a group on the attached devices as long as SAs to the group
// exist.
func TestJoins(t *testing.T) {
	w := newPhysicalWorld(t)
	joined := func(what string, on ...int) {
		t.Helper()
		w.await(what, func() bool { return slices.Equal(w.host.Members(allSPF6), on) })
	}
	link := func(what string, index int) {
		t.Helper()
		if got := w.host.Link("ipsec0").Shares(); got != index {
			t.Errorf("%s: ipsec0 has the link-local addresses of device %d, want %d", what, got, index)
		}
	}
	add := func(s *klips.SASpec, spi klips.SPI) klips.SAID {
		t.Helper()
		s.ID.SPI = spi
		w.must(w.e.AddSA(t.Context(), s))
		return s.ID
	}
	add(groupSA(allSPF4), 0x100)
	add(groupSA(netip.MustParseAddr("2001:db8::2")), 0x100)
	joined("another group")
	link("none is of the link", 0)
	first := add(groupSA(allSPF6), 0x100)
	joined("made", 1)
	link("made", 1)
	second := add(groupSA(allSPF6), 0x200)
	w.must(w.e.DeleteSA(t.Context(), first))
	joined("one of two is gone", 1)
	up := groupSA(allSPF6)
	up.ID.SPI = 0x200
	up.AuthKey = testKey(21)[1:]
	w.must(w.e.UpdateSA(t.Context(), up))
	joined("another key", 1)
	w.must(w.e.CreateDevice(t.Context(), "ipsec1"))
	w.must(w.e.Attach(t.Context(), "ipsec1", "eth1"))
	joined("attached", 1, 2)
	if got := w.host.Link("ipsec1").Shares(); got != 2 {
		t.Errorf("ipsec1 has the link-local addresses of device %d, want 2", got)
	}
	w.must(w.e.Detach(t.Context(), "ipsec1"))
	joined("detached", 1)
	if got := w.host.Link("ipsec1").Shares(); got != 0 {
		t.Errorf("ipsec1 has the link-local addresses of device %d still", got)
	}
	w.host.TakeDown("eth0")
	joined("down")
	link("down", 0)
	w.host.BringUp("eth0")
	joined("up again", 1)
	w.await("attached again", func() bool { return w.host.Link("ipsec0").Shares() == 1 })
	w.must(w.e.DeleteSA(t.Context(), second))
	joined("none is left")
	link("the SAs are gone", 1) // neighbours must stay while keys are changed
	add(groupSA(allSPF6), 0x300)
	joined("made again", 1)
	w.must(w.e.ClearSAs(t.Context()))
	joined("cleared")
	w.must(w.e.Detach(t.Context(), "ipsec0"))
	w.must(w.e.Attach(t.Context(), "ipsec0", "eth1"))
	link("attached anew without SAs", 0)
	add(groupSA(netip.MustParseAddr("fe80::7")), 0x100)
	link("an SA to a neighbour", 2)
}

// A group is left when the last SA to it has expired.
func TestExpiredGroup(t *testing.T) {
	p := newPair(t)
	s := groupSA(allSPF4)
	s.Hard.AddTime = 5
	p.must(p.a.AddSA(t.Context(), s))
	if got := p.ha.Members(allSPF4); !slices.Equal(got, []int{1}) {
		t.Fatalf("joined on %v", got)
	}
	p.clock.Advance(6 * time.Second)
	settled(t, "left", func() bool { return p.ha.Members(allSPF4) == nil })
}

// After a hand-over the next engine is a member of the groups, and so are its devices.
func TestHandedOverGroups(t *testing.T) {
	w := newPhysicalWorld(t)
	w.must(w.e.AddSA(t.Context(), groupSA(allSPF6)))
	next(t, w.host, engine.Config{}, w.e)
	if got := w.host.Members(allSPF6); !slices.Equal(got, []int{1}) {
		t.Errorf("joined on %v, want 1", got)
	}
	if got := w.host.Link("ipsec0").Shares(); got != 1 {
		t.Errorf("ipsec0 has the link-local addresses of device %d, want 1", got)
	}
}

// If a group cannot be joined, the SA still works, and the log has an error. Joining is
// tried again when another group has been left.
func TestCannotJoin(t *testing.T) {
	w := newPhysicalWorld(t)
	w.must(w.e.AddSA(t.Context(), groupSA(allSPF4)))
	w.host.RefuseGroups(true)
	w.must(w.e.AddSA(t.Context(), groupSA(allSPF6)))
	if n := w.log.lines("the host cannot join a multicast group"); n != 1 {
		t.Errorf("%d lines in the log, want 1", n)
	}
	w.must(w.e.AddSA(t.Context(), groupSA(netip.MustParseAddr("224.0.0.6"))))
	w.host.RefuseGroups(false)
	w.must(w.e.DeleteSA(t.Context(), groupSA(allSPF4).ID))
	w.await("joined", func() bool { return slices.Equal(w.host.Members(allSPF6), []int{1}) })
	if n := w.log.lines("the host cannot join a multicast group"); n != 2 {
		t.Errorf("%d lines in the log, want 2", n)
	}
	w.must(w.e.DeleteSA(t.Context(), groupSA(allSPF6).ID))
	w.await("left", func() bool { return w.host.Members(allSPF6) == nil })
}
