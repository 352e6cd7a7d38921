package nlxfrm

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"
)

// A Conn is a connection to the XFRM tables of one network namespace. Its
// methods may be called from several goroutines; they take turns.
//
// When a context ends, the method returns its error at once and the Conn stays usable.
// The kernel may have made the requested change before that.
type Conn struct {
	mu     sync.Mutex
	sock   socket
	seq    uint32
	window int    // maximum number of requests without an ack
	dump   uint32 // sequence number of an unfinished dump; 0: none
}

// A socket has the methods of netlink.Conn that are used here.
type socket interface {
	SendMessages([]netlink.Message) ([]netlink.Message, error)
	Receive() ([]netlink.Message, error)
	SetDeadline(time.Time) error
	Close() error
}

const (
	familyXFRM = 6 // NETLINK_XFRM
	// receiveSize is the maximum size of a datagram in a dump.
	receiveSize = 64 << 10
	// maxWindow: more requests at once gain nothing.
	maxWindow = 128
	// maxChunk is well below the size of a default send buffer.
	maxChunk = 64 << 10
	// ackRoom is more than an ack needs in the receive buffer; it repeats a failed
	// request.
	ackRoom = 4 << 10
)

// Dial connects to the network namespace of the calling thread; the connection stays in
// it. EPROTONOSUPPORT: the kernel has no XFRM (CONFIG_XFRM_USER). Requests need
// CAP_NET_ADMIN, dialing does not.
func Dial() (*Conn, error) {
	n, err := netlink.Dial(familyXFRM, &netlink.Config{MessageBufferSize: receiveSize})
	if err != nil {
		return nil, wrap("connect to XFRM", "", err)
	}
	// Old kernels have neither; their errors have no text.
	for _, o := range []netlink.ConnOption{netlink.ExtendedAcknowledge, netlink.GetStrictCheck} {
		if err := n.SetOption(o, true); err != nil && !errors.Is(err, syscall.ENOPROTOOPT) {
			n.Close()
			return nil, wrap("connect to XFRM", "", err)
		}
	}
	c := newConn(n)
	if size, err := n.ReadBuffer(); err == nil {
		c.window = max(1, min(maxWindow, size/ackRoom))
	}
	return c, nil
}

func newConn(s socket) *Conn { return &Conn{sock: s, window: 16} }

// Close closes the socket. The kernel's objects stay.
func (c *Conn) Close() error { return c.sock.Close() }

// Do carries out one change.
func (c *Conn) Do(ctx context.Context, r Request) error {
	errs, err := c.Batch(ctx, []Request{r})
	if err != nil {
		return err
	}
	return errs[0]
}

// do is Do for a request made here; it clears it.
func (c *Conn) do(ctx context.Context, r Request) error {
	defer clear(r.data)
	return c.Do(ctx, r)
}

// AddState adds a state; see the function [AddState] for errors.
func (c *Conn) AddState(ctx context.Context, s *State) error { return c.do(ctx, AddState(s)) }

// UpdateState changes a state; see the function [UpdateState].
func (c *Conn) UpdateState(ctx context.Context, s *State) error { return c.do(ctx, UpdateState(s)) }

// DeleteState removes a state. ESRCH: it does not exist.
func (c *Conn) DeleteState(ctx context.Context, id ID, m Mark) error {
	return c.do(ctx, DeleteState(id, m))
}

// UpdateAE sets a state's numbers and counters; see the function [UpdateAE].
func (c *Conn) UpdateAE(ctx context.Context, a *AE) error { return c.do(ctx, UpdateAE(a)) }

// AddPolicy adds a policy. EEXIST: its key exists.
func (c *Conn) AddPolicy(ctx context.Context, p *Policy) error { return c.do(ctx, AddPolicy(p)) }

// UpdatePolicy adds or replaces a policy.
func (c *Conn) UpdatePolicy(ctx context.Context, p *Policy) error { return c.do(ctx, UpdatePolicy(p)) }

// DeletePolicy removes a policy. ENOENT: it does not exist.
func (c *Conn) DeletePolicy(ctx context.Context, k PolicyKey) error {
	return c.do(ctx, DeletePolicy(k))
}

// GetState reads a state with its keys. ESRCH: it does not exist.
func (c *Conn) GetState(ctx context.Context, id ID, m Mark) (*State, error) {
	return get(ctx, c, getState(id, m), msgNewSA, parseState)
}

// GetAE reads a state's numbers and counters, without keys. ESRCH: it does not exist.
func (c *Conn) GetAE(ctx context.Context, id ID, m Mark) (*AE, error) {
	return get(ctx, c, getAE(id, m), msgNewAE, parseAE)
}

// GetPolicy reads a policy. ENOENT: it does not exist.
func (c *Conn) GetPolicy(ctx context.Context, k PolicyKey) (*Policy, error) {
	return get(ctx, c, getPolicy(k), msgNewPolicy, parsePolicy)
}

// DumpStates reads all states with their keys, or those of one protocol if it
// is not 0.
func (c *Conn) DumpStates(ctx context.Context, proto uint8) ([]*State, error) {
	return dump(ctx, c, dumpStates(proto), msgNewSA, parseState)
}

// DumpPolicies reads all policies, except those of sockets.
func (c *Conn) DumpPolicies(ctx context.Context) ([]*Policy, error) {
	return dump(ctx, c, dumpPolicies(), msgNewPolicy, parsePolicy)
}

// Batch sends many requests in few system calls and waits for all their acks. The
// result has one error for each request, in order: nil if the kernel has carried it
// out. After a failed request, later ones are still carried out. The requests are not
// cleared.
//
// The other error is not nil if the exchange itself failed or the context ended. All
// requests without an ack then have that error; those that were sent may have been
// carried out.
func (c *Conn) Batch(ctx context.Context, rs []Request) ([]error, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	errs := make([]error, len(rs))
	end, err := c.begin(ctx)
	defer end()
	var todo []int // indexes of the requests that can be sent
	for i := range rs {
		switch {
		case err != nil:
			errs[i] = c.fail(ctx, &rs[i], err)
		case rs[i].err != nil || rs[i].cleared:
			errs[i] = rs[i].refused()
		default:
			todo = append(todo, i)
		}
	}
	for len(todo) > 0 && err == nil {
		n := c.chunk(rs, todo)
		var done int
		if done, err = c.exchange(rs, todo[:n], errs); err != nil {
			for _, i := range todo[done:] {
				errs[i] = c.fail(ctx, &rs[i], err)
			}
			break
		}
		todo = todo[n:]
	}
	if err != nil {
		r := &Request{op: "change"}
		if len(rs) == 1 {
			r = &rs[0]
		}
		return errs, c.fail(ctx, r, err)
	}
	return errs, nil
}

// chunk returns how many of the requests are sent together. The kernel carries them out
// during the send, and loses acks that do not fit into the receive buffer.
func (c *Conn) chunk(rs []Request, todo []int) (n int) {
	size := 0
	for n < len(todo) && n < c.window {
		size += len(rs[todo[n]].data) + 16
		if n > 0 && size > maxChunk {
			break
		}
		n++
	}
	return n
}

// exchange sends requests and reads their acks, which come in order. done is the number
// of acks before an error of the exchange.
func (c *Conn) exchange(rs []Request, which []int, errs []error) (done int, err error) {
	sent, err := c.send(rs, which)
	if err != nil {
		return 0, err
	}
	for i, m := range sent {
		r := &rs[which[i]]
		_, refused, err := c.receive(m.Header.Sequence)
		switch {
		case err != nil:
			return i, err
		case refused != nil:
			errs[which[i]] = wrap(r.op, r.name(), refused)
		}
	}
	return len(sent), nil
}

func (c *Conn) send(rs []Request, which []int) ([]netlink.Message, error) {
	msgs := make([]netlink.Message, len(which))
	for i, n := range which {
		r := &rs[n]
		msgs[i] = netlink.Message{Header: netlink.Header{Type: r.typ, Flags: r.flags, Sequence: c.next()}, Data: r.data}
	}
	return c.sock.SendMessages(msgs)
}

// next returns a sequence number. Package netlink would replace 0.
func (c *Conn) next() uint32 {
	if c.seq++; c.seq == 0 {
		c.seq++
	}
	return c.seq
}

// receive reads the answer to a request, its ack or a whole dump. It skips answers to
// abandoned requests. refused is an error of the kernel; the other error is one of the
// exchange.
func (c *Conn) receive(seq uint32) (msgs []netlink.Message, refused, err error) {
	for {
		msgs, err := c.sock.Receive()
		if err != nil {
			var n *netlink.OpError
			if !errors.As(err, &n) || n.Sequence == 0 {
				return nil, nil, err
			}
			if n.Sequence == seq {
				return nil, err, nil
			}
			continue
		}
		// An empty answer is an empty dump.
		if len(msgs) == 0 || msgs[0].Header.Sequence == seq {
			return msgs, nil, nil
		}
		for _, m := range msgs {
			clear(m.Data)
		}
	}
}

// begin makes the end of the context stop the socket's operations, until end is called.
func (c *Conn) begin(ctx context.Context) (end func(), err error) {
	if err := ctx.Err(); err != nil {
		return func() {}, err
	}
	if err := c.sock.SetDeadline(time.Time{}); err != nil {
		return func() {}, err
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		c.sock.SetDeadline(time.Unix(1, 0))
	})
	end = func() {
		if !stop() {
			<-stopped
		}
	}
	if c.dump != 0 {
		// The kernel starts no dump before the last one was read to its end.
		_, _, err = c.receive(c.dump)
		if err == nil {
			c.dump = 0
		}
	}
	return end, err
}

// fail makes the error for a request whose exchange failed.
func (c *Conn) fail(ctx context.Context, r *Request, err error) error {
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return wrap(r.op, r.name(), err)
}

// query sends a request for objects and reads them.
func (c *Conn) query(ctx context.Context, r *Request) ([]netlink.Message, error) {
	if err := r.refused(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	end, err := c.begin(ctx)
	defer end()
	if err != nil {
		return nil, c.fail(ctx, r, err)
	}
	sent, err := c.send([]Request{*r}, []int{0})
	if err != nil {
		return nil, c.fail(ctx, r, err)
	}
	seq := sent[0].Header.Sequence
	msgs, refused, err := c.receive(seq)
	switch {
	case refused != nil:
		return nil, wrap(r.op, r.name(), refused)
	case err != nil:
		if r.flags&netlink.Dump == netlink.Dump {
			c.dump = seq
		}
		return nil, c.fail(ctx, r, err)
	}
	return msgs, nil
}

// dump requests objects of one type and decodes them.
func dump[T any](ctx context.Context, c *Conn, r Request, typ netlink.HeaderType, parse func([]byte) (*T, error)) ([]*T, error) {
	msgs, err := c.query(ctx, &r)
	if err != nil {
		return nil, err
	}
	objects := make([]*T, 0, len(msgs))
	for _, m := range msgs {
		if m.Header.Type == typ && err == nil {
			var o *T
			if o, err = parse(m.Data); err == nil {
				objects = append(objects, o)
			}
		}
		clear(m.Data) // contains keys
	}
	if err != nil {
		return nil, wrap(r.op, r.name(), err)
	}
	return objects, nil
}

// get is dump for a single object.
func get[T any](ctx context.Context, c *Conn, r Request, typ netlink.HeaderType, parse func([]byte) (*T, error)) (*T, error) {
	objects, err := dump(ctx, c, r, typ, parse)
	if err == nil && len(objects) != 1 {
		err = wrap(r.op, r.name(), malformed("%d objects in the answer", len(objects)))
	}
	if err != nil {
		return nil, err
	}
	return objects[0], nil
}
