package engine_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// syn returns a SYN with an MSS of 1460.
func syn(src, dst netip.Addr) []byte {
	p := ip(src, dst, packet.ProtoTCP, 24)
	s := p[len(p)-24:]
	clear(s)
	copy(s, []byte{0x30, 0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 0x02, 0xff, 0xff, 0, 0, 0, 0, 2, 4, 1460 >> 8, 1460 & 0xff})
	pseudo := packet.Sum(src.AsSlice(), packet.Sum(dst.AsSlice(), uint64(len(s))+packet.ProtoTCP))
	binary.BigEndian.PutUint16(s[16:], ^packet.Fold(packet.Sum(s, pseudo)))
	return p
}

// With the knob mss, the MSS of a SYN is lowered to what fits its group. Where the SYN
// arrives, it is lowered to what fits the group for the answers.
func TestMSS(t *testing.T) {
	for _, c := range []struct {
		src, dst netip.Addr
		back     bool // B has a group for the answers
		knobs    [2]int
		want     int
	}{
		{inA4, inB4, false, [2]int{0, 0}, 1460},
		{inA4, inB4, false, [2]int{1, 0}, 1446 - 40},
		{inA4, inB4, false, [2]int{0, 1}, 1460},
		{inA4, inB4, true, [2]int{0, 1}, 1446 - 40},
		{inA6, inB6, false, [2]int{1, 0}, 1446 - 60},
		{inA6, inB6, true, [2]int{0, 1}, 1446 - 60},
	} {
		t.Run(fmt.Sprint(c.src, c.back, c.knobs), func(t *testing.T) {
			p := newPair(t)
			id := p.makeGroup([]layer{tun, gcm}, gwA4, gwB4, 0)
			src, dst := fmt.Sprint(c.src, "/", c.src.BitLen()), fmt.Sprint(c.dst, "/", c.dst.BitLen())
			p.route(p.a, src, dst, id, klips.ErouteAdd)
			if c.back {
				p.must(p.b.AddSA(t.Context(), &klips.SASpec{ID: klips.SAID{Dst: gwA4, SPI: 0x2000, Proto: klips.ProtoTun}, Src: gwB4}))
				p.must(p.b.AddSA(t.Context(), &klips.SASpec{ID: klips.SAID{Dst: gwA4, SPI: 0x2001, Proto: klips.ProtoESP}, Src: gwB4,
					Transform: gcm.tr, EncKey: testKey(20)}))
				back := []klips.SAID{{Dst: gwA4, SPI: 0x2000, Proto: klips.ProtoTun}, {Dst: gwA4, SPI: 0x2001, Proto: klips.ProtoESP}}
				p.must(p.b.Group(t.Context(), back))
				p.route(p.b, dst, src, back[0], klips.ErouteAdd)
			}
			p.must(p.a.SetKnob("mss", c.knobs[0]))
			p.must(p.b.SetKnob("mss", c.knobs[1]))
			p.ha.Link("ipsec0").Send(syn(c.src, c.dst))
			got := arrives(t, p.hb)
			h, _ := packet.ParseIP(got)
			s := got[h.Len:]
			pseudo := packet.Sum(c.src.AsSlice(), packet.Sum(c.dst.AsSlice(), uint64(len(s))+packet.ProtoTCP))
			if packet.Fold(packet.Sum(s, pseudo)) != 0xffff {
				t.Errorf("the checksum of %x is wrong", got)
			}
			if mss := int(binary.BigEndian.Uint16(s[22:])); mss != c.want {
				t.Errorf("announces %d, want %d", mss, c.want)
			}
		})
	}
}
