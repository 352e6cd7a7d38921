package engine

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// fuzzGroups have no authentication, or none on the outer layer, so that fuzzed packets
// reach the layers inside.
func fuzzGroups() [][]klips.SASpec {
	k := bytes.Repeat([]byte{0x5a}, 64)
	tun := klips.SASpec{ID: klips.SAID{Proto: klips.ProtoTun}}
	comp := klips.SASpec{ID: klips.SAID{Proto: klips.ProtoComp}, Transform: klips.Transform{Comp: alg.Deflate}}
	aes := klips.SASpec{ID: klips.SAID{Proto: klips.ProtoESP}, Transform: klips.Transform{Enc: alg.AES}, EncKey: k[:16]}
	ah := klips.SASpec{ID: klips.SAID{Proto: klips.ProtoAH}, Transform: klips.Transform{Auth: alg.SHA1}, AuthKey: k[:20], Window: 64}
	gcm := klips.SASpec{ID: klips.SAID{Proto: klips.ProtoESP}, Transform: klips.Transform{Enc: alg.AESGCM}, EncKey: k[:20], Window: 64}
	return [][]klips.SASpec{{tun, aes}, {tun, comp, aes}, {tun, ah, aes}, {comp, aes}, {tun, gcm, tun, aes}, {tun, gcm, ah}}
}

// FuzzInbound gives the inbound path arbitrary packets. It gives them unchanged, and as
// payload of the sender's SAs, so that all layers except the innermost are correct.
func FuzzInbound(f *testing.F) {
	var benches []*bench
	for i, g := range fuzzGroups() {
		benches = append(benches, newBench(f, 100, g...))
		benches[i].send(1)
		f.Add(uint8(i), false, bytes.Clone(benches[i].host.sent.Bytes()))
		f.Add(uint8(i), true, bytes.Clone(benches[i].pkt))
	}
	v6 := make([]byte, 60)
	copy(v6, []byte{0x60, 0, 0, 0, 0, 20, 50, 64})
	f.Add(uint8(0), false, v6)
	f.Add(uint8(3), true, v6) // after a packet of the same group
	f.Fuzz(func(t *testing.T, group uint8, seal bool, p []byte) {
		b := benches[int(group)%len(benches)]
		if len(p) > 4000 {
			return
		}
		d := b.in.bufs[0]
		d.Off, d.End = packet.Headroom, packet.Headroom
		d.End += copy(d.B[d.Off:], p)
		if seal {
			// The packet that the sender's group makes of the arbitrary bytes.
			sa := b.out.e.sas.Lookup(b.route(t))
			h, ok := packet.ParseIP(d.Bytes())
			if sa == nil || !ok {
				return
			}
			sealed := b.out.apply(d, &h, sa.Chain())
			b.out.lay.finish() // before the next input comes to the same buffer
			if !sealed {
				return
			}
			if got, _ := packet.ParseIP(d.Bytes()); h != got {
				t.Errorf("the header went along as %+v, and is %+v", h, got)
			}
		}
		b.in.ifindex[0] = 1
		b.in.batch(1)
	})
}

func (b *bench) route(t *testing.T) klips.SAID {
	l, err := b.out.e.Eroutes(t.Context())
	if err != nil || len(l) != 1 {
		t.Fatal(l, err)
	}
	return l[0].ID
}

// FuzzOutbound gives the outbound path arbitrary packets from the device.
func FuzzOutbound(f *testing.F) {
	var benches []*bench
	for i, g := range fuzzGroups() {
		b := newBench(f, 100, g...)
		for _, all := range []string{"0.0.0.0/0", "::/0"} {
			p := netip.MustParsePrefix(all)
			r := klips.Eroute{Selector: klips.Selector{Src: p, Dst: p}, ID: klips.SAID{
				Dst: netip.MustParseAddr("192.0.2.2"), SPI: 0x1000, Proto: g[0].ID.Proto}}
			if err := b.out.e.SetEroute(f.Context(), r, klips.ErouteAdd); err != nil {
				f.Fatal(err)
			}
		}
		benches = append(benches, b)
		f.Add(uint8(i), bytes.Clone(b.pkt))
	}
	f.Fuzz(func(_ *testing.T, group uint8, p []byte) {
		b := benches[int(group)%len(benches)]
		if len(p) > 0xffff {
			return
		}
		b.out.bufs[0].Put(p)
		b.out.batch(1)
	})
}
