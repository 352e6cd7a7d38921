package why

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
)

// Each reason has a cause in words, with and without a packet, and no line is empty.
func TestEveryReason(t *testing.T) {
	gw := netip.MustParseAddr("192.0.2.2")
	id := klips.SAID{Dst: gw, SPI: 0x100, Proto: klips.ProtoESP}
	for _, r := range drop.All() {
		for _, last := range [][]klips.Dropped{
			nil,
			{{Reason: r.String(), Time: time.Unix(1, 0), Inbound: true, Src: netip.MustParseAddr("192.0.2.1"), Dst: gw, Proto: 50, SPI: 0x100, Sequence: 7, SA: id}},
			{{Reason: r.String(), Time: time.Unix(1, 0), Device: "ipsec0", Src: netip.MustParseAddr("10.1.0.1"), Dst: netip.MustParseAddr("10.2.0.1"), Proto: 6, SrcPort: 1, DstPort: 2}},
			{{Reason: r.String(), Time: time.Unix(1, 0)}},
		} {
			for _, sas := range [][]klips.SA{nil, {{ID: id, Drops: drop.Counts{r.String(): 2}, Dir: klips.Inbound}}} {
				l := collect(&klips.Snapshot{SAs: sas, LastDrops: last, Devices: []klips.Device{{Name: "ipsec0", Drops: drop.Counts{r.String(): 3}}}})
				if len(l) != 1 || l[0].reason != r.String() || l[0].packets != 3 || l[0].cause == "" {
					t.Fatalf("%v: %+v, want 3 packets and a cause", r, l)
				}
				var out strings.Builder
				if err := write(&out, l); err != nil {
					t.Fatal(err)
				}
				for line := range strings.Lines(out.String()) {
					if f := strings.Fields(line); len(f) < 2 || strings.Contains(line, "invalid") {
						t.Errorf("%v: the line %q of\n%s", r, line, &out)
					}
				}
			}
		}
	}
}

// Findings with a known packet come first, the newest before the others.
func TestOrder(t *testing.T) {
	l := collect(&klips.Snapshot{
		Drops: drop.Counts{"no-sa": 5, "ttl": 9},
		LastDrops: []klips.Dropped{
			{Reason: "bad-icv", Time: time.Unix(2, 0)}, {Reason: "policy", Time: time.Unix(3, 0)},
		},
		Devices: []klips.Device{{Name: "ipsec0", Drops: drop.Counts{"bad-icv": 100, "policy": 1}}},
	})
	var got []string
	for _, f := range l {
		got = append(got, f.reason)
	}
	if want := "policy bad-icv ttl no-sa"; strings.Join(got, " ") != want {
		t.Errorf("the order is %v, want %s", got, want)
	}
	if more := grown(l[1:], l); len(more) != 1 || more[0].reason != "policy" {
		t.Errorf("more packets: %+v, want policy alone", more)
	}
}

// What has been mended since the newest packet was dropped is said to be mended.
func TestMended(t *testing.T) {
	gw1, gw2 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	from, to := netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("10.2.0.1")
	flow := klips.Selector{Src: netip.MustParsePrefix("10.1.0.0/24"), Dst: netip.MustParsePrefix("10.2.0.0/24")}
	id := klips.SAID{Dst: gw2, SPI: 0x100, Proto: klips.ProtoESP}
	outer := klips.Dropped{Inbound: true, Src: gw1, Dst: gw2, Proto: 50, SPI: 0x100, SA: id}
	inner := klips.Dropped{Inbound: true, Src: from, Dst: to, Proto: 17, SA: id}
	out := klips.Dropped{Device: "ipsec0", Src: from, Dst: to, Proto: 17}
	for _, tt := range []struct {
		reason drop.Reason
		last   klips.Dropped
		want   string
	}{
		{drop.NoSA, outer, "192.0.2.1 sends with esp0x100@192.0.2.2, and this host had no such SA then; it has one now"},
		{drop.WrongSource, outer, "esp0x100@192.0.2.2: the packet comes from 192.0.2.1, and the source of the SA was another address then; it is this one now"},
		{drop.Expired, outer, "esp0x100@192.0.2.2: its lifetime was over then; it has been made again"},
		{drop.Policy, inner, "esp0x100@192.0.2.2: its inbound policy did not admit the packet then; it does now"},
		{drop.NoEroute, out, "10.1.0.1 -> 10.2.0.1 was routed into ipsec0 when no eroute took it; now 10.1.0.0/24 -> 10.2.0.0/24 does"},
		{drop.Detached, out, "ipsec0 was attached to no physical device then; it is attached now"},
	} {
		tt.last.Reason, tt.last.Time = tt.reason.String(), time.Unix(1, 0)
		l := collect(&klips.Snapshot{
			SAs:       []klips.SA{{ID: id, Src: gw1, Dir: klips.Inbound, State: klips.Mature, Policy: &flow}},
			Eroutes:   []klips.Eroute{{Selector: flow, ID: id}},
			Devices:   []klips.Device{{Name: "ipsec0", Physical: "eth0", Drops: drop.Counts{tt.reason.String(): 1}}},
			LastDrops: []klips.Dropped{tt.last},
		})
		if len(l) != 1 || l[0].cause != tt.want || len(l[0].mend) != 0 {
			t.Errorf("%v: %+v, want %q and nothing to mend", tt.reason, l, tt.want)
		}
	}
}

// The counters of the kernel have words, and each packet counts once.
func TestKernel(t *testing.T) {
	id := klips.SAID{Dst: netip.MustParseAddr("192.0.2.2"), SPI: 0x100, Proto: klips.ProtoESP}
	l := collect(&klips.Snapshot{
		Drops:       drop.Counts{"bad-icv": 2},
		KernelDrops: []klips.KernelDrops{{Counter: "XfrmInStateProtoError", Reason: "bad-icv", Packets: 2}},
		SAs:         []klips.SA{{ID: id, Drops: drop.Counts{"bad-icv": 2}}},
	})
	if len(l) != 1 || l[0].packets != 2 || !strings.HasPrefix(l[0].cause, id.String()) || len(l[0].where) != 2 {
		t.Errorf("%+v, want 2 packets, counted by the SA and the kernel", l)
	}
	if got := counter("XfrmOfALaterKernel"); got != "a counter of a later kernel" {
		t.Error(got)
	}
}

// A stack that counts errors of its SAs without reasons, as KLIPS does.
func TestErrorsOfSAs(t *testing.T) {
	id := klips.SAID{Dst: netip.MustParseAddr("192.0.2.2"), SPI: 0x100, Proto: klips.ProtoESP}
	other := id
	other.SPI++
	l := collect(&klips.Snapshot{
		Devices: []klips.Device{{Name: "ipsec0", Physical: "eth0"}},
		SAs:     []klips.SA{{ID: id, Dir: klips.Inbound, AuthErrs: 1}, {ID: other, Dir: klips.Inbound, AuthErrs: 3, ReplayErrs: 2}},
	})
	if len(l) != 2 || l[0].reason != "bad-icv" || l[0].packets != 4 || !strings.HasPrefix(l[0].cause, other.String()) || len(l[0].where) != 2 ||
		l[1].reason != drop.Replayed.String() || l[1].packets != 2 {
		t.Errorf("%+v, want 4 packets with a bad ICV, most of them of %v, and 2 that were replayed", l, other)
	}
}

// The JSON of a finding, with all fields.
func TestJSON(t *testing.T) {
	gw := netip.MustParseAddr("192.0.2.2")
	id := klips.SAID{Dst: gw, SPI: 0x100, Proto: klips.ProtoESP}
	l := collect(&klips.Snapshot{
		LastDrops: []klips.Dropped{
			{Reason: "bad-icv", Time: time.Unix(1700000000, 0).UTC(), Inbound: true, Device: "ipsec0", Src: netip.MustParseAddr("192.0.2.1"), Dst: gw, Proto: 50, Length: 140, SPI: 0x100, Sequence: 7, SA: id},
			{Reason: "no-eroute", Time: time.Unix(1600000000, 0).UTC(), Device: "ipsec0", Src: netip.MustParseAddr("10.1.0.1"), Dst: netip.MustParseAddr("10.2.0.1"), Proto: 6, SrcPort: 1024, DstPort: 443, Length: 60},
		},
		Devices: []klips.Device{{Name: "ipsec0", Drops: drop.Counts{"bad-icv": 2, "no-eroute": 1}}},
		SAs:     []klips.SA{{ID: id, Dir: klips.Inbound, Drops: drop.Counts{"bad-icv": 2}}},
	})
	var text strings.Builder
	if err := output.Print(&cli.Env{Out: &text}, json("user", l)); err != nil {
		t.Fatal(err)
	}
	clitest.GoldenJSON(t, "why", "findings", text.String())
}

// The JSON of a comparison of two ends.
func TestEndsJSON(t *testing.T) {
	var text strings.Builder
	l := differences("user", "gw2", []output.EndDifference{
		{What: "esp0x100@192.0.2.2", Difference: "it exists here and not there", Mend: "make it there with the keys of the other end"},
	})
	if err := output.Print(&cli.Env{Out: &text}, l); err != nil {
		t.Fatal(err)
	}
	clitest.GoldenJSON(t, "why", "ends", text.String())
}
