package daemon

import (
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user/clock"
)

// maxNews is how many messages that it did not ask for wait for a client that
// does not read; the socket holds about as many more. What comes when there are
// so many is dropped, as a KLIPS kernel drops it.
const maxNews = 256

// listTimeout is how long a client may leave a part of a listing unread: the
// rest takes memory.
const listTimeout = 10 * time.Second

// A peer is a client's connection. One goroutine reads requests from it and
// waits for each answer to be sent before it reads on; another one sends. So at
// most one answer and maxNews other messages wait at any time, and whoever has
// news for it never waits at all.
type peer struct {
	conn  *net.UnixConn
	pid   int32 // of the process that connected
	root  bool  // it is root's
	clock clock.Clock

	// inUnit: it has sent BEGIN and not yet END; refused: one of its requests since was
	// refused; holds: it has sent HOLD and not yet RELEASE; turns: how often it has
	// entered its turn, see [turn]. For the goroutine that serves it.
	inUnit, refused, holds bool
	turns                  int

	active atomic.Int64 // when it last asked or got an answer, see touch

	// registered is a set of SA types, by bit. Guarded by audience.mu.
	registered uint16

	mu      sync.Mutex
	queue   []outgoing
	news    int // messages in queue that are no answers
	dropped int

	wake   chan struct{} // there is something in queue
	closed chan struct{} // no more to send
	broken chan struct{} // the sender has ended
}

// An outgoing message is on its way to a client. Its bytes are not changed: all
// clients get the same.
type outgoing struct {
	b    []byte
	fds  []int         // go with it
	sent chan struct{} // closed when it is sent; nil for news
}

func newPeer(c *net.UnixConn, cred *unix.Ucred, clock clock.Clock) *peer {
	p := &peer{
		conn: c, pid: cred.Pid, root: cred.Uid == 0, clock: clock,
		wake:   make(chan struct{}, 1),
		closed: make(chan struct{}),
		broken: make(chan struct{}),
	}
	p.touch()
	go p.send()
	return p
}

// hangUp ends the connection; who serves it sees that.
func (p *peer) hangUp() { p.conn.Close() }

// close ends the connection and returns when nobody sends any more.
func (p *peer) close() {
	close(p.closed)
	p.conn.Close()
	<-p.broken
}

// tell queues news. first is true for the first message that had to be dropped,
// ok if this one was not.
func (p *peer) tell(b []byte) (ok, first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.news >= maxNews {
		p.dropped++
		return false, p.dropped == 1
	}
	p.news++
	p.push(outgoing{b: b})
	return true, false
}

// answer queues an answer; the result is for wait.
func (p *peer) answer(b []byte) (sent <-chan struct{}) { return p.answerWith(b, nil) }

// answerWith is answer with descriptors, which stay the caller's.
func (p *peer) answerWith(b []byte, fds []int) (sent <-chan struct{}) {
	c := make(chan struct{})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.push(outgoing{b, fds, c})
	return c
}

func (p *peer) push(o outgoing) {
	p.queue = append(p.queue, o)
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// wait returns true when an answer has been sent, false when it will never be. A
// client that does not read its answer gets time until it counts as idle.
func (p *peer) wait(sent <-chan struct{}) bool {
	select {
	case <-sent:
		return true
	case <-p.broken:
		return false
	}
}

// waitAtMost is wait with an end.
func (p *peer) waitAtMost(sent <-chan struct{}, d time.Duration) bool {
	late := make(chan struct{})
	t := p.clock.AfterFunc(d, func() { close(late) })
	defer t.Stop()
	select {
	case <-sent:
		return true
	case <-p.broken:
	case <-late:
	}
	return false
}

// send sends what is queued until the connection ends.
func (p *peer) send() {
	defer close(p.broken)
	defer p.conn.Close() // wakes who reads
	for {
		o, ok := p.pop()
		if !ok {
			select {
			case <-p.wake:
				continue
			case <-p.closed:
				return
			}
		}
		if o.sent != nil {
			p.touch()
		}
		var rights []byte
		if len(o.fds) > 0 {
			rights = unix.UnixRights(o.fds...)
		}
		if _, _, err := p.conn.WriteMsgUnix(o.b, rights, nil); err != nil {
			return
		}
		if o.sent != nil {
			close(o.sent)
		}
	}
}

func (p *peer) pop() (o outgoing, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 {
		p.queue = nil
		return outgoing{}, false
	}
	o = p.queue[0]
	p.queue[0] = outgoing{}
	p.queue = p.queue[1:]
	if o.sent == nil {
		p.news--
	}
	return o, true
}

// An audience is all peers that there are.
type audience struct {
	mu      sync.Mutex
	peers   []*peer
	dropped uint64

	// deaf is called for a peer whose first message was dropped.
	deaf func(p *peer)
}

// join adds a peer. If there are maxClients already, it removes one and returns
// it.
func (a *audience) join(p *peer) (out *peer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.peers) >= maxClients {
		out = a.evictLocked()
	}
	a.peers = append(a.peers, p)
	return out
}

func (a *audience) leave(p *peer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.leaveLocked(p)
}

func (a *audience) leaveLocked(p *peer) {
	if i := slices.Index(a.peers, p); i >= 0 {
		a.peers = slices.Delete(a.peers, i, i+1)
	}
}

// register notes that a peer wants to hear about SAs of a type, unless there are
// too many who listen.
func (a *audience) register(p *peer, t pfkey.SAType) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !p.listensLocked() {
		n := 0
		for _, other := range a.peers {
			if other.listensLocked() {
				n++
			}
		}
		if n >= maxListeners {
			return false
		}
	}
	p.registered |= 1 << t
	return true
}

// everyone is the SA type that stands for all peers, registered or not.
const everyone = pfkey.SAType(0)

func (p *peer) wants(t pfkey.SAType) bool { return t == everyone || p.registered&(1<<t) != 0 }

// has reports whether a peer registered for an SA type.
func (a *audience) has(p *peer, t pfkey.SAType) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return p.wants(t)
}

// count returns how many peers want messages for an SA type.
func (a *audience) count(t pfkey.SAType) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, p := range a.peers {
		if p.wants(t) {
			n++
		}
	}
	return n
}

// tell gives a message to all peers that want those for an SA type, and returns
// to how many. It waits for none of them.
func (a *audience) tell(t pfkey.SAType, b []byte) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.tellLocked(t, b, nil)
}

func (a *audience) tellLocked(t pfkey.SAType, b []byte, but *peer) (heard int) {
	for _, p := range a.peers {
		if p == but || !p.wants(t) {
			continue
		}
		ok, first := p.tell(b)
		if ok {
			heard++
			continue
		}
		a.dropped++
		if first {
			a.deaf(p)
		}
	}
	return heard
}

// announce gives an answer to the peer that asked, and news about it to the
// others: all hear all changes in one order.
func (a *audience) announce(to *peer, answer []byte, t pfkey.SAType, news [][]byte) (sent <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, b := range news {
		a.tellLocked(t, b, to)
	}
	return to.answer(answer)
}

// lost returns how many messages were dropped because nobody read them.
func (a *audience) lost() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.dropped
}
