package overhead

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/user/ah"
	"github.com/klips-go/ipsec/klips/user/esp"
	"github.com/klips-go/ipsec/klips/user/internal/pkttest"
	"github.com/klips-go/ipsec/klips/user/ipip"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/udpencap"
)

// An sa is an SA with its transform of the packet path.
type sa struct {
	Growth
	apply func(b *packet.Buffer, h *packet.Header) error
}

func key(bits int) []byte {
	k := make([]byte, bits/8)
	for i := range k {
		k[i] = byte(5 * i)
	}
	return k
}

var peers = map[uint8]netip.Addr{4: netip.MustParseAddr("192.0.2.2"), 6: netip.MustParseAddr("2001:db8::2")}
var selves = map[uint8]netip.Addr{4: netip.MustParseAddr("192.0.2.1"), 6: netip.MustParseAddr("2001:db8::1")}

func tunnel(outer uint8) sa {
	id := klips.SAID{Proto: klips.ProtoTun, SPI: 0x100, Dst: peers[outer]}
	return sa{Of(id, klips.Transform{}, 0, false), func(b *packet.Buffer, h *packet.Header) error {
		return ipip.Encap(b, h, selves[outer], peers[outer], 0, 64, 1)
	}}
}

func withESP(t *testing.T, tr klips.Transform, natt klips.NATTType) sa {
	enc, _ := tr.Enc.Info()
	auth, _ := tr.Auth.Info()
	s, err := esp.NewSealer(esp.Config{SPI: 0x101, Transform: tr, EncKey: key(enc.KeyBits[0]), AuthKey: key(auth.KeyBits[0])})
	if err != nil {
		t.Fatal(err)
	}
	id := klips.SAID{Proto: klips.ProtoESP, SPI: 0x101, Dst: peers[4]}
	return sa{Of(id, tr, natt, false), func(b *packet.Buffer, h *packet.Header) error {
		if err := s.Seal(b, h, 1); err != nil || natt == klips.NATTNone {
			return err
		}
		return udpencap.Encap(b, h, klips.NATT{Type: natt})
	}}
}

func withAH(t *testing.T, a alg.Auth, align8 bool) sa {
	auth, _ := a.Info()
	s, err := ah.NewSealer(ah.Config{SPI: 0x102, Auth: a, Key: key(auth.KeyBits[0]), Align8: align8})
	if err != nil {
		t.Fatal(err)
	}
	id := klips.SAID{Proto: klips.ProtoAH, SPI: 0x102, Dst: peers[4]}
	return sa{Of(id, klips.Transform{Auth: a}, 0, align8), func(b *packet.Buffer, h *packet.Header) error { return s.Seal(b, h, 1) }}
}

// transforms returns one list of SAs for each ESP, each AH, and some of both.
func transforms(t *testing.T) map[string][]sa {
	groups := map[string][]sa{"comp": {{Growth: Of(klips.SAID{Proto: klips.ProtoComp}, klips.Transform{Comp: alg.Deflate}, 0, false)}}}
	for _, e := range alg.Encs() {
		enc, _ := e.Info()
		for _, a := range append(alg.Auths(), alg.AuthNone) {
			if enc.AEAD != (a == alg.AuthNone) && (enc.AEAD || e == alg.Null) {
				continue
			}
			tr := klips.Transform{Enc: e, Auth: a}
			for _, natt := range []klips.NATTType{klips.NATTNone, klips.NATTNonIKE, klips.NATTNonESP} {
				groups[fmt.Sprintf("%s natt %d", tr.Name(klips.ProtoESP), natt)] = []sa{withESP(t, tr, natt)}
			}
			groups[tr.Name(klips.ProtoESP)+" and AH"] = []sa{withESP(t, tr, 0), withAH(t, alg.SHA256, false)}
		}
	}
	for _, a := range alg.Auths() {
		groups["AH "+a.String()] = []sa{withAH(t, a, false)}
		groups["AH with 8 "+a.String()] = []sa{withAH(t, a, true)}
	}
	return groups
}

// TestWire: packets of each length around the limit get the predicted length from the
// transforms of the packet path: each algorithm, in transport mode, in a tunnel and in two,
// in both families. The longest packet that fits is one.
func TestWire(t *testing.T) {
	const limit = 1400
	for name, inner := range transforms(t) {
		for _, version := range []uint8{4, 6} {
			for mode, tunnels := range map[string][]sa{"transport": nil, "IPv4 tunnel": {tunnel(4)}, "IPv6 tunnel": {tunnel(6)}, "two tunnels": {tunnel(4), tunnel(6)}} {
				group := append(append([]sa{}, tunnels...), inner...)
				growths := make([]Growth, len(group))
				for i := range group {
					growths[i] = group[i].Growth
				}
				predict := func(p Packet) int {
					s := Sum{Packet: p}
					for i := range growths {
						s.Add(&growths[i])
					}
					return s.Front + s.Behind
				}
				plain := Plain(version, 0)
				longest := Longest(plain, limit, predict)
				for total := longest - 20; total <= longest+20; total++ {
					plain.Total = total
					layers, want := Layers(plain, growths)
					sum := total
					for _, l := range layers {
						sum += l.Total()
					}
					got := wire(t, group, pkttest.IP(int(version), packet.ProtoUDP, nil, pkttest.Payload(total-plain.Header)))
					if got != want || sum != want || total+predict(plain) != want {
						t.Fatalf("%s, %s, IPv%d: a packet of %d bytes becomes %d bytes long; %d and %d and %d were predicted", name, mode, version, total, got, want, sum, total+predict(plain))
					}
					if fits := total <= longest; fits != (got <= limit) {
						t.Fatalf("%s, %s, IPv%d: of %d bytes %d are made, and the longest that fits %d is %d", name, mode, version, total, got, limit, longest)
					}
				}
			}
		}
	}
}

// wire returns how long a packet becomes.
func wire(t *testing.T, group []sa, p []byte) int {
	t.Helper()
	b := pkttest.Buffer(p)
	for _, s := range group {
		if s.apply == nil {
			continue // IPComp leaves a packet alone that does not shrink
		}
		h := pkttest.Parse(t, b)
		if err := s.apply(b, &h); err != nil {
			t.Fatal(err)
		}
	}
	return b.Len()
}

// TestLayers: the parts of a layer are those of the RFCs.
func TestLayers(t *testing.T) {
	group := []Growth{
		Of(klips.SAID{Proto: klips.ProtoTun, Dst: peers[4]}, klips.Transform{}, 0, false),
		Of(klips.SAID{Proto: klips.ProtoESP}, klips.Transform{Enc: alg.AES, Auth: alg.SHA1}, klips.NATTNonESP, false),
		Of(klips.SAID{Proto: klips.ProtoAH}, klips.Transform{Auth: alg.SHA1}, 0, false),
	}
	layers, total := Layers(Plain(4, 1000), group)
	want := []Layer{{Header: 20}, {UDP: 8, Header: 8, IV: 16, Padding: 6, Trailer: 2, ICV: 12}, {Header: 24}}
	for i, l := range layers {
		if l != want[i] {
			t.Errorf("layer %d: %+v, want %+v", i, l, want[i])
		}
	}
	if total != 1000+20+52+24 {
		t.Errorf("total %d", total)
	}
}
