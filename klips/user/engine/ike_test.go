package engine_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// With the default rule, only packets of key daemons count as IKE and pass an eroute with
// a shunt. The rule of KLIPS can be set instead.
func TestIKEBypass(t *testing.T) {
	for _, f := range []struct {
		name             string
		own, peer, other netip.Addr
	}{
		{"IPv4", gwA4, gwB4, netip.MustParseAddr("192.0.2.77")},
		{"IPv6", gwA6, gwB6, netip.MustParseAddr("2001:db8::77")},
	} {
		t.Run(f.name, func(t *testing.T) {
			p := newPair(t)
			all := netip.PrefixFrom(f.own, 0).Masked()
			for _, word := range []klips.SPI{0, klips.SPIDrop, klips.SPIReject} {
				if word != 0 {
					p.must(p.a.SetEroute(t.Context(), klips.Eroute{Selector: klips.Selector{Src: all, Dst: all}, ID: magic(word, f.own)}, klips.ErouteReplace))
				}
				p.tryIKE(f.own, f.peer, f.other, fmt.Sprint(word))
			}
		})
	}
}

func magic(spi klips.SPI, family netip.Addr) klips.SAID {
	id := klips.Magic(spi)
	if family.Is6() {
		id.Dst = netip.IPv6Unspecified()
	}
	return id
}

func (p *pair) tryIKE(own, peer, other netip.Addr, eroute string) {
	t := p.t
	t.Helper()
	passes := func(what string, port uint16, dst netip.Addr, want bool) {
		t.Helper()
		q := ip(own, dst, packet.ProtoUDP, 50)
		h, _ := packet.ParseIP(q)
		binary.BigEndian.PutUint16(q[h.Len:], port)
		if sent, _ := p.out(q); len(sent) > 0 != want {
			t.Errorf("eroute %s, %s: from port %d to %v: sent %d packets, want passing %v", eroute, what, port, dst, len(sent), want)
		}
	}
	knob := func(v int) { t.Helper(); p.must(p.a.SetKnob("ike_bypass", v)) }

	passes("at first", 500, peer, true)
	passes("at first", 500, other, true)
	passes("at first", 501, peer, false)
	passes("no SA", 4500, peer, false)
	for _, id := range []klips.SAID{
		{Dst: peer, SPI: 0x100, Proto: klips.ProtoESP},
		{Dst: own, SPI: 0x101, Proto: klips.ProtoAH},
	} {
		s := klips.SASpec{ID: id, Src: own, Transform: klips.Transform{Auth: alg.SHA1}, AuthKey: testKey(20)}
		if id.Proto == klips.ProtoESP {
			s.Enc, s.EncKey = alg.AES, testKey(16)
		}
		if id.Dst == own {
			s.Src = peer
		}
		p.must(p.a.AddSA(t.Context(), &s))
		passes("an SA to or from the peer", 4500, peer, true)
		passes("an SA to or from the peer", 4500, other, false)
		p.must(p.a.DeleteSA(t.Context(), id))
		passes("no SA any more", 4500, peer, false)
	}

	// All programs can bind port 500. The engine checks that again when a knob is set and
	// when a device is attached.
	for _, first := range []int{500, 0} {
		p.ha.SetUnprivilegedPorts(first)
		knob(0)
		passes("anybody's port", 500, peer, false)
	}
	knob(1)
	passes("the rule of KLIPS", 500, other, true)
	passes("the rule of KLIPS", 4500, other, true)
	passes("the rule of KLIPS", 501, other, false)
	p.ha.SetUnprivilegedPorts(501)
	p.must(p.a.Detach(t.Context(), "ipsec0"))
	p.must(p.a.Attach(t.Context(), "ipsec0", "eth0"))
	knob(0)
	passes("only root can bind 500", 500, peer, true)
	p.ha.SetUnprivilegedPorts(80)
	p.must(p.a.Detach(t.Context(), "ipsec0"))
	p.must(p.a.Attach(t.Context(), "ipsec0", "eth0"))
	passes("attached again", 500, peer, false)
	p.ha.SetUnprivilegedPorts(1024)
	knob(0)
}
