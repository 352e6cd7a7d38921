package sadb

import (
	"slices"
	"syscall"

	"github.com/klips-go/ipsec/klips"
)

// Group makes a group (RFC 2401 section 4.3: bundle) of two to klips.MaxGroup SAs, or
// changes nothing. ids are in order from the innermost transform to the outermost. Each
// pair is linked in processing order, which the direction of its outer SA decides: the
// inner SA comes first unless the outer one is inbound. Existing groups may be joined,
// the end of one to the start of another.
//
// EINVAL: too few or too many SAs. ENOENT: an SA is missing. EEXIST: the first SA of a
// pair has a follower already, the second has a predecessor, or they would close a
// loop. The last two errors are *klips.OpError with the SA at fault.
func (db *DB) Group(ids []klips.SAID) error {
	if len(ids) < 2 || len(ids) > klips.MaxGroup {
		return syscall.EINVAL
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	var chains [][]*SA // the resulting groups, each SA in at most one
	find := func(sa *SA) []*SA {
		for _, c := range chains {
			if slices.Contains(c, sa) {
				return c
			}
		}
		return sa.members()
	}
	for i := 1; i < len(ids); i++ {
		first, second := db.Lookup(ids[i-1]), db.Lookup(ids[i])
		if first == nil {
			return groupError(ids[i-1], syscall.ENOENT)
		}
		if second == nil {
			return groupError(ids[i], syscall.ENOENT)
		}
		if second.Dir == klips.Inbound {
			first, second = second, first
		}
		a, b := find(first), find(second)
		switch {
		case a[len(a)-1] != first:
			return groupError(first.ID, syscall.EEXIST)
		case b[0] != second, a[0] == b[0]:
			return groupError(second.ID, syscall.EEXIST)
		}
		// The joined group replaces the two; they have no SA in common.
		chains = slices.DeleteFunc(chains, func(c []*SA) bool { return c[0] == a[0] || c[0] == b[0] })
		chains = append(chains, slices.Concat(a, b))
	}
	for _, c := range chains {
		publish(c)
	}
	return nil
}

func groupError(id klips.SAID, err syscall.Errno) error {
	return &klips.OpError{Op: "group", Object: id.String(), Err: err}
}

// publish makes SAs a group, the last one first (see the package comment).
func publish(chain []*SA) {
	places := make([]place, len(chain))
	var received []*SA
	if chain[0].Dir == klips.Both {
		received = slices.Clone(chain)
		slices.Reverse(received)
	}
	for i, sa := range slices.Backward(chain) {
		places[i] = place{chain, i, received}
		sa.place.Store(&places[i])
	}
}

// Members returns the SAs of an SA's group in processing order; without a group, the SA
// alone. The slice must not be changed. ESRCH: there is no such SA.
func (db *DB) Members(id klips.SAID) ([]*SA, error) {
	sa, err := db.Get(id)
	if err != nil {
		return nil, err
	}
	return sa.members(), nil
}

// Ungroup takes the group of an SA apart, whichever member it is. The SAs stay, with
// their policies. An SA without a group is not an error. ENOENT: there is no such SA.
func (db *DB) Ungroup(id klips.SAID) error {
	db.mu.Lock()
	defer db.mu.Unlock()
	sa := db.Lookup(id)
	if sa == nil {
		return syscall.ENOENT
	}
	for _, m := range sa.members() {
		m.place.Store(nil)
	}
	return nil
}

// SetPolicy sets the inbound policy of the first tun SA in the chain of an SA, which
// may be the SA itself. Without a tun SA it sets that of the last SA, which has the
// innermost header of inbound packets. The new policy replaces an earlier one.
//
// ENOENT: there is no such SA. EINVAL: the SA is not a tun SA and is of the other
// family, so packets of the policy's family cannot come out of it.
func (db *DB) SetPolicy(id klips.SAID, p klips.InboundPolicy) error {
	db.mu.Lock()
	defer db.mu.Unlock()
	sa := db.Lookup(id)
	if sa == nil {
		return syscall.ENOENT
	}
	chain := sa.Chain()
	owner := chain[len(chain)-1]
	if i := slices.IndexFunc(chain, func(m *SA) bool { return m.ID.Proto == klips.ProtoTun }); i >= 0 {
		owner = chain[i]
	} else if owner.ID.Dst.Is6() != p.Is6() {
		return klips.Invalidf("an inbound policy of the other family for %v", owner.ID)
	}
	owner.policy.Store(&p)
	return nil
}
