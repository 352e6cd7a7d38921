package kernel

import (
	"context"
	"errors"
	"slices"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// Group links SAs, one message (X_GRPSA) a pair. What the tables show that KLIPS
// would refuse is refused before the first message: links can only be taken back
// with the whole group that they are in. When KLIPS refuses a pair all the same,
// the links that were made before are taken back.
func (s *Stack) Group(ctx context.Context, ids []klips.SAID) error {
	if len(ids) < 2 || len(ids) > klips.MaxGroup {
		return groupError("", syscall.EINVAL)
	}
	if l, err := s.readLinks(ctx); err == nil {
		if err := l.check(ids); err != nil {
			return err
		}
	}
	for i := 1; i < len(ids); i++ {
		if err := s.link(ctx, ids[i-1], ids[i]); err != nil {
			var oe *klips.OpError
			if i > 1 && errors.As(err, &oe) {
				if uerr := s.unlink(ctx, ids[:i]); uerr != nil {
					oe.Detail = "the links made before could not be taken back: " + uerr.Error()
				}
			}
			return err
		}
	}
	return nil
}

func groupError(object string, err syscall.Errno) error {
	return &klips.OpError{Op: "group", Object: object, Err: err}
}

// link links two SAs. The error names the one at fault where the tables show it,
// else both.
func (s *Stack) link(ctx context.Context, a, b klips.SAID) error {
	err := s.Asker(ctx, "group", a.String()+" "+b.String(), pfkey.GroupPair(a, b))
	var oe *klips.OpError
	if !errors.As(err, &oe) {
		return err
	}
	l, lerr := s.readLinks(ctx)
	if lerr != nil {
		return err
	}
	first, second := l.order(a, b)
	switch missing := l.missing([]klips.SAID{a, b}); {
	case errors.Is(err, syscall.ENOENT) && missing != nil:
		oe.Object = missing[0].String()
	case !errors.Is(err, syscall.EEXIST):
	case l.next[first] != (klips.SAID{}):
		oe.Object = first.String()
	case l.follows(second):
		oe.Object = second.String()
	}
	return err
}

// links are the SAs of the tables: how they follow each other in processing
// order, and which are inbound.
type links struct {
	next    map[klips.SAID]klips.SAID // the zero SAID at the end of a group
	inbound map[klips.SAID]bool
}

func (s *Stack) readLinks(ctx context.Context) (l links, err error) {
	sas, err := s.SAs(ctx)
	if err != nil {
		return l, err
	}
	l = links{make(map[klips.SAID]klips.SAID, len(sas)), map[klips.SAID]bool{}}
	for _, sa := range sas {
		l.next[sa.ID] = klips.SAID{}
		if len(sa.Next) > 0 {
			l.next[sa.ID] = sa.Next[0]
		}
		l.inbound[sa.ID] = sa.Dir == klips.Inbound
	}
	return l, nil
}

// order returns two SAs in processing order, which the direction of the outer one
// decides.
func (l links) order(inner, outer klips.SAID) (first, second klips.SAID) {
	if l.inbound[outer] {
		return outer, inner
	}
	return inner, outer
}

// missing returns those of the SAs that are not there.
func (l links) missing(ids []klips.SAID) (m []klips.SAID) {
	for _, id := range ids {
		if _, there := l.next[id]; !there {
			m = append(m, id)
		}
	}
	return m
}

// follows reports whether an SA comes after another one.
func (l links) follows(id klips.SAID) bool {
	for _, next := range l.next {
		if next == id {
			return true
		}
	}
	return false
}

// check refuses what KLIPS refuses: a missing SA, a second follower, a loop.
// Where the tables have none of the SAs, KLIPS has the word: it refuses the first
// pair, and nothing has to be taken back.
func (l links) check(ids []klips.SAID) error {
	missing := l.missing(ids)
	switch len(missing) {
	case 0:
	case len(ids):
		return nil
	default:
		return groupError(missing[0].String(), syscall.ENOENT)
	}
	for i := 1; i < len(ids); i++ {
		first, second := l.order(ids[i-1], ids[i])
		if l.next[first] != (klips.SAID{}) {
			return groupError(first.String(), syscall.EEXIST)
		}
		// No chain of links is longer than there are SAs, whatever a kernel shows.
		for id, n := second, 0; id != (klips.SAID{}) && n <= len(l.next); id, n = l.next[id], n+1 {
			if id == first {
				return groupError(second.String(), syscall.EEXIST)
			}
		}
		l.next[first] = second
	}
	return nil
}

// unlink takes back the links between SAs that stand one after the other in a
// group. KLIPS can only take a whole group apart: what was linked to its ends
// before is linked again.
func (s *Stack) unlink(ctx context.Context, ids []klips.SAID) error {
	ctx = context.WithoutCancel(ctx)
	group := ids
	if lines, err := s.groups(); err == nil {
		group = wholeGroup(lines, ids)
	}
	if err := s.Ungroup(ctx, ids[0]); err != nil {
		return err
	}
	for i := 1; i < len(group); i++ {
		a, b := group[i-1], group[i]
		if slices.Contains(ids, a) && slices.Contains(ids, b) {
			continue
		}
		if err := s.link(ctx, a, b); err != nil {
			return err
		}
	}
	return nil
}

// wholeGroup returns the group that has ids, in the order in which it is made:
// tables have inbound groups the other way round.
func wholeGroup(lines [][]klips.SAID, ids []klips.SAID) []klips.SAID {
	whole := ids
	for _, l := range lines {
		a, b := slices.Index(l, ids[0]), slices.Index(l, ids[1])
		if a < 0 || b < 0 || len(l) < len(whole) {
			continue
		}
		whole = slices.Clone(l)
		if a > b {
			slices.Reverse(whole)
		}
	}
	return whole
}
