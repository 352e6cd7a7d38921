package engine_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/user/engine"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// udpIn makes a UDP packet with a correct checksum.
func udpIn(src, dst netip.Addr, n int) []byte {
	p := ip(src, dst, 17, 8+n)
	h, _ := packet.ParseIP(p)
	u := p[h.Len:]
	binary.BigEndian.PutUint16(u, 40000)
	binary.BigEndian.PutUint16(u[2:], 7)
	binary.BigEndian.PutUint16(u[4:], uint16(len(u)))
	u[6], u[7] = 0, 0
	binary.BigEndian.PutUint16(u[6:], ^packet.Fold(packet.Sum(u, pseudo(p, &h))))
	return p
}

func pseudo(p []byte, h *packet.Header) uint64 {
	if h.Version == 4 {
		return packet.Sum(p[12:20], uint64(h.Proto)+uint64(h.Total-h.Len))
	}
	return packet.Sum(p[8:40], uint64(h.Proto)+uint64(h.Total-h.Len))
}

func checksumOK(p []byte) bool {
	h, ok := packet.ParseIP(p)
	return ok && packet.Fold(packet.Sum(p[h.Len:h.Total], pseudo(p, &h))) == 0xffff
}

func (p *pair) nattSA(id klips.SAID, src netip.Addr, n klips.NATT) {
	for _, e := range []*engine.Engine{p.a, p.b} {
		p.must(e.AddSA(p.t.Context(), &klips.SASpec{
			ID: id, Src: src, NATT: n, Window: 32,
			Transform: klips.Transform{Enc: alg.AES, Auth: alg.SHA1}, EncKey: testKey(16), AuthKey: testKey(20),
		}))
	}
}

func TestNATTTunnel(t *testing.T) {
	for name, n := range map[string]klips.NATT{
		"nonesp": {Type: klips.NATTNonESP, SPort: 4500, DPort: 4500},
		"nonike": {Type: klips.NATTNonIKE, SPort: 500, DPort: 500},
	} {
		for _, v6 := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				p := newPair(t)
				src, dst := gwA4, gwB4
				if v6 {
					src, dst = gwA6, gwB6
				}
				tun := klips.SAID{Dst: dst, SPI: 0x1000, Proto: klips.ProtoTun}
				esp := klips.SAID{Dst: dst, SPI: 0x1001, Proto: klips.ProtoESP}
				p.nattSA(esp, src, n)
				for _, e := range []*engine.Engine{p.a, p.b} {
					p.must(e.AddSA(t.Context(), &klips.SASpec{ID: tun, Src: src}))
					p.must(e.Group(t.Context(), []klips.SAID{tun, esp}))
				}
				p.route(p.a, "10.1.0.0/16", "10.2.0.0/16", tun, klips.ErouteAdd)
				want := udpIn(inA4, inB4, 100)
				p.ha.Link("ipsec0").Send(want)
				if got := arrives(t, p.hb); !bytes.Equal(got, want) {
					t.Errorf("arrived\n%x, want\n%x", got, want)
				}
				wire := p.net.Sent()[0]
				h, ok := packet.ParseIP(wire)
				if !ok || h.Proto != 17 || binary.BigEndian.Uint16(wire[h.Len+2:]) != n.DPort || v6 != checksumOK(wire) {
					t.Errorf("on the wire %x", wire)
				}
				// A packet without UDP does not match this SA.
				bare := bytes.Clone(wire)
				skip := 8
				if n.Type == klips.NATTNonIKE {
					skip = 16
				}
				bare = append(bare[:h.Len], bare[h.Len+skip:]...)
				bare[h.ProtoOff] = 50
				packet.SetTotal(bare, len(bare))
				packet.FixChecksum(bare)
				before := p.stats(p.b)
				p.hb.Arrive(bare)
				settled(t, "plain ESP is dropped", func() bool { return p.stats(p.b).RxDropped == before.RxDropped+1 })
				// Keepalives, IKE and strangers are nobody's business.
				for _, data := range [][]byte{{0xff}, append([]byte{0, 0, 0, 0}, bytes.Repeat([]byte{7}, 40)...), bytes.Repeat([]byte{9}, 60), {}} {
					q := append(bytes.Clone(wire[:h.Len+8]), data...)
					binary.BigEndian.PutUint16(q[h.Len+4:], uint16(8+len(data)))
					packet.SetTotal(q, len(q))
					packet.FixChecksum(q)
					p.hb.Arrive(q)
				}
				p.ha.Link("ipsec0").Send(want)
				arrives(t, p.hb)
				if s := p.stats(p.b); s.RxPackets != before.RxPackets+2 || s.RxDropped != before.RxDropped+1 || s.RxErrors != 0 {
					t.Errorf("counted %+v after %+v", s, before)
				}
			})
		}
	}
}

// In transport mode the inner packet has a checksum that fits its new addresses.
func TestNATTTransport(t *testing.T) {
	p := newPair(t)
	behind := netip.MustParseAddr("172.16.0.9") // B's own address behind its NAT
	n := klips.NATT{Type: klips.NATTNonESP, SPort: 4500, DPort: 4500, OA: netip.MustParseAddr("10.77.0.1")}
	id := klips.SAID{Dst: gwB4, SPI: 0x1001, Proto: klips.ProtoESP}
	p.nattSA(id, gwA4, n)
	p.route(p.a, "192.0.2.1/32", "172.16.0.9/32", id, klips.ErouteAdd)
	p.ha.Link("ipsec0").Send(udpIn(gwA4, behind, 60))
	got := arrives(t, p.hb)
	h, ok := packet.ParseIP(got)
	if !ok || h.Dst != gwB4 || h.Src != n.OA || !checksumOK(got) || packet.Fold(packet.Sum(got[:20], 0)) != 0xffff {
		t.Errorf("arrived %x", got)
	}
	// The inbound policy has the source of the inner packet.
	p.route(p.b, "192.0.2.1/32", "192.0.2.2/32", id, klips.ErouteAddIn)
	dropped := p.stats(p.b).RxDropped
	p.ha.Link("ipsec0").Send(udpIn(gwA4, behind, 60))
	settled(t, "a source before that was known is refused", func() bool { return p.stats(p.b).RxDropped > dropped })
	p.route(p.b, "10.77.0.1/32", "192.0.2.2/32", id, klips.ErouteReplaceIn)
	p.ha.Link("ipsec0").Send(udpIn(gwA4, behind, 60))
	if h, ok := packet.ParseIP(arrives(t, p.hb)); !ok || h.Src != n.OA {
		t.Errorf("arrived from %v", h.Src)
	}
}
