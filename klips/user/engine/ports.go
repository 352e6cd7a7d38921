package engine

import (
	"slices"
	"sync"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// ports are the local UDP ports that ESP may come to. The receiver is told when
// they change.
type ports struct {
	mu sync.Mutex
	// wanted counts the SAs of a port. It is below 0 for a moment where the end
	// of an SA is noted before its beginning.
	wanted map[uint16]int
	set    func(ports []uint16) // nil when there is no receiver any more
}

func (ps *ports) init(set func([]uint16)) { ps.wanted, ps.set = map[uint16]int{}, set }

// watch takes note of SAs that were made (by = 1) or removed (by = -1).
func (ps *ports) watch(by int, sas ...*sadb.SA) {
	changed := false
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, sa := range sas {
		p, ok := udpPort(sa)
		if !ok {
			continue
		}
		had := ps.wanted[p] > 0
		ps.wanted[p] += by
		changed = changed || had != (ps.wanted[p] > 0)
		if ps.wanted[p] == 0 {
			delete(ps.wanted, p)
		}
	}
	if changed && ps.set != nil {
		ps.set(ps.listLocked())
	}
}

// list returns the ports in ascending order.
func (ps *ports) list() []uint16 {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.listLocked()
}

func (ps *ports) listLocked() []uint16 {
	l := make([]uint16, 0, len(ps.wanted))
	for p, n := range ps.wanted {
		if n > 0 {
			l = append(l, p)
		}
	}
	slices.Sort(l)
	return l
}

// close says that the receiver is going: it is told nothing any more.
func (ps *ports) close() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.set = nil
}

// udpPort is the local port that ESP for or beside an SA may come to: an inbound
// SA is sent to its destination port, and the peer of an outbound one answers to
// its source port. ok is false for an SA that is not encapsulated in UDP.
func udpPort(sa *sadb.SA) (p uint16, ok bool) {
	if sa.ID.Proto != klips.ProtoESP || sa.NATT.Type == klips.NATTNone {
		return 0, false
	}
	n := sa.NATT.WithPorts()
	if sa.Dir == klips.Inbound {
		return n.DPort, true
	}
	return n.SPort, true
}
