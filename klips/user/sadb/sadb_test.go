package sadb

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/user/replay"
)

const sec = int64(time.Second)

func id(proto klips.Proto, spi klips.SPI) klips.SAID {
	return klips.SAID{Dst: netip.MustParseAddr("10.9.0.2"), SPI: spi, Proto: proto}
}

// spec makes an SA of a protocol with suitable algorithms.
func spec(id klips.SAID) *klips.SASpec {
	s := &klips.SASpec{ID: id, Src: netip.MustParseAddr("10.9.0.1")}
	switch id.Proto {
	case klips.ProtoESP:
		s.Enc, s.EncKey = alg.AES, bytes.Repeat([]byte{1}, 16)
		s.Auth, s.AuthKey = alg.SHA1, bytes.Repeat([]byte{2}, 20)
	case klips.ProtoAH:
		s.Auth, s.AuthKey = alg.MD5, bytes.Repeat([]byte{3}, 16)
	case klips.ProtoComp:
		s.Comp = alg.Deflate
	}
	return s
}

func add(t testing.TB, db *DB, id klips.SAID, dir klips.Direction) *SA {
	t.Helper()
	sa, err := db.Add(spec(id), dir, sec, nil)
	if err != nil {
		t.Fatalf("Add(%v): %v", id, err)
	}
	return sa
}

func chainText(sa *SA) string {
	var s []string
	for _, m := range sa.Chain() {
		s = append(s, fmt.Sprintf("%v%x", m.ID.Proto, uint32(m.ID.SPI)))
	}
	return strings.Join(s, " ")
}

func TestAddErrors(t *testing.T) {
	esp := func(f func(*klips.SASpec)) *klips.SASpec { s := spec(id(klips.ProtoESP, 0x1000)); f(s); return s }
	ah := func(f func(*klips.SASpec)) *klips.SASpec { s := spec(id(klips.ProtoAH, 0x1000)); f(s); return s }
	tun := func(f func(*klips.SASpec)) *klips.SASpec { s := spec(id(klips.ProtoTun, 0x1000)); f(s); return s }
	comp := func(f func(*klips.SASpec)) *klips.SASpec { s := spec(id(klips.ProtoComp, 0x1000)); f(s); return s }
	key := func(n int) []byte { return make([]byte, n) }
	for _, test := range []struct {
		name string
		spec *klips.SASpec
		want error
	}{
		{"lowest SPI", esp(func(s *klips.SASpec) { s.ID.SPI = 0x100 }), nil},
		{"reserved SPI", esp(func(s *klips.SASpec) { s.ID.SPI = 0xff }), syscall.EINVAL},
		{"int", tun(func(s *klips.SASpec) { s.ID.Proto = klips.ProtoInt }), syscall.EINVAL},
		{"other protocol", tun(func(s *klips.SASpec) { s.ID.Proto = 6 }), syscall.EINVAL},
		{"no destination", tun(func(s *klips.SASpec) { s.ID.Dst = netip.Addr{} }), syscall.EINVAL},
		{"mapped destination", tun(func(s *klips.SASpec) { s.ID.Dst = netip.MustParseAddr("::ffff:10.0.0.1") }), syscall.EINVAL},
		{"largest window", esp(func(s *klips.SASpec) { s.Window = replay.MaxSize }), nil},
		{"too large window", esp(func(s *klips.SASpec) { s.Window = replay.MaxSize + 1 }), syscall.EINVAL},
		{"unknown UDP encapsulation", esp(func(s *klips.SASpec) { s.NATT.Type = 3 }), syscall.EINVAL},
		{"ESN", esp(func(s *klips.SASpec) { s.ESN, s.Window = true, 64 }), nil},
		{"ESN of AH", ah(func(s *klips.SASpec) { s.ESN, s.Window = true, 1 }), nil},
		{"ESN without window", esp(func(s *klips.SASpec) { s.ESN = true }), syscall.EINVAL},
		{"ESN of AH without window", ah(func(s *klips.SASpec) { s.ESN = true }), syscall.EINVAL},
		{"ESN without authentication", esp(func(s *klips.SASpec) {
			s.ESN, s.Window, s.Auth, s.AuthKey = true, 64, alg.AuthNone, nil
		}), syscall.EINVAL},
		{"ESN of a combined mode", esp(func(s *klips.SASpec) {
			s.ESN, s.Window, s.Enc, s.EncKey, s.Auth, s.AuthKey = true, 64, alg.AESGCM, key(20), alg.AuthNone, nil
		}), nil},
		{"ESN of tun", tun(func(s *klips.SASpec) { s.ESN, s.Window = true, 64 }), syscall.EINVAL},
		{"ESN of comp", comp(func(s *klips.SASpec) { s.ESN, s.Window = true, 64 }), syscall.EINVAL},
		{"no cipher", esp(func(s *klips.SASpec) { s.Enc, s.EncKey = alg.EncNone, nil }), syscall.EINVAL},
		{"unknown cipher", esp(func(s *klips.SASpec) { s.Enc = 253 }), syscall.EPROTO},
		{"null and no authentication", esp(func(s *klips.SASpec) {
			s.Enc, s.EncKey, s.Auth, s.AuthKey = alg.Null, nil, alg.AuthNone, nil
		}), syscall.EINVAL},
		{"null", esp(func(s *klips.SASpec) { s.Enc, s.EncKey = alg.Null, nil }), nil},
		{"null with a key", esp(func(s *klips.SASpec) { s.Enc = alg.Null }), syscall.EINVAL},
		{"no authentication", esp(func(s *klips.SASpec) { s.Auth, s.AuthKey = alg.AuthNone, nil }), nil},
		{"key for no authentication", esp(func(s *klips.SASpec) { s.Auth = alg.AuthNone }), nil},
		{"unknown authentication", esp(func(s *klips.SASpec) { s.Auth = 1 }), syscall.EINVAL},
		{"short authentication key", esp(func(s *klips.SASpec) { s.AuthKey = key(19) }), syscall.EINVAL},
		{"no authentication key", esp(func(s *klips.SASpec) { s.AuthKey = nil }), syscall.EINVAL},
		{"long cipher key", esp(func(s *klips.SASpec) { s.EncKey = key(33) }), syscall.EINVAL},
		{"AES-256", esp(func(s *klips.SASpec) { s.EncKey = key(32) }), nil},
		{"3DES short", esp(func(s *klips.SASpec) { s.Enc, s.EncKey = alg.TripleDES, key(16) }), syscall.EINVAL},
		{"3DES weak", esp(func(s *klips.SASpec) { s.Enc, s.EncKey = alg.TripleDES, key(24) }), nil},
		{"GCM", esp(func(s *klips.SASpec) {
			s.Enc, s.EncKey, s.Auth, s.AuthKey = alg.AESGCM, key(20), alg.AuthNone, nil
		}), nil},
		{"GCM with HMAC", esp(func(s *klips.SASpec) { s.Enc, s.EncKey = alg.AESGCM, key(20) }), syscall.EINVAL},
		{"GCM with a key for it", esp(func(s *klips.SASpec) { s.Enc, s.EncKey, s.Auth = alg.AESGCM, key(20), 0 }), syscall.EINVAL},
		{"GCM without salt", esp(func(s *klips.SASpec) {
			s.Enc, s.EncKey, s.Auth, s.AuthKey = alg.AESGCM, key(16), alg.AuthNone, nil
		}), syscall.EINVAL},
		{"esp that compresses", esp(func(s *klips.SASpec) { s.Comp = alg.Deflate }), syscall.EINVAL},
		{"AH without authentication", ah(func(s *klips.SASpec) { s.Auth = alg.AuthNone }), syscall.EINVAL},
		{"AH with a cipher", ah(func(s *klips.SASpec) { s.Enc = alg.AES }), syscall.EINVAL},
		{"AH without key", ah(func(s *klips.SASpec) { s.AuthKey = nil }), syscall.EINVAL},
		{"AH", ah(func(s *klips.SASpec) {}), nil},
		{"tun", tun(func(s *klips.SASpec) {}), nil},
		{"tun with algorithms", tun(func(s *klips.SASpec) { s.Enc, s.EncKey = alg.AES, key(16) }), nil},
		{"comp", comp(func(s *klips.SASpec) {}), nil},
		{"comp above 16 bits", comp(func(s *klips.SASpec) { s.ID.SPI = 0x12345 }), nil},
		{"comp without algorithm", comp(func(s *klips.SASpec) { s.Comp = alg.CompNone }), syscall.EINVAL},
		{"comp with a cipher", comp(func(s *klips.SASpec) { s.Enc = alg.AES }), syscall.EINVAL},
	} {
		db := New()
		sa, err := db.Add(test.spec, klips.Outbound, sec, nil)
		if !errors.Is(err, test.want) || (err == nil) != (sa != nil) {
			t.Errorf("%s: Add = %v, %v, want %v", test.name, sa, err, test.want)
		}
		if got := db.Len(); (got == 1) != (test.want == nil) {
			t.Errorf("%s: %d SAs afterwards", test.name, got)
		}
	}
}

func TestAddTwice(t *testing.T) {
	db := New()
	esp := id(klips.ProtoESP, 0x1000)
	first := add(t, db, esp, klips.Outbound)
	bad := spec(esp)
	bad.EncKey = nil // KLIPS stops before it checks the keys
	if _, err := db.Add(bad, klips.Outbound, sec, nil); err != syscall.EEXIST {
		t.Errorf("Add = %v, want EEXIST", err)
	}
	other := esp
	other.Dst = netip.MustParseAddr("10.9.0.3")
	add(t, db, other, klips.Outbound)
	add(t, db, id(klips.ProtoAH, 0x1000), klips.Outbound)
	if got := db.Lookup(esp); got != first {
		t.Errorf("Lookup = %v, want the first", got)
	}
	if _, err := db.Get(id(klips.ProtoTun, 0x1000)); err != syscall.ESRCH {
		t.Errorf("Get = %v, want ESRCH", err)
	}
}

func TestAddInit(t *testing.T) {
	db := New()
	s := spec(id(klips.ProtoESP, 0x1000))
	var sawKey []byte
	_, err := db.Add(s, klips.Outbound, sec, func(sa *SA) error {
		if db.Lookup(sa.ID) != nil {
			t.Error("the SA can be found before init is done")
		}
		sa.Keys(func(_, enc []byte) { sawKey = bytes.Clone(enc) })
		return syscall.EOPNOTSUPP
	})
	if err != syscall.EOPNOTSUPP || db.Len() != 0 {
		t.Errorf("Add = %v and %d SAs, want EOPNOTSUPP and none", err, db.Len())
	}
	if !bytes.Equal(sawKey, s.EncKey) {
		t.Errorf("init saw key %x", sawKey)
	}
	if sa := add(t, db, s.ID, klips.Outbound); sa.Ref == 0 {
		t.Error("no SAref")
	}
}

func TestKeys(t *testing.T) {
	db := New()
	s := spec(id(klips.ProtoESP, 0x1000))
	auth, enc := bytes.Clone(s.AuthKey), bytes.Clone(s.EncKey)
	sa, err := db.Add(s, klips.Outbound, sec, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.ClearKeys() // the DB has copies
	var inside [][]byte
	if !sa.Keys(func(a, e []byte) {
		if !bytes.Equal(a, auth) || !bytes.Equal(e, enc) {
			t.Errorf("Keys gives %x, %x", a, e)
		}
		inside = [][]byte{a, e}
	}) {
		t.Error("Keys = false for a living SA")
	}
	if _, err := db.Delete(sa.ID); err != nil {
		t.Fatal(err)
	}
	for _, k := range inside {
		if !bytes.Equal(k, make([]byte, len(k))) {
			t.Errorf("a key is left in memory: %x", k)
		}
	}
	if sa.Keys(func(_, _ []byte) { t.Error("called") }) || sa.State() != klips.Dead {
		t.Errorf("the SA has keys or a state of %d after Delete", sa.State())
	}
	// Listings contain no keys.
	sa = add(t, db, id(klips.ProtoESP, 0x1001), klips.Outbound)
	if text := fmt.Sprintf("%+v", sa.Info(sec)); strings.Contains(text, "1 1 1 1") {
		t.Errorf("Info shows a key: %s", text)
	}
}

func TestFlush(t *testing.T) {
	db := New()
	var inside []byte
	for i := range klips.SPI(100) {
		sa := add(t, db, id(klips.ProtoESP, 0x1000+i), klips.Outbound)
		sa.Keys(func(_, enc []byte) { inside = enc })
	}
	list := db.Flush()
	if len(list) != 100 || db.Len() != 0 || db.Lookup(list[0].ID) != nil {
		t.Fatalf("Flush returned %d SAs and left %d", len(list), db.Len())
	}
	if !slices.IsSortedFunc(list, func(a, b *SA) int { return klips.Bucket(a.ID) - klips.Bucket(b.ID) }) {
		t.Error("not in listing order")
	}
	if list[5].State() != klips.Dead || !bytes.Equal(inside, make([]byte, len(inside))) {
		t.Error("an SA lives on")
	}
	add(t, db, list[0].ID, klips.Outbound)
}

func TestGroup(t *testing.T) {
	a, b, c, d := id(klips.ProtoTun, 0xa00), id(klips.ProtoComp, 0xb00), id(klips.ProtoESP, 0xc00), id(klips.ProtoAH, 0xd00)
	missing := id(klips.ProtoESP, 0x999)
	type step struct {
		ids  []klips.SAID // one SAID: ungroup
		want error
	}
	ok := func(ids ...klips.SAID) step { return step{ids, nil} }
	fails := func(err error, ids ...klips.SAID) step { return step{ids, err} }
	const single = "tuna00|compb00|espc00|ahd00"
	for _, test := range []struct {
		name  string
		in    string // which of abcd are inbound
		steps []step
		want  string // chains of a, b, c, d
	}{
		{"four", "", []step{ok(a, b, c, d)}, "tuna00 compb00 espc00 ahd00|compb00 espc00 ahd00|espc00 ahd00|ahd00"},
		{"four inbound", "abcd", []step{ok(a, b, c, d)}, "tuna00|compb00 tuna00|espc00 compb00 tuna00|ahd00 espc00 compb00 tuna00"},
		{"pairwise", "", []step{ok(a, b), ok(b, c), ok(c, d)}, "tuna00 compb00 espc00 ahd00|compb00 espc00 ahd00|espc00 ahd00|ahd00"},
		{"join bundles", "", []step{ok(a, b), ok(c, d), ok(b, c)}, "tuna00 compb00 espc00 ahd00|compb00 espc00 ahd00|espc00 ahd00|ahd00"},
		{"join in front", "", []step{ok(a, b), ok(c, d), ok(d, a)}, "tuna00 compb00|compb00|espc00 ahd00 tuna00 compb00|ahd00 tuna00 compb00"},
		{"outer decides, in", "c", []step{ok(a, c)}, "tuna00|compb00|espc00 tuna00|ahd00"},
		{"outer decides, out", "a", []step{ok(a, c)}, "tuna00 espc00|compb00|espc00|ahd00"},
		{"missing", "", []step{fails(syscall.ENOENT, a, missing), fails(syscall.ENOENT, missing, a), fails(syscall.ENOENT, a, b, missing)}, single},
		{"itself", "", []step{fails(syscall.EEXIST, a, a)}, single},
		{"itself later", "", []step{fails(syscall.EEXIST, a, b, a), fails(syscall.EEXIST, a, b, b)}, single},
		{"again", "", []step{ok(a, b), fails(syscall.EEXIST, a, b)}, "tuna00 compb00|compb00|espc00|ahd00"},
		{"reversed", "", []step{ok(a, b), fails(syscall.EEXIST, b, a)}, "tuna00 compb00|compb00|espc00|ahd00"},
		{"second follower", "", []step{ok(a, b), fails(syscall.EEXIST, a, c)}, "tuna00 compb00|compb00|espc00|ahd00"},
		{"shared follower", "", []step{ok(a, b), fails(syscall.EEXIST, c, b)}, "tuna00 compb00|compb00|espc00|ahd00"},
		{"shared follower inbound", "abc", []step{ok(a, b), fails(syscall.EEXIST, a, c)}, "tuna00|compb00 tuna00|espc00|ahd00"},
		{"into the middle", "", []step{ok(a, b), ok(c, d), fails(syscall.EEXIST, b, d)}, "tuna00 compb00|compb00|espc00 ahd00|ahd00"},
		{"loop of three", "", []step{ok(a, b, c), fails(syscall.EEXIST, c, a)}, "tuna00 compb00 espc00|compb00 espc00|espc00|ahd00"},
		{"loop in one command", "", []step{fails(syscall.EEXIST, a, b, c, a)}, single},
		{"all or nothing", "", []step{ok(b, d), fails(syscall.EEXIST, a, c, b, d)}, "tuna00|compb00 ahd00|espc00|ahd00"},
		{"mixed directions clash", "b", []step{fails(syscall.EEXIST, a, b, c)}, single},
		{"mixed directions", "c", []step{fails(syscall.EEXIST, a, b, c)}, single},
		{"too few and many", "", []step{fails(syscall.EINVAL), fails(syscall.EINVAL, a, b, c, d, missing)}, single},
		{"ungroup first", "", []step{ok(a, b, c), ok(a)}, single},
		{"ungroup middle", "", []step{ok(a, b, c), ok(b)}, single},
		{"ungroup last", "", []step{ok(a, b, c), ok(c)}, single},
		{"ungroup and group", "", []step{ok(a, b, c), ok(b), ok(a, c)}, "tuna00 espc00|compb00|espc00|ahd00"},
		{"ungroup a single one", "", []step{ok(a)}, single},
		{"ungroup missing", "", []step{fails(syscall.ENOENT, missing)}, single},
		{"ungroup leaves others", "", []step{ok(a, b), ok(c, d), ok(a)}, "tuna00|compb00|espc00 ahd00|ahd00"},
	} {
		db := New()
		var sas []*SA
		for i, said := range []klips.SAID{a, b, c, d} {
			dir := klips.Outbound
			if strings.Contains(test.in, "abcd"[i:i+1]) {
				dir = klips.Inbound
			}
			sas = append(sas, add(t, db, said, dir))
		}
		for _, s := range test.steps {
			var err error
			if len(s.ids) == 1 {
				err = db.Ungroup(s.ids[0])
			} else {
				err = db.Group(s.ids)
			}
			if !errors.Is(err, s.want) || (err == nil) != (s.want == nil) {
				t.Errorf("%s: %v: %v, want %v", test.name, s.ids, err, s.want)
			}
		}
		var got []string
		for _, sa := range sas {
			got = append(got, chainText(sa))
		}
		if s := strings.Join(got, "|"); s != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.name, s, test.want)
		}
		for _, sa := range sas {
			follows := slices.ContainsFunc(sas, func(o *SA) bool { return slices.Contains(o.Chain()[1:], sa) })
			if sa.IsHead() == follows {
				t.Errorf("%s: IsHead(%v) = %v", test.name, sa.ID, sa.IsHead())
			}
		}
	}
}

// TestGroupErrors checks which SA an error names.
func TestGroupErrors(t *testing.T) {
	a, b, c := id(klips.ProtoTun, 0xa00), id(klips.ProtoComp, 0xb00), id(klips.ProtoESP, 0xc00)
	missing := id(klips.ProtoESP, 0x999)
	db := New()
	for _, said := range []klips.SAID{a, b, c} {
		add(t, db, said, klips.Outbound)
	}
	if err := db.Group([]klips.SAID{a, b}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		ids  []klips.SAID
		want klips.SAID
	}{
		{[]klips.SAID{b, missing}, missing},
		{[]klips.SAID{missing, b}, missing},
		{[]klips.SAID{a, c}, a},
		{[]klips.SAID{c, b}, b},
	} {
		var op *klips.OpError
		if err := db.Group(test.ids); !errors.As(err, &op) || op.Object != test.want.String() {
			t.Errorf("Group(%v) = %v, which does not name %v", test.ids, err, test.want)
		}
	}
}

func TestDeleteGroup(t *testing.T) {
	db := New()
	ids := []klips.SAID{id(klips.ProtoTun, 0xa00), id(klips.ProtoESP, 0xc00), id(klips.ProtoAH, 0xd00)}
	for _, victim := range ids {
		var sas []*SA
		for _, said := range ids {
			sas = append(sas, add(t, db, said, klips.Outbound))
		}
		if err := db.Group(ids); err != nil {
			t.Fatal(err)
		}
		gone, err := db.Delete(victim)
		if err != nil || !slices.Equal(gone, sas) || db.Len() != 0 {
			t.Fatalf("Delete(%v) = %v, %v and %d SAs left, want the group", victim, gone, err, db.Len())
		}
		// A packet that found the first SA before must not get less protection.
		if got := len(sas[0].Chain()); got != 3 {
			t.Errorf("the chain of a deleted group has %d SAs, want 3", got)
		}
		if _, err := db.Delete(victim); err != syscall.ESRCH {
			t.Errorf("Delete again = %v, want ESRCH", err)
		}
	}
}

func TestDeleteSA(t *testing.T) {
	db := New()
	old := add(t, db, id(klips.ProtoESP, 0x1000), klips.Outbound)
	if _, err := db.DeleteSA(old); err != nil {
		t.Fatal(err)
	}
	anew := add(t, db, old.ID, klips.Outbound)
	if _, err := db.DeleteSA(old); err != syscall.ESRCH {
		t.Errorf("DeleteSA of the old one = %v, want ESRCH", err)
	}
	if db.Lookup(old.ID) != anew {
		t.Error("the new SA is gone")
	}
}

func TestSetPolicy(t *testing.T) {
	db := New()
	tun, esp := id(klips.ProtoTun, 0xa00), id(klips.ProtoESP, 0xc00)
	inner, outer := id(klips.ProtoESP, 0xd00), id(klips.ProtoAH, 0xe00)
	for _, id := range []klips.SAID{tun, esp, inner, outer} {
		add(t, db, id, klips.Inbound)
	}
	for _, ids := range [][]klips.SAID{{tun, esp}, {inner, outer}} {
		if err := db.Group(ids); err != nil {
			t.Fatal(err)
		}
	}
	p := func(src string) klips.InboundPolicy {
		return klips.InboundPolicy{Src: netip.MustParsePrefix(src), Dst: netip.MustParsePrefix("10.1.0.0/16")}
	}
	for _, test := range []struct{ id, owner klips.SAID }{{tun, tun}, {esp, tun}, {inner, inner}, {outer, inner}} {
		src := fmt.Sprintf("10.%d.0.0/16", test.id.SPI>>8)
		if err := db.SetPolicy(test.id, p(src)); err != nil {
			t.Errorf("SetPolicy(%v) = %v", test.id, err)
		}
		if got := db.Lookup(test.owner).Policy(); got == nil || *got != p(src) {
			t.Errorf("after SetPolicy(%v) that of %v is %v", test.id, test.owner, got)
		}
	}
	for _, id := range []klips.SAID{esp, outer} {
		if got := db.Lookup(id).Policy(); got != nil {
			t.Errorf("that of %v, which is not the innermost, is %v", id, got)
		}
	}
	if err := db.SetPolicy(id(klips.ProtoTun, 0x999), p("10.1.0.0/16")); err != syscall.ENOENT {
		t.Errorf("SetPolicy of no SA = %v", err)
	}
	p6 := klips.InboundPolicy{Src: netip.MustParsePrefix("2001:db8:1::/48"), Dst: netip.MustParsePrefix("2001:db8:2::/48")}
	if err := db.SetPolicy(inner, p6); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("SetPolicy of IPv6 packets for an SA in transport mode over IPv4 = %v", err)
	}
	if err := db.SetPolicy(tun, p6); err != nil { // a tunnel can carry packets of the other family
		t.Errorf("SetPolicy of IPv6 packets for a tunnel over IPv4 = %v", err)
	}
	if err := db.SetPolicy(esp, p("10.12.0.0/16")); err != nil {
		t.Error(err)
	}
	sa := db.Lookup(tun)
	if i := sa.Info(sec); i.Policy == nil || *i.Policy != p("10.12.0.0/16") || i.Flags != klips.FlagInFlow {
		t.Errorf("Info shows policy %v, flags %d", i.Policy, i.Flags)
	}
}

func TestExpired(t *testing.T) {
	const now = 1000 * sec
	for _, test := range []struct {
		name       string
		soft, hard klips.Limits
		bytes      uint64
		packets    int // with this number of bytes in all
		first      int64
		at         int64
		wantHard   bool
		wantSoft   bool
		which      string
	}{
		{name: "no limits", bytes: 1 << 40, packets: 1, first: now, at: now * 1000},
		{name: "bytes reached", hard: klips.Limits{Bytes: 300}, bytes: 300, packets: 1, first: now, at: now},
		{name: "bytes passed", hard: klips.Limits{Bytes: 300}, bytes: 301, packets: 1, first: now, at: now, wantHard: true, which: "bytes"},
		{name: "soft bytes", soft: klips.Limits{Bytes: 300}, bytes: 301, packets: 1, first: now, at: now, wantSoft: true, which: "bytes"},
		{name: "hard before soft", soft: klips.Limits{Bytes: 300}, hard: klips.Limits{Bytes: 300}, bytes: 301, packets: 1, first: now, at: now, wantHard: true, which: "bytes"},
		{name: "addtime reached", hard: klips.Limits{AddTime: 2}, at: now + 3*sec - 1},
		{name: "addtime passed", hard: klips.Limits{AddTime: 2}, at: now + 3*sec, wantHard: true, which: "addtime"},
		{name: "usetime unused", hard: klips.Limits{UseTime: 1}, at: now * 100},
		{name: "usetime reached", hard: klips.Limits{UseTime: 5}, packets: 1, first: now + 10*sec, at: now + 15*sec},
		{name: "usetime passed", hard: klips.Limits{UseTime: 5}, packets: 1, first: now + 10*sec, at: now + 16*sec, wantHard: true, which: "usetime"},
		{name: "packets reached", hard: klips.Limits{Packets: 3}, packets: 3, first: now, at: now},
		{name: "packets passed", hard: klips.Limits{Packets: 3}, packets: 4, first: now, at: now, wantHard: true, which: "packets"},
		{name: "hard after another's soft", soft: klips.Limits{Bytes: 1}, hard: klips.Limits{Packets: 1}, bytes: 9, packets: 2, first: now, at: now, wantHard: true, wantSoft: true, which: "packets"},
		{name: "first soft is named", soft: klips.Limits{AddTime: 1, Packets: 1}, packets: 2, first: now, at: now + 2*sec, wantSoft: true, which: "addtime"},
		{name: "allocations never", hard: klips.Limits{Allocations: 1}, soft: klips.Limits{Allocations: 1}, packets: 9, first: now, at: now},
		{name: "clock back", hard: klips.Limits{AddTime: 2}, at: 0},
	} {
		db := New()
		s := spec(id(klips.ProtoESP, 0x1000))
		s.Soft, s.Hard = test.soft, test.hard
		sa, err := db.Add(s, klips.Outbound, now, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range test.packets {
			n := uint64(0)
			if i == 0 {
				n = test.bytes
			}
			sa.Count(n, test.first)
		}
		hard, soft, which := sa.Expired(test.at)
		if hard != test.wantHard || soft != test.wantSoft || which != test.which {
			t.Errorf("%s: Expired = %v, %v, %q, want %v, %v, %q", test.name, hard, soft, which, test.wantHard, test.wantSoft, test.which)
		}
	}
}

func TestSoftClipped(t *testing.T) {
	db := New()
	s := spec(id(klips.ProtoTun, 0x1000))
	s.Soft = klips.Limits{Allocations: 9, Bytes: 900, AddTime: 5, UseTime: 70, Packets: 9}
	s.Hard = klips.Limits{Allocations: 3, Bytes: 800, AddTime: 6, Packets: 2}
	sa, err := db.Add(s, klips.Outbound, sec, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := (klips.Limits{Allocations: 3, Bytes: 800, AddTime: 5, UseTime: 70, Packets: 2}); sa.Soft != want {
		t.Errorf("soft limits %+v, want %+v", sa.Soft, want)
	}
}

func TestSetDying(t *testing.T) {
	db := New()
	sa := add(t, db, id(klips.ProtoTun, 0x1000), klips.Outbound)
	if !sa.SetDying() || sa.SetDying() || sa.State() != klips.Dying {
		t.Errorf("state %d after SetDying", sa.State())
	}
	if _, err := db.Delete(sa.ID); err != nil {
		t.Fatal(err)
	}
	if sa.SetDying() || sa.State() != klips.Dead {
		t.Errorf("a dead SA is in state %d after SetDying", sa.State())
	}
}

func TestInfo(t *testing.T) {
	db := New()
	s := spec(id(klips.ProtoESP, 0x1000))
	s.Window, s.RefHim, s.OutIf = 64, 7, 3
	s.NATT = klips.NATT{Type: klips.NATTNonESP, SPort: 4500, DPort: 4501}
	s.Hard.Bytes = 1000
	sa, err := db.Add(s, klips.Outbound, 10*sec, nil)
	if err != nil {
		t.Fatal(err)
	}
	add(t, db, id(klips.ProtoTun, 0x1001), klips.Outbound)
	if err := db.Group([]klips.SAID{id(klips.ProtoTun, 0x1001), s.ID}); err != nil {
		t.Fatal(err)
	}
	if i := sa.Info(12 * sec); i.Used || i.Life.AddTime.Count != 2 || i.Life.UseTime.Count != 0 || i.Seq != 0 {
		t.Errorf("unused: %+v", i)
	}
	sa.Count(100, 13*sec)
	sa.Count(50, 15*sec+1)
	sa.Seq.Store(2)
	i := sa.Info(17 * sec)
	if i.ID != s.ID || i.State != klips.Mature || i.Window != 64 || i.RefHim != 7 || i.OutIf != 3 || i.NATT != s.NATT ||
		len(i.IV) != 16 || !bytes.Equal(i.IV, sa.IV()) || i.AuthKeyBits != 160 || i.EncKeyBits != 128 || i.Seq != 2 || i.Ref != sa.Ref ||
		!i.Used || i.Idle != 2*time.Second-1 || i.RefCount != 3 || i.Next != nil || i.Policy != nil || i.Flags != 0 {
		t.Errorf("used: %+v", i)
	}
	if want := (klips.Life{
		Allocations: klips.Counter{Count: 1},
		Bytes:       klips.Counter{Count: 150, Hard: 1000},
		AddTime:     klips.Counter{Count: 7},
		UseTime:     klips.Counter{Count: 4},
		Packets:     klips.Counter{Count: 2},
	}); i.Life != want {
		t.Errorf("life %+v, want %+v", i.Life, want)
	}
	if i := db.Lookup(id(klips.ProtoTun, 0x1001)).Info(17 * sec); !slices.Equal(i.Next, []klips.SAID{s.ID}) || i.IV != nil {
		t.Errorf("the tun SA: %+v", i)
	}
}

func TestIVLengths(t *testing.T) {
	for _, test := range []struct {
		enc  alg.Enc
		key  int
		want int
	}{{alg.TripleDES, 24, 8}, {alg.AES, 16, 16}, {alg.Null, 0, 0}} {
		db := New()
		s := spec(id(klips.ProtoESP, 0x1000))
		s.Enc, s.EncKey = test.enc, make([]byte, test.key)
		a, err := db.Add(s, klips.Outbound, sec, nil)
		if err != nil {
			t.Fatal(err)
		}
		s.ID.SPI++
		b, err := db.Add(s, klips.Outbound, sec, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(a.IV()) != test.want || test.want > 0 && bytes.Equal(a.IV(), b.IV()) {
			t.Errorf("cipher %d: IVs %x and %x, want two different ones of %d bytes", test.enc, a.IV(), b.IV(), test.want)
		}
	}
}

func TestRefs(t *testing.T) {
	db := New()
	a := add(t, db, id(klips.ProtoTun, 0x1000), klips.Outbound)
	b := add(t, db, id(klips.ProtoTun, 0x1001), klips.Outbound)
	if a.Ref != 1 || b.Ref != 2 {
		t.Errorf("SArefs %d and %d, want 1 and 2", a.Ref, b.Ref)
	}
	db.Delete(a.ID)
	if c := add(t, db, a.ID, klips.Outbound); c.Ref != 3 {
		t.Errorf("SAref %d, want 3: others come first", c.Ref)
	}
	for _, ref := range []uint32{2, 100, 1 << 31} {
		s := spec(id(klips.ProtoTun, 0x2000+klips.SPI(ref%1000)))
		s.Ref = ref
		_, err := db.Add(s, klips.Outbound, sec, nil)
		if taken := ref == 2; taken != errors.Is(err, syscall.EINVAL) || !taken && err != nil {
			t.Errorf("Add with SAref %d: %v", ref, err)
		}
	}
}

func TestRefsRecycled(t *testing.T) {
	var r refs
	if !r.claim(5) || r.claim(5) || !r.claim(1<<20) || r.claim(1<<20) {
		t.Fatal("claim")
	}
	seen := map[uint32]bool{5: true, 1 << 20: true}
	var order []uint32
	for range 200_000 { // far beyond the first bitmap
		n := r.take()
		if n == 0 || seen[n] {
			t.Fatalf("take() = %d, which is in use", n)
		}
		seen[n] = true
		order = append(order, n)
		if len(order) > 100 { // 100 live at a time
			r.free(order[0])
			delete(seen, order[0])
			order = order[1:]
		}
	}
	if got := r.limit(); got != firstLimit {
		t.Errorf("100 numbers in use made the bitmap %d numbers large", got)
	}
	for range 2_000_000 {
		n := r.take()
		if seen[n] {
			t.Fatalf("take() = %d, which is in use", n)
		}
		if n == 5 || n == 1<<20 {
			t.Fatalf("take() = %d, which was claimed", n)
		}
	}
}

func TestAllocs(t *testing.T) {
	db := New()
	s := spec(id(klips.ProtoESP, 0x1000))
	s.Hard.Bytes = 1 << 60
	sa, err := db.Add(s, klips.Outbound, sec, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func(){
		"Lookup": func() {
			if db.Lookup(s.ID) != sa {
				t.Error("not found")
			}
		},
		"Count":    func() { sa.Count(100, sec) },
		"Expired":  func() { sa.Expired(sec) },
		"Snapshot": func() { sa.Snapshot() },
		"State":    func() { sa.State() },
		"NextSeq":  func() { sa.NextSeq() },
	} {
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

// TestWholeGroups has readers follow chains while groups are made, taken apart and
// deleted. They must only see a whole group or single SAs, in an order that was made.
// Dead SAs must not shorten a chain.
func TestWholeGroups(t *testing.T) {
	db := New()
	ids := []klips.SAID{id(klips.ProtoTun, 0xa00), id(klips.ProtoESP, 0xc00), id(klips.ProtoAH, 0xd00)}
	var done, grouped atomic.Bool
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for n := int64(1); !done.Load(); n++ {
				for i, said := range ids {
					before := grouped.Load()
					sa := db.Lookup(said)
					if sa == nil {
						continue
					}
					chain, head := sa.Snapshot()
					whole := len(chain) == len(ids)-i && head == (i == 0)
					single := len(chain) == 1 && head
					if !whole && !single || chain[0] != sa {
						t.Errorf("chain %s, head %v", chainText(sa), head)
						return
					}
					// grouped stays true until after the deletion of these SAs.
					if before && grouped.Load() && single && sa.State() == klips.Dead {
						t.Error("a dead SA lost its group")
						return
					}
					sa.Count(1, n)
					sa.Expired(n)
					sa.Info(n)
					sa.Keys(func(auth, enc []byte) {
						if said.Proto == klips.ProtoESP && enc[0] != 1 {
							t.Error("cleared keys")
						}
					})
				}
				db.All()
			}
		})
	}
	rounds := 500
	if testing.Short() {
		rounds = 100
	}
	for i := range rounds {
		for _, said := range ids {
			add(t, db, said, klips.Outbound)
		}
		if err := db.Group(ids); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			if err := db.Ungroup(ids[1]); err != nil {
				t.Fatal(err)
			}
			if err := db.Group(ids); err != nil {
				t.Fatal(err)
			}
		}
		grouped.Store(true)
		for j := range klips.SPI(40) {
			add(t, db, id(klips.ProtoTun, 0x10000+j), klips.Outbound)
		}
		if i%5 == 0 {
			db.Flush()
		} else if _, err := db.Delete(ids[i%3]); err != nil {
			t.Fatal(err)
		}
		grouped.Store(false)
		db.Flush()
	}
	done.Store(true)
	wg.Wait()
}
