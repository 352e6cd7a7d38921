package engine

import (
	"slices"
	"sync"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// ports are the local UDP ports that ESP can arrive at. set is called with the ports when
// they change.
type ports struct {
	mu sync.Mutex
	// wanted counts the SAs of each port. A count is below 0 for a moment if the removal
	// of an SA is recorded before its making.
	wanted map[uint16]int
	set    func(ports []uint16) // nil: the receiver is closed
}

func (ps *ports) init(set func([]uint16)) { ps.wanted, ps.set = map[uint16]int{}, set }

// watch records SAs that were made (by = 1) or removed (by = -1).
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

// close ends the calls of set: the receiver is being closed.
func (ps *ports) close() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.set = nil
}

// udpPort returns the local port that ESP for an SA or from its peer can arrive at. For
// an inbound SA it is the destination port. For an outbound SA it is the source port, to
// which the peer answers. ok is false for an SA without UDP encapsulation.
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
