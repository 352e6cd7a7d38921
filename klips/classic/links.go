package classic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/internal/arrange"
	"github.com/klips-go/ipsec/klips/procfs"
)

// links are the SAs in the tables, with their followers in processing order.
//
// KLIPS keeps a follower of each SA, and a reference count. It accepts a second SA with
// the same follower. It frees an SA when its count reaches zero, even while others
// point at it. Taking a group apart lowers the count of each SA behind the named one,
// although making the group has not raised it.
type links struct {
	next     map[klips.SAID]klips.SAID   // of an SA with a follower
	before   map[klips.SAID][]klips.SAID // the SAs that an SA follows
	dangling map[klips.SAID]bool         // an SA whose follower KLIPS has freed
	inbound  map[klips.SAID]bool         // of an existing SA: its direction
	refs     map[klips.SAID]int          // old versions of KLIPS show none, and lose none
	unsure   map[klips.SAID]bool         // an SA with a line in only one of the tables
	unread   []klips.UnreadLine          // of ipsec_spigrp
}

// readGroups reads only ipsec_spigrp, which is short: the links have neither directions
// nor counts.
func (s *Stack) readGroups(ctx context.Context) (*links, error) {
	b, err := s.Table(ctx, "ipsec_spigrp")
	if err != nil {
		return nil, err
	}
	lines, err := procfs.ParseSPIGrp(bytes.NewReader(b))
	l := &links{
		next:     map[klips.SAID]klips.SAID{},
		before:   map[klips.SAID][]klips.SAID{},
		dangling: map[klips.SAID]bool{},
		inbound:  make(map[klips.SAID]bool, len(lines)),
		refs:     map[klips.SAID]int{},
		unsure:   map[klips.SAID]bool{},
	}
	var unread *procfs.UnreadError
	if errors.As(err, &unread) {
		l.unread = unread.Lines
	} else if err != nil {
		return nil, err
	}
	for _, line := range lines {
		l.inbound[line[0]] = false
		switch {
		case len(line) == 1:
		case line[1].Dst.IsValid():
			l.join(line[0], line[1])
		default:
			l.dangling[line[0]] = true
		}
	}
	return l, nil
}

// readLinks also reads ipsec_spi.
func (s *Stack) readLinks(ctx context.Context) (*links, error) {
	l, err := s.readGroups(ctx)
	if err != nil {
		return nil, err
	}
	sas, err := parse(s, "ipsec_spi", procfs.ParseSPI)
	if err != nil {
		return nil, err
	}
	for id := range l.inbound {
		l.unsure[id] = true
	}
	for _, sa := range sas {
		l.unsure[sa.ID] = !l.has(sa.ID)
		l.inbound[sa.ID] = sa.Dir == klips.Inbound
		if sa.RefCount > 0 {
			l.refs[sa.ID] = sa.RefCount
		}
	}
	return l, nil
}

// unknown returns why the links of SAs are unknown, "" if they are known: a line about
// one of them cannot be parsed.
func (l *links) unknown(ids []klips.SAID) string {
	for _, id := range ids {
		odd := l.unsure[id]
		for _, u := range l.unread {
			odd = odd || slices.Contains(strings.Fields(u.Text), id.String())
		}
		if odd {
			return fmt.Sprintf("a line about %v in the tables of KLIPS cannot be read, so that it is not known what it is linked to (ipsec_spi, ipsec_spigrp)", id)
		}
	}
	return ""
}

// join makes second follow first.
func (l *links) join(first, second klips.SAID) {
	l.next[first] = second
	l.before[second] = append(l.before[second], first)
}

// part removes the follower of an SA.
func (l *links) part(first klips.SAID) {
	second, ok := l.next[first]
	if !ok {
		return
	}
	delete(l.next, first)
	l.before[second] = slices.DeleteFunc(l.before[second], func(id klips.SAID) bool { return id == first })
}

// has reports whether an SA exists.
func (l *links) has(id klips.SAID) bool {
	_, ok := l.inbound[id]
	return ok
}

// order returns a pair in processing order, given the order in which commands name it.
// The direction of the outer SA decides.
func (l *links) order(inner, outer klips.SAID) (first, second klips.SAID) {
	if l.inbound[outer] {
		return outer, inner
	}
	return inner, outer
}

// named is the reverse of order.
func (l *links) named(first, second klips.SAID) (inner, outer klips.SAID) {
	if l.inbound[first] {
		return second, first
	}
	return first, second
}

// missing returns those of the SAs that do not exist.
func (l *links) missing(ids []klips.SAID) (m []klips.SAID) {
	for _, id := range ids {
		if !l.has(id) {
			m = append(m, id)
		}
	}
	return m
}

// behind returns the followers of an SA, up to the end. It stops after as many steps as
// there are links, in case a kernel shows a loop.
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
// where SAs share a follower.
func (l *links) heads(group []klips.SAID) (heads []klips.SAID) {
	for _, id := range group {
		if len(l.before[id]) == 0 {
			heads = append(heads, id)
		}
	}
	arrange.Sort(heads, func(a, b klips.SAID) int { return strings.Compare(a.String(), b.String()) })
	return heads
}

// broken returns why KLIPS must not walk along a group, as it does to remove the group
// or to take it apart: it would use freed memory, or never end. It returns "" if it
// may. Commands of this program never make such a group; the classic tools can, and so
// can the end of an SA's lifetime.
func (l *links) broken(group []klips.SAID) string {
	if why := l.unknown(group); why != "" {
		return why
	}
	for _, f := range l.faults(group) {
		switch f.Kind {
		case klips.LinkFreed:
			return fmt.Sprintf("KLIPS has freed the SA that follows %v, and could hang; remove the eroutes to this group, and restart the machine", f.SA)
		case klips.LinkLoop:
			return "KLIPS has made a loop of the group, and could hang; remove the eroutes to it, and restart the machine"
		}
	}
	return ""
}

// shared returns why KLIPS must not remove a group: the result of broken, or that two
// SAs share a follower. It would free the follower with the first of them, and the
// other would point at freed memory.
func (l *links) shared(group []klips.SAID) string {
	if why := l.broken(group); why != "" {
		return why
	}
	if f := l.faults(group); len(f) > 0 { // of the remaining kind
		return fmt.Sprintf("the groups of %v and %v share an SA, and KLIPS would leave one of them with an SA that is freed; take the groups apart first", f[0].Other, f[0].SA)
	}
	return ""
}

// faults returns the faults in the links of a group.
func (l *links) faults(group []klips.SAID) []klips.LinkFault {
	sas := make([]klips.SA, len(group))
	for i, id := range group {
		sas[i] = klips.SA{ID: id, Next: l.behind(id)}
		if l.dangling[id] {
			sas[i].Next = []klips.SAID{{}}
		}
	}
	return klips.CheckLinks(sas)
}

// cut changes the links as KLIPS does when it takes a group apart through an SA: this
// SA and all behind it lose their followers, and all behind it lose a reference. It
// returns the first SA that is freed, if one is.
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
