package eroute

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/klipstest/recorded"
	"github.com/klips-go/ipsec/klips/procfs"
	"github.com/klips-go/ipsec/klips/syntax"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// TestRecorded replays the lookup-* recordings: in each, a KLIPS kernel looked packets
// up in one table. The counter of the same eroute must increase.
func TestRecorded(t *testing.T) {
	n, lookups := 0, 0
	for x := range recorded.Exchanges(t) {
		if strings.HasPrefix(x.Config, "lookup-") {
			n++
			lookups += replayRecord(t, x)
		}
	}
	if lookups < 98 {
		t.Errorf("%d lookups of %d recordings were replayed", lookups, n)
	}
	t.Logf("%d recordings, %d lookups", n, lookups)
}

func replayRecord(t *testing.T, r *recorded.Exchange) (lookups int) {
	tab := New()
	for _, c := range r.Commands {
		if err := tab.Add(erouteOf(t, c.Cmd)); err != nil {
			t.Fatalf("%s: Add(%v): %v", r.Config, c.Cmd, err)
		}
	}
	var before []klips.Eroute
	for _, e := range tab.All() {
		before = append(before, e.Eroute())
	}
	for i, ev := range r.Events {
		want := before
		if ev.Tables["eroute"] != nil {
			var err error
			if want, err = procfs.ParseEroute(strings.NewReader(strings.Join(ev.Tables["eroute"], "\n") + "\n")); err != nil {
				t.Fatal(err)
			}
		}
		for _, p := range ev.Clear {
			h, ok := packet.ParseIP(p)
			if !ok {
				t.Fatalf("%s: event %d: not an IP packet", r.Config, i)
			}
			s := Packet{Src: h.Src, Dst: h.Dst, Proto: h.Proto}
			if (h.Proto == packet.ProtoTCP || h.Proto == packet.ProtoUDP) && h.FragOff == 0 {
				s.SrcPort = uint16(p[h.Len])<<8 | uint16(p[h.Len+1])
				s.DstPort = uint16(p[h.Len+2])<<8 | uint16(p[h.Len+3])
			}
			// KLIPS takes ports from later fragments, which is a defect.
			if ev.Quirk || h.FragOff != 0 {
				continue
			}
			lookups++
			got := tab.Lookup(&s)
			if moved := moved(before, want); moved == nil != (got == nil) || got != nil && got.Selector() != *moved {
				t.Errorf("%s: event %d: Lookup(%+v) = %v, KLIPS took %v", r.Config, i, s, got, moved)
			}
		}
		before = want
	}
	// The listings of the last event are in the order of the recording.
	var listed []klips.Selector
	for _, e := range before {
		listed = append(listed, e.Selector)
	}
	var got []klips.Selector
	for _, e := range tab.All() {
		got = append(got, e.Selector())
	}
	if d := cmp.Diff(got, listed, compareAddrs); d != "" {
		t.Errorf("%s: All() differs (-got +want):\n%s", r.Config, d)
	}
	return lookups
}

// moved returns the eroute whose counter has changed, nil if none has.
func moved(before, after []klips.Eroute) *klips.Selector {
	counts := map[klips.Selector]uint64{}
	for _, e := range before {
		counts[e.Selector] = e.Packets
	}
	for _, e := range after {
		if counts[e.Selector] != e.Packets {
			return &e.Selector
		}
	}
	return nil
}

// erouteOf parses the command line "eroute --add …".
func erouteOf(t *testing.T, argv []string) (e klips.Eroute) {
	t.Helper()
	var err error
	num := func(s string, max uint64) uint64 {
		n, err := syntax.ParseNumber(s, 10, max)
		if err != nil {
			t.Fatalf("%v: %v", argv, err)
		}
		return n
	}
	for i := 2; i+1 < len(argv); i += 2 {
		switch v := argv[i+1]; argv[i] {
		case "--src":
			e.Src, err = syntax.ParseSubnet(v, syntax.Family4, nil)
		case "--dst":
			e.Dst, err = syntax.ParseSubnet(v, syntax.Family4, nil)
		case "--said":
			e.ID, err = syntax.ParseSAID(v, nil)
		case "--transport-proto":
			e.Proto = uint8(num(v, 255))
		case "--src-port":
			e.SrcPort = uint16(num(v, 65535))
		case "--dst-port":
			e.DstPort = uint16(num(v, 65535))
		}
		if err != nil {
			t.Fatalf("%v: %v", argv, err)
		}
	}
	return e
}
