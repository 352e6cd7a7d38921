// Package nexthop finds the Ethernet addresses to which packets leave by one device: those
// of the neighbours that the kernel's routes lead to (RFC 1122 section 3.3.1). The kernel
// keeps routes and neighbours; a Table only remembers what it has answered, until that may
// have changed.
package nexthop

import (
	"context"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/klips-go/ipsec/klips/rtnl"
)

// A Kernel answers the questions of a Table; see [rtnl.Conn] for the methods.
type Kernel interface {
	NextHop(ctx context.Context, to netip.Addr, device int) (netip.Addr, error)
	Neighbour(ctx context.Context, device int, addr netip.Addr) (rtnl.Neighbour, error)
	Close() error
}

var _ Kernel = (*rtnl.Conn)(nil)

// A Hop is where packets to one destination go next.
type Hop struct {
	LinkAddr [6]byte
	// Due and Turn are for those that send to the hop, zero at first.
	Due  atomic.Int64
	Turn atomic.Uint64

	via    netip.Addr // the neighbour; invalid: none
	usable bool       // the neighbour can be sent to
}

// Bounds of a Table.
const (
	// maxHops is how many destinations a Table remembers. It has no answer for others.
	maxHops = 4096
	// maxAsked is how many destinations wait for an answer. A Table asks for others when
	// they are looked for once more.
	maxAsked = 64
	// tries is how often a question is repeated because something has changed meanwhile.
	tries = 3
)

// A Table has the next hops by one device. Its methods may be called from any goroutine.
type Table struct {
	device int
	kernel Kernel
	hops   atomic.Pointer[map[netip.Addr]*Hop] // by destination; the map never changes
	asked  chan netip.Addr
	stop   context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	changes uint64 // how often Forget and Changed were called; guarded by mu
}

// New makes a Table for the device with an index. It owns kernel. The goroutine that it
// starts ends with Close.
func New(kernel Kernel, device int) *Table {
	ctx, stop := context.WithCancel(context.Background())
	t := &Table{device: device, kernel: kernel, asked: make(chan netip.Addr, maxAsked), stop: stop, done: make(chan struct{})}
	t.hops.Store(&map[netip.Addr]*Hop{})
	go t.answer(ctx)
	return t
}

// Close ends all questions to the kernel.
func (t *Table) Close() {
	t.stop()
	<-t.done
	t.kernel.Close()
}

// Find returns the next hop of packets to a destination, nil if it is not known or cannot
// be sent to now. It never waits, and allocates nothing: it has the kernel asked for an
// unknown one, for later packets.
func (t *Table) Find(dst netip.Addr) *Hop {
	hops := *t.hops.Load()
	h := hops[dst]
	switch {
	case h == nil:
		if len(hops) < maxHops {
			select {
			case t.asked <- dst:
			default:
			}
		}
		return nil
	case !h.usable:
		return nil
	}
	return h
}

// Forget forgets all hops: a route, an address or a device has changed.
func (t *Table) Forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changes++
	if len(*t.hops.Load()) > 0 {
		t.hops.Store(&map[netip.Addr]*Hop{})
	}
}

// Changed records what the kernel has reported about a neighbour.
func (t *Table) Changed(n *rtnl.Neighbour) {
	if n.Device != t.device {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changes++
	var now map[netip.Addr]*Hop
	for dst, h := range *t.hops.Load() {
		if h.via != n.Addr || h.usable == n.Usable && h.LinkAddr == n.Link {
			continue
		}
		if now == nil {
			now = maps.Clone(*t.hops.Load())
		}
		now[dst] = &Hop{LinkAddr: n.Link, via: h.via, usable: n.Usable}
	}
	if now != nil {
		t.hops.Store(&now)
	}
}

// answer asks the kernel for what Find did not know.
func (t *Table) answer(ctx context.Context) {
	defer close(t.done)
	for {
		select {
		case <-ctx.Done():
			return
		case dst := <-t.asked:
			t.learn(ctx, dst)
		}
	}
}

// learn adds the hop of a destination. It is not added if the kernel does not answer, or
// if there are changes all the time: then it is asked for again.
func (t *Table) learn(ctx context.Context, dst netip.Addr) {
	for range tries {
		if (*t.hops.Load())[dst] != nil {
			return
		}
		t.mu.Lock()
		before := t.changes
		t.mu.Unlock()
		h, err := t.ask(ctx, dst)
		if err != nil {
			return
		}
		if t.add(dst, h, before) {
			return
		}
	}
}

// ask asks the kernel for the hop of a destination.
func (t *Table) ask(ctx context.Context, dst netip.Addr) (*Hop, error) {
	via, err := t.kernel.NextHop(ctx, dst, t.device)
	if err != nil || !via.IsValid() {
		return &Hop{}, err
	}
	n, err := t.kernel.Neighbour(ctx, t.device, via)
	if err != nil {
		return nil, err
	}
	return &Hop{LinkAddr: n.Link, via: via, usable: n.Usable}, nil
}

// add adds a hop, unless there were changes since: they may have made it wrong.
func (t *Table) add(dst netip.Addr, h *Hop, since uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.changes != since {
		return false
	}
	now := maps.Clone(*t.hops.Load())
	now[dst] = h
	t.hops.Store(&now)
	return true
}
