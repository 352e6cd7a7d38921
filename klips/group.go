package klips

import (
	"context"
	"slices"
	"syscall"
)

// Groups finds groups in a list of all SAs. It must not be used by several goroutines
// at once.
type Groups struct {
	sas    map[SAID]*SA
	first  map[SAID]*SA // of the group of an SA
	unread map[SAID]bool
	made   map[*SA][]SA // the groups that Of has returned, by first
}

// GroupTables are the tables that contain the groups.
var GroupTables = [...]string{"ipsec_spi", "ipsec_spigrp"}

// ReadGroups reads all SAs of a stack, and the unreadable lines about them.
func ReadGroups(ctx context.Context, s Stack) (*Groups, error) {
	t, err := s.Snapshot(ctx, Want{SAs: true, Unread: GroupTables[:]})
	if err != nil {
		return nil, err
	}
	g := NewGroups(t.SAs)
	g.Unread(t.Unread)
	return g, nil
}

// Unread notes unreadable lines: the groups of the SAs in them are unknown.
func (g *Groups) Unread(lines []UnreadLine) {
	for _, l := range lines {
		if l.ID.Dst.IsValid() {
			g.unread[l.ID] = true
		}
	}
}

// NewGroups reads a list of SAs, which must not change while the Groups are used.
func NewGroups(sas []SA) *Groups {
	g := &Groups{sas: make(map[SAID]*SA, len(sas)), first: make(map[SAID]*SA, len(sas)), unread: map[SAID]bool{}, made: map[*SA][]SA{}}
	note := func(id SAID, sa *SA) {
		// The longest chain that contains an SA begins with the first SA of its group.
		if old := g.first[id]; old == nil || len(sa.Next) > len(old.Next) {
			g.first[id] = sa
		}
	}
	for i := range sas {
		sa := &sas[i]
		g.sas[sa.ID] = sa
		note(sa.ID, sa)
		for _, id := range sa.Next {
			note(id, sa)
		}
	}
	return g
}

// Of returns the same as [ReadGroup]. It returns one list each time it is asked for the same
// group; the caller must not change it.
func (g *Groups) Of(id SAID) ([]SA, error) {
	if g.unread[id] {
		return nil, &OpError{Op: "get SA", Object: id.String(), Err: ErrUnread}
	}
	if g.sas[id] == nil {
		return nil, &OpError{Op: "get SA", Object: id.String(), Err: syscall.ESRCH}
	}
	first := g.first[id]
	if group := g.made[first]; group != nil {
		return group, nil
	}
	group := append(make([]SA, 0, 1+len(first.Next)), *first)
	for _, next := range first.Next {
		if sa := g.sas[next]; sa != nil { // a kernel's table may change while it is read
			group = append(group, *sa)
		}
	}
	g.made[first] = group
	return group, nil
}

// A GroupFault is why a group does not carry packets to their destination. It is about
// two SAs of the group.
type GroupFault struct {
	Kind GroupFaultKind
	// SA is the one at fault, in relation to Other.
	SA, Other SAID
}

// A GroupFaultKind is the kind of a [GroupFault].
type GroupFaultKind uint8

// The faults of groups.
const (
	// GroupDestination: SA and Other have different destinations, and there is no tun
	// SA between them. The packet goes to one of the two hosts, which does not have the
	// other SA: the destination is a part of an SA's name (RFC 2401 section 4.1).
	GroupDestination GroupFaultKind = iota
	// GroupInside: SA is inside the tunnel Other to the same destination. A packet that
	// has come out of the tunnel has the inner destination, so it is not for SA (RFC
	// 2401 section 5.2.1).
	GroupInside
	// GroupCompression: the comp SA is outside Other, an esp or ah SA. Compression must
	// come before encryption or authentication (RFC 3173 section 2).
	GroupCompression
	// GroupBare: the tun SA is the outermost, after Other. Its packets leave as plain
	// IP-in-IP, which KLIPS does not accept.
	GroupBare
)

// CheckGroup returns why a group, in order from the innermost transform to the
// outermost, cannot work. It finds no fault in a single SA.
func CheckGroup(ids []SAID) []GroupFault {
	if len(ids) < 2 {
		return nil
	}
	var faults []GroupFault
	var tun *SAID // the tunnel inside the current SAs
	start := 0    // the first SA with the present destination
	for i := range ids {
		id := &ids[i]
		if id.Proto == ProtoTun {
			if tun == nil {
				if j := slices.IndexFunc(ids[:i], func(in SAID) bool { return in.Dst == id.Dst }); j >= 0 {
					faults = append(faults, GroupFault{GroupInside, ids[j], *id})
				}
			}
			tun, start = id, i
			continue
		}
		if id.Dst != ids[start].Dst {
			faults = append(faults, GroupFault{GroupDestination, *id, ids[start]})
		}
		if id.Proto == ProtoComp {
			if j := slices.IndexFunc(ids[start:i], func(in SAID) bool { return in.Proto == ProtoESP || in.Proto == ProtoAH }); j >= 0 {
				faults = append(faults, GroupFault{GroupCompression, *id, ids[start+j]})
			}
		}
	}
	last := ids[len(ids)-1]
	if last.Proto == ProtoTun && !slices.ContainsFunc(faults, func(f GroupFault) bool { return f.Other == last }) {
		faults = append(faults, GroupFault{GroupBare, last, ids[len(ids)-2]})
	}
	return faults
}
