package xfrm

import (
	"cmp"
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/internal/arrange"
	"github.com/klips-go/ipsec/klips/keyuse"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// A tally has numbers of our objects. A change that has read only a part of them needs
// the numbers of the rest.
type tally struct {
	sas, states, routes uint32
	// kinds has the inbound groups that have tunnels and no inbound policy.
	kinds map[kind]uint32
}

// A kind is the interface ID of inbound groups, and a hash of their shape.
type kind struct{ ifID, shape uint32 }

func newTally() tally { return tally{kinds: map[kind]uint32{}} }

// plus returns the sum of two tallies.
func (t tally) plus(u tally) tally {
	sum := tally{t.sas + u.sas, t.states + u.states, t.routes + u.routes, maps.Clone(t.kinds)}
	for k, n := range u.kinds {
		sum.kinds[k] += n
	}
	return sum
}

// minus returns the difference; ok is false if a number would be negative.
func (t tally) minus(u tally) (rest tally, ok bool) {
	if t.sas < u.sas || t.states < u.states || t.routes < u.routes {
		return t, false
	}
	rest = tally{t.sas - u.sas, t.states - u.states, t.routes - u.routes, maps.Clone(t.kinds)}
	for k, n := range u.kinds {
		if rest.kinds[k] < n {
			return t, false
		}
		if rest.kinds[k] -= n; rest.kinds[k] == 0 {
			delete(rest.kinds, k)
		}
	}
	return rest, true
}

// shapes returns the number of shapes with an interface ID.
func (t tally) shapes(ifID uint32) (n int) {
	for k := range t.kinds {
		if k.ifID == ifID {
			n++
		}
	}
	return n
}

// marks reports whether groups of another shape have a mark.
func (t tally) marks(ifID, shape uint32, m nlxfrm.Mark) bool {
	for k := range t.kinds {
		if k.ifID == ifID && k.shape != shape && hashMark(k.shape) == m && (ifID == 0 || k.shape != hash(usualShape)) {
			return true
		}
	}
	return false
}

// remarks reports whether the packets of groups that are counted here must be marked
// after a change and not before, or the reverse. Then all of their states change.
func (t tally) remarks(before, after tally) bool {
	for k := range t.kinds {
		if k.ifID != 0 && k.shape != hash(usualShape) && (t.plus(before).shapes(k.ifID) > 1) != (t.plus(after).shapes(k.ifID) > 1) {
			return true
		}
	}
	return false
}

// parkCensus is the interface ID of the census.
const parkCensus uint32 = 0x4b4c4952

// The low half of the census' hard packet limit: its version, which changes with the
// form of our objects, and whether a change is being made.
const (
	censusVersion = 1
	changing      = 1 << 31
)

// Kinds of notes in the census.
const (
	noteTally = 16 + iota
	noteKind
)

// A census is what a change has to know about objects that it does not read. It is kept
// in a policy that matches no packet. While it is there and marked complete, all our
// objects are those of the tables.
type census struct {
	tally
	secret keyuse.Secret // of the tags of keys
	seen
}

// A seen is what a change last saw when it read all objects.
type seen struct {
	at     uint32 // when that was, in seconds since 1970
	states uint32 // number of those of other programs
}

var censusSelector = func() nlxfrm.Selector {
	nowhere := host(netip.AddrFrom4([4]byte{0, 0, 0, 1}))
	return normal(nlxfrm.Selector{Src: nowhere, Dst: nowhere})
}()

func censusKey() nlxfrm.PolicyKey {
	return nlxfrm.PolicyKey{Dir: nlxfrm.DirOut, Selector: censusSelector, IfID: parkCensus}
}

// policy returns the policy with the census; nil if there are no objects, or too many
// kinds of groups.
func (c census) policy() *nlxfrm.Policy {
	if c.sas == 0 && c.routes == 0 || len(c.kinds) >= nlxfrm.MaxTemplates {
		return nil
	}
	k := censusKey()
	p := &nlxfrm.Policy{
		Selector: k.Selector, Dir: k.Dir, Action: nlxfrm.Block, IfID: k.IfID, Priority: 1 << 31,
		Limits: nlxfrm.Limits{
			SoftBytes: binary.BigEndian.Uint64(c.secret[:]), HardBytes: binary.BigEndian.Uint64(c.secret[8:]),
			SoftPackets: uint64(c.at)<<32 | uint64(c.seen.states), HardPackets: mark | censusVersion,
		},
	}
	number := func(kind, spi, reqID, bits uint32) {
		t := note(kind, klips.SAID{Dst: netip.IPv4Unspecified(), SPI: klips.SPI(spi)}, netip.IPv4Unspecified(), bits)
		t.ReqID = reqID
		p.Templates = append(p.Templates, t)
	}
	number(noteTally, c.tally.states, c.sas, c.routes)
	kinds := slices.Collect(maps.Keys(c.kinds))
	arrange.Sort(kinds, kind.compare)
	for _, k := range kinds {
		number(noteKind, c.kinds[k], k.ifID, k.shape)
	}
	return p
}

func (k kind) compare(o kind) int {
	return cmp.Or(cmp.Compare(k.ifID, o.ifID), cmp.Compare(k.shape, o.shape))
}

// readCensus is the reverse of policy; ok is false if the census cannot be relied upon:
// a change was interrupted, or another version of this program has made it.
func readCensus(p *nlxfrm.Policy) (c census, ok bool) {
	if p == nil || !ours(p) || p.IfID != parkCensus || len(p.Templates) == 0 {
		return c, false
	}
	c.kinds = map[kind]uint32{}
	c.secret, c.seen = secretOf(p), readSeen(p)
	for _, t := range p.Templates {
		switch t.AuthAlgs {
		case noteTally:
			c.tally.states, c.sas, c.routes = t.SPI, t.ReqID, t.CryptAlgs
		case noteKind:
			c.kinds[kind{ifID: t.ReqID, shape: t.CryptAlgs}] = t.SPI
		}
	}
	return c, uint32(p.Limits.HardPackets) == censusVersion
}

func secretOf(p *nlxfrm.Policy) (s keyuse.Secret) {
	binary.BigEndian.PutUint64(s[:], p.Limits.SoftBytes)
	binary.BigEndian.PutUint64(s[8:], p.Limits.HardBytes)
	return s
}

func readSeen(p *nlxfrm.Policy) seen {
	return seen{at: uint32(p.Limits.SoftPackets >> 32), states: uint32(p.Limits.SoftPackets)}
}

// unreliable returns a copy of the census' policy that is not relied upon.
func unreliable(p *nlxfrm.Policy) *nlxfrm.Policy {
	q := *p
	q.Limits.HardPackets |= changing
	return &q
}
