package xfrm

import (
	"net/netip"
	"slices"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/keyuse"
	"github.com/klips-go/ipsec/klips/rtnl"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// tables are the SAs, eroutes and devices in KLIPS' terms.
type tables struct {
	sas    map[klips.SAID]*sa
	routes map[klips.Selector]*route
	// devices are the attached ones, by number.
	devices []device
	// interfaces reports whether the kernel has xfrm interfaces.
	interfaces func() bool
	// processors returns how many processors states can be bound to; 0: none.
	processors func() int
	// local maps the host's addresses to their devices, by index.
	local map[netip.Addr]int
	// links are the host's devices.
	links []rtnl.Link
	// next is the age of the next new SA or eroute.
	next uint32
	// keys are those of all states, including other programs'; own are those of our SAs.
	keys, own *keyuse.Index
	// users are the eroutes of SAs, including those of missing SAs.
	users map[klips.SAID]users
	// rest counts the objects that were not read; near: there can be some.
	rest tally
	near bool
	seen seen
}

// A device is an attached virtual device.
type device struct {
	number   int
	ifID     uint32
	physical int // index
}

// An sa is an SA with its place in a group. Neighbours are named as in commands, in
// whichever direction packets go through them.
type sa struct {
	id         klips.SAID
	src        netip.Addr
	dir        klips.Direction
	ref        uint32 // 0: the age is used
	refHim     uint32
	outIf      uint16
	offload    string // the device for offload; addSA puts it into the state
	copyTOS    bool
	window     uint32 // of a state that is bound to a processor, see processors.go
	soft, hard uint32 // limits of allocations
	added      uint64 // seconds since 1970
	policy     *klips.InboundPolicy
	age        uint32 // ascends

	inner, outer *sa

	// state is the kernel's, or the new one; nil for tun SAs.
	state *nlxfrm.State

	made bool // it is new; then these are as in klips.SASpec:

	reuseKey       bool
	seq, replaySeq *uint64

	tag keyuse.Tag // of the key, see tables.keys
}

// A route is an eroute with its age.
type route struct {
	klips.Eroute
	age  uint32
	also int // how many further SAs it has, as its policy names them
}

func newTables() *tables {
	t := &tables{sas: map[klips.SAID]*sa{}, routes: map[klips.Selector]*route{}, next: 1, users: map[klips.SAID]users{}, rest: newTally(), processors: func() int { return 0 }}
	t.keep(keyuse.New().Secret())
	return t
}

// keep makes empty indexes of keys with a secret.
func (t *tables) keep(s keyuse.Secret) { t.keys, t.own = keyuse.With(s), keyuse.With(s) }

func refuse(op, object string, err syscall.Errno, reason string) error {
	return &klips.OpError{Op: op, Object: object, Err: err, Reason: reason}
}

// fault is the error of something that the kernel cannot do.
func fault(op string, id klips.SAID, f klips.Fault, reason string) error {
	return &klips.OpError{Op: op, Object: id.String(), Err: syscall.EOPNOTSUPP, Fault: f, Reason: reason}
}

func (t *tables) age() uint32 {
	t.next++
	return t.next - 1
}

// addSA adds a new SA.
func (t *tables) addSA(s *sa) error {
	if t.sas[s.id] != nil {
		return refuse("add SA", s.id.String(), syscall.EEXIST, "")
	}
	s.dir = t.direction(s.id.Dst, s.src)
	if err := t.takeKey(s); err != nil {
		return err
	}
	if s.offload != "" {
		i := slices.IndexFunc(t.links, func(l rtnl.Link) bool { return l.Name == s.offload })
		if i < 0 {
			return fault("add SA", s.id, klips.FaultOffloadDevice, "there is no network device "+s.offload)
		}
		st := *s.state
		st.Offload = &nlxfrm.Offload{IfIndex: int32(t.links[i].Index)}
		if s.dir == klips.Inbound {
			st.Offload.Flags = nlxfrm.OffloadInbound
		}
		s.state = &st
	}
	s.age = t.age()
	t.sas[s.id] = s
	t.keys.Add(s.tag, s.id, s.dir)
	t.own.Add(s.tag, s.id, s.dir)
	return nil
}

// direction returns the direction of an SA with this destination and source.
func (t *tables) direction(dst, src netip.Addr) klips.Direction {
	return klips.DirectionOf(dst, src, func(a netip.Addr) bool {
		_, local := t.local[a]
		return local || a.IsLoopback()
	})
}

// first returns the innermost SA of a group.
func (s *sa) first() *sa {
	for s.inner != nil {
		s = s.inner
	}
	return s
}

// group returns the whole group of an SA, inner to outer.
func (s *sa) group() []*sa { return s.first().outwards() }

// outwards returns an SA and those outside it.
func (s *sa) outwards() (l []*sa) {
	for ; s != nil; s = s.outer {
		l = append(l, s)
	}
	return l
}

// next returns the SAs that follow in processing order.
func (s *sa) next() (l []klips.SAID) {
	step := func(s *sa) *sa { return s.outer }
	if s.dir == klips.Inbound {
		step = func(s *sa) *sa { return s.inner }
	}
	for n := step(s); n != nil; n = step(n) {
		l = append(l, n.id)
	}
	return l
}

// remove removes an SA and its group.
func (t *tables) remove(s *sa) {
	for _, m := range s.group() {
		delete(t.sas, m.id)
		t.keys.Remove(m.tag, m.id)
		t.own.Remove(m.tag, m.id)
	}
}

// clearSAs removes all SAs.
func (t *tables) clearSAs() {
	for id, s := range t.sas {
		delete(t.sas, id)
		t.keys.Remove(s.tag, id)
	}
	t.own.Clear()
}

func (t *tables) deleteSA(id klips.SAID) error {
	s := t.sas[id]
	if s == nil {
		return refuse("delete SA", id.String(), syscall.ESRCH, "")
	}
	t.remove(s)
	return nil
}

func (t *tables) group(ids []klips.SAID) error {
	if len(ids) < 2 || len(ids) > klips.MaxGroup {
		return refuse("group", "", syscall.EINVAL, "")
	}
	for i := 1; i < len(ids); i++ {
		if err := t.link(ids[i-1], ids[i]); err != nil {
			for i--; i > 0; i-- {
				t.sas[ids[i-1]].outer, t.sas[ids[i]].inner = nil, nil
			}
			return err
		}
	}
	return nil
}

func (t *tables) link(inner, outer klips.SAID) error {
	a, b := t.sas[inner], t.sas[outer]
	switch {
	case a == nil:
		return refuse("group", inner.String(), syscall.ENOENT, "")
	case b == nil:
		return refuse("group", outer.String(), syscall.ENOENT, "")
	case a.dir != b.dir:
		return inexpressible(b.id, "this kernel cannot group an inbound with an outbound SA")
	}
	// The SA at fault is the one that has such a neighbour already. If both have one,
	// it is the first in processing order. If neither has one, the link would close a
	// loop.
	first, second := a, b
	firstTaken, secondTaken := a.outer != nil, b.inner != nil
	if b.dir == klips.Inbound {
		first, second, firstTaken, secondTaken = b, a, secondTaken, firstTaken
	}
	switch {
	case firstTaken:
		return refuse("group", first.id.String(), syscall.EEXIST, "")
	case secondTaken || slices.Contains(b.outwards(), a):
		return refuse("group", second.id.String(), syscall.EEXIST, "")
	}
	a.outer, b.inner = b, a
	return nil
}

func (t *tables) ungroup(id klips.SAID) error {
	s := t.sas[id]
	if s == nil {
		return refuse("ungroup", id.String(), syscall.ENOENT, "")
	}
	for _, m := range s.group() {
		m.inner, m.outer = nil, nil
	}
	return nil
}

func (t *tables) setEroute(e klips.Eroute, op klips.ErouteOp) error {
	verb := "add eroute"
	switch op {
	case klips.ErouteAddIn, klips.ErouteReplaceIn:
		return t.setPolicy(e)
	case klips.ErouteReplace:
		verb = "replace eroute"
	case klips.ErouteAdd:
		if t.routes[e.Selector] != nil {
			return refuse(verb, e.Selector.String(), syscall.EEXIST, "")
		}
	}
	if err := t.checkAlso(verb, &e); err != nil {
		return err
	}
	if s := t.sas[e.ID]; s != nil && e.ID.Proto == klips.ProtoTun && s.outer == nil {
		return refuse(verb, e.ID.String(), syscall.EOPNOTSUPP,
			"XFRM cannot use a tun SA by itself: group it with an esp or ah SA first, or use stack user")
	}
	r := &route{Eroute: e}
	r.Also = slices.Clone(e.Also)
	if old := t.routes[e.Selector]; old != nil {
		r.age = old.age
		t.disuse(old)
	} else {
		r.age = t.age()
	}
	r.Packets = 0
	t.routes[e.Selector] = r
	t.use(r)
	return nil
}

func (t *tables) setPolicy(e klips.Eroute) error {
	s := t.sas[e.ID]
	if s == nil {
		return refuse("set inbound policy", e.ID.String(), syscall.ENOENT, "")
	}
	owner := s // the first tun SA, or the last SA
	for _, id := range append([]klips.SAID{s.id}, s.next()...) {
		if owner = t.sas[id]; id.Proto == klips.ProtoTun {
			break
		}
	}
	if owner.id.Proto != klips.ProtoTun && owner.id.Dst.Is6() != e.Is6() {
		return refuse("set inbound policy", owner.id.String(), syscall.EINVAL, "")
	}
	owner.policy = &e.Selector
	return nil
}

func (t *tables) deleteEroute(s klips.Selector) error {
	r := t.routes[s]
	if r == nil {
		return refuse("delete eroute", s.String(), syscall.ENOENT, "")
	}
	t.disuse(r)
	delete(t.routes, s)
	return nil
}

// clearEroutes removes all eroutes.
func (t *tables) clearEroutes() {
	clear(t.routes)
	clear(t.users)
}

// offloadOf returns the device that an SA is offloaded to.
func (t *tables) offloadOf(s *sa) string {
	if s.state == nil || s.state.Offload == nil {
		return ""
	}
	for _, l := range t.links {
		if l.Index == int(s.state.Offload.IfIndex) {
			return l.Name
		}
	}
	return "?"
}
