package why

import (
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/afpacket"
	"github.com/klips-go/ipsec/klips/drop"
)

// arrival returns a packet from hexadecimal digits, with a total length that fits.
func arrival(t testing.TB, digits string) afpacket.Packet {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	if b[0]>>4 == 4 {
		b[3] = byte(len(b))
	} else {
		b[5] = byte(len(b) - 40)
	}
	return afpacket.Packet{Data: b, Length: len(b), Time: time.Unix(10, 0)}
}

const (
	head4 = "45000000 00000000 40%0000 c0000201 c0000202"
	head6 = "60000000 0000%40 20010db8000000000000000000000001 20010db8000000000000000000000002"
)

func head(h string, proto string) string { return strings.ReplaceAll(h, "%", proto) }

// What is known about packets that have arrived.
func TestParse(t *testing.T) {
	a := &arrivals{ports: []uint16{4500}}
	for _, tt := range []struct {
		name, packet string
		want         string // the SAID, the number and the length; empty: it is neither ESP nor AH
	}{
		{"ESP", head(head4, "32") + "00000102 00000007 ffff", "esp0x102@192.0.2.2 7 30"},
		{"ESP over IPv6", head(head6, "32") + "00000102 00000007", "esp0x102@2001:db8::2 7 48"},
		{"AH", head(head4, "33") + "04040000 00000103 00000008", "ah0x103@192.0.2.2 8 32"},
		{"ESP in UDP", head(head4, "11") + "75311194 00140000 00000102 00000009 00000000", "esp0x102@192.0.2.2 9 40"},
		{"ESP in UDP of another port", head(head4, "11") + "75311195 00140000 00000102 00000009 00000000", ""},
		{"IKE", head(head4, "11") + "75311194 00140000 00000000 00000009 00000000", ""},
		{"a keepalive", head(head4, "11") + "75311194 00090000 ff", ""},
		{"TCP", head(head4, "06") + "00000102 00000007", ""},
		{"ESP that is cut", head(head4, "32") + "00000102 000000", ""},
		{"AH that is cut", head(head4, "33") + "0404", ""},
		{"nothing", head(head4, "32"), ""},
	} {
		got := ""
		if d, ok := a.parse(arrival(t, tt.packet)); ok {
			got = strings.Join([]string{named(&d).String(), strconv.Itoa(int(d.Sequence)), strconv.Itoa(d.Length)}, " ")
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// A counter that has grown gets the newest packet that it can have counted.
func TestArrivals(t *testing.T) {
	gw1, gw2 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	known := klips.SAID{Dst: gw2, SPI: 0x102, Proto: klips.ProtoESP}
	quiet, unknown := known, known
	quiet.SPI, unknown.SPI = 0x103, 0x199
	tables := func(counter, reason string, n uint64) *klips.Snapshot {
		return &klips.Snapshot{
			SAs:         []klips.SA{{ID: known, Dir: klips.Inbound, Src: gw1, AuthErrs: 1}, {ID: quiet, Dir: klips.Inbound, Src: gw1}},
			KernelDrops: []klips.KernelDrops{{Counter: counter, Reason: reason, Packets: n}},
		}
	}
	a := &arrivals{newest: map[klips.SAID]klips.Dropped{}}
	for id, at := range map[klips.SAID]int64{known: 10, quiet: 11, unknown: 12} {
		a.note(klips.Dropped{Time: time.Unix(at, 0), Inbound: true, Src: gw1, Dst: id.Dst, Proto: uint8(id.Proto), SPI: id.SPI, Sequence: 5})
	}
	for _, tt := range []struct {
		name, counter string
		reason        drop.Reason
		before        uint64
		since         int64
		want          string
	}{
		{"no SA", "XfrmInNoStates", drop.NoSA, 1, 5, "192.0.2.1 sends with esp0x199@192.0.2.2, and this host has no such SA"},
		{"an SA that counts it", "XfrmInStateProtoError", drop.BadICV, 1, 5, "esp0x102@192.0.2.2: the integrity check failed"},
		{"not more than before", "XfrmInNoStates", drop.NoSA, 2, 5, ""},
		{"outbound", "XfrmOutNoStates", drop.NoSA, 1, 5, ""},
		{"only an SA that does not count it is new enough", "XfrmInStateProtoError", drop.BadICV, 1, 11, "esp0x103@192.0.2.2: the integrity check failed"},
		{"all are old", "XfrmInNoStates", drop.NoSA, 1, 20, ""},
	} {
		s := tables(tt.counter, tt.reason.String(), 2)
		a.had = map[string]uint64{tt.reason.String(): tt.before}
		a.explain(s, time.Unix(tt.since, 0))
		l := collect(s)
		switch {
		case tt.want == "" && l[0].last != nil:
			t.Errorf("%s: %+v, want no packet", tt.name, l[0].last)
		case tt.want != "" && (l[0].last == nil || !strings.HasPrefix(l[0].cause, tt.want)):
			t.Errorf("%s: %+v, want %q", tt.name, l[0], tt.want)
		}
	}
	// The same reason has a counter of outbound packets. Only that grows.
	a.note(klips.Dropped{Time: time.Unix(12, 0), Inbound: true, Src: gw1, Dst: gw2, Proto: 50, SPI: unknown.SPI})
	for out := range uint64(3) {
		s := tables("XfrmInNoStates", drop.NoSA.String(), 2)
		s.KernelDrops = append(s.KernelDrops, klips.KernelDrops{Counter: "XfrmOutNoStates", Reason: drop.NoSA.String(), Packets: out})
		a.explain(s, time.Unix(5, 0))
		if out > 0 && len(s.LastDrops) > 0 {
			t.Errorf("an outbound packet is counted, and the inbound %+v explains it", s.LastDrops)
		}
	}
	for spi := range klips.SPI(maxArrivals + 10) {
		a.note(klips.Dropped{Dst: gw2, Proto: 50, SPI: 0x1000 + spi})
	}
	if len(a.newest) > maxArrivals {
		t.Errorf("%d SAIDs are remembered", len(a.newest))
	}
	(*arrivals)(nil).explain(tables("XfrmInNoStates", "no-sa", 2), time.Unix(0, 0))
}

// No packet makes the decoder read past its end.
func FuzzParse(f *testing.F) {
	for _, p := range []string{"32", "33", "11"} {
		f.Add(arrival(f, head(head4, p)+"75311194 00140000 00000102 00000009").Data)
		f.Add(arrival(f, head(head6, p)+"75311194 00140000 00000102 00000009").Data)
	}
	a := &arrivals{ports: []uint16{4500}}
	f.Fuzz(func(t *testing.T, b []byte) {
		if d, ok := a.parse(afpacket.Packet{Data: b, Length: len(b)}); ok && (!d.Dst.IsValid() || d.Proto != 50 && d.Proto != 51) {
			t.Errorf("%+v", d)
		}
	})
}
