package kernel

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/klips-go/ipsec/klips"
)

// links are the SAs as the tables show them: which one follows which, in
// processing order. KLIPS keeps a follower of each SA, and a count of references
// to it. It takes a second SA with the same follower. It frees an SA while others
// still point at it, when the SA's count is used up: taking a group apart lowers
// the count of each SA behind the one that is named, although making the group
// has not raised it.
type links struct {
	sas      map[klips.SAID]klips.SA
	next     map[klips.SAID]klips.SAID   // of an SA with a follower
	before   map[klips.SAID][]klips.SAID // the SAs that an SA follows
	dangling map[klips.SAID]bool         // an SA whose follower KLIPS has freed
	refs     map[klips.SAID]int          // KLIPS of old shows none, and loses none
}

func newLinks(sas []klips.SA) *links {
	l := &links{
		sas:      make(map[klips.SAID]klips.SA, len(sas)),
		next:     map[klips.SAID]klips.SAID{},
		before:   map[klips.SAID][]klips.SAID{},
		dangling: map[klips.SAID]bool{},
		refs:     map[klips.SAID]int{},
	}
	for _, sa := range sas {
		l.sas[sa.ID] = sa
		switch {
		case len(sa.Next) == 0:
		case sa.Next[0].Dst.IsValid():
			l.join(sa.ID, sa.Next[0])
		default:
			l.dangling[sa.ID] = true
		}
		if sa.RefCount > 0 {
			l.refs[sa.ID] = sa.RefCount
		}
	}
	return l
}

// readLinks reads the tables of SAs and groups.
func (s *Stack) readLinks(ctx context.Context) (*links, error) {
	sas, err := s.SAs(ctx)
	if err != nil {
		return nil, err
	}
	return newLinks(sas), nil
}

// readGroups reads the table of groups alone, which is short: the links have
// neither directions nor counts.
func (s *Stack) readGroups() (*links, error) {
	lines, err := s.groups()
	if err != nil {
		return nil, err
	}
	sas := make([]klips.SA, len(lines))
	for i, l := range lines {
		sas[i] = klips.SA{ID: l[0], Next: l[1:]}
	}
	return newLinks(sas), nil
}

// join makes second follow first.
func (l *links) join(first, second klips.SAID) {
	l.next[first] = second
	l.before[second] = append(l.before[second], first)
}

// part takes the follower of an SA away.
func (l *links) part(first klips.SAID) {
	second, ok := l.next[first]
	if !ok {
		return
	}
	delete(l.next, first)
	l.before[second] = slices.DeleteFunc(l.before[second], func(id klips.SAID) bool { return id == first })
}

// inbound reports whether an SA is an inbound one.
func (l *links) inbound(id klips.SAID) bool { return l.sas[id].Dir == klips.Inbound }

// has reports whether there is an SA.
func (l *links) has(id klips.SAID) bool {
	_, ok := l.sas[id]
	return ok
}

// order returns a pair as it is processed, from the order in which commands name
// it. The direction of the outer SA decides.
func (l *links) order(inner, outer klips.SAID) (first, second klips.SAID) {
	if l.inbound(outer) {
		return outer, inner
	}
	return inner, outer
}

// named is the reverse of order.
func (l *links) named(first, second klips.SAID) (inner, outer klips.SAID) {
	if l.inbound(first) {
		return second, first
	}
	return first, second
}

// missing returns those of the SAs that are not there.
func (l *links) missing(ids []klips.SAID) (m []klips.SAID) {
	for _, id := range ids {
		if !l.has(id) {
			m = append(m, id)
		}
	}
	return m
}

// behind returns what follows an SA, up to the end. No chain of links is longer
// than there are links, whatever a kernel shows.
func (l *links) behind(id klips.SAID) (behind []klips.SAID) {
	for next, ok := l.next[id]; ok && len(behind) < len(l.next); next, ok = l.next[next] {
		behind = append(behind, next)
	}
	return behind
}

// group returns all SAs that are linked with an SA, in any order.
func (l *links) group(id klips.SAID) []klips.SAID {
	group := []klips.SAID{id}
	for i := 0; i < len(group); i++ {
		linked := slices.Clone(l.before[group[i]])
		if next, ok := l.next[group[i]]; ok {
			linked = append(linked, next)
		}
		for _, n := range linked {
			if !slices.Contains(group, n) {
				group = append(group, n)
			}
		}
	}
	return group
}

// heads returns the SAs of a group that follow no other, sorted: one, or several
// where SAs share a follower, or none of a loop.
func (l *links) heads(group []klips.SAID) (heads []klips.SAID) {
	for _, id := range group {
		if len(l.before[id]) == 0 {
			heads = append(heads, id)
		}
	}
	slices.SortFunc(heads, func(a, b klips.SAID) int { return strings.Compare(a.String(), b.String()) })
	return heads
}

// broken returns why KLIPS must not walk along a group, as it does to remove the
// group or to take it apart: it would use what it has freed, or never end. It
// returns "" where it may. No command of this program makes such a group; one of
// the classic tools can, and so can the end of an SA's lifetime.
func (l *links) broken(group []klips.SAID) string {
	for _, id := range group {
		if l.dangling[id] {
			return fmt.Sprintf("KLIPS has freed the SA that follows %v, and could hang; remove the eroutes to this group, and restart the machine", id)
		}
	}
	if len(l.heads(group)) == 0 {
		return "KLIPS has made a loop of the group, and could hang; remove the eroutes to it, and restart the machine"
	}
	return ""
}

// shared returns why KLIPS must not remove a group: what broken returns, or that
// two SAs share a follower. It would free that one with the first of them, and
// the other would go on pointing at it.
func (l *links) shared(group []klips.SAID) string {
	if why := l.broken(group); why != "" {
		return why
	}
	if heads := l.heads(group); len(heads) > 1 {
		return fmt.Sprintf("the groups of %v and %v share an SA, and KLIPS would leave one of them with an SA that is freed; take the groups apart first", heads[0], heads[1])
	}
	return ""
}

// cut changes the links as KLIPS does when it takes a group apart by an SA: this
// one and all behind it lose their followers, and all behind it a reference. It
// returns the first SA that is freed so, if one is.
func (l *links) cut(id klips.SAID) (lost klips.SAID, frees bool) {
	behind := l.behind(id)
	l.part(id)
	for _, b := range behind {
		l.part(b)
		refs, counted := l.refs[b]
		if !counted {
			continue
		}
		if l.refs[b] = refs - 1; refs <= 1 && !frees {
			lost, frees = b, true
		}
	}
	return lost, frees
}
