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

// maxBroadcasts is the limit for queued broadcasts to a client that does not read; the
// socket holds about as many more. Further broadcasts are dropped, as a KLIPS kernel
// drops them.
const maxBroadcasts = 256

// listTimeout is how long a client may leave a message of a listing unread: the listing
// takes memory. A client that wants to take its time asks for one part after the other.
const listTimeout = 10 * time.Second

// A client is a client's connection. One goroutine reads requests and waits for each
// answer, or bundle of answers, to be sent before it reads on; another one sends. So at
// most two of these and maxBroadcasts other messages are queued at any time, and a
// broadcast never waits for the client.
type client struct {
	conn  *net.UnixConn
	pid   int32 // of the process that connected
	root  bool  // whether that process is root's
	clock clock.Clock

	// inUnit: the client has sent BEGIN and not yet END. refused: one of its requests
	// since was refused. holds: it has sent HOLD and not yet RELEASE. Only the goroutine
	// that serves the client uses these.
	inUnit, refused, holds bool

	active atomic.Int64 // when it last sent a request or got an answer, see touch

	// changed: a request of the current datagram may have changed the SAs or eroutes. Only
	// the goroutine that serves the client uses it.
	changed bool

	// gathers: the answer to the current request is added to bundle, which is sent after
	// the last one. Only the goroutine that serves the client uses these.
	gathers bool
	bundle  []byte

	// files are the descriptors of the current request. Only the goroutine that serves
	// the client uses them.
	files []int

	// registered is a set of SA types, by bit. Guarded by clients.mu.
	registered uint16

	mu         sync.Mutex
	queue      []outgoing
	broadcasts int // messages in queue that are not answers
	dropped    int

	wake   chan struct{} // queue is not empty
	closed chan struct{} // nothing more to send
	broken chan struct{} // the sender has ended
}

// An outgoing message is queued for a client. Its bytes are not changed: all clients
// share them.
type outgoing struct {
	b    []byte
	fds  []int         // sent with it
	sent chan struct{} // closed when it is sent; nil for broadcasts
}

// closeFiles closes the descriptors of the current request.
func (c *client) closeFiles() {
	closeAll(c.files)
	c.files = nil
}

func newClient(conn *net.UnixConn, cred *unix.Ucred, clock clock.Clock) *client {
	c := &client{
		conn: conn, pid: cred.Pid, root: cred.Uid == 0, clock: clock,
		wake:   make(chan struct{}, 1),
		closed: make(chan struct{}),
		broken: make(chan struct{}),
	}
	c.touch()
	go c.send()
	return c
}

// hangUp ends the connection; the goroutine that serves it then ends.
func (c *client) hangUp() { c.conn.Close() }

// close ends the connection and returns when the sending goroutine has ended.
func (c *client) close() {
	close(c.closed)
	c.conn.Close()
	<-c.broken
}

// broadcast queues a message that the client did not ask for. ok is false if the
// message was dropped, first is true for the first one dropped.
func (c *client) broadcast(b []byte) (ok, first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broadcasts >= maxBroadcasts {
		c.dropped++
		return false, c.dropped == 1
	}
	c.broadcasts++
	c.push(outgoing{b: b})
	return true, false
}

// answer queues an answer; the result is for wait. If the client gathers answers, it is
// only added to the bundle; a full bundle before it is queued.
func (c *client) answer(b []byte) (sent <-chan struct{}) {
	if !c.gathers {
		return c.answerWith(b, nil)
	}
	if len(c.bundle)+len(b) > pfkey.MaxMessage {
		sent = c.queueBundle()
	}
	c.bundle = append(c.bundle, b...)
	return sent
}

// answerWith queues an answer with descriptors, which the caller still owns, after the
// bundle.
func (c *client) answerWith(b []byte, fds []int) (sent <-chan struct{}) {
	c.queueBundle() // the queue keeps the order
	return c.queueAnswer(outgoing{b: b, fds: fds})
}

// queueBundle queues the answers in the bundle; nil: there are none.
func (c *client) queueBundle() (sent <-chan struct{}) {
	if len(c.bundle) == 0 {
		return nil
	}
	b := c.bundle
	c.bundle = nil
	return c.queueAnswer(outgoing{b: b})
}

func (c *client) queueAnswer(o outgoing) (sent <-chan struct{}) {
	done := make(chan struct{})
	o.sent = done
	c.mu.Lock()
	defer c.mu.Unlock()
	c.push(o)
	return done
}

// flush sends the bundle. It returns true when all answers have been sent, false when
// they never will be.
func (c *client) flush() bool {
	b := c.bundle
	ok := c.wait(c.queueBundle())
	c.bundle = b[:0] // the next bundle uses the memory again
	return ok
}

func (c *client) push(o outgoing) {
	c.queue = append(c.queue, o)
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// wait returns true when an answer has been sent, false when it never will be. A client
// that does not read its answer has time until it counts as idle. If sent is nil, there is
// nothing to wait for.
func (c *client) wait(sent <-chan struct{}) bool {
	if sent == nil {
		return true
	}
	select {
	case <-sent:
		return true
	case <-c.broken:
		return false
	}
}

// waitAtMost is wait with a limit.
func (c *client) waitAtMost(sent <-chan struct{}, d time.Duration) bool {
	late := make(chan struct{})
	t := c.clock.AfterFunc(d, func() { close(late) })
	defer t.Stop()
	select {
	case <-sent:
		return true
	case <-c.broken:
	case <-late:
	}
	return false
}

// send sends what is queued until the connection ends.
func (c *client) send() {
	defer close(c.broken)
	defer c.conn.Close() // wakes the reading goroutine
	for {
		o, ok := c.pop()
		if !ok {
			select {
			case <-c.wake:
				continue
			case <-c.closed:
				return
			}
		}
		if o.sent != nil {
			c.touch()
		}
		var rights []byte
		if len(o.fds) > 0 {
			rights = unix.UnixRights(o.fds...)
		}
		if _, _, err := c.conn.WriteMsgUnix(o.b, rights, nil); err != nil {
			return
		}
		if o.sent != nil {
			close(o.sent)
		}
	}
}

func (c *client) pop() (o outgoing, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		c.queue = nil
		return outgoing{}, false
	}
	o = c.queue[0]
	c.queue[0] = outgoing{}
	c.queue = c.queue[1:]
	if o.sent == nil {
		c.broadcasts--
	}
	return o, true
}

// clients is the set of connected clients.
type clients struct {
	mu      sync.Mutex
	all     []*client
	dropped uint64

	// slow is called when the first broadcast to a client is dropped.
	slow func(c *client)
}

// join adds a client. If there are maxClients already, it removes one and returns it.
func (a *clients) join(c *client) (out *client) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.all) >= maxClients {
		out = a.evictLocked()
	}
	a.all = append(a.all, c)
	return out
}

func (a *clients) leave(c *client) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.leaveLocked(c)
}

func (a *clients) leaveLocked(c *client) {
	if i := slices.Index(a.all, c); i >= 0 {
		a.all = slices.Delete(a.all, i, i+1)
	}
}

// register registers a client for SAs of a type. It returns false if there are too many
// listeners.
func (a *clients) register(c *client, t pfkey.SAType) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !c.listensLocked() {
		n := 0
		for _, other := range a.all {
			if other.listensLocked() {
				n++
			}
		}
		if n >= maxListeners {
			return false
		}
	}
	c.registered |= 1 << t
	return true
}

// everyone is the SA type that stands for all clients, registered or not.
const everyone = pfkey.SAType(0)

func (c *client) wants(t pfkey.SAType) bool { return t == everyone || c.registered&(1<<t) != 0 }

// has reports whether a client registered for an SA type.
func (a *clients) has(c *client, t pfkey.SAType) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return c.wants(t)
}

// count returns how many clients want messages for an SA type.
func (a *clients) count(t pfkey.SAType) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, c := range a.all {
		if c.wants(t) {
			n++
		}
	}
	return n
}

// broadcast queues a message for all clients that want those for an SA type, and
// returns their number. It does not wait for them.
func (a *clients) broadcast(t pfkey.SAType, b []byte) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.broadcastLocked(t, b, nil)
}

func (a *clients) broadcastLocked(t pfkey.SAType, b []byte, but *client) (received int) {
	for _, c := range a.all {
		if c == but || !c.wants(t) {
			continue
		}
		ok, first := c.broadcast(b)
		if ok {
			received++
			continue
		}
		a.dropped++
		if first {
			a.slow(c)
		}
	}
	return received
}

// answer queues an answer for the client that asked, and broadcasts for the others. The
// lock gives all clients the same order of changes.
func (a *clients) answer(to *client, answer []byte, t pfkey.SAType, broadcasts [][]byte) (sent <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, b := range broadcasts {
		a.broadcastLocked(t, b, to)
	}
	return to.answer(answer)
}

// lost returns how many broadcasts were dropped.
func (a *clients) lost() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.dropped
}
