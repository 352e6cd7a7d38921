package engine

import (
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// A device is one ipsecN. Its goroutine (out.go) runs as long as the device is open. A
// device without an attachment drops all packets that are routed into it.
type device struct {
	num  int
	link Link
	att  atomic.Pointer[attachment]
	done chan struct{} // closed when the goroutine has ended
	gone chan struct{} // closed when the number is free for another device

	// closing is set once, before the device is removed. After that control operations do
	// not find the device.
	closing atomic.Bool

	stats stats // any goroutine may add to it
	quiet quiet

	// devMu of the Engine guards the fields below.

	everAttached bool
	takenUp      bool     // it was attached by TakeUp, not by a command
	wanted       string   // the physical device to attach it to
	wantedIndex  int      // the index of that device; 0: not known
	direct       bool     // its attachments send past the kernel's IP output
	awaited      *awaited // nil: it waits for no physical device
	shares       bool     // it has the link-local addresses of the physical device
	chosenMTU    int      // the MTU that chooseLocked has set; 0: none yet
}

// An attachment is the physical device that a device sends through.
type attachment struct {
	wire   Wire
	groups *groups // the wire is a member of these
	attMTU int     // the physical MTU when the device was attached
	// TTL and hop limit of outer headers.
	ttl4, ttl6 uint8

	// The device's workers share mu for a whole batch of packets each. The goroutine that
	// retires the wire takes it. The comment of Engine has the order of locks.
	mu      sync.RWMutex
	retired bool
	cut     cutPackets
}

// stats are klips.DeviceStats that any goroutine may add to.
type stats struct {
	txPackets, txBytes, txErrors, txDropped atomic.Uint64
	rxPackets, rxBytes, rxErrors, rxDropped atomic.Uint64

	drops drop.Counters // packets that were not sent or not accepted, by reason
}

// drop counts a packet that is dropped: by its reason, for the SA that it was dropped for
// (nil: none), and in the counter of KLIPS (nil: KLIPS does not count it). Each dropped
// packet is counted here once.
func (s *stats) drop(why drop.Reason, by *sadb.SA, klips *atomic.Uint64) {
	s.drops.Add(why, 1)
	if by != nil {
		by.Drops.Add(why, 1)
	}
	if klips != nil {
		klips.Add(1)
	}
}

func (s *stats) read() klips.DeviceStats {
	return klips.DeviceStats{
		TxPackets: s.txPackets.Load(), TxBytes: s.txBytes.Load(),
		TxErrors: s.txErrors.Load(), TxDropped: s.txDropped.Load(),
		RxPackets: s.rxPackets.Load(), RxBytes: s.rxBytes.Load(),
		RxErrors: s.rxErrors.Load(), RxDropped: s.rxDropped.Load(),
	}
}

func deviceError(op, name string, err error) error {
	return &klips.OpError{Op: op, Object: name, Err: err}
}

// deviceLocked returns the device ipsecN; nil: there is none.
func (e *Engine) deviceLocked(name string) *device {
	n, ok := klips.DeviceNumber(name)
	if !ok || n >= len(e.devs) || e.devs[n] == nil || e.devs[n].closing.Load() {
		return nil
	}
	return e.devs[n]
}

// devicesLocked returns the devices by number.
func (e *Engine) devicesLocked() (l []*device) {
	for _, d := range e.devs {
		if d != nil && !d.closing.Load() {
			l = append(l, d)
		}
	}
	return l
}

func (e *Engine) createDevice(name string) error {
	const op = "create device"
	n, ok := klips.DeviceNumber(name)
	if !ok {
		return deviceError(op, name, syscall.EINVAL)
	}
	if n >= klips.MaxDevices {
		return deviceError(op, name, syscall.ENOENT)
	}
	e.devMu.Lock()
	// Only one worker may have this number, so the worker of the device before must end
	// first.
	for old := e.devs[n]; old != nil && old.closing.Load(); old = e.devs[n] {
		e.devMu.Unlock()
		<-old.gone
		e.devMu.Lock()
	}
	defer e.devMu.Unlock()
	switch {
	case e.closed:
		return deviceError(op, name, syscall.ESHUTDOWN)
	case e.devs[n] != nil:
		return deviceError(op, name, syscall.EEXIST)
	}
	if err := e.room(deviceCost(e.lanes)); err != nil && int(e.numDevices.Load()) >= usualDevices {
		return deviceError(op, name, err)
	}
	d, err := e.openLocked(n, name)
	if err != nil {
		return deviceError(op, name, err)
	}
	e.startWorker(d)
	return nil
}

// openLocked makes a device without a worker.
func (e *Engine) openLocked(n int, name string) (*device, error) {
	l, err := e.host.OpenLink(name)
	if err != nil {
		return nil, err
	}
	e.numDevices.Add(1)
	d := &device{num: n, link: l, done: make(chan struct{}), gone: make(chan struct{})}
	e.devs[n] = d
	return d, nil
}

// startWorker starts the goroutine that reads the packets routed into a device, and its
// helpers.
func (e *Engine) startWorker(d *device) {
	go newOutWorker(e, d, sends(d, 0), packet.NewBuffers(batchSize)).run()
}

func (e *Engine) deleteDevice(name string) error {
	const op = "delete device"
	e.devMu.Lock()
	d := e.deviceLocked(name)
	is := d != nil && d.closing.CompareAndSwap(false, true)
	e.devMu.Unlock()
	if !is {
		return deviceError(op, name, syscall.ENOENT)
	}
	e.remove(d, Link.Remove)
	return nil
}

// vanished removes a device that was deleted outside of the engine, as by ip link del.
// Then the listings are correct, and the device can be made again.
func (e *Engine) vanished(d *device) {
	e.remove(d, Link.Close)
	e.trace.device("removed from the system", d.link.Name(), nil)
}

// remove ends the link of a device with end, waits until its packets are sent, and
// removes the device. The caller has set closing, and holds no lock.
func (e *Engine) remove(d *device, end func(Link) error) {
	e.devMu.Lock()
	d.awaitNothing()
	e.publishLocked()
	e.devMu.Unlock()
	end(d.link)
	<-d.done
	d.att.Swap(nil).retire()
	e.devMu.Lock()
	e.devs[d.num] = nil
	e.numDevices.Add(-1)
	e.devMu.Unlock()
	close(d.gone)
}

// publishLocked gives the inbound worker the list of attached devices.
func (e *Engine) publishLocked() {
	var l []*device
	for _, d := range e.devicesLocked() {
		if d.att.Load() != nil {
			l = append(l, d)
		}
	}
	e.attached.Store(&l)
}

// attach binds a device. It replaces an attachment of TakeUp: a command that sets up a
// tunnel again attaches first, and the routes of the device exist already.
func (e *Engine) attach(virtual, physical string, direct bool) error {
	const op = "attach"
	e.devMu.Lock()
	d := e.deviceLocked(virtual)
	if d == nil {
		e.devMu.Unlock()
		return deviceError(op, virtual, syscall.ENODEV)
	}
	old, err := e.attachLocked(d, physical, direct, false)
	e.devMu.Unlock()
	old.retire()
	return err
}

// attachLocked returns the attachment that it has replaced; nil: none. direct: it sends past
// the kernel's IP output. takeUp: the device is attached again as it was before, and keeps
// its MTU.
func (e *Engine) attachLocked(d *device, physical string, direct, takeUp bool) (old *attachment, err error) {
	const op = "attach"
	virtual := d.link.Name()
	if e.deviceLocked(physical) != nil { // its own packets would return to it
		return nil, deviceError(op, physical, syscall.ELOOP)
	}
	a := &attachment{groups: &e.groups}
	w, err := e.host.OpenWire(physical, WireEvents{
		Lost:     func() { go e.lost(d, a) },
		Renamed:  func() { go e.renamed(d, a) },
		Resized:  func() { go e.chooseAll() },
		Rerouted: e.rerouted,
	})
	if err != nil {
		return nil, deviceError(op, physical, err)
	}
	if d.att.Load() != nil && !d.takenUp {
		w.Close()
		return nil, deviceError(op, virtual, syscall.EBUSY)
	}
	if direct {
		if err := w.Direct(); err != nil {
			w.Close()
			return nil, deviceError(op, virtual, err)
		}
	}
	a.wire = w
	for _, sa := range e.sas.All() {
		e.readRouteLocked(sa, a)
	}
	if takeUp {
		e.adoptMTULocked(d, a)
	} else if err := e.chooseLocked(d, a); err != nil {
		w.Close()
		return nil, deviceError(op, virtual, err)
	}
	if e.keeping {
		if err := d.link.Keep(w.Name(), d.chosenMTU, direct); err != nil {
			w.Close()
			return nil, deviceError(op, virtual, err)
		}
	}
	a.attMTU = w.MTU()
	a.ttl4, a.ttl6 = w.Hops()
	old = d.att.Swap(a)
	d.everAttached, d.takenUp = true, takeUp
	d.wanted, d.wantedIndex, d.direct = w.Name(), w.Index(), direct
	d.awaitNothing()
	e.publishLocked()
	e.groups.attach(e, d, a)
	if d.shares || e.groups.hasOnLink() {
		e.shareLocked(d, a)
	}
	e.readPorts()
	return old, nil
}

// detach returns after the last packet has left through the physical device.
func (e *Engine) detach(virtual string) error {
	e.devMu.Lock()
	d := e.deviceLocked(virtual)
	var a *attachment
	if d != nil {
		a = e.detachLocked(d)
		e.forgetLocked(d)
	}
	e.devMu.Unlock()
	if a == nil {
		return deviceError("detach", virtual, syscall.ENODEV)
	}
	a.retire()
	return nil
}

// detachLocked removes the attachment of a device and returns it. The caller retires it
// after it has released devMu. nil: there is none.
func (e *Engine) detachLocked(d *device) *attachment {
	a := d.att.Swap(nil)
	e.publishLocked()
	d.unshareLocked()
	return a
}

// forgetLocked records that a device that outlives the engine is attached to nothing. If
// the record cannot be written, the device is attached again later, which does no harm.
func (e *Engine) forgetLocked(d *device) {
	d.wanted, d.wantedIndex, d.direct, d.takenUp = "", 0, false, false
	d.awaitNothing()
	if e.keeping {
		_ = d.link.Keep("", 0, false)
	}
}

func (e *Engine) detachAll() {
	var l []*attachment
	e.devMu.Lock()
	for _, d := range e.devicesLocked() {
		l = append(l, e.detachLocked(d))
		e.forgetLocked(d)
	}
	e.devMu.Unlock()
	for _, a := range l {
		a.retire()
	}
}

// retire closes the wire after the batch that uses it. a may be nil.
func (a *attachment) retire() {
	if a == nil {
		return
	}
	a.groups.detach(a)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.retired = true
	a.cut.close()
	a.wire.Close()
}

func (e *Engine) devices() []klips.Device {
	e.devMu.Lock()
	defer e.devMu.Unlock()
	var l []klips.Device
	for _, d := range e.devicesLocked() {
		v := klips.Device{Name: d.link.Name(), Stats: d.stats.read(), Drops: d.stats.drops.Read()}
		if d.everAttached {
			v.MTU = d.shownMTU()
		}
		if d.awaited != nil {
			v.Awaits = d.wanted
		}
		if a := d.att.Load(); a != nil {
			v.Physical, v.AttMTU, v.PhysMTU, v.Direct = a.wire.Name(), a.attMTU, a.wire.MTU(), d.direct
		}
		l = append(l, v)
	}
	return slices.Clip(l)
}
