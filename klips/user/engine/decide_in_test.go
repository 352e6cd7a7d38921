package engine

import (
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// judge decides about an inbound packet and changes nothing.
func TestJudge(t *testing.T) {
	for name, layers := range specs() {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, 1000, layers...)
			b.send(1)
			e := b.in.e
			for _, tt := range []struct {
				name string
				edit func(p []byte)
				do   step
				why  drop.Reason
				as   column
			}{
				{name: "as it was sent", do: unseal},
				{name: "from elsewhere", edit: func(p []byte) { p[15]++ }, why: drop.WrongSource, as: dropped},
				{name: "another SPI", edit: func(p []byte) { p[20]++; p[24]++ }, why: drop.NoSA, as: dropped},
				{name: "no IPsec", edit: func(p []byte) { p[9] = packet.ProtoTCP }, why: drop.WrongOrder, as: dropped},
				{name: "a fragment", edit: func(p []byte) { p[6] |= 0x20 }, why: drop.BadPacket, as: failed},
			} {
				c := inPacket{b: &packet.Buffer{B: append([]byte(nil), b.host.sent.Bytes()...)}, check: true}
				c.b.End = len(c.b.B)
				if tt.edit != nil {
					tt.edit(c.b.B)
				}
				c.h, _ = packet.ParseIP(c.b.B)
				before, p := c, string(c.b.B)
				var l layer
				v := e.judge(&c, &l, b.in.now)
				if v.do != tt.do || v.why != tt.why || v.as != tt.as {
					t.Errorf("%s: step %d, reason %q, column %d; want %d, %q, %d", tt.name, v.do, v.why, v.as, tt.do, tt.why, tt.as)
				}
				if v.do == unseal && (v.sa == nil || l.seq != 1 || len(l.rest) != len(layers)-1) {
					t.Errorf("%s: SA %v, number %d, %d SAs to follow", tt.name, v.sa, l.seq, len(l.rest))
				}
				if c.h != before.h || c.begun || c.chain != nil || c.last != nil || string(c.b.B) != p {
					t.Errorf("%s: the packet is changed", tt.name)
				}
			}
			for _, s := range layers {
				sa := e.sas.Lookup(klips.SAID{Dst: b.in.e.host.(*bareHost).local, SPI: 0x1000, Proto: s.ID.Proto})
				if sa != nil && (sa.Packets.Load() != 0 || sa.Drops.Read() != nil) {
					t.Errorf("%v has counted", sa.ID)
				}
			}
		})
	}
}
