package engine

import (
	"crypto/rand"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/clock"
	"github.com/klips-go/ipsec/klips/user/eroute"
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
type Engine struct {
	host    Host
	version string
	clock   clock.Clock
	sas     *sadb.DB
	routes  *eroute.Table
	start   time.Time

	knobs    knobs
	ipID     atomic.Uint32
	icmpGate gate

	events   atomic.Pointer[Events]
	holds    holds
	injectMu sync.Mutex // held by who uses worker number injectWorker

	receiver Receiver
	inDone   chan struct{}
	// attached are the devices with a physical one, by number, for inbound
	// packets to find theirs.
	attached atomic.Pointer[[]*device]

	mu     sync.Mutex // guards what follows, and making worker states
	devs   [klips.MaxDevices]*device
	debug  klips.Debug
	udp    ports
	closed bool
}

var _ klips.Stack = (*Engine)(nil)

// A Config is what an engine needs to know besides its host.
type Config struct {
	Version string      // what Version returns: the line of ipsec_version
	Clock   clock.Clock // nil: this machine's
}

// New starts an engine on a host: it receives packets from now on. There are
// no devices yet. Close ends it.
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
		udp:     ports{},
	}
	e.knobs.init()
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
	go newInWorker(e).run()
	return e, nil
}

// Close removes the devices, forgets all SAs and their keys, and returns when
// no packet is under way any more.
func (e *Engine) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	devs := e.devs
	e.devs = [klips.MaxDevices]*device{}
	e.attached.Store(new([]*device))
	e.mu.Unlock()

	e.receiver.Close()
	<-e.inDone
	e.receiver.Release()
	for _, d := range devs {
		if d != nil {
			d.close()
		}
	}
	e.sas.Flush()
	e.routes.Clear()
	return nil
}

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
