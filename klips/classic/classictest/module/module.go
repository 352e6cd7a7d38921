package module

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// A Module is KLIPS after loading: without SAs and eroutes, with the unattached devices
// ipsec0 and ipsec1 (and mast0).
type Module struct {
	now      func() time.Duration
	addrs    map[netip.Addr]bool // the machine's addresses, besides the loopback ones
	physical map[string]int      // MTUs
	stats    map[string]klips.DeviceStats

	buckets [buckets][]*sa // newest first
	free    []*sa          // the one freed last is last
	sarefs  uint32         // number handed out
	iv      *rand.Rand
	faults  []string

	eroutes []chain  // by key
	masks   []string // all that ever existed: the tree of masks only grows

	devices [maxDevices]*device
	masts   map[int]bool
	encaps  []Encap
	debug   klips.Debug
	sockets []*Socket
}

// New loads the module into a machine that has only the loopback device. now is the
// time since the machine's start.
func New(now func() time.Duration) *Module {
	m := &Module{
		now: now, addrs: map[netip.Addr]bool{}, physical: map[string]int{"lo": 65536},
		stats: map[string]klips.DeviceStats{}, iv: rand.New(rand.NewPCG(3, 32)), masts: map[int]bool{0: true},
	}
	for i := range 2 {
		m.devices[i] = &device{name: fmt.Sprint("ipsec", i)}
	}
	return m
}

// AddAddr gives the machine an address. Later SAs with this destination are inbound.
func (m *Module) AddAddr(a netip.Addr) { m.addrs[a] = true }

func (m *Module) local(a netip.Addr) bool { return a.IsLoopback() || m.addrs[a] }

// Faults describes the operations of commands that are undefined in the kernel, most of
// them writes to freed memory. A real kernel may have crashed.
func (m *Module) Faults() []string { return slices.Clone(m.faults) }

func (m *Module) fault(format string, args ...any) {
	m.faults = append(m.faults, fmt.Sprintf(format, args...))
}

// Times. The tick counter starts five minutes before a 32-bit one wraps around, so that
// faulty drivers show early. KLIPS' seconds are ticks divided by 100.
const (
	hz           = 100
	firstJiffies = 1<<32 - 300*hz
)

func (m *Module) jiffies() uint64 { return firstJiffies + uint64(m.now()*hz/time.Second) }
func (m *Module) seconds() uint64 { return m.jiffies() / hz }

// A Socket is an open PF_KEY socket.
type Socket struct {
	m          *Module
	uid        int
	queue      [][]byte
	registered []pfkey.SAType // with repetitions, as in KLIPS
}

// Open opens a PF_KEY socket for a user.
func (m *Module) Open(uid int) *Socket {
	s := &Socket{m: m, uid: uid}
	m.sockets = append(m.sockets, s)
	return s
}

// Close closes the socket.
func (s *Socket) Close() {
	s.m.sockets = slices.DeleteFunc(s.m.sockets, func(o *Socket) bool { return o == s })
}

// Read returns the next message for the socket, and whether there is one.
func (s *Socket) Read() ([]byte, bool) {
	if len(s.queue) == 0 {
		return nil, false
	}
	b := s.queue[0]
	s.queue = s.queue[1:]
	return b, true
}

// Write carries out one message. The errno is that of write(2), 0 for none. Bytes that
// are not a message are refused, and no socket gets a message about it. Otherwise most
// results go to all sockets.
func (s *Socket) Write(b []byte) syscall.Errno {
	h, err := pfkey.ParseHeader(b)
	if err == nil && h.Type > pfkey.TypeUnplumbIf {
		err = syscall.EINVAL
	}
	if err != nil {
		return pfkey.Errno(err)
	}
	errno := s.carryOut(b)
	if errno != 0 {
		s.m.tellAll(pfkey.ErrorReply(h, errno))
	}
	return errno
}

// carryOut carries out a message, and sends an answer if it succeeds.
func (s *Socket) carryOut(b []byte) syscall.Errno {
	msg, err := pfkey.Parse(b)
	if err == nil {
		err = pfkey.Check(msg)
	}
	if err != nil {
		return pfkey.Errno(err)
	}
	switch m := s.m; msg.Type {
	case pfkey.TypeGetSPI:
		return m.reserve(msg)
	case pfkey.TypeAdd:
		return m.add(msg)
	case pfkey.TypeUpdate:
		return m.update(msg)
	case pfkey.TypeDelete:
		return m.remove(msg)
	case pfkey.TypeGet:
		return s.get(msg)
	case pfkey.TypeFlush:
		m.flush()
		m.tellAll(msg)
	case pfkey.TypeRegister:
		s.register(msg)
	case pfkey.TypeExpire:
		m.tellAll(msg)
	case pfkey.TypeGroupSA:
		return m.group(msg)
	case pfkey.TypeAddFlow:
		return m.addFlow(msg)
	case pfkey.TypeDelFlow:
		return m.delFlow(msg)
	case pfkey.TypeDebug:
		m.setDebug(msg) // without an answer
	case pfkey.TypePlumbIf, pfkey.TypeUnplumbIf:
		s.send(pfkey.PlumbReply(msg, m.plumb(int(*msg.PlumbIf), msg.Type == pfkey.TypePlumbIf)))
	case pfkey.TypeDump, pfkey.TypePromisc, pfkey.TypePChange:
		return syscall.ENOSYS
	default: // X_NAT_T_NEW_MAPPING, and an ACQUIRE with a proposal
		return syscall.EINVAL
	}
	return 0
}

// send queues a message for one socket. A message that repeats invalid values of a
// request, such as an identity with a NUL in its middle, is lost.
func (s *Socket) send(m *pfkey.Message) {
	if b, err := m.Marshal(); err == nil {
		s.queue = append(s.queue, b)
	}
}

// tellAll queues a message for all sockets, including the sender's.
func (m *Module) tellAll(msg *pfkey.Message) {
	for _, s := range m.sockets {
		s.send(msg)
	}
}

// register adds a socket to those for an SA type, even if it is there already, and
// sends all of them the list of algorithms.
func (s *Socket) register(msg *pfkey.Message) {
	s.registered = append(s.registered, msg.SAType)
	auth, enc := supportedBy(msg.SAType)
	r := pfkey.RegisterReply(msg, auth, enc)
	for _, o := range s.m.sockets {
		if slices.Contains(o.registered, msg.SAType) {
			o.send(r)
		}
	}
}

// netlinkSet is the bit of the netlink mask that selects OR; it is not a mask bit.
const netlinkSet = 1 << 31

func (m *Module) setDebug(msg *pfkey.Message) {
	masks := klips.Debug(*msg.Debug)
	set := masks[klips.DebugNetlink]&netlinkSet != 0
	masks[klips.DebugNetlink] &^= netlinkSet
	for i, mask := range masks {
		if set {
			m.debug[i] |= mask
		} else {
			m.debug[i] &= mask
		}
	}
}
