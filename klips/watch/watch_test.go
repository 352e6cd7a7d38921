package watch

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/pfkey"
)

var gw = netip.MustParseAddr("192.0.2.2")

func said(spi klips.SPI) klips.SAID { return klips.SAID{Dst: gw, SPI: spi, Proto: klips.ProtoESP} }

func sel(src string) klips.Selector {
	return klips.Selector{Src: netip.MustParsePrefix(src), Dst: netip.MustParsePrefix("10.2.0.0/16")}
}

// short returns events as text, without times.
func short(l []Event) string {
	var words []string
	for _, e := range l {
		w := e.Kind.String()
		if e.SA.SPI != 0 {
			w += fmt.Sprintf(" %#x", uint32(e.SA.SPI))
		}
		if e.Reason != "" {
			w += fmt.Sprintf(" %s %d", e.Reason, e.Count)
		}
		if e.Device != "" {
			w += " " + e.Device
		}
		if e.Physical != "" {
			w += " " + e.Physical
		}
		if !e.Polled {
			w += " at once"
		}
		words = append(words, w)
	}
	return strings.Join(words, ", ")
}

func TestCompare(t *testing.T) {
	sa := klips.SA{ID: said(0x100), State: klips.Mature, Ref: 1}
	with := func(edit func(s *klips.SA)) *klips.Snapshot {
		s := sa
		edit(&s)
		return &klips.Snapshot{SAs: []klips.SA{s}}
	}
	plain := with(func(*klips.SA) {})
	none := &klips.Snapshot{}
	eroutes := func(l ...klips.Eroute) *klips.Snapshot { return &klips.Snapshot{Eroutes: l} }
	devices := func(l ...klips.Device) *klips.Snapshot { return &klips.Snapshot{Devices: l} }
	policy, nat := sel("10.1.0.0/16"), netip.MustParseAddrPort("192.0.2.9:30001")
	for _, tt := range []struct {
		name          string
		before, after *klips.Snapshot
		told          func(*Told)
		want          string
	}{
		{name: "nothing", before: plain, after: plain},
		{name: "made", before: none, after: plain, want: "sa-made 0x100"},
		{name: "made and used", before: none, after: with(func(s *klips.SA) { s.Used, s.Drops = true, drop.Counts{"bad-icv": 2} }), want: "sa-made 0x100, sa-used 0x100, dropped 0x100 bad-icv 2"},
		{name: "made, told", before: none, after: with(func(s *klips.SA) { s.Used = true }), told: (*Told).Changed, want: "sa-made 0x100 at once, sa-used 0x100"},
		{name: "removed", before: plain, after: none, want: "sa-removed 0x100"},
		{name: "expired", before: plain, after: none, told: func(k *Told) { k.Expired(said(0x100), true) }, want: "sa-expired 0x100 at once"},
		{name: "soft limit, then removed", before: plain, after: none, told: func(k *Told) { k.Expired(said(0x100), false) }, want: "sa-removed 0x100"},
		{name: "dying", before: plain, after: with(func(s *klips.SA) { s.State = klips.Dying }), want: "sa-dying 0x100"},
		{name: "dying, told", before: plain, after: with(func(s *klips.SA) { s.State = klips.Dying }), told: func(k *Told) { k.Expired(said(0x100), false) }, want: "sa-dying 0x100 at once"},
		{name: "made again", before: plain, after: with(func(s *klips.SA) { s.Ref = 2 }), want: "sa-removed 0x100, sa-made 0x100"},
		{name: "below three quarters", before: plain, after: with(func(s *klips.SA) { s.Seq = 0xbffffffe - 2 })},
		{name: "three quarters", before: with(func(s *klips.SA) { s.Seq = 1 << 31 }), after: with(func(s *klips.SA) { s.Seq = 0xc0000000 }), want: "sequence-high 0x100"},
		{name: "still above", before: with(func(s *klips.SA) { s.Seq = 0xc0000000 }), after: with(func(s *klips.SA) { s.Seq = 0xc0000001 })},
		{name: "ESN", before: plain, after: with(func(s *klips.SA) { s.Seq, s.ESN = 0xc0000000, true })},
		{name: "peer moved", before: plain, after: with(func(s *klips.SA) { s.NATT.DPort = 1024 }), want: "peer-moved 0x100"},
		{name: "packets come from elsewhere", before: plain, after: with(func(s *klips.SA) { s.HeardAddr, s.HeardPort = nat.Addr(), nat.Port() }), want: "peer-moved 0x100"},
		{name: "packets come from elsewhere, told", before: plain, after: with(func(s *klips.SA) { s.HeardAddr, s.HeardPort = nat.Addr(), nat.Port() }), told: func(k *Told) { k.Moved(said(0x100), nat) }},
		{name: "policy", before: plain, after: with(func(s *klips.SA) { s.Policy = &policy }), want: "policy-changed 0x100"},
		{name: "drops", before: with(func(s *klips.SA) { s.Drops = drop.Counts{"replayed": 2} }), after: with(func(s *klips.SA) { s.Drops = drop.Counts{"replayed": 5, "bad-icv": 1} }), want: "dropped 0x100 bad-icv 1, dropped 0x100 replayed 3"},
		{name: "errors without reasons", before: with(func(s *klips.SA) { s.AuthErrs = 1 }), after: with(func(s *klips.SA) { s.AuthErrs, s.ReplayErrs = 2, 3 }), want: "dropped 0x100 bad-icv 1, dropped 0x100 replayed 3"},
		{name: "the stack was started again", before: &klips.Snapshot{Drops: drop.Counts{"no-sa": 9}}, after: &klips.Snapshot{Drops: drop.Counts{"no-sa": 2}}},
		{name: "eroutes", before: eroutes(klips.Eroute{Selector: sel("10.1.0.0/16"), ID: said(1)}, klips.Eroute{Selector: sel("10.3.0.0/16"), ID: said(1)}),
			after: eroutes(klips.Eroute{Selector: sel("10.1.0.0/16"), ID: said(2), Packets: 7}, klips.Eroute{Selector: sel("10.4.0.0/16"), ID: said(1)}),
			want:  "eroute-changed, eroute-made, eroute-removed"},
		{name: "devices", before: devices(klips.Device{Name: "ipsec0", Physical: "eth0"}, klips.Device{Name: "ipsec1", Physical: "eth1"}),
			after: devices(klips.Device{Name: "ipsec0", Physical: "wan0", Drops: drop.Counts{"no-eroute": 4}}, klips.Device{Name: "ipsec2", Physical: "eth2"}),
			want:  "detached ipsec0 eth0, attached ipsec0 wan0, dropped no-eroute 4 ipsec0, attached ipsec2 eth2, detached ipsec1 eth1"},
	} {
		var told Told
		if tt.told != nil {
			tt.told(&told)
		}
		now := time.Unix(7, 0)
		l := Compare(tt.before, tt.after, now, &told)
		if got := short(l); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		if slices.ContainsFunc(l, func(e Event) bool { return !e.Time.Equal(now) }) {
			t.Errorf("%s: an event is not of the time of the reading: %v", tt.name, l)
		}
		if again := Compare(tt.after, tt.after, now, &told); len(again) != 0 {
			t.Errorf("%s: equal snapshots differ in %q", tt.name, short(again))
		}
	}
}

// The messages of PF_KEY that monitor needs.
func TestMessages(t *testing.T) {
	sa := &klips.SA{ID: said(0x100), Src: netip.MustParseAddr("192.0.2.1")}
	bytes := func(m *pfkey.Message) []byte {
		b, err := m.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if n := ofMessage(bytes(pfkey.Expire(sa, true, time.Unix(1, 0)))); n.Expired != sa.ID || !n.Hard || n.Event != nil {
		t.Errorf("a hard EXPIRE is %+v", n)
	}
	if n := ofMessage(bytes(pfkey.Expire(sa, false, time.Unix(1, 0)))); n.Expired != sa.ID || n.Hard {
		t.Errorf("a soft EXPIRE is %+v", n)
	}
	a := pfkey.Acquisition{Src: netip.MustParseAddrPort("10.1.0.1:0"), Dst: netip.MustParseAddrPort("10.2.0.1:443"), Proto: 6}
	want := klips.Selector{Src: netip.MustParsePrefix("10.1.0.1/32"), Dst: netip.MustParsePrefix("10.2.0.1/32"), Proto: 6, DstPort: 443}
	if n := ofMessage(bytes(pfkey.Acquire(a))); n.Event == nil || n.Event.Kind != Acquire || n.Event.Eroute != want {
		t.Errorf("an ACQUIRE is %+v, want %v", n, want)
	}
	from, to := netip.MustParseAddrPort("192.0.2.9:4500"), netip.MustParseAddrPort("192.0.2.10:1024")
	if n := ofMessage(bytes(pfkey.NewMapping(sa.ID, from, to))); n.Event == nil || n.Event.Kind != PeerMoved || n.Event.From != from || n.Event.To != to || n.Event.SA.SPI != 0x100 {
		t.Errorf("a NEW_MAPPING is %+v", n)
	}
	if n := ofMessage([]byte{2, 3}); n != (Notice{}) {
		t.Errorf("no message is %+v", n)
	}
}

// Each kind has its own word.
func TestKinds(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Kinds() {
		if w := k.String(); seen[w] || strings.HasPrefix(w, "kind-") {
			t.Errorf("kind %d has the word %q", k, w)
		} else {
			seen[w] = true
		}
	}
	if got := numKinds.String(); got != fmt.Sprint("kind-", int(numKinds)) {
		t.Error(got)
	}
}
