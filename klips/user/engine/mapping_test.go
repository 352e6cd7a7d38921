package engine_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/user/packet"
)

func (d *daemon) NewMapping(id klips.SAID, from, to netip.AddrPort) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mappings = append(d.mappings, fmt.Sprintf("%v from %v to %v", id, from, to))
	return !d.deaf
}

// moves returns the NAT mappings that were reported since the last call.
func (d *daemon) moves() (l []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l, d.mappings = d.mappings, nil
	return l
}

// from returns a packet in UDP as a NAT sends it from another address and port.
func from(p []byte, a netip.AddrPort) []byte {
	p = bytes.Clone(p)
	h, _ := packet.ParseIP(p)
	if h.Version == 4 {
		copy(p[12:16], a.Addr().AsSlice())
	} else {
		copy(p[8:24], a.Addr().AsSlice())
	}
	binary.BigEndian.PutUint16(p[h.Len:], a.Port())
	packet.FixChecksum(p)
	return p
}

// A natPeer sends to B through a NAT that the test simulates.
type natPeer struct {
	*pair
	d    daemon
	id   klips.SAID // the ESP SA
	home netip.AddrPort
}

func newNATPeer(t *testing.T, v6 bool, typ klips.NATTType, edit func(*klips.SASpec)) *natPeer {
	p := &natPeer{pair: bare(t)}
	p.b.SetEvents(&p.d)
	src, dst, port := gwA4, gwB4, uint16(4500)
	if v6 {
		src, dst = gwA6, gwB6
	}
	if typ == klips.NATTNonIKE {
		port = 500
	}
	p.home = netip.AddrPortFrom(src, port)
	tun := klips.SAID{Dst: dst, SPI: 0x1000, Proto: klips.ProtoTun}
	p.id = klips.SAID{Dst: dst, SPI: 0x1001, Proto: klips.ProtoESP}
	spec := klips.SASpec{
		ID: p.id, Src: src, Window: 32, NATT: klips.NATT{Type: typ, SPort: port, DPort: port},
		Transform: klips.Transform{Enc: alg.AES, Auth: alg.SHA1}, EncKey: testKey(16), AuthKey: testKey(20),
	}
	theirs := spec
	if edit != nil {
		edit(&spec)
	}
	theirs.Transform, theirs.EncKey, theirs.AuthKey = spec.Transform, spec.EncKey, spec.AuthKey
	p.must(p.a.AddSA(t.Context(), &theirs))
	p.must(p.b.AddSA(t.Context(), &spec))
	p.must(p.a.AddSA(t.Context(), &klips.SASpec{ID: tun, Src: src}))
	p.must(p.b.AddSA(t.Context(), &klips.SASpec{ID: tun}))
	p.must(p.a.Group(t.Context(), []klips.SAID{tun, p.id}))
	p.must(p.b.Group(t.Context(), []klips.SAID{tun, p.id}))
	p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", tun, klips.ErouteAdd)
	return p
}

// next returns A's next packet as the NAT sends it.
func (p *natPeer) next(a netip.AddrPort) []byte {
	p.t.Helper()
	sent, _ := p.out(ip(inA4, inB4, 253, 40))
	if len(sent) != 1 {
		p.t.Fatalf("%d packets sent", len(sent))
	}
	return from(sent[0], a)
}

// moved returns the expected report of a new address.
func (p *natPeer) moved(to netip.AddrPort) string {
	return fmt.Sprintf("%v from %v to %v", p.id, p.home, to)
}

// expect delivers packets of A from an address. It checks how many were accepted and what
// was reported.
func (p *natPeer) expect(what string, n int, a netip.AddrPort, delivered int, told ...string) {
	p.t.Helper()
	got := 0
	for range n {
		got += len(p.in(p.next(a)))
	}
	if got != delivered {
		p.t.Errorf("%s: %d packets delivered, want %d", what, got, delivered)
	}
	if l := p.d.moves(); !slices.Equal(l, told) {
		p.t.Errorf("%s: reported %q, want %q", what, l, told)
	}
}

// later delivers a packet when the limit of one report a second allows the next report,
// and checks that it comes. Just before that it must not come.
func (p *natPeer) later(what string, a netip.AddrPort, told string) {
	p.t.Helper()
	p.clock.Advance(time.Second - 1)
	p.in(p.next(a))
	if l := p.d.moves(); l != nil {
		p.t.Errorf("%s, within a second: reported %q", what, l)
	}
	p.clock.Advance(1)
	p.in(p.next(a))
	if l := p.d.moves(); !slices.Equal(l, []string{told}) {
		p.t.Errorf("%s: reported %q, want %q", what, l, told)
	}
}

// heard checks where the listing shows that the SA's packets come from; the zero value: from
// its source.
func (p *natPeer) heard(what string, want netip.AddrPort) {
	p.t.Helper()
	sa, err := p.b.GetSA(p.t.Context(), p.id)
	p.must(err)
	if got := sa.HeardFrom(); got != want {
		p.t.Errorf("%s: heard from %v, want %v", what, got, want)
	}
}

// If authentic packets in UDP come from another port or address of the peer, that is
// reported once. Packets from another address are accepted only after an UPDATE.
func TestNewMapping(t *testing.T) {
	for _, typ := range []klips.NATTType{klips.NATTNonESP, klips.NATTNonIKE} {
		for _, v6 := range []bool{false, true} {
			t.Run(fmt.Sprintf("type%d,v6=%v", typ, v6), func(t *testing.T) {
				t.Parallel()
				p := newNATPeer(t, v6, typ, nil)
				port := netip.AddrPortFrom(p.home.Addr(), 61001)
				addr := netip.AddrPortFrom(p.home.Addr().Next().Next().Next(), 61002)
				p.expect("at home", 3, p.home, 3)
				// A packet that is not authentic has no effect.
				old := p.next(p.home)
				p.in(old)
				p.in(from(old, port), from(old, addr))
				forged := p.next(port)
				forged[len(forged)-1] ^= 1
				if got := p.in(forged); len(got) != 0 || p.d.moves() != nil {
					t.Errorf("a forged packet and a replay are reported or delivered: %x", got)
				}
				before := p.stats(p.b)
				p.heard("at home", netip.AddrPort{})
				p.expect("another port", 5, port, 5, p.moved(port))
				p.heard("another port", port)
				if s := p.stats(p.b); s.RxDropped != before.RxDropped {
					t.Errorf("another port: %d packets dropped", s.RxDropped-before.RxDropped)
				}
				// The next change within a second is not reported yet, but not forgotten.
				p.expect("another address", 1, addr, 0)
				p.later("another address", addr, p.moved(addr))
				p.heard("another address", addr)
				p.expect("the same again", 3, addr, 0)
				// Back at the old address, then away again.
				p.expect("at home again", 1, p.home, 1)
				p.heard("at home again", netip.AddrPort{})
				p.later("away again", addr, p.moved(addr))
				// A key daemon sets the new port of the peer.
				p.must(p.b.SetPorts(t.Context(), p.id, port.Port(), p.home.Port()))
				old2 := p.home
				p.home = port
				p.expect("after the update", 3, port, 3)
				p.heard("after the update", netip.AddrPort{})
				p.later("the former port", old2, p.moved(old2))
			})
		}
	}
}

// Without the inbound policy check, packets from another address are accepted and
// reported.
func TestNewMappingUnchecked(t *testing.T) {
	p := newNATPeer(t, false, klips.NATTNonESP, nil)
	p.must(p.b.SetKnob("inbound_policy_check", 0))
	addr := netip.MustParseAddrPort("192.0.2.77:4500")
	p.expect("another address", 4, addr, 4, p.moved(addr))
}

// Packets that are not authentic, or not for the SA, cause no report.
func TestNoNewMapping(t *testing.T) {
	port, addr := netip.AddrPortFrom(gwA4, 61001), netip.MustParseAddrPort("192.0.2.77:61001")
	for _, tt := range []struct {
		name      string
		edit      func(*klips.SASpec)
		from      netip.AddrPort
		delivered int
	}{
		{"no authentication", func(s *klips.SASpec) { s.Transform.Auth, s.AuthKey = 0, nil }, port, 2},
		{"no authentication, another address", func(s *klips.SASpec) { s.Transform.Auth, s.AuthKey = 0, nil }, addr, 0},
		{"no port known", func(s *klips.SASpec) { s.NATT.SPort = 0 }, port, 2},
		{"nothing known", func(s *klips.SASpec) { s.NATT.SPort, s.Src = 0, netip.Addr{} }, addr, 2},
		{"an SA outside UDP", func(s *klips.SASpec) { s.NATT = klips.NATT{} }, port, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newNATPeer(t, false, klips.NATTNonESP, tt.edit)
			p.expect(tt.name, 2, tt.from, tt.delivered)
		})
	}
}

// While no key daemon is registered, no report is lost: one that registers later gets it.
func TestNewMappingForWhoComesLater(t *testing.T) {
	p := newNATPeer(t, false, klips.NATTNonESP, nil)
	port := netip.AddrPortFrom(gwA4, 61001)
	p.d.deaf = true
	p.expect("while no key daemon is registered", 3, port, 3, p.moved(port))
	p.d.mu.Lock()
	p.d.deaf = false
	p.d.mu.Unlock()
	p.later("later", port, p.moved(port))
	p.expect("once more", 3, port, 3)
}
