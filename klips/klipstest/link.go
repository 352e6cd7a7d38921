package klipstest

import (
	"math"
	"os"
	"sync"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/engine"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// A Link is a virtual device in memory.
type Link struct {
	name string
	host *Host
	out  *queue      // routed into the device
	in   chan []byte // arrived on it
	// closed ends a Write that waits for a reader of in.
	closed chan struct{}
	close  sync.Once

	mu     sync.Mutex
	mtu    int
	refuse func() error
	kept   *engine.LeftLink // nil: Close removes it
	quiet  func(proto uint8, v6 bool) error
	shares int // the last argument of ShareLinkLocal
}

// Break makes Read return an error once, as for a packet that cannot be read.
func (l *Link) Break(err error) { l.out.put(item{err: err}) }

// Send routes a packet into the device.
func (l *Link) Send(p []byte) { l.out.put(item{bytes: append([]byte(nil), p...)}) }

// CountDrop routes a packet without an eroute into ipsec0, and returns the resulting
// counters of a new device. It is a [Bench]'s Count.
func (h *Host) CountDrop(*testing.T) klips.DeviceStats {
	// An IPv4 header alone, from 10.1.0.1 to 10.2.0.1 (RFC 791 section 3.1).
	p := []byte{0x45, 0, 0, 20, 0, 1, 0, 0, 64, 59, 0, 0, 10, 1, 0, 1, 10, 2, 0, 1}
	packet.FixChecksum(p)
	h.Link("ipsec0").Send(p)
	h.Settle()
	return klips.DeviceStats{TxDropped: 1}
}

// Arrived returns the packets that come out of the device.
func (l *Link) Arrived() <-chan []byte { return l.in }

// Name returns the device's name.
func (l *Link) Name() string { return l.name }

func (l *Link) Read(pkts []*packet.Buffer) (int, error) { return read(pkts, l.out.take) }

// Poll is Read that does not wait.
func (l *Link) Poll(pkts []*packet.Buffer) (int, error) { return read(pkts, l.out.poll) }

func read(pkts []*packet.Buffer, from func() (item, bool, error)) (int, error) {
	p, ok, err := from()
	if err != nil || !ok {
		return 0, err
	}
	if p.err != nil {
		return 0, p.err
	}
	pkts[0].Put(p.bytes)
	return 1, nil
}

func (l *Link) Write(pkts []*packet.Buffer, fail func(*packet.Buffer, error)) {
	l.mu.Lock()
	refuse := l.refuse
	l.mu.Unlock()
	var err error
	if refuse != nil {
		err = refuse()
	}
	for _, b := range pkts {
		if err == nil {
			select {
			case l.in <- append([]byte(nil), b.Bytes()...):
				continue
			case <-l.closed:
				err = os.ErrClosed
			}
		}
		fail(b, err)
	}
}

// Refuse makes Write call refuse from now on and return its error, as for a device that
// is down. nil ends that.
func (l *Link) Refuse(refuse func() error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refuse = refuse
}

// Quiet calls the function of WhenQuiet.
func (l *Link) Quiet(proto uint8, v6 bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.quiet == nil {
		return nil
	}
	return l.quiet(proto, v6)
}

// WhenQuiet sets the function that Quiet calls.
func (l *Link) WhenQuiet(f func(proto uint8, v6 bool) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.quiet = f
}

func (l *Link) MTU() (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mtu, nil
}

// SetMTU sets the device's MTU. ENODEV: the device is closed.
func (l *Link) SetMTU(mtu int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.closed:
		return syscall.ENODEV
	default:
	}
	if mtu > math.MaxUint16 { // as for a TUN device
		return syscall.EINVAL
	}
	l.mtu = mtu
	return nil
}

// ShareLinkLocal keeps the index for Shares.
func (l *Link) ShareLinkLocal(index int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shares = index
	return nil
}

// Shares returns the index of the physical device whose link-local addresses the device
// has; 0: none.
func (l *Link) Shares() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.shares
}

// Keep makes the device outlive Close.
func (l *Link) Keep(physical string, chosenMTU int, direct bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = &engine.LeftLink{Name: l.name, Physical: physical, ChosenMTU: chosenMTU, Direct: direct}
	return nil
}

// Remove removes the device.
func (l *Link) Remove() error {
	l.mu.Lock()
	l.kept = nil
	l.mu.Unlock()
	return l.Close()
}

// Close removes the device, unless it is kept.
func (l *Link) Close() error {
	l.close.Do(func() {
		l.mu.Lock()
		kept, mtu := l.kept, l.mtu
		close(l.closed)
		l.mu.Unlock()
		l.out.close()
		l.host.mu.Lock()
		defer l.host.mu.Unlock()
		delete(l.host.links, l.name)
		if kept != nil {
			l.host.left[l.name] = leftLink{*kept, mtu}
		}
	})
	return nil
}

// A queue holds packets for one reader. It is idle when it is empty and the reader
// waits.
type queue struct {
	changed     *sync.Cond // its lock guards the queue; all queues of a host have the same
	items       []item
	waiting     bool   // the reader is in take
	joined      *queue // take also waits for an item of this one; nil: for none
	interrupted bool   // take returns
	puts        int    // how many items there were
	closed      bool
}

// An item is a packet and, if it arrived from outside, the index of the physical
// device.
type item struct {
	bytes []byte
	index int
	err   error // why there is no packet
}

func newQueue(changed *sync.Cond) *queue { return &queue{changed: changed} }

func (q *queue) put(i item) {
	q.changed.L.Lock()
	defer q.changed.L.Unlock()
	q.items = append(q.items, i)
	q.puts++
	q.changed.Broadcast()
}

// take waits for an item. ok is false if there is one in the joined queue, or after join.
// os.ErrClosed after close.
func (q *queue) take() (i item, ok bool, err error) {
	q.changed.L.Lock()
	defer q.changed.L.Unlock()
	other := q.joined
	q.waiting = true
	if other != nil {
		other.waiting = true
	}
	q.changed.Broadcast()
	for len(q.items) == 0 && !q.closed && !q.interrupted && (other == nil || len(other.items) == 0 && !other.closed) {
		q.changed.Wait()
	}
	q.waiting, q.interrupted = false, false
	if other != nil {
		other.waiting = false
	}
	return q.nextLocked()
}

// poll is take that does not wait.
func (q *queue) poll() (i item, ok bool, err error) {
	q.changed.L.Lock()
	defer q.changed.L.Unlock()
	return q.nextLocked()
}

func (q *queue) nextLocked() (i item, ok bool, err error) {
	switch {
	case q.closed:
		return item{}, false, os.ErrClosed
	case len(q.items) == 0:
		return item{}, false, nil
	}
	i = q.items[0]
	q.items = q.items[1:]
	return i, true, nil
}

// join makes take also wait for another queue; nil: for none.
func (q *queue) join(other *queue) {
	q.changed.L.Lock()
	defer q.changed.L.Unlock()
	q.joined, q.interrupted = other, true
	q.changed.Broadcast()
}

// settle waits until the queue is idle or closed, and returns how many items it has had.
func (q *queue) settle() int {
	q.changed.L.Lock()
	defer q.changed.L.Unlock()
	for (len(q.items) > 0 || !q.waiting) && !q.closed {
		q.changed.Wait()
	}
	return q.puts
}

// open reopens a closed queue: the next reader gets what is in it.
func (q *queue) open() {
	q.changed.L.Lock()
	defer q.changed.L.Unlock()
	q.closed, q.joined, q.interrupted = false, nil, false
}

func (q *queue) close() {
	q.changed.L.Lock()
	defer q.changed.L.Unlock()
	q.closed = true
	q.changed.Broadcast()
}
