package sadb

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/klips-go/ipsec/klips"
)

// A model is a simple form of the database: SAs oldest first, and for each the SA that
// follows it in processing order.
type model struct {
	sas  []modelSA
	next map[klips.SAID]klips.SAID
}

type modelSA struct {
	id     klips.SAID
	dir    klips.Direction
	policy *klips.InboundPolicy
}

func (m *model) get(id klips.SAID) *modelSA {
	for i := range m.sas {
		if m.sas[i].id == id {
			return &m.sas[i]
		}
	}
	return nil
}

func (m *model) prev(id klips.SAID) (klips.SAID, bool) {
	for p, n := range m.next {
		if n == id {
			return p, true
		}
	}
	return klips.SAID{}, false
}

func (m *model) chain(id klips.SAID) []klips.SAID {
	list := []klips.SAID{id}
	for n, ok := m.next[id]; ok; n, ok = m.next[n] {
		list = append(list, n)
	}
	return list
}

// group returns all SAs that are linked with an SA, in processing order.
func (m *model) group(id klips.SAID) []klips.SAID {
	for p, ok := m.prev(id); ok; p, ok = m.prev(id) {
		id = p
	}
	return m.chain(id)
}

// link makes the links one by one, and removes all again if one is refused.
func (m *model) link(ids []klips.SAID) error {
	saved := map[klips.SAID]klips.SAID{}
	for k, v := range m.next {
		saved[k] = v
	}
	for i := 1; i < len(ids); i++ {
		a, b := ids[i-1], ids[i]
		if m.get(a) == nil || m.get(b) == nil {
			m.next = saved
			return syscall.ENOENT
		}
		if m.get(b).dir == klips.Inbound {
			a, b = b, a
		}
		_, follows := m.next[a]
		_, preceded := m.prev(b)
		if follows || preceded || slices.Contains(m.chain(b), a) {
			m.next = saved
			return syscall.EEXIST
		}
		m.next[a] = b
	}
	return nil
}

func (m *model) delete(id klips.SAID) {
	for _, g := range m.group(id) {
		delete(m.next, g)
		m.sas = slices.DeleteFunc(m.sas, func(s modelSA) bool { return s.id == g })
	}
}

// lines are the listing: SAID, chain, policy.
func (m *model) lines() []string {
	list := slices.Clone(m.sas)
	slices.Reverse(list)
	slices.SortStableFunc(list, func(a, b modelSA) int { return cmp.Compare(klips.Bucket(a.id), klips.Bucket(b.id)) })
	var lines []string
	for _, s := range list {
		lines = append(lines, fmt.Sprint(s.id, m.chain(s.id)[1:], policyText(s.policy)))
	}
	return lines
}

func policyText(p *klips.InboundPolicy) string {
	if p == nil {
		return "none"
	}
	return p.String()
}

// TestModel compares a DB with the model under random operations.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		db := New()
		m := &model{next: map[klips.SAID]klips.SAID{}}
		// SPIs that differ by multiples of 257 in hash order share a bucket.
		var pool []klips.SAID
		for i := range klips.SPI(rapid.IntRange(1, 12).Draw(t, "SAIDs")) {
			pool = append(pool, klips.SAID{
				Dst:   netip.AddrFrom4([4]byte{10, 9, 0, byte(i % 2)}),
				SPI:   0x1000 + i/4*0x01010000,
				Proto: []klips.Proto{klips.ProtoTun, klips.ProtoESP, klips.ProtoAH, klips.ProtoComp}[i%4],
			})
		}
		said := rapid.SampledFrom(pool)
		refs := map[uint32]klips.SAID{}
		check := func(what string, err, want error) {
			if (err == nil) != (want == nil) || !errors.Is(err, want) {
				t.Fatalf("%s = %v, want %v", what, err, want)
			}
		}
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			id := said.Draw(t, "SAID")
			there := m.get(id)
			switch op := rapid.IntRange(0, 39).Draw(t, "op"); {
			case op < 16:
				dir := klips.Direction(rapid.IntRange(0, 1).Draw(t, "dir"))
				sa, err := db.Add(spec(id), dir, sec, nil)
				if there != nil {
					check("Add", err, syscall.EEXIST)
					break
				}
				check("Add", err, nil)
				if other, ok := refs[sa.Ref]; ok && m.get(other) != nil {
					t.Fatalf("SAref %d is that of %v too", sa.Ref, other)
				}
				refs[sa.Ref] = id
				m.sas = append(m.sas, modelSA{id: id, dir: dir})
			case op < 28:
				ids := []klips.SAID{id}
				for range rapid.IntRange(1, 3).Draw(t, "others") {
					ids = append(ids, said.Draw(t, "next"))
				}
				check("Group", db.Group(ids), m.link(ids))
			case op < 32:
				err := db.Ungroup(id)
				if there == nil {
					check("Ungroup", err, syscall.ENOENT)
					break
				}
				check("Ungroup", err, nil)
				for _, g := range m.group(id) {
					delete(m.next, g)
				}
			case op < 36:
				p := klips.InboundPolicy{
					Src: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(op)}), 16), Dst: netip.MustParsePrefix("10.1.0.0/16"),
				}
				err := db.SetPolicy(id, p)
				if there == nil {
					check("SetPolicy", err, syscall.ENOENT)
					break
				}
				check("SetPolicy", err, nil)
				var owner *modelSA // the first tun SA, or the last SA
				for _, c := range m.chain(id) {
					if owner = m.get(c); c.Proto == klips.ProtoTun {
						break
					}
				}
				owner.policy = &p
			case op < 39:
				gone, err := db.Delete(id)
				if there == nil {
					check("Delete", err, syscall.ESRCH)
					break
				}
				check("Delete", err, nil)
				var ids []klips.SAID
				for _, g := range gone {
					ids = append(ids, g.ID)
					if g.State() != klips.Dead || g.Keys(func(_, _ []byte) {}) {
						t.Fatalf("%v lives after Delete", g.ID)
					}
				}
				if !slices.Equal(ids, m.group(id)) {
					t.Fatalf("Delete removed %v, want %v", ids, m.group(id))
				}
				m.delete(id)
			default:
				if gone := db.Flush(); len(gone) != len(m.sas) {
					t.Fatalf("Flush removed %d SAs, want %d", len(gone), len(m.sas))
				}
				*m = model{next: map[klips.SAID]klips.SAID{}}
			}

			if got, want := inParts(db, rapid.IntRange(1, 4).Draw(t, "part")), db.All(); !slices.Equal(got, want) {
				t.Fatalf("in parts the listing has %d SAs, want %d in the same order", len(got), len(want))
			}
			var got []string
			for _, sa := range db.All() {
				i := sa.Info(sec)
				got = append(got, fmt.Sprint(i.ID, i.Next, policyText(i.Policy)))
				_, preceded := m.prev(sa.ID)
				if sa.IsHead() == preceded || db.Lookup(sa.ID) != sa || sa.State() != klips.Mature {
					t.Fatalf("%v: head %v, state %d", sa.ID, sa.IsHead(), sa.State())
				}
			}
			if d := gocmp.Diff(got, m.lines()); d != "" {
				t.Fatalf("the listing differs (-got +want):\n%s", d)
			}
			if db.Len() != len(m.sas) {
				t.Fatalf("Len() = %d, want %d", db.Len(), len(m.sas))
			}
			for _, id := range pool {
				if (db.Lookup(id) != nil) != (m.get(id) != nil) {
					t.Fatalf("Lookup(%v) = %v", id, db.Lookup(id))
				}
			}
		}
	})
}
