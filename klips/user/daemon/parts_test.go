package daemon_test

import (
	"iter"
	"net/netip"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user/control"
)

// manySAs makes n SAs, and nearly as many eroutes.
func manySAs(t *testing.T, c klipstest.Client, n int) {
	t.Helper()
	var changes []klips.Change
	key := make([]byte, 36)
	for i := range n {
		id := klips.SAID{Dst: netip.AddrFrom4([4]byte{10, 9, 0, byte(i % 7)}), SPI: klips.SPI(0x1000 + i), Proto: klips.ProtoESP}
		changes = append(changes,
			klips.AddSA{SASpec: &klips.SASpec{ID: id, Src: local, Window: 64, Transform: klips.Transform{Enc: alg.AES, Auth: alg.SHA1}, EncKey: key[:16], AuthKey: key[16:]}},
			klips.SetEroute{Eroute: klips.Eroute{ID: id, Selector: klips.Selector{
				Src: netip.MustParsePrefix("10.1.0.0/16"), Dst: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 15), byte(i >> 7), byte(i << 1)}), 31)}}})
	}
	if _, err := c.Apply(t.Context(), changes...); err != nil {
		t.Fatal(err)
	}
}

func joined[T any](t *testing.T, parts iter.Seq2[[]T, error]) (all []T, n int) {
	t.Helper()
	for part, err := range parts {
		if err != nil {
			t.Fatal(err)
		}
		all, n = append(all, part...), n+1
	}
	return all, n
}

// TestParts: the parts of a listing make the whole.
func TestParts(t *testing.T) {
	rundir, _ := start(t)
	c := dial(t, rundir)
	equate := []cmp.Option{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.IgnoreFields(klips.SA{}, "Life", "Idle")}
	for _, tt := range []struct{ n, parts int }{{0, 1}, {1, 1}, {4095, 1}, {4096, 2}, {9000, 3}} {
		if _, err := c.Apply(t.Context(), klips.ClearSAs{}, klips.ClearEroutes{}); err != nil {
			t.Fatal(err)
		}
		manySAs(t, c, tt.n)
		sas, n := joined(t, c.SAParts(t.Context()))
		want, err := c.SAs(t.Context())
		if d := cmp.Diff(want, sas, equate...); err != nil || len(want) != tt.n || d != "" {
			t.Errorf("%d of %d SAs, %v; the parts differ (-whole +parts):\n%.2000s", len(want), tt.n, err, d)
		}
		if n != tt.parts {
			t.Errorf("%d SAs come in %d parts, want %d", tt.n, n, tt.parts)
		}
		eroutes, n := joined(t, c.ErouteParts(t.Context()))
		wantE, err := c.Eroutes(t.Context())
		if d := cmp.Diff(wantE, eroutes, equate...); err != nil || len(wantE) != tt.n || d != "" || n != 1 {
			t.Errorf("%d of %d eroutes in %d parts, %v; the parts differ (-whole +parts):\n%.2000s", len(wantE), tt.n, n, err, d)
		}
	}
}

// TestPartsWhileChanging: between two parts of a listing the client can make changes; SAs
// that stay are listed once.
func TestPartsWhileChanging(t *testing.T) {
	rundir, _ := start(t)
	c := dial(t, rundir)
	manySAs(t, c, 9000)
	listed := map[klips.SAID]int{}
	removed := map[klips.SAID]bool{}
	for part, err := range c.SAParts(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		for _, sa := range part {
			listed[sa.ID]++
		}
		// The last of this part is the place after which the next begins.
		id := part[len(part)-1].ID
		for _, id := range []klips.SAID{id, part[0].ID} {
			if err := c.DeleteSA(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			removed[id] = true
		}
	}
	if len(listed) != 9000 || len(removed) < 4 {
		t.Errorf("%d SAs are listed and %d are removed, want all of 9000, and two in each part", len(listed), len(removed))
	}
	for id, n := range listed {
		if n != 1 {
			t.Errorf("%v is listed %d times", id, n)
		}
	}
}

// TestListingMemory: what a listing allocates in the daemon, whatever the collector does,
// is at most 200 bytes for an SA: 20 MB for 100,000.
func TestListingMemory(t *testing.T) {
	rundir, _ := start(t)
	c := dial(t, rundir)
	const n, most = 10_000, 200
	manySAs(t, c, n)
	s := open(t, rundir)
	buf := make([]byte, pfkey.MaxMessage)
	for _, table := range []control.Table{control.TableSAs, control.TableEroutes} {
		for _, m := range []*pfkey.Message{control.ListTable(table), control.ListPart(table, nil)} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			s.write(m)
			messages, bytes := 0, 0
			for last := false; !last; messages++ {
				k, err := s.c.Read(buf)
				if err != nil {
					t.Fatal(err)
				}
				// A listing's last message has less than any record.
				bytes, last = bytes+k, k < 150
			}
			runtime.ReadMemStats(&after)
			per := (after.TotalAlloc - before.TotalAlloc) / n
			t.Logf("table %d, %d bytes in %d messages: %d bytes of memory for each record", table, bytes, messages, per)
			if bytes < 100_000 || messages < 3 {
				t.Errorf("table %d: %d bytes in %d messages are no listing", table, bytes, messages)
			}
			if per > most {
				t.Errorf("table %d: %d bytes of memory for each record, want at most %d", table, per, most)
			}
		}
	}
}

// TestSlowListing: a client that does not read its listing delays neither changes nor
// packets nor other listings.
func TestSlowListing(t *testing.T) {
	rundir, h := start(t)
	c := dial(t, rundir)
	send := through(t, c, h)
	manySAs(t, c, 5000)
	slow := open(t, rundir)
	slow.write(control.ListTable(control.TableSAs))
	slow2 := open(t, rundir)
	slow2.write(control.ListTable(control.TableEroutes))
	first := slow.read() // it is on its way
	slow2.read()
	if err := c.DeleteSA(t.Context(), klips.SAID{Dst: netip.AddrFrom4([4]byte{10, 9, 0, 0}), SPI: 0x1000, Proto: klips.ProtoESP}); err != nil {
		t.Fatal(err)
	}
	send(udp(netip.MustParseAddr("10.1.0.5"), netip.MustParseAddr("10.2.0.1"), 1, 2))
	l, err := c.SAs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m, err := pfkey.Parse(first)
	if err != nil {
		t.Fatal(err)
	}
	records, _, err := control.AppendRecords[klips.SA](nil, m)
	if err != nil || len(records) == 0 || len(records) >= len(l) {
		t.Errorf("the first message of the slow listing has %d SAs of %d, %v", len(records), len(l), err)
	}
	if !slices.ContainsFunc(l, func(sa klips.SA) bool { return sa.ID == records[0].ID }) {
		t.Errorf("%v is not in the other listing", records[0].ID)
	}
}
