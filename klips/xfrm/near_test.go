package xfrm

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/rtnl"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// carry carries out changes without the lock of the network namespace.
func (s *Stack) carry(ctx context.Context, changes ...klips.Change) (done int, err error) {
	var l []change
	for _, c := range changes {
		ch, ok := newChange(c)
		if !ok {
			panic(c.String())
		}
		l = append(l, ch)
	}
	defer clearAll(l)
	return s.bisect(ctx, l)
}

// aChange draws a change of few SAs and eroutes.
func aChange(r *rapid.T) klips.Change {
	switch rapid.IntRange(0, 15).Draw(r, "change") {
	case 0, 1, 2, 3, 4:
		s := aSpec(r)
		if s.ID.Proto == klips.ProtoESP && rapid.Bool().Draw(r, "aead") {
			s.Auth, s.AuthKey = 0, nil
			s.Enc, s.EncKey = alg.AESGCM, make([]byte, 20)
			s.EncKey[0] = byte(rapid.IntRange(0, 2).Draw(r, "key"))
			s.ReuseKey = rapid.IntRange(0, 3).Draw(r, "reuse") == 0
		}
		return klips.AddSA{SASpec: s}
	case 5, 6, 7:
		inner, outer := anID(r), anID(r)
		inner.Proto, inner.Dst = klips.ProtoTun, outer.Dst
		return klips.Group{IDs: []klips.SAID{inner, outer}}
	case 8:
		return klips.Group{IDs: []klips.SAID{anID(r), anID(r), anID(r)}[:rapid.IntRange(2, 3).Draw(r, "members")]}
	case 9:
		return klips.Ungroup{ID: anID(r)}
	case 10:
		return klips.DeleteSA{ID: anID(r)}
	case 11:
		return klips.DeleteEroute{Selector: aFlow(r)}
	case 12:
		if rapid.IntRange(0, 3).Draw(r, "policy") == 0 {
			return klips.SetPolicy{ID: anID(r), Policy: klips.Selector{Src: host(there), Dst: host(here)}}
		}
	}
	id := anID(r)
	if rapid.IntRange(0, 5).Draw(r, "shunt") == 0 {
		id = klips.Magic(klips.SPIDrop)
	}
	e := klips.Eroute{Selector: aFlow(r), ID: id}
	if rapid.IntRange(0, 2).Draw(r, "several") == 0 {
		for range rapid.IntRange(1, 3).Draw(r, "further SAs") {
			further := anID(r)
			further.Dst = id.Dst
			e.Also = append(e.Also, further)
		}
	}
	return klips.SetEroute{Eroute: e, Replace: rapid.Bool().Draw(r, "replace")}
}

func aFlow(r *rapid.T) klips.Selector {
	return klips.Selector{Src: any4, Dst: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(rapid.IntRange(0, 4).Draw(r, "flow")), 0, 0}), 16)}
}

// loosened returns the kernel's objects without what may differ if not all of them were
// read: the policy of several inbound groups stays as it is when only one of them is
// left, and a record does not name its eroutes after it had too many.
func (m *memory) loosened() (l []string) {
	for _, s := range m.states {
		l = append(l, fmt.Sprint("state ", s.ID, s.Src, s.Selector, s.Mode, s.ReqID, s.Flags, s.ExtraFlags, s.IfID, s.OutputMark, s.Mark, s.Limits, s.Encap, s.AEAD, s.Auth, s.Crypt, s.SADir, s.Processor, windowOf(s)))
	}
	for k, p := range m.policies {
		c := copyPolicy(p)
		c.Index = 0
		if k.IfID == parkKeys {
			continue // the tags depend on a random secret
		}
		if k.IfID == parkCensus {
			c.Limits.SoftBytes, c.Limits.HardBytes, c.Limits.SoftPackets = 0, 0, 0
		}
		if k.IfID == parkSAs || k.IfID == parkUsers {
			c.Limits.SoftPackets = 0 // the time
			c.Limits.HardPackets &^= isMany
			c.Templates = slices.DeleteFunc(c.Templates, func(t nlxfrm.Template) bool { return t.AuthAlgs == noteRoute })
			if k.IfID == parkUsers {
				continue
			}
		}
		if k.Dir != nlxfrm.DirOut {
			for i := range c.Templates {
				t := &c.Templates[i]
				t.SPI, t.Src, t.Dst = 0, netip.Addr{}, netip.Addr{}
			}
		}
		text := fmt.Sprint("policy ", k, k.Mark, c.Action, c.Priority, c.Limits)
		for _, t := range c.Templates {
			text += fmt.Sprint("; ", t.ID, t.Src, t.Family, t.ReqID, t.Mode, t.Optional, t.AuthAlgs, t.CryptAlgs, t.CompAlgs)
		}
		l = append(l, text)
	}
	slices.Sort(l)
	return l
}

// Changes that read few objects have the result of those that read all, and the same
// errors. After other programs have removed or added objects, the results are the same
// when all objects are read the next time.
func TestNear(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		ctx := context.Background()
		near, far := newMemory(), newMemory()
		near.links = rapid.SampledFrom([][]rtnl.Link{attachedLinks, dummyLinks, attachedLinks[:1]}).Draw(r, "devices")
		far.links = near.links
		a, b := near.stack(-1), far.stack(math.MaxInt32)
		disturbed := false
		often := rapid.SampledFrom([]int{0, 5}).Draw(r, "others")
		for range rapid.IntRange(1, 40).Draw(r, "changes") {
			if rapid.IntRange(0, 49).Draw(r, "other") < often {
				disturb(r, near, far)
				disturbed = true
			}
			changes := []klips.Change{aChange(r)}
			for rapid.IntRange(0, 4).Draw(r, "more") == 0 {
				changes = append(changes, aChange(r))
			}
			n1, err1 := a.carry(ctx, changes...)
			n2, err2 := b.carry(ctx, changes...)
			if disturbed && strings.Contains(fmt.Sprint(err2), "another program has made the policy") {
				return // to read all objects shows it whatever the change is about
			}
			if n1 != n2 || fmt.Sprint(err1) != fmt.Sprint(err2) {
				r.Fatalf("%v: %d, %v; with all objects %d, %v", changes, n1, err1, n2, err2)
			}
			got, want := near, far
			if disturbed {
				if got, want = near.repaired(r), far.repaired(r); got == nil || want == nil {
					return
				}
			} else if d := cmp.Diff(near.loosened(), near.repaired(r).loosened()); d != "" {
				r.Fatalf("after %v all objects are read, which changes (-before +after):\n%s", changes, d)
			}
			if d := cmp.Diff(want.loosened(), got.loosened()); d != "" {
				r.Fatalf("after %v (-all +few):\n%s", changes, d)
			}
			id := anID(r)
			g1, err1 := a.ReadGroup(ctx, id)
			g2, err2 := b.ReadGroup(ctx, id)
			if d := cmp.Diff(g2, g1, cmpopts.EquateEmpty(), anyOrder, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.IgnoreFields(klips.SA{}, "Ref", "Life")); d != "" || fmt.Sprint(err1) != fmt.Sprint(err2) {
				r.Fatalf("group of %v: %v, want %v\n%s", id, err1, err2, d)
			}
		}
	})
}

// anyOrder ignores the order of SAs with one key: an SA that was made again by the change
// that removed it counts as old if all objects are read.
var anyOrder = cmpopts.SortSlices(func(a, b klips.SAID) bool { return a.String() < b.String() })

// repaired returns a copy of the kernel after a change for which all objects are read;
// nil if another program's policy is in the way.
func (m *memory) repaired(r *rapid.T) *memory {
	c := m.clone()
	sel := klips.Selector{Src: any6, Dst: any6}
	_, err := c.stack(math.MaxInt32).carry(context.Background(),
		klips.SetEroute{Eroute: klips.Eroute{Selector: sel, ID: klips.Magic(klips.SPIDrop)}}, klips.DeleteEroute{Selector: sel})
	if strings.Contains(fmt.Sprint(err), "another program has made the policy") {
		return nil
	}
	if err != nil {
		r.Fatal(err)
	}
	return c
}

// records returns the number of SAs that have or had a state.
func (m *memory) records() (n int) {
	for k := range m.policies {
		if k.IfID == parkSAs && k.Selector.Proto != uint8(klips.ProtoTun) {
			n++
		}
	}
	return n
}

// disturb lets another program change kernels in the same way. Its states do not stand in
// place of ours: that is not noticed, see foreignKeys.
func disturb(r *rapid.T, kernels ...*memory) {
	id := anID(r)
	k := stateKey{ID: nlxfrm.ID{Dst: id.Dst, SPI: uint32(id.SPI), Proto: uint8(id.Proto)}}
	key := make([]byte, 20)
	key[0] = byte(rapid.IntRange(0, 2).Draw(r, "foreign key"))
	flow := aFlow(r)
	what := rapid.IntRange(0, 3).Draw(r, "what")
	foreign, gone := false, false
	for _, m := range kernels {
		foreign, gone = foreign || len(m.states) > m.records(), gone || len(m.states) < m.records()
	}
	for _, m := range kernels {
		switch what {
		case 0: // a state expires
			if !foreign {
				delete(m.states, k)
			}
		case 1: // another program's state has a key
			if m.states[k] == nil && id.Proto == klips.ProtoESP && !gone {
				m.states[k] = &nlxfrm.State{ID: k.ID, Src: here, Family: nlxfrm.FamilyIPv4, AEAD: &nlxfrm.AEADAlgorithm{Name: "rfc4106(gcm(aes))", Key: key, ICVBits: 128}}
			}
		case 2: // another program's policy for a flow
			p := &nlxfrm.Policy{Selector: selectorOf(flow), Dir: nlxfrm.DirOut, IfID: 1, Index: 1 << 20}
			if m.policies[p.Key()] == nil {
				m.policies[p.Key()] = p
			}
		case 3: // policies are flushed
			if !gone {
				clear(m.policies)
			}
		}
	}
}
