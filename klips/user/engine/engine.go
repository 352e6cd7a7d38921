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

// batchSize is the largest number of packets that a worker handles per system call.
const batchSize = 128

// A worker is the number of an outWorker or an inWorker. Numbers below 0 are for inbound
// packets. One goroutine at a time handles packets as a worker.
type worker int

// injectWorker is for packets that were held: the goroutine that replaces their eroute sends
// them.
const injectWorker worker = MaxLanes * klips.MaxDevices

// receives returns the worker of a lane that handles inbound packets.
func receives(lane int) worker { return worker(-1 - lane) }

// sends returns the worker of a lane of a device.
func sends(d *device, lane int) worker { return worker(lane*klips.MaxDevices + d.num) }

// An Engine is a running stack. Its methods may be called from any goroutine.
//
// Locks. The packet workers of a device share the mutex of its attachment for a batch. They
// take other locks now and then: holds.mu, ports.mu, groups.mu, keep.mu, lapses.mu,
// keeper.mu, states.mu, cutPackets.mu, quiet.mu, and the locks inside sadb, eroute and
// Events. The order is
//
//	injectMu, attachment.mu, holds.mu, and then one of the others
//
// so a goroutine that waits for a packet worker holds none of them. One that takes
// attachment.mu to wait for the end of a batch (retire, release) holds at most injectMu,
// which no device's worker takes. devMu is for control operations: a packet worker never
// takes it, and no goroutine that holds it waits for a worker. A worker that waits for a
// lane or for the inbound worker holds none.
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
	injectMu sync.Mutex // held by the goroutine that uses worker number injectWorker

	// Memory and its limit; see Engine.room.
	memory     int64        // bytes; 0: no limit
	saMemory   atomic.Int64 // bytes that SAs need
	numDevices atomic.Int32

	lanes           int // how many there are, at least 1
	inTurn, outTurn atomic.Uint32

	receiver  Receiver
	inDone    chan struct{}
	inbound   *inWorker // of lane 0
	loan      loan
	ports     ports
	groups    groups
	keep      keepalives
	lapses    lapses
	inherited inherited
	keeper    keeper
	forgetter forgetter
	// attached are the devices with an attachment, by number. The inbound worker finds
	// the device of a packet there.
	attached atomic.Pointer[[]*device]
	// nobody counts inbound packets that belong to no device.
	nobody    stats
	lastDrops lastDrops

	debugMu sync.Mutex // held by the goroutine that changes the masks of trace
	trace   trace

	reconsidering atomic.Bool  // chooseAll will run soon
	rereading     atomic.Bool  // the MTUs of routes will be read soon
	rereadTook    atomic.Int64 // how long it took last, in nanoseconds

	devMu   sync.Mutex // guards the fields below
	devs    [klips.MaxDevices]*device
	keeping bool // devices outlive the engine
	closed  bool
}

var _ serial.Doer = (*Engine)(nil)

// A Config has what an engine needs besides its host.
type Config struct {
	Version string      // what Version returns: the line of ipsec_version
	Clock   clock.Clock // nil: this machine's
	// Lanes is how many SAs packets can be handled for at the same time in each direction,
	// on machines with several processors; 0 is 1, and more than MaxLanes is MaxLanes.
	Lanes int
	// State is what another engine has handed over; nil: nothing. The caller overwrites
	// its keys when New has returned.
	State *handover.State
	// Memory is how many bytes SAs, eroutes, held packets and devices may need besides
	// BaseMemory; when it is reached, ENOBUFS refuses more of them. 0: no limit.
	Memory uint64
	// Log gets the lines that the debug masks ask for, with level Debug, and lines about
	// changes of physical devices, with higher levels; nil: no log. It must not wait for
	// packets.
	Log *slog.Logger
	// Marks is the file that keeps how far the numbers of SAs have come; nil: none. It
	// stays open until Close has returned.
	Marks *marks.File
	// MarksLost is called with an error when marks cannot be kept any more, and with nil
	// when they can be kept again. It may be nil.
	MarksLost func(error)
}

// New starts an engine on a host. It receives packets from now on. It has no devices
// except those of Config.State. Close ends it.
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
		loan:    newLoan(),
	}
	e.lanes = min(max(c.Lanes, leastLanes), MaxLanes)
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
	e.inbound = newInWorker(e, 0, newParcel())
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
	go e.inbound.run()
	return e, nil
}

// Close removes all SAs and overwrites their keys. It returns when no packet is being
// processed any more. The devices are removed, except those of [Engine.KeepDevices].
func (e *Engine) Close() error {
	if e.quiesce() {
		e.forget()
	}
	return nil
}

// quiesce returns when no packet is being processed any more, and stops all later ones.
// SAs, eroutes and devices remain. false: it was called before.
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

// forget removes all SAs and eroutes, and overwrites the keys.
func (e *Engine) forget() {
	e.holds.close()
	e.keeper.ended(e.sas.Flush()...)
	e.keeper.close()
	e.routes.Clear()
}

// Drops returns how many packets that belong to no device were dropped, by reason; nil:
// none.
func (e *Engine) Drops() drop.Counts { return e.nobody.drops.Read() }

// now returns the engine's clock: nanoseconds since it started, at least 1.
func (e *Engine) now() int64 { return int64(e.clock.Now().Sub(e.start)) + 1 }

// nextID returns an IPv4 identification other than 0. The kernel would replace 0, and the
// ICV of AH covers the identification.
func (e *Engine) nextID() uint16 {
	for {
		if id := uint16(e.ipID.Add(1)); id != 0 {
			return id
		}
	}
}
