package sadb

import (
	"errors"
	"net/netip"
	"reflect"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/replay"
)

// savedDB returns a DB with all kinds of SAs, and its saved state.
func savedDB(t *testing.T) (*DB, *SavedDB) {
	t.Helper()
	db := New()
	tun, esp, ah := id(klips.ProtoTun, 0x1000), id(klips.ProtoESP, 0x1001), id(klips.ProtoAH, 0x1002)
	for _, said := range []klips.SAID{tun, esp, ah} {
		s := spec(said)
		s.Window = 32
		sa, err := db.Add(s, klips.Outbound, 5*sec, nil)
		if err != nil {
			t.Fatal(err)
		}
		sa.Count(100, 6*sec)
		sa.NextSeq()
		sa.Replay.Update(7)
	}
	if err := db.Group([]klips.SAID{tun, esp}); err != nil {
		t.Fatal(err)
	}
	p := klips.InboundPolicy{Src: netip.MustParsePrefix("10.1.0.0/16"), Dst: netip.MustParsePrefix("10.2.0.0/16")}
	if err := db.SetPolicy(tun, p); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Reserve(klips.SAID{Dst: esp.Dst, Proto: klips.ProtoESP}, netip.Addr{}, 0x2000, 0x2000, klips.Inbound, 7*sec, nil); err != nil {
		t.Fatal(err)
	}
	return db, db.Save()
}

// A restored DB has the same listing, continues its sequence numbers, and gives new SAs
// other SArefs.
func TestRestore(t *testing.T) {
	db, s := savedDB(t)
	again := New()
	inits := 0
	if _, err := again.Restore(s, func(*SA) error { inits++; return nil }); err != nil {
		t.Fatal(err)
	}
	if inits != again.Len() {
		t.Errorf("init was called %d times for %d SAs", inits, again.Len())
	}
	want, got := db.All(), again.All()
	for i := range want {
		if w, g := want[i].Info(9*sec), got[i].Info(9*sec); !reflect.DeepEqual(w, g) {
			t.Errorf("listed as %+v, want %+v", g, w)
		}
		w, _ := want[i].NextSeq()
		if g, _ := got[i].NextSeq(); w != g {
			t.Errorf("%v: the next number is %d, want %d", got[i].ID, g, w)
		}
		var keys [2][]byte
		want[i].Keys(func(auth, enc []byte) { keys[0] = append(append(keys[0], auth...), enc...) })
		got[i].Keys(func(auth, enc []byte) { keys[1] = append(append(keys[1], auth...), enc...) })
		if string(keys[0]) != string(keys[1]) {
			t.Errorf("%v has other keys", got[i].ID)
		}
	}
	for _, db := range []*DB{db, again} {
		if _, err := db.Add(spec(id(klips.ProtoESP, 0x3000)), klips.Outbound, sec, nil); err != nil {
			t.Fatal(err)
		}
	}
	if w, g := db.Lookup(id(klips.ProtoESP, 0x3000)).Ref, again.Lookup(id(klips.ProtoESP, 0x3000)).Ref; w != g {
		t.Errorf("the next SAref is %d, want %d", g, w)
	}
	// The caller clears its copies; the DB keeps its own.
	s.Clear()
	again.Lookup(id(klips.ProtoAH, 0x1002)).Keys(func(auth, _ []byte) {
		if string(auth) == string(make([]byte, len(auth))) {
			t.Error("Clear has cleared the key of an SA")
		}
	})
}

// A state that no DB can have is refused, and the DB stays empty.
func TestRestoreRefused(t *testing.T) {
	for what, spoil := range map[string]func(s *SavedDB){
		"two of one name":        func(s *SavedDB) { s.SAs[1].ID = s.SAs[0].ID; s.SAs[1].SASpec = s.SAs[0].SASpec },
		"a dead SA":              func(s *SavedDB) { s.SAs[0].State = klips.Dead },
		"no SPI":                 func(s *SavedDB) { s.SAs[0].ID.SPI = 0 },
		"no key":                 func(s *SavedDB) { s.SAs[1].EncKey = nil },
		"one SAref twice":        func(s *SavedDB) { s.SAs[1].Ref = s.SAs[0].Ref },
		"two sizes of a window":  func(s *SavedDB) { s.SAs[1].Window = 64 },
		"half a window":          func(s *SavedDB) { s.SAs[1].Replay = replay.Saved{Size: 32} },
		"a group of nothing":     func(s *SavedDB) { s.Groups = [][]int{{0, 99}} },
		"a group of less":        func(s *SavedDB) { s.Groups = [][]int{{0, -1}} },
		"an SA in two groups":    func(s *SavedDB) { s.Groups = [][]int{{0, 1}, {1, 2}} },
		"an SA twice in a group": func(s *SavedDB) { s.Groups = [][]int{{0, 0}} },
	} {
		_, s := savedDB(t)
		spoil(s)
		db := New()
		if _, err := db.Restore(s, nil); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%s: %v, want EINVAL", what, err)
		}
		if db.Len() != 0 || db.refs.count != 0 {
			t.Errorf("%s: %d SAs and %d SArefs are left", what, db.Len(), db.refs.count)
		}
	}
}
