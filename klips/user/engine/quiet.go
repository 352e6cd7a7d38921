package engine

import (
	"sync"
	"sync/atomic"

	"github.com/klips-go/ipsec/klips/user/packet"
)

// Packets that an SA in transport mode protects must not be quoted in clear. If no
// program receives their IP protocol, the kernel sends an ICMP error that quotes the
// beginning of the packet. A route may lead that error past the eroutes.

// quiet has the protocols for which Link.Quiet was called on one device: one bit for each
// protocol, for IPv4 and for IPv6.
type quiet struct {
	asked [2][256 / 64]atomic.Uint64
	mu    sync.Mutex // held while Link.Quiet is called
}

// about stops ICMP errors of the host about a packet with header h that is to arrive on
// the link, and reports whether it could. All hosts receive TCP, UDP and ICMP.
func (q *quiet) about(link Link, h *packet.Header) bool {
	v6 := h.Version == 6
	switch h.Proto {
	case packet.ProtoTCP, packet.ProtoUDP:
		return true
	case packet.ProtoICMP:
		if !v6 {
			return true
		}
	case packet.ProtoICMPv6:
		if v6 {
			return true
		}
	}
	asked := &q.asked[0]
	if v6 {
		asked = &q.asked[1]
	}
	word, bit := &asked[h.Proto/64], uint64(1)<<(h.Proto%64)
	if word.Load()&bit != 0 {
		return true
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if word.Load()&bit == 0 {
		if link.Quiet(h.Proto, v6) != nil {
			return false
		}
		word.Or(bit)
	}
	return true
}
