package host

import (
	"context"
	"net/netip"
	"sync"

	"github.com/klips-go/ipsec/klips/rtnl"
)

// routeMTUs has the MTUs of routes by one device, as the kernel has told them. It is empty
// after a change of routes.
type routeMTUs struct {
	mu   sync.Mutex
	conn *rtnl.Conn // nil: nobody has asked
	mtus map[netip.Addr]int
}

// RouteMTU returns the MTU of the route to an address, see [engine.Wire].
func (w *wire) RouteMTU(to netip.Addr) int {
	mtu := w.MTU()
	if r := w.routeMTUs.find(to, w.Index()); r != 0 {
		mtu = min(mtu, r)
	}
	return mtu
}

// find returns the MTU of the route to an address by a device; 0: it has none.
func (r *routeMTUs) find(to netip.Addr, device int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if mtu, ok := r.mtus[to]; ok {
		return mtu
	}
	if r.conn == nil {
		c, err := rtnl.Dial()
		if err != nil {
			return 0
		}
		r.conn = c
	}
	// Packets to a peer without a route leave by the device, too, so an error is no limit.
	route, _ := r.conn.LookUp(context.Background(), rtnl.Query{To: to, Out: device, Entry: true})
	if r.mtus == nil {
		r.mtus = map[netip.Addr]int{}
	}
	r.mtus[to] = route.MTU
	return route.MTU
}

// forget forgets the answers.
func (r *routeMTUs) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mtus = nil
}

func (r *routeMTUs) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn != nil {
		_ = r.conn.Close()
		r.conn = nil
	}
}
