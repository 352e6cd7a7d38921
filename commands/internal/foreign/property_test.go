package foreign_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/klips-go/ipsec/commands/internal/foreign"
	"github.com/klips-go/ipsec/commands/internal/render"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
)

// A draw makes a random Config that a language can express.
type draw struct {
	*rapid.T
	format string
	number int // of what was made; it gives everything a name of its own
}

func (d *draw) bool(what string) bool { return rapid.Bool().Draw(d.T, what) }
func (d *draw) upTo(n int, what string) int {
	return rapid.IntRange(0, n).Draw(d.T, what)
}

func (d *draw) key(bits int, what string) []byte {
	if bits == 0 {
		return nil
	}
	return rapid.SliceOfN(rapid.Byte(), bits/8, bits/8).Draw(d.T, what)
}

// addr returns an address that nothing else has.
func (d *draw) addr(six bool) netip.Addr {
	d.number++
	if six {
		return netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", d.number))
	}
	return netip.MustParseAddr(fmt.Sprintf("192.0.%d.%d", d.number>>8, d.number&255))
}

// net returns a network that overlaps with no other.
func (d *draw) net(six bool) netip.Prefix {
	d.number++
	if six {
		return netip.MustParsePrefix(fmt.Sprintf("2001:db8:%x::/48", d.number))
	}
	return netip.MustParsePrefix(fmt.Sprintf("10.%d.%d.0/24", d.number>>8, d.number&255))
}

func (d *draw) flow(six bool) klips.Selector {
	s := klips.Selector{Src: d.net(six), Dst: d.net(six)}
	switch d.upTo(3, "flow") {
	case 0:
		s.Proto, s.DstPort = 6, uint16(1+d.upTo(65534, "port"))
	case 1:
		s.Proto, s.SrcPort = 17, uint16(1+d.upTo(65534, "port"))
	case 2:
		s.Proto = uint8(1 + d.upTo(254, "protocol"))
	}
	return s
}

// sa returns an SA of a protocol between two ends.
func (d *draw) sa(proto klips.Proto, src, dst netip.Addr, dir klips.Direction) *render.SA {
	d.number++
	sa := &render.SA{Dir: dir}
	sa.ID, sa.Src = klips.SAID{Dst: dst, SPI: klips.MinSPI + klips.SPI(d.number), Proto: proto}, src
	if proto == klips.ProtoComp {
		sa.Comp = alg.Deflate
		return sa
	}
	auths := alg.Auths()
	sa.Auth = auths[d.upTo(len(auths)-1, "authentication")]
	if d.format != "ip-xfrm" && sa.Auth == alg.SHA256Trunc {
		sa.Auth = alg.SHA1 // the others have one name for both forms
	}
	var bits []int
	if proto == klips.ProtoESP {
		encs := alg.Encs()
		sa.Enc = encs[d.upTo(len(encs)-1, "cipher")]
		row, _ := sa.Enc.Info()
		if row.AEAD && d.format == "ipsecctl" {
			sa.Enc = alg.AES
			row, _ = sa.Enc.Info()
		}
		bits = row.KeyBits
		if row.AEAD || sa.Enc != alg.Null && d.bool("no authentication") {
			sa.Auth = alg.AuthNone
		}
		sa.EncKey = d.key(bits[d.upTo(len(bits)-1, "key length")], "encryption key")
	}
	row, _ := sa.Auth.Info()
	sa.AuthKey = d.key(row.KeyBits[0], "authentication key")
	sa.EncKeyBits, sa.AuthKeyBits = 8*len(sa.EncKey), 8*len(sa.AuthKey)
	switch d.format {
	case "ipsecctl":
		sa.Window = 64
	case "setkey":
		sa.Window = uint32(8 * d.upTo(255, "window"))
		sa.Soft.AddTime, sa.Hard.Bytes = uint64(d.upTo(1000, "seconds")), uint64(d.upTo(1000, "bytes"))
	default:
		d.free(sa)
	}
	if proto == klips.ProtoESP && d.bool("in UDP") {
		sa.NATT = klips.NATT{Type: klips.NATTNonESP, SPort: 4500, DPort: uint16(1 + d.upTo(65534, "UDP port"))}
	}
	return sa
}

// free gives an SA what ip xfrm alone can express.
func (d *draw) free(sa *render.SA) {
	sa.Window = uint32(d.upTo(klips.MaxWindow, "window"))
	sa.Soft = klips.Limits{Bytes: uint64(d.upTo(9, "bytes")), AddTime: uint64(d.upTo(9, "seconds")), UseTime: uint64(d.upTo(9, "use")), Packets: uint64(d.upTo(9, "packets"))}
	sa.Hard = klips.Limits{Bytes: uint64(d.upTo(9, "bytes")), AddTime: uint64(d.upTo(9, "seconds")), UseTime: uint64(d.upTo(9, "use")), Packets: uint64(d.upTo(9, "packets"))}
	sa.Align8 = sa.ID.Proto == klips.ProtoAH && sa.ID.Dst.Is4() && d.bool("align8")
	enc, _ := sa.Enc.Info()
	sa.ESN = sa.Window > 0 && (sa.Auth != alg.AuthNone || enc.AEAD) && d.bool("ESN")
	most := uint64(1<<32 - 1)
	if sa.ESN {
		most = 1<<64 - 1
	}
	n := rapid.Uint64Range(1, most).Draw(d.T, "number")
	switch {
	case sa.Dir == klips.Outbound && d.bool("sent"):
		sa.Seq = &n
	case sa.Dir == klips.Inbound && sa.Window > 0 && d.bool("received"):
		sa.ReplaySeq = &n
	}
}

// config returns a Config with groups of both directions, each with a flow.
func (d *draw) config() *render.Config {
	c := &render.Config{}
	for range 1 + d.upTo(4, "groups") {
		dir := klips.Direction(d.upTo(1, "direction"))
		six := d.bool("IPv6 outside")
		src, dst := d.addr(six), d.addr(six)
		shapes := [][]klips.Proto{{klips.ProtoESP}, {klips.ProtoAH}, {klips.ProtoESP, klips.ProtoAH}}
		if d.format != "ipsecctl" {
			shapes = append(shapes, []klips.Proto{klips.ProtoComp, klips.ProtoESP})
		}
		var g render.Group
		inside := six
		for i, proto := range shapes[d.upTo(len(shapes)-1, "shape")] {
			sa := d.sa(proto, src, dst, dir)
			if i == 0 && d.bool("tunnel") {
				tun := &render.SA{Dir: dir}
				tun.ID, tun.Src = klips.SAID{Dst: dst, SPI: sa.ID.SPI, Proto: klips.ProtoTun}, src
				tun.CopyTOS = d.format == "ip-xfrm" && dir == klips.Outbound && d.bool("TOS")
				g = append(g, tun)
				inside = d.bool("IPv6 inside")
			}
			g = append(g, sa)
		}
		c.Groups = append(c.Groups, g)
		if dir == klips.Inbound {
			c.Policies = append(c.Policies, klips.SetPolicy{ID: g.Policed(), Policy: d.flow(inside)})
		} else {
			c.Eroutes = append(c.Eroutes, klips.Eroute{Selector: d.flow(inside), ID: g[0].ID})
		}
	}
	if d.bool("shunt") {
		c.Eroutes = append(c.Eroutes, klips.Eroute{Selector: d.flow(false), ID: klips.Magic(klips.SPIPass + klips.SPI(d.upTo(1, "drop")))})
	}
	c.Sort()
	return c
}

// equal compares what two Configs make.
func equal(a, b *render.Config) string {
	return cmp.Diff(a, b, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty(), cmpopts.IgnoreFields(render.Config{}, "Notes"), cmpopts.IgnoreUnexported(render.Config{}),
		cmpopts.SortSlices(func(a, b klips.Eroute) bool { return klips.CompareEroutes(a, b) < 0 }))
}

// TestRoundTrip: what a language expresses is read again as it was.
func TestRoundTrip(t *testing.T) {
	for _, f := range foreign.Formats() {
		t.Run(f.Name, rapid.MakeCheck(func(r *rapid.T) {
			d := &draw{T: r, format: f.Name}
			want := d.config()
			text, err := render.Render(f.Name, want)
			if err != nil {
				r.Fatal(err)
			}
			for _, n := range text.Notes {
				if n.Left {
					r.Fatalf("not written: %s", n)
				}
			}
			shown := string(text.Body)
			got, err := foreign.Read(f.Name, text.Body)
			if err != nil {
				r.Fatalf("%v\n%s", err, shown)
			}
			if diff := equal(want, got); diff != "" {
				r.Fatalf("(-want +got)\n%s\n%s", diff, shown)
			}
			for _, b := range text.Body {
				if b != 0 {
					r.Fatal("the text is not overwritten")
				}
			}
		}))
	}
}
