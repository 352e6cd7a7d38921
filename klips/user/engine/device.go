package engine

import (
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// A device is one ipsecN. Its goroutine (out.go) runs from open to close,
// attached or not: an unattached device swallows what is routed into it.
type device struct {
	num  int
	link Link
	att  atomic.Pointer[attachment]
	done chan struct{} // closed when the goroutine has ended
	gone chan struct{} // closed when another device may have the number

	// closing is set, by one goroutine, before the device is removed. Control
	// operations do not see it from then on.
	closing atomic.Bool

	stats stats // any goroutine may add to it
	quiet quiet // of the inbound worker

	// The rest is guarded by Engine.devMu.

	everAttached bool
	takenUp      bool     // it is attached as it was before, not because it was asked for
	wanted       string   // the physical device that it is to be attached to
	wantedIndex  int      // that device's index, 0 where it is not known
	awaited      *awaited // nil: no physical device is waited for
	shares       bool     // it has the link-local addresses of the physical device
	chosenMTU    int      // the MTU that the device was given here; 0: none yet
}

// An attachment is the physical device that a device sends through.
type attachment struct {
	wire   Wire
	groups *groups // of which the wire is a member
	attMTU int     // the physical MTU at the time
	// TTL and hop limit of outer headers.
	ttl4, ttl6 uint8

	// mu is held by the device's worker for a whole batch of packets, and by
	// who retires the wire: see Engine for what must not be held meanwhile.
	mu      sync.Mutex
	retired bool
	cut     cutPackets // guarded by mu
}

// stats are klips.DeviceStats that any goroutine may add to.
type stats struct {
	txPackets, txBytes, txErrors, txDropped atomic.Uint64
	rxPackets, rxBytes, rxErrors, rxDropped atomic.Uint64

	drops drop.Counters // packets that went no further, by reason
}

// drop counts a packet that goes no further: why, for the SA that ended its way, too
// (nil: none did), and in what KLIPS counts such packets as (nil: it does not count
// them). Each such packet comes here, once.
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

// deviceLocked finds ipsecN; nil where there is none.
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
	// Its worker has the number of the one before, and there must be one of a
	// number: that one has to end first.
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
	if err := e.room(deviceCost); err != nil && int(e.numDevices.Load()) >= usualDevices {
		return deviceError(op, name, err)
	}
	d, err := e.openLocked(n, name)
	if err != nil {
		return deviceError(op, name, err)
	}
	e.startWorker(d)
	return nil
}

// openLocked makes a device that has no worker yet.
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

// startWorker begins to take what is routed into a device.
func (e *Engine) startWorker(d *device) { go newOutWorker(e, d, d.num+1, batchSize).run() }

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

// vanished forgets a device that somebody has removed from the system, as with
// ip link del: what is listed is there, and it can be made again.
func (e *Engine) vanished(d *device) {
	e.remove(d, Link.Close)
	e.trace.device("removed from the system", d.link.Name(), nil)
}

// remove forgets a device when its packets are through, and ends its link as it is
// told. The caller has set closing, and holds no lock.
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

// publishLocked tells the inbound worker which devices are attached.
func (e *Engine) publishLocked() {
	var l []*device
	for _, d := range e.devicesLocked() {
		if d.att.Load() != nil {
			l = append(l, d)
		}
	}
	e.attached.Store(&l)
}

// attach binds a device. An attachment that was taken up gives way: who sets a
// tunnel up again begins with that, and has made the device's routes already.
func (e *Engine) attach(virtual, physical string) error {
	const op = "attach"
	e.devMu.Lock()
	d := e.deviceLocked(virtual)
	if d == nil {
		e.devMu.Unlock()
		return deviceError(op, virtual, syscall.ENODEV)
	}
	old, err := e.attachLocked(d, physical, false)
	e.devMu.Unlock()
	old.retire()
	return err
}

// attachLocked returns the attachment that gave way, nil for none. With takeUp the
// device is attached as it was before: it keeps the MTU that it has.
func (e *Engine) attachLocked(d *device, physical string, takeUp bool) (old *attachment, err error) {
	const op = "attach"
	virtual := d.link.Name()
	if e.deviceLocked(physical) != nil { // its own packets would come back to it
		return nil, deviceError(op, physical, syscall.ELOOP)
	}
	a := &attachment{groups: &e.groups}
	w, err := e.host.OpenWire(physical, WireEvents{
		Lost:    func() { go e.lost(d, a) },
		Renamed: func() { go e.renamed(d, a) },
		Resized: func() { go e.chooseAll() },
	})
	if err != nil {
		return nil, deviceError(op, physical, err)
	}
	if d.att.Load() != nil && !d.takenUp {
		w.Close()
		return nil, deviceError(op, virtual, syscall.EBUSY)
	}
	a.wire = w
	if takeUp {
		e.adoptMTULocked(d, a)
	} else if err := e.chooseLocked(d, a); err != nil {
		w.Close()
		return nil, deviceError(op, virtual, err)
	}
	if e.keeping {
		if err := d.link.Keep(w.Name()); err != nil {
			w.Close()
			return nil, deviceError(op, virtual, err)
		}
	}
	a.attMTU = w.MTU()
	a.ttl4, a.ttl6 = w.Hops()
	old = d.att.Swap(a)
	d.everAttached, d.takenUp = true, takeUp
	d.wanted, d.wantedIndex = w.Name(), w.Index()
	d.awaitNothing()
	e.publishLocked()
	e.groups.attach(e, d, a)
	if d.shares || e.groups.hasOnLink() {
		e.shareLocked(d, a)
	}
	e.readPorts()
	return old, nil
}

// detach returns when no packet leaves by the physical device any more.
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

// detachLocked takes the attachment of a device away, and returns it for the
// caller to retire once devMu is free; nil if there is none.
func (e *Engine) detachLocked(d *device) *attachment {
	a := d.att.Swap(nil)
	e.publishLocked()
	d.unshareLocked()
	return a
}

// forgetLocked lets a device that is left be attached to nothing. Where that cannot
// be written down it will be attached again, which harms nobody.
func (e *Engine) forgetLocked(d *device) {
	d.wanted, d.wantedIndex, d.takenUp = "", 0, false
	d.awaitNothing()
	if e.keeping {
		_ = d.link.Keep("")
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

// retire closes the wire once no batch is under way on it. a may be nil.
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
		if a := d.att.Load(); a != nil {
			v.Physical, v.AttMTU, v.PhysMTU = a.wire.Name(), a.attMTU, a.wire.MTU()
		}
		l = append(l, v)
	}
	return slices.Clip(l)
}
