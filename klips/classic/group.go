package classic

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// Group links SAs, with one message (X_GRPSA) for each pair. It refuses wrong links
// before the first message. KLIPS would refuse some of them in the middle, and it
// accepts an SA that follows another one already; but a link can only be removed
// together with all links behind it. A change by another program can still make KLIPS
// refuse a pair. Then Group removes the links it has made, or its error names those
// that stay.
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
		err := s.link(ctx, ids[i-1], ids[i])
		var oe *klips.OpError
		if i > 1 && errors.As(err, &oe) {
			oe.Left = s.takeBack(context.WithoutCancel(ctx), ids[:i])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func groupError(object string, err syscall.Errno) error {
	return &klips.OpError{Op: "group", Object: object, Err: err}
}

// link links two SAs. Its error names the SA at fault if the tables show it, else both.
func (s *Stack) link(ctx context.Context, inner, outer klips.SAID) error {
	err := s.Asker(ctx, "group", inner.String()+" "+outer.String(), pfkey.GroupPair(inner, outer))
	var oe *klips.OpError
	if !errors.As(err, &oe) {
		return err
	}
	if l, lerr := s.readLinks(ctx); lerr == nil {
		switch missing := l.missing([]klips.SAID{inner, outer}); {
		case errors.Is(err, syscall.ENOENT) && missing != nil:
			oe.Object = missing[0].String()
		case errors.Is(err, syscall.EEXIST) && missing == nil:
			if at, busy := l.busy(inner, outer); busy {
				oe.Object = at.String()
			}
		}
	}
	return err
}

// check refuses a group with a missing SA, a second neighbour on one side, or a loop.
// If the tables have none of the SAs, KLIPS decides: it refuses the first pair, and no
// link must be removed.
func (l *links) check(ids []klips.SAID) error {
	missing := l.missing(ids)
	switch len(missing) {
	case 0:
	case len(ids):
		return nil
	default:
		return groupError(missing[0].String(), syscall.ENOENT)
	}
	if why := l.unknown(ids); why != "" {
		return &klips.OpError{Op: "group", Object: ids[0].String(), Err: syscall.EBUSY, Reason: why}
	}
	for i := 1; i < len(ids); i++ {
		if at, busy := l.busy(ids[i-1], ids[i]); busy {
			return groupError(at.String(), syscall.EEXIST)
		}
		l.join(l.order(ids[i-1], ids[i]))
	}
	return nil
}

// busy returns the SA of a pair that already has a neighbour on that side, if there is
// one.
func (l *links) busy(inner, outer klips.SAID) (at klips.SAID, busy bool) {
	first, second := l.order(inner, outer)
	_, follower := l.next[first]
	switch {
	case follower, l.dangling[first]:
		return first, true
	case len(l.before[second]) > 0, first == second, slices.Contains(l.behind(second), first):
		return second, true
	}
	return at, false
}

// takeBack removes the links between successive SAs. It returns "", or a text about the
// links that stay and the reason.
func (s *Stack) takeBack(ctx context.Context, ids []klips.SAID) string {
	stays := func(why string) string {
		return fmt.Sprintf("%s stay linked: %s", klips.JoinSAIDs(ids), why)
	}
	l, err := s.readLinks(ctx)
	if err != nil {
		return stays("the tables of KLIPS cannot be read")
	}
	if first, _ := l.order(ids[0], ids[1]); first != ids[0] { // of inbound SAs, the last one named is first
		ids = slices.Clone(ids)
		slices.Reverse(ids)
	}
	for len(ids) > 1 && l.next[ids[0]] != ids[1] { // another program has changed the links
		ids = ids[1:]
	}
	if len(ids) == 1 {
		return ""
	}
	first, behind, group := ids[0], l.behind(ids[0]), l.group(ids[0])
	if why := l.broken(group); why != "" {
		return stays(why)
	}
	if len(l.heads(group)) > 1 {
		return stays("another program has linked one of them as well")
	}
	if lost, frees := l.cut(first); frees {
		return stays(freesText(lost))
	}
	if err := s.Asker.Ungroup(ctx, first); err != nil {
		return stays(err.Error())
	}
	// Restore the links that were behind them.
	for i := 1; i < len(behind); i++ {
		if slices.Contains(ids, behind[i]) {
			continue
		}
		inner, outer := l.named(behind[i-1], behind[i])
		if err := s.link(ctx, inner, outer); err != nil {
			return fmt.Sprintf("%v does not follow %v any more: %v", behind[i], behind[i-1], err)
		}
	}
	return ""
}

// freesText returns why a group cannot be taken apart.
func freesText(lost klips.SAID) string {
	return fmt.Sprintf("KLIPS takes a reference from each SA behind the first one of a group when it takes the group apart, and would free %v, which has only one left", lost)
}

// Ungroup takes the whole group of an SA apart (X_GRPSA with its first SA). KLIPS takes
// apart only the SAs behind the named one, and each time these lose a reference. EBUSY:
// one of them would be freed.
func (s *Stack) Ungroup(ctx context.Context, id klips.SAID) error {
	l, err := s.readLinks(ctx)
	if err != nil {
		return s.Asker.Ungroup(ctx, id)
	}
	refuse := func(reason string) error {
		return &klips.OpError{Op: "ungroup", Object: id.String(), Err: syscall.EBUSY, Reason: reason}
	}
	group := l.group(id)
	if why := l.broken(group); why != "" {
		return refuse(why)
	}
	heads := l.heads(group)
	for _, h := range heads {
		if lost, frees := l.cut(h); frees {
			return refuse(freesText(lost) + "; delete the group and make its SAs anew")
		}
	}
	for _, h := range heads {
		if err := s.Asker.Ungroup(ctx, h); err != nil {
			return err
		}
	}
	return nil
}

// DeleteSA removes an SA and its group (DELETE of the first SA). KLIPS looks for the
// first SA itself, but misses it if the group was once taken apart in the middle. It
// then leaves SAs that point at freed ones. EBUSY: it would do so whichever SA is
// named.
func (s *Stack) DeleteSA(ctx context.Context, id klips.SAID) error {
	l, err := s.readGroups(ctx)
	if err != nil {
		return s.Asker.DeleteSA(ctx, id)
	}
	group := l.group(id)
	if why := l.shared(group); why != "" {
		return &klips.OpError{Op: "delete SA", Object: id.String(), Err: syscall.EBUSY, Reason: why}
	}
	return s.Asker.DeleteSA(ctx, l.heads(group)[0])
}

// ClearSAs removes all SAs (FLUSH). EBUSY: KLIPS would use freed memory.
func (s *Stack) ClearSAs(ctx context.Context) error {
	if l, err := s.readGroups(ctx); err == nil {
		seen := map[klips.SAID]bool{}
		for id := range l.inbound {
			if seen[id] {
				continue
			}
			group := l.group(id)
			for _, g := range group {
				seen[g] = true
			}
			if why := l.shared(group); why != "" {
				return &klips.OpError{Op: "clear SAs", Object: id.String(), Err: syscall.EBUSY, Reason: why}
			}
		}
	}
	return s.Asker.ClearSAs(ctx)
}
