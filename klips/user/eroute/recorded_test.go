package eroute

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/procfs"
	"github.com/klips-go/ipsec/klips/user/internal/pkttest"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// A lookupRecord is one table and the packets that a KLIPS kernel looked up in
// it, with the counters after each.
type lookupRecord struct {
	Config   string
	Commands []struct{ Cmd []string }
	Events   []struct {
		Quirk  bool // the kernel's choice depended on the shape of its tree
		Clear  []string
		Tables struct{ Eroute []string } // only if changed
	}
}

// TestRecorded replays the lookup-* recordings: the same eroute's counter must
// move. The part of them in testdata is always there.
func TestRecorded(t *testing.T) {
	t.Run("testdata", func(t *testing.T) { replay(t, "testdata/lookups.jsonl") })
	t.Run("all", func(t *testing.T) { replay(t, pkttest.Shared(t, "corpus/packets-dev.jsonl")) })
}

func replay(t *testing.T, name string) {
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 16<<20)
	records, lookups := 0, 0
	for sc.Scan() {
		if !strings.Contains(sc.Text(), `"config": "lookup-`) {
			continue
		}
		var r lookupRecord
		if err := json.Unmarshal(sc.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		records++
		lookups += replayRecord(t, &r)
	}
	if err := sc.Err(); err != nil {
		t.Fatal(err)
	}
	if lookups == 0 {
		t.Errorf("%d records without a lookup", records)
	}
	t.Logf("%d records, %d lookups", records, lookups)
}

func replayRecord(t *testing.T, r *lookupRecord) (lookups int) {
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
		if ev.Tables.Eroute != nil {
			var err error
			if want, err = procfs.ParseEroute(strings.NewReader(strings.Join(ev.Tables.Eroute, "\n") + "\n")); err != nil {
				t.Fatal(err)
			}
		}
		for _, clear := range ev.Clear {
			p, err := hex.DecodeString(clear)
			if err != nil {
				t.Fatal(err)
			}
			h, ok := packet.ParseIP(p)
			if !ok {
				t.Fatalf("%s: event %d: not an IP packet", r.Config, i)
			}
			s := Packet{Src: h.Src, Dst: h.Dst, Proto: h.Proto}
			if (h.Proto == packet.ProtoTCP || h.Proto == packet.ProtoUDP) && h.FragOff == 0 {
				s.SrcPort = uint16(p[h.Len])<<8 | uint16(p[h.Len+1])
				s.DstPort = uint16(p[h.Len+2])<<8 | uint16(p[h.Len+3])
			}
			// What KLIPS does with ports of later fragments is a defect.
			if ev.Quirk || h.FragOff != 0 {
				continue
			}
			lookups++
			got := tab.Lookup(&s)
			if moved := moved(before, want); moved == nil != (got == nil) || got != nil && got.Selector != *moved {
				t.Errorf("%s: event %d: Lookup(%+v) = %v, KLIPS took %v", r.Config, i, s, got, moved)
			}
		}
		before = want
	}
	// The listings of the last event are all in the record's order.
	var listed []klips.Selector
	for _, e := range before {
		listed = append(listed, e.Selector)
	}
	var got []klips.Selector
	for _, e := range tab.All() {
		got = append(got, e.Selector)
	}
	if d := cmp.Diff(got, listed, compareAddrs); d != "" {
		t.Errorf("%s: All() differs (-got +want):\n%s", r.Config, d)
	}
	return lookups
}

// moved returns the eroute whose counter differs, nil if none does.
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

// erouteOf reads the command line "eroute --add …".
func erouteOf(t *testing.T, argv []string) (e klips.Eroute) {
	t.Helper()
	var err error
	num := func(s string, max uint64) uint64 {
		n, err := klips.ParseNumber(s, 10, max)
		if err != nil {
			t.Fatalf("%v: %v", argv, err)
		}
		return n
	}
	for i := 2; i+1 < len(argv); i += 2 {
		switch v := argv[i+1]; argv[i] {
		case "--src":
			e.Src, err = klips.ParseSubnet(v, klips.Family4, nil)
		case "--dst":
			e.Dst, err = klips.ParseSubnet(v, klips.Family4, nil)
		case "--said":
			e.ID, err = klips.ParseSAID(v, nil)
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
