package engine

import (
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/marks"
	"github.com/klips-go/ipsec/klips/serial"
	"github.com/klips-go/ipsec/klips/user/clock"
	"github.com/klips-go/ipsec/klips/user/eroute"
	"github.com/klips-go/ipsec/klips/user/handover"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// batchSize is how many packets a worker handles per system call at most.
const batchSize = 128

// inboundWorker is the number of the worker that takes all inbound packets;
// device ipsecN's is N + 1. The last number is for packets that were held and
// are let go by whoever replaced their eroute.
const (
	inboundWorker = 0
	injectWorker  = klips.MaxDevices + 1
)

// An Engine is a running stack. Its methods may be called from any goroutine.
//
// Locks. A packet worker holds the mutex of its attachment for a batch, and takes
// others now and then: holds.mu, ports.mu, groups.mu, keep.mu, lapses.mu, keeper.mu, states.mu, and those
// inside sadb, eroute and Events. The order is
//
//	injectMu, attachment.mu, holds.mu, and then one of the others
//
// so none of them is held by who waits for a packet worker: who takes
// attachment.mu to wait for a batch to end (retire, release) holds injectMu at
// most, which no device's worker takes. devMu is for control operations alone: a
// packet worker never takes it, and it is not held while waiting for one.
type Engine struct {
	host    Host
	version string
	clock   clock.Clock
	sas     *sadb.DB
	routes  *eroute.Table
	start   time.Time

	knobs    knobs
	ikePort  atomic.Bool // only root can bind UDP port 500, see readPorts
	ipID     atomic.Uint32
	icmpGate gate

	events   atomic.Pointer[Events]
	holds    holds
	injectMu sync.Mutex // held by who uses worker number injectWorker

	// Of what memory bounds; see Engine.room.
	memory     int64        // bytes; 0: no bound
	saMemory   atomic.Int64 // what SAs take
	numDevices atomic.Int32

	receiver  Receiver
	inDone    chan struct{}
	ports     ports
	groups    groups
	keep      keepalives
	lapses    lapses
	inherited inherited
	keeper    keeper
	forgetter forgetter
	// attached are the devices with a physical one, by number, for inbound
	// packets to find theirs.
	attached atomic.Pointer[[]*device]
	// nobody counts what arrives and belongs to no device.
	nobody stats

	debugMu sync.Mutex // held by who changes the masks of trace
	trace   trace

	reconsidering atomic.Bool // the MTUs of devices are chosen anew soon

	devMu   sync.Mutex // guards what follows
	devs    [klips.MaxDevices]*device
	keeping bool // devices outlive the engine
	closed  bool
}

var _ serial.Doer = (*Engine)(nil)

// A Config is what an engine needs to know besides its host.
type Config struct {
	Version string      // what Version returns: the line of ipsec_version
	Clock   clock.Clock // nil: this machine's
	// State is what another engine has handed over; nil: nothing. The caller clears
	// it, as soon as New has returned.
	State *handover.State
	// Memory is how many bytes SAs, eroutes, held packets and devices may take beyond
	// BaseMemory; more of them are refused with ENOBUFS. 0: no bound.
	Memory uint64
	// Log gets the lines that the debug masks ask for, on level Debug, and what
	// became of physical devices, on levels above; nil: there are none. It must not
	// wait for packets.
	Log *slog.Logger
	// Marks keep how far the numbers of SAs have come; nil: nothing does. They stay
	// open until Close has returned.
	Marks *marks.File
	// MarksLost is told why marks are not kept any more, and nil when they are again;
	// it may be nil.
	MarksLost func(error)
}

// New starts an engine on a host: it receives packets from now on. There are
// no devices yet but those of Config.State. Close ends it.
func New(host Host, c Config) (*Engine, error) {
	if c.Clock == nil {
		c.Clock = clock.System
	}
	e := &Engine{
		host:    host,
		version: c.Version,
		clock:   c.Clock,
		sas:     sadb.New(),
		routes:  eroute.New(),
		start:   c.Clock.Now(),
		inDone:  make(chan struct{}),
	}
	e.memory = int64(min(c.Memory, math.MaxInt64))
	e.trace.log, e.trace.clock = c.Log, c.Clock
	e.knobs.init()
	e.readPorts()
	e.attached.Store(new([]*device))
	e.holds.byRoute = map[*eroute.Entry]*held{}
	e.SetEvents(nobody{})
	var seed [4]byte
	_, _ = rand.Read(seed[:])
	e.ipID.Store(binary.BigEndian.Uint32(seed[:]))
	r, err := host.OpenReceiver(batchSize)
	if err != nil {
		return nil, err
	}
	e.receiver = r
	e.ports.init(r.SetUDPPorts)
	e.groups.init()
	e.lapses.sas = map[*sadb.SA]struct{}{}
	e.keep.sas, e.keep.sent = map[*sadb.SA]bool{}, map[natFlow]int64{}
	e.keeper.open(c.Marks, c.Clock, c.MarksLost)
	if c.State != nil {
		if err := e.restore(c.State); err != nil {
			r.Close()
			r.Release()
			e.keep.close()
			e.forget()
			return nil, &klips.OpError{Op: "take over", Err: err}
		}
	}
	go newInWorker(e).run()
	return e, nil
}

// Close forgets all SAs and their keys, and returns when no packet is under way any
// more. The devices go, but for those of [Engine.KeepDevices].
func (e *Engine) Close() error {
	if e.quiesce() {
		e.forget()
	}
	return nil
}

// quiesce returns when no packet is under way any more, and none will be. What the
// engine knows is still there. false: that has been done already.
func (e *Engine) quiesce() bool {
	e.devMu.Lock()
	if e.closed {
		e.devMu.Unlock()
		return false
	}
	e.closed = true
	devs := e.devs
	e.devMu.Unlock()

	e.keep.close()
	e.lapses.close()
	e.ports.close()
	e.receiver.Close()
	<-e.inDone
	e.receiver.Release()
	for _, d := range devs {
		switch {
		case d == nil:
		case d.closing.CompareAndSwap(false, true):
			e.remove(d, Link.Close)
		default:
			<-d.gone
		}
	}
	return true
}

// forget forgets all that the engine knows, and clears the keys.
func (e *Engine) forget() {
	e.holds.close()
	e.keeper.ended(e.sas.Flush()...)
	e.keeper.close()
	e.routes.Clear()
}

// Drops returns how many packets that belong to no device went no further, by reason;
// nil: none.
func (e *Engine) Drops() drop.Counts { return e.nobody.drops.Read() }

// now is the engine's clock: nanoseconds since it started, at least 1.
func (e *Engine) now() int64 { return int64(e.clock.Now().Sub(e.start)) + 1 }

// nextID returns an IPv4 identification that is not 0: the kernel would replace
// that one, and AH covers it.
func (e *Engine) nextID() uint16 {
	for {
		if id := uint16(e.ipID.Add(1)); id != 0 {
			return id
		}
	}
}
