package trace

import (
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
)

// The verdict follows from the facts alone.
func TestJudge(t *testing.T) {
	prefix := netip.MustParsePrefix
	eroute := klips.Leg{Eroute: klips.Selector{Src: prefix("10.1.0.0/16"), Dst: prefix("10.2.0.0/16")}, Target: klips.SAID{Dst: netip.MustParseAddr("192.0.2.2"), SPI: 0x100, Proto: klips.ProtoTun}}
	group := eroute
	group.SAs = []klips.SAID{eroute.Target, {Dst: eroute.Target.Dst, SPI: 0x101, Proto: klips.ProtoESP}}
	protect := klips.Decision{Fate: klips.FateProtect, Legs: []klips.Leg{group}}
	into, past := way{device: "ipsec0"}, way{device: "eth0"}
	for _, tt := range []struct {
		name    string
		edit    func(f *facts)
		verdict verdict
		reason  string
		status  int
	}{
		{"all is well", func(f *facts) {}, protected, "", 0},
		{"past the device", func(f *facts) { f.way, f.flow.Device = past, "" }, clear, reasonPast, 3},
		{"past the device, guarded", func(f *facts) { f.way, f.flow.Device, f.closed = past, "", true }, dropped, reasonGuarded, 4},
		{"no eroute, past the device", func(f *facts) {
			f.way, f.flow.Device, f.decision = past, "", &klips.Decision{Reason: drop.NoEroute.String()}
		}, clear, "", 3},
		{"another program blocks it", func(f *facts) {
			f.way, f.flow.Device, f.decision = past, "", &klips.Decision{Reason: drop.NoEroute.String()}
			f.tables.ForeignPolicies = []klips.ForeignPolicy{
				{Selector: eroute.Eroute, Direction: "in", Action: "allow"}, {Selector: eroute.Eroute, Direction: "out", Action: "allow", IfID: 7},
				{Selector: eroute.Eroute, Direction: "out", Action: "block", Priority: 1}, {Selector: eroute.Eroute, Direction: "out", Action: "protect", Priority: 2},
			}
		}, dropped, reasonForeign, 4},
		{"another program blocks it before it enters the device", func(f *facts) {
			f.tables.ForeignPolicies = []klips.ForeignPolicy{{Selector: eroute.Eroute, Direction: "out", Action: "block"}}
		}, dropped, reasonForeign, 4},
		{"another program lets it pass into the device", func(f *facts) {
			f.tables.ForeignPolicies = []klips.ForeignPolicy{{Selector: eroute.Eroute, Direction: "out", Action: "allow"}}
		}, protected, "", 0},
		{"another program forwards only what has come protected", func(f *facts) {
			f.forwarded = true
			f.tables.ForeignPolicies = []klips.ForeignPolicy{{Selector: eroute.Eroute, Direction: "out", Action: "allow"}, {Selector: eroute.Eroute, Direction: "fwd", Action: "protect"}}
		}, dropped, reasonForeign, 4},
		{"another program protects it", func(f *facts) {
			f.way, f.flow.Device, f.decision = past, "", &klips.Decision{Reason: drop.NoEroute.String()}
			f.tables.ForeignPolicies = []klips.ForeignPolicy{{Selector: eroute.Eroute, Direction: "out", Action: "protect"}}
		}, protected, reasonForeign, 0},
		{"no eroute, into the device", func(f *facts) { f.decision = &klips.Decision{Reason: drop.NoEroute.String()} }, dropped, "no-eroute", 4},
		{"no route", func(f *facts) { f.way = way{err: unix.ENETUNREACH} }, dropped, reasonNoRoute, 4},
		{"not forwarded", func(f *facts) { f.way, f.forwarded, f.forwarding = way{err: unix.EHOSTUNREACH}, true, false }, dropped, reasonForwarding, 4},
		{"rp_filter", func(f *facts) { f.way, f.forwarded = way{err: unix.EXDEV}, true }, dropped, reasonRPFilter, 4},
		{"no route to the peer", func(f *facts) { f.peer = way{err: unix.ENETUNREACH} }, dropped, reasonNoPeer, 4},
		{"to this host", func(f *facts) { f.way = way{here: true} }, dropped, reasonHere, 4},
		{"%pass", func(f *facts) { f.decision = &klips.Decision{Fate: klips.FatePass, Legs: []klips.Leg{eroute}} }, clear, "", 3},
		{"%reject", func(f *facts) {
			f.decision = &klips.Decision{Fate: klips.FateReject, Reason: "eroute-reject", Legs: []klips.Leg{eroute}}
		}, rejected, "eroute-reject", 4},
		{"%hold", func(f *facts) { f.decision = &klips.Decision{Fate: klips.FateHold, Legs: []klips.Leg{eroute}} }, held, "", 5},
		{"%trap", func(f *facts) { f.decision = &klips.Decision{Fate: klips.FateTrap, Legs: []klips.Leg{eroute}} }, held, "", 5},
		{"ESP of this host", func(f *facts) { f.decision = &klips.Decision{Fate: klips.FateBypass} }, clear, "", 3},
		{"an SA is missing", func(f *facts) {
			f.decision = &klips.Decision{Reason: "no-sa", Legs: []klips.Leg{eroute}}
		}, dropped, "no-sa", 4},
		{"a reason of a later version", func(f *facts) { f.decision = &klips.Decision{Reason: "new-word", Legs: []klips.Leg{eroute}} }, dropped, "new-word", 4},
		{"inbound, admitted", func(f *facts) {
			f.flow.Inbound, f.way, f.decision = true, way{here: true}, &klips.Decision{Fate: klips.FateAdmit, Admissions: []klips.Admission{{SAs: group.SAs}}}
		}, admitted, "", 0},
		{"inbound, no SA", func(f *facts) { f.flow.Inbound, f.decision = true, &klips.Decision{Reason: "policy"} }, dropped, "no-sa", 4},
		{"inbound, expired", func(f *facts) {
			f.flow.Inbound, f.decision = true, &klips.Decision{Reason: "expired", Admissions: []klips.Admission{{SAs: group.SAs, Reason: "expired"}}}
		}, dropped, "expired", 4},
		{"inbound, not forwarded", func(f *facts) {
			f.flow.Inbound, f.way, f.forwarding = true, past, false
			f.decision = &klips.Decision{Fate: klips.FateAdmit, Admissions: []klips.Admission{{SAs: group.SAs}}}
		}, dropped, reasonForwarding, 4},
	} {
		decision := protect
		f := &facts{
			flow:   klips.Flow{Device: "ipsec0", Src: netip.MustParseAddr("10.1.0.1"), Dst: netip.MustParseAddr("10.2.0.1"), Proto: unix.IPPROTO_ICMP},
			tables: &klips.Snapshot{Devices: []klips.Device{{Name: "ipsec0", Physical: "eth0"}}}, decision: &decision, way: into, forwarding: true,
		}
		tt.edit(f)
		a := f.judge()
		if a.verdict != tt.verdict || a.reason != tt.reason || a.cause == "" || a.verdict.exit() != tt.status {
			t.Errorf("%s: %+v with status %d, want %s, reason %q, status %d", tt.name, a, a.verdict.exit(), tt.verdict, tt.reason, tt.status)
		}
	}
}

// The JSON of answers, with all fields.
func TestJSON(t *testing.T) {
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	id := klips.SAID{Dst: addr("192.0.2.2"), SPI: 0x101, Proto: klips.ProtoESP}
	sel := klips.Selector{Src: prefix("10.1.0.0/16"), Dst: prefix("10.2.0.0/16"), Proto: unix.IPPROTO_TCP, SrcPort: 1024, DstPort: 443}
	flow := klips.Flow{Device: "ipsec0", Src: addr("10.1.0.1"), Dst: addr("10.2.0.1"), Proto: unix.IPPROTO_TCP, SrcPort: 1024, DstPort: 443, Length: 60}
	out := &facts{
		stack: "user", flow: flow, forwarded: true, arrives: "eth1", way: way{device: "ipsec0", gateway: addr("10.2.0.254")}, peer: way{to: id.Dst},
		decision: &klips.Decision{Fate: klips.FateProtect, Legs: []klips.Leg{{Eroute: sel, Target: id, SAs: []klips.SAID{id}}}, MTU: 1500, Longest: 1438},
		tables:   &klips.Snapshot{Devices: []klips.Device{{Name: "ipsec0", Physical: "eth0"}}}, forwarding: true,
	}
	in := &facts{stack: "user", flow: flow, way: way{here: true}, tables: &klips.Snapshot{SAs: []klips.SA{{ID: id, Dir: klips.Inbound}}},
		decision: &klips.Decision{Reason: "expired", Admissions: []klips.Admission{{SAs: []klips.SAID{id}, Reason: "expired"}}}}
	in.flow.Inbound = true
	for name, f := range map[string]*facts{"out": out, "in": in} {
		var text strings.Builder
		if err := output.Print(&cli.Env{Out: &text}, f.json(f.judge())); err != nil {
			t.Fatal(err)
		}
		clitest.GoldenJSON(t, "trace", name, text.String())
	}
}
