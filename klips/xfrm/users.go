package xfrm

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/internal/arrange"
	"github.com/klips-go/ipsec/klips/keyuse"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// The kernel finds a policy only by its selector. These policies, which match no packet,
// show by whom an SA or a key is used.
const (
	parkUsers uint32 = 0x4b4c4953 // eroutes of an SA that does not exist
	parkKeys  uint32 = 0x4b4c4954 // SAs with a key
)

// Kinds of notes about users.
const (
	noteRoute = 32 + iota
	noteSA
)

// isMany in the low half of the hard packet limit: there are more users than noted, and
// none is.
const isMany = 8

// maxRoutes is the number of eroutes that the record of an SA can note.
const maxRoutes = 2

// users are the selectors of the eroutes that name an SA.
type users struct {
	list []klips.Selector
	many bool // the list is incomplete
}

// use notes that an eroute names its SAs, which need not exist.
func (t *tables) use(r *route) {
	for _, id := range r.SAIDs() {
		if id.IsMagic() {
			continue
		}
		u := t.users[id]
		u.list = append(u.list, r.Selector)
		t.users[id] = u
	}
}

// disuse notes that an eroute does not name its SAs any more.
func (t *tables) disuse(r *route) {
	for _, id := range r.SAIDs() {
		u, ok := t.users[id]
		if !ok {
			continue
		}
		u.list = slices.DeleteFunc(u.list, func(o klips.Selector) bool { return o == r.Selector })
		if t.users[id] = u; len(u.list) == 0 && !u.many {
			delete(t.users, id)
		}
	}
}

// note adds the users to a policy.
func (u users) note(p *nlxfrm.Policy) {
	if u.many || len(u.list) > maxRoutes {
		p.Limits.HardPackets |= isMany
		return
	}
	l := slices.Clone(u.list)
	arrange.Sort(l, klips.CompareSelectors)
	for _, s := range l {
		p.Templates = append(p.Templates, noteSelector(noteRoute, s))
	}
}

// readUsers is the reverse of note.
func readUsers(p *nlxfrm.Policy) (u users) {
	u.many = p.Limits.HardPackets&isMany != 0
	for i := range p.Templates {
		if t := &p.Templates[i]; t.AuthAlgs == noteRoute {
			u.list = append(u.list, readSelector(t))
		}
	}
	return u
}

// userKey is the key of the policy that notes the eroutes of a missing SA.
func userKey(id klips.SAID) nlxfrm.PolicyKey {
	return nlxfrm.PolicyKey{Dir: nlxfrm.DirOut, Selector: recordSelector(id), IfID: parkUsers}
}

// parked returns a policy that matches no packet.
func parked(k nlxfrm.PolicyKey) *nlxfrm.Policy {
	return &nlxfrm.Policy{Selector: k.Selector, Dir: k.Dir, Action: nlxfrm.Block, IfID: k.IfID, Priority: 1 << 31, Limits: nlxfrm.Limits{HardPackets: mark}}
}

// compileUsers makes the policies that note users: eroutes of SAs that do not exist, and
// SAs with keys of combined modes.
func (t *tables) compileUsers(o *objects) {
	for id, u := range t.users {
		if t.sas[id] == nil {
			p := parked(userKey(id))
			u.note(p)
			o.add(p)
		}
	}
	for tag, l := range t.own.All() {
		p := parked(keyKey(tag))
		if len(l) > nlxfrm.MaxTemplates {
			p.Limits.HardPackets |= isMany
			l = nil
		}
		for _, u := range l {
			p.Templates = append(p.Templates, note(noteSA, u.ID, netip.Addr{}, uint32(u.Dir)))
		}
		o.add(p)
	}
}

// keyKey is the key of the policy that notes the SAs with a tag, of which it contains 96
// bits.
func keyKey(t keyuse.Tag) nlxfrm.PolicyKey {
	return nlxfrm.PolicyKey{Dir: nlxfrm.DirOut, IfID: parkKeys, Selector: normal(nlxfrm.Selector{
		Dst: host(netip.AddrFrom4([4]byte(t[:4]))), Src: host(netip.AddrFrom4([4]byte(t[4:8]))),
		SrcPort: binary.BigEndian.Uint16(t[8:]), SrcPortMask: exact,
		DstPort: binary.BigEndian.Uint16(t[10:]), DstPortMask: exact,
	})}
}

// readKeyUsers returns the SAs with a key; ok is false if they are not noted.
func readKeyUsers(p *nlxfrm.Policy) (l []keyuse.User, ok bool) {
	for _, t := range p.Templates {
		if t.AuthAlgs == noteSA {
			l = append(l, keyuse.User{ID: readSAID(&t), Dir: klips.Direction(t.CryptAlgs)})
		}
	}
	return l, p.Limits.HardPackets&isMany == 0
}
