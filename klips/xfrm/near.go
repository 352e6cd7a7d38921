package xfrm

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/keyuse"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// Few changes read only the objects that they are about, one by one: the groups of their
// SAs with the eroutes that name them, and their eroutes with the groups of these. The
// tables then have only these objects, and the census counts the rest.
//
// All objects are read if that is quicker, or if the few do not suffice: if the census
// is missing or incomplete, an object is missing or not as expected, or other objects
// must change too.

// errFar means that a change depends on objects that were not read.
var errFar = errors.New("the change depends on other objects")

// few is the number of the kernel's objects that are read as a whole at once, and
// perChange of how many objects reading as a whole takes as long as the look-ups of one
// change.
const (
	few       = 128
	perChange = 16
)

// readAgain is for how long no change needs to read all objects to see how many of their
// numbers other SAs have used, see [Stack.marking].
const readAgain = 10 * time.Minute

// A neighbourhood reads objects into tables.
type neighbourhood struct {
	k      kernel
	t      *tables
	o      *objects
	d      *dump
	states nlxfrm.Count                                     // in the kernel
	found  map[nlxfrm.PolicyKey]*nlxfrm.Policy              // nil: there is none
	beside map[klips.SAID]struct{ inner, outer klips.SAID } // of the SAs that were read
	absent map[klips.SAID]bool                              // SAs that do not exist
	census census
	kinds  map[nlxfrm.PolicyKey]kind // of the inbound policies before the change
}

// near begins to read. changes is how many changes there will be.
func (s *Stack) near(ctx context.Context, changes int) (*neighbourhood, error) {
	n := &neighbourhood{k: s.xfrm, t: newTables(), o: newObjects(), d: &dump{},
		found: map[nlxfrm.PolicyKey]*nlxfrm.Policy{}, beside: map[klips.SAID]struct{ inner, outer klips.SAID }{}, absent: map[klips.SAID]bool{}}
	policies, err := s.xfrm.CountPolicies(ctx)
	if err == nil {
		n.states, err = s.xfrm.CountStates(ctx)
	}
	if err != nil {
		return nil, wrapError(err, nil)
	}
	if int(policies+n.states) <= s.few+perChange*(changes-1) {
		return nil, errFar
	}
	p, err := n.look(ctx, censusKey())
	if err != nil {
		return nil, err
	}
	var ok bool
	if n.census, ok = readCensus(p); !ok {
		return nil, errFar
	}
	n.o.census = p
	n.t.near, n.t.interfaces, n.t.processors = true, s.interfaces, s.processors
	n.t.keep(n.census.secret)
	n.t.seen = n.census.seen
	if n.d.links, n.d.addrs, err = s.host(ctx); err != nil {
		return nil, &klips.OpError{Err: err}
	}
	n.t.place(n.d)
	return n, nil
}

// look returns the policy with a key, nil if there is none.
func (n *neighbourhood) look(ctx context.Context, k nlxfrm.PolicyKey) (*nlxfrm.Policy, error) {
	p, err := n.k.GetPolicy(ctx, k)
	switch {
	case errors.Is(err, syscall.ENOENT):
		return nil, nil
	case err != nil:
		return nil, wrapError(err, nil)
	case p.Key() != k: // it has another mark, which the kernel accepts
		return nil, nil
	}
	return p, nil
}

// policy returns our policy with a key, nil if there is none, and enters it into the
// objects.
func (n *neighbourhood) policy(ctx context.Context, k nlxfrm.PolicyKey) (*nlxfrm.Policy, error) {
	p, ok := n.found[k]
	if !ok {
		var err error
		if p, err = n.look(ctx, k); err != nil {
			return nil, err
		}
		n.found[k] = p
		if p != nil {
			n.d.policies = append(n.d.policies, p)
		}
		if p != nil && ours(p) {
			n.o.add(p)
			n.t.next = max(n.t.next, age(p)+1)
		}
	}
	if p == nil || !ours(p) {
		return nil, nil
	}
	return p, nil
}

// recordKey is the key of an SA's record.
func recordKey(id klips.SAID) nlxfrm.PolicyKey {
	return nlxfrm.PolicyKey{Dir: nlxfrm.DirOut, Selector: recordSelector(id), IfID: parkSAs}
}

// group reads an SA with its group.
func (n *neighbourhood) group(ctx context.Context, id klips.SAID) error {
	var read []*sa
	var further []klips.SAID
	for todo := []klips.SAID{id}; len(todo) > 0; todo = todo[1:] {
		id := todo[0]
		if id.IsMagic() || n.t.sas[id] != nil || n.absent[id] {
			continue
		}
		p, err := n.policy(ctx, recordKey(id))
		if err != nil {
			return err
		}
		if p == nil {
			n.absent[id] = true
			if p, err = n.policy(ctx, userKey(id)); err != nil {
				return err
			} else if p != nil {
				n.t.users[id] = readUsers(p)
			}
			continue
		}
		s, outer, ok := readRecord(p)
		if !ok || s.id != id {
			return errFar
		}
		if err := n.state(ctx, s); err != nil {
			return err
		}
		if u := readUsers(p); u.many || len(u.list) > 0 {
			n.t.users[id] = u
		}
		n.t.sas[id] = s
		inner := readInner(p)
		n.beside[id] = struct{ inner, outer klips.SAID }{inner, outer}
		read = append(read, s)
		if p.Limits.HardPackets&isFurther != 0 {
			further = append(further, id)
		}
		for _, other := range [...]klips.SAID{inner, outer} {
			if other != (klips.SAID{}) {
				todo = append(todo, other)
			}
		}
	}
	for _, s := range read {
		by := n.beside[s.id]
		if by.outer == (klips.SAID{}) {
			continue
		}
		o := n.t.sas[by.outer]
		if o == nil || o.inner != nil || n.beside[o.id].inner != s.id || slices.Contains(o.outwards(), s) {
			return errFar
		}
		s.outer, o.inner = o, s
	}
	for _, s := range read {
		if (s.inner == nil) != (n.beside[s.id].inner == klips.SAID{}) {
			return errFar
		}
	}
	for _, id := range further {
		if err := n.eroutes(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// state reads the state of an SA, and the SAs with the same key.
func (n *neighbourhood) state(ctx context.Context, s *sa) error {
	if s.id.Proto == klips.ProtoTun {
		return nil
	}
	st, err := readState(ctx, n.k, s.id)
	switch {
	case errors.Is(err, syscall.ESRCH):
		return errFar // it has expired, or another program has removed it
	case err != nil:
		return wrapError(err, nil)
	}
	n.d.states = append(n.d.states, st)
	s.state, n.o.states[st.ID] = st, st
	s.tag = n.t.tag(st)
	return n.key(ctx, s.tag)
}

// key reads the SAs with a key.
func (n *neighbourhood) key(ctx context.Context, t keyuse.Tag) error {
	if t == (keyuse.Tag{}) {
		return nil
	}
	k := keyKey(t)
	if _, ok := n.found[k]; ok {
		return nil
	}
	p, err := n.policy(ctx, k)
	if p == nil || err != nil {
		return err
	}
	l, ok := readKeyUsers(p)
	if !ok {
		return errFar
	}
	for _, u := range l {
		n.t.keys.Add(t, u.ID, u.Dir)
		n.t.own.Add(t, u.ID, u.Dir)
	}
	return nil
}

// foreignKeys returns errFar if other programs can have states, and so keys: if there
// are not as many states as in the census. It does not notice a program that has removed
// as many of our states as it has added.
func (n *neighbourhood) foreignKeys() error {
	if int(n.states) != int(n.census.tally.states) {
		return errFar
	}
	return nil
}

// eroute reads an eroute with its targets.
func (n *neighbourhood) eroute(ctx context.Context, sel klips.Selector) error {
	if n.t.routes[sel] != nil {
		return nil
	}
	for _, id := range append(n.t.ifIDs(), parkRoutes, 0) {
		p, err := n.policy(ctx, nlxfrm.PolicyKey{Dir: nlxfrm.DirOut, Selector: selectorOf(sel), IfID: id})
		if err != nil {
			return err
		}
		if p != nil && n.t.routes[sel] == nil {
			n.t.routes[sel] = readRoute(p)
		}
	}
	r := n.t.routes[sel]
	if r == nil {
		return nil
	}
	if r.also > 0 {
		p, err := n.policy(ctx, alsoKey(sel))
		if err != nil {
			return err
		}
		r.take(p)
	}
	return n.targets(ctx, &r.Eroute)
}

// targets reads the group of an eroute's SA. If it has further SAs, it reads theirs too, and all
// eroutes that name one of them.
func (n *neighbourhood) targets(ctx context.Context, e *klips.Eroute) error {
	for _, id := range e.SAIDs() {
		if err := n.group(ctx, id); err != nil {
			return err
		}
	}
	if len(e.Also) == 0 {
		return nil
	}
	for _, id := range e.SAIDs() {
		if err := n.eroutes(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// eroutes reads the eroutes of all SAs of a group, or of a missing SA.
func (n *neighbourhood) eroutes(ctx context.Context, id klips.SAID) error {
	ids := []klips.SAID{id}
	if s := n.t.sas[id]; s != nil {
		ids = ids[:0]
		for _, m := range s.group() {
			ids = append(ids, m.id)
		}
	}
	for _, id := range ids {
		u := n.t.users[id]
		if u.many {
			return errFar
		}
		for _, sel := range u.list {
			if !sel.Src.IsValid() || !sel.Dst.IsValid() {
				return errFar
			}
			if err := n.eroute(ctx, sel); err != nil {
				return err
			}
			if r := n.t.routes[sel]; r == nil || !slices.Contains(r.SAIDs(), id) {
				return errFar
			}
		}
	}
	return nil
}

// about reads what a change is about. It returns errFar for a change of all objects.
func (n *neighbourhood) about(ctx context.Context, ch change) error {
	var whole []klips.SAID // their groups change
	switch c := ch.of.(type) {
	case klips.AddSA:
		whole = []klips.SAID{c.ID}
		if ch.made == nil || ch.made.state == nil || ch.made.state.AEAD == nil {
			break
		}
		if err := n.key(ctx, n.t.tag(ch.made.state)); err != nil {
			return err
		}
		if !c.ReuseKey {
			if err := n.foreignKeys(); err != nil {
				return err
			}
		}
	case klips.DeleteSA:
		whole = []klips.SAID{c.ID}
	case klips.Group:
		whole = c.IDs
	case klips.Ungroup:
		whole = []klips.SAID{c.ID}
	case klips.SetPolicy:
		whole = []klips.SAID{c.ID}
	case klips.SetEroute:
		if err := n.eroute(ctx, c.Selector); err != nil {
			return err
		}
		return n.targets(ctx, &c.Eroute)
	case klips.DeleteEroute:
		return n.eroute(ctx, c.Selector)
	default:
		return errFar
	}
	for _, id := range whole {
		if err := n.group(ctx, id); err != nil {
			return err
		}
		if err := n.eroutes(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// count compares the objects that were read with the census, and counts the rest.
func (n *neighbourhood) count(ctx context.Context) error {
	before, err := n.t.compile()
	if err != nil {
		return errFar
	}
	var ok bool
	if n.t.rest, ok = n.census.minus(before.tally); !ok {
		return errFar
	}
	// Now with the numbers of the rest, on which policies depend.
	if before, err = n.t.compile(); err != nil {
		return errFar
	}
	n.o.tally, n.kinds = before.tally, before.kinds
	return n.complete(ctx, before)
}

// gone returns errFar if states have gone since all were read: they may be ours, and the
// next change removes SAs without their state.
func (n *neighbourhood) gone() error {
	if int(n.states) < int(n.census.tally.states)+int(n.census.seen.states) {
		return errFar
	}
	return nil
}

// marksDue returns errFar if it is time to look at the numbers of all SAs.
func (n *neighbourhood) marksDue(now time.Time) error {
	if d := now.Unix() - int64(n.census.at); d < 0 || d > int64(readAgain/time.Second) {
		return errFar
	}
	return nil
}

// complete reads the policies that are in the kernel of those in a set of objects.
func (n *neighbourhood) complete(ctx context.Context, o *objects) error {
	for _, k := range o.order {
		if _, err := n.policy(ctx, k); err != nil {
			return err
		}
	}
	return nil
}

// keep adds the policies to the wanted ones that groups which were not read need.
func (n *neighbourhood) keep(want *objects) {
	for k, of := range n.kinds {
		if h := n.o.policies[k]; h != nil && want.policies[k] == nil && n.t.rest.kinds[of] > 0 {
			want.add(h)
		}
	}
}

// place enters the host's devices and addresses.
func (t *tables) place(d *dump) {
	t.devices, t.links = attached(d.links), d.links
	t.local = map[netip.Addr]int{}
	for _, a := range d.addrs {
		t.local[a.Prefix.Addr()] = a.Index
	}
}

// ReadGroup returns the SAs of one group, in processing order.
func (s *Stack) ReadGroup(ctx context.Context, id klips.SAID) ([]klips.SA, error) {
	l, err := s.nearGroup(ctx, id)
	if errors.Is(err, errFar) {
		var all []klips.SA
		if all, err = s.SAs(ctx); err == nil {
			return klips.NewGroups(all).Of(id)
		}
	}
	return l, about(err, "get SA", id.String())
}

// nearGroup is ReadGroup without a dump.
func (s *Stack) nearGroup(ctx context.Context, id klips.SAID) ([]klips.SA, error) {
	n, err := s.near(ctx, 1)
	if err != nil {
		return nil, err
	}
	defer n.d.clear()
	if err := n.group(ctx, id); err != nil {
		return nil, err
	}
	if n.t.sas[id] == nil {
		return nil, refuse("", "", syscall.ESRCH, "")
	}
	var l []klips.SA
	now := time.Now()
	group := n.t.sas[id].group()
	if group[0].dir == klips.Inbound {
		slices.Reverse(group)
	}
	for _, m := range group {
		if m.state != nil && m.state.AEAD != nil {
			if err := n.foreignKeys(); err != nil {
				return nil, err
			}
		}
		l = append(l, n.t.list(m, now))
	}
	return l, nil
}
