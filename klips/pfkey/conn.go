package pfkey

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// A transport carries whole messages between this process and a stack.
type transport interface {
	// send sends one message. On a KLIPS kernel's socket it returns the stack's errno;
	// on others the answer is a message.
	// fds go with it if the transport can send descriptors.
	send(b []byte, fds []int) error
	// recv receives one message into buf and returns its length. A message longer than
	// buf is an error that wraps EMSGSIZE; the end of the connection is one that wraps
	// io.ErrUnexpectedEOF.
	recv(buf []byte) (int, error)
	// answers reports whether a request of a type gets a message as answer. For most
	// types a KLIPS kernel's answer is the result of send.
	answers(t Type) bool
	// ready reports whether recv has a message. It is called when no message is
	// expected, so that a socket's queue does not fill up.
	ready() bool
	// setDeadline makes send and recv fail with os.ErrDeadlineExceeded from t on, also
	// calls that are waiting; the zero time means never.
	setDeadline(t time.Time) error
	close() error
}

// A Conn sends requests to a stack and waits for the answers. Its methods may
// be called from several goroutines; calls take turns.
type Conn struct {
	t    transport
	turn chan struct{} // holds one token; its holder may use the fields below
	buf  []byte
	// bundles: received bytes can be a bundle. rest is what has not yet been read of one.
	bundles bool
	rest    []byte
	out     []byte // for a bundle to send; empty between calls
}

// lastSeq is the sequence number of this process's last request: like the classic
// tools, a process counts from 1. All Conns share it, because stacks send answers to
// every open socket: with separate counts two Conns would take each other's answers.
var lastSeq atomic.Uint32

func newConn(t transport) *Conn {
	c := &Conn{t: t, turn: make(chan struct{}, 1), buf: make([]byte, MaxMessage+1)}
	c.turn <- struct{}{}
	return c
}

// MaxSocketPath is the length in bytes of the longest path in a unix socket's address:
// sun_path has 108 bytes, the last one NUL (unix(7)).
const MaxSocketPath = 107

// A PeerError means that the user at the other end of a unix socket is neither root nor
// the user of this process, and must not get keys.
type PeerError struct {
	Path string
	UID  uint32 // of the process at the other end
}

func (e *PeerError) Error() string {
	return fmt.Sprintf("%s is answered by uid %d, who is neither root nor the user of this process", e.Path, e.UID)
}

// Unwrap returns fs.ErrPermission.
func (e *PeerError) Unwrap() error { return fs.ErrPermission }

// Dial connects to the unix socket (SOCK_SEQPACKET) of a stack. If no stack listens,
// errors.Is finds fs.ErrNotExist or syscall.ECONNREFUSED in the error; if this user may
// not connect, fs.ErrPermission; if the path is too long, syscall.ENAMETOOLONG. If the
// listener is neither root nor the user of this process, the error is a *[PeerError].
func Dial(path string) (*Conn, error) {
	if len(path) > MaxSocketPath {
		return nil, fmt.Errorf("connect to the stack: %s has %d bytes, and the address of a socket holds %d: %w",
			path, len(path), MaxSocketPath, syscall.ENAMETOOLONG)
	}
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("connect to the stack: %w", err)
	}
	t := &unixTransport{c: c}
	cred, err := t.peer()
	if err == nil && cred.Uid != 0 && cred.Uid != uint32(os.Geteuid()) {
		err = &PeerError{Path: path, UID: cred.Uid}
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return newConn(t), nil
}

// PeerPID returns the process id of the stack that listens on the unix socket, 0 if it
// is outside this process's PID namespace or a kernel.
func (c *Conn) PeerPID() int {
	t, ok := c.t.(*unixTransport)
	if !ok {
		return 0
	}
	cred, err := t.peer()
	if err != nil {
		return 0
	}
	return int(cred.Pid)
}

// Close closes the connection. Waiting calls return with an error.
func (c *Conn) Close() error { return c.t.close() }

// Call sends a request and returns the answer. It sets the request's sequence number,
// counting from 1 in this process, and its process id. It drops other messages, such as
// late answers and those to other processes. An answer with an errno is returned
// together with that syscall.Errno as the error. Other errors are those of ctx and of
// the connection, and *[Error] for an answer that cannot be parsed. The caller clears
// the keys of the request.
func (c *Conn) Call(ctx context.Context, request *Message) (*Message, error) {
	var answer *Message
	err := c.CallEach(ctx, request, func(m *Message) (bool, error) {
		answer = m
		return true, nil
	})
	if err != nil && answer == nil {
		return nil, err
	}
	return answer, err
}

// burst is how many requests of [Conn.CallAll] are sent at once. The next burst is sent
// while the stack has one more: if one request were sent for each answer, the two ends
// would wake each other for every request. Two bursts fit easily into the buffers of the
// socket, so that neither end waits for the other to read.
const burst = 32

// CallAll sends requests, some of them before the answers to earlier ones, and passes
// each answer to answered, in order, with the number of its request, from 0. An answer
// without an errno is passed with its header alone. When
// answered returns false, only the last request is still sent. An errno in an answer is
// not an error. bundle: the requests of a burst are one bundle, and so may be their
// answers; only the embedded daemon accepts that. See [Conn.Call] for the errors; with
// EPIPE nothing was sent.
func (c *Conn) CallAll(ctx context.Context, requests []*Message, bundle bool, answered func(i int, answer *Message) (more bool)) error {
	return c.inTurn(ctx, func() error {
		c.bundles = bundle
		defer func() { c.bundles, c.rest = false, nil }()
		last, sent, more := len(requests)-1, 0, true
		send := func(n int) error {
			err := c.askAll(requests[sent:][:n], bundle)
			if sent > 0 && errors.Is(err, syscall.EPIPE) {
				err = io.ErrUnexpectedEOF // earlier ones may have been carried out
			}
			sent += n
			return err
		}
		for i := 0; i <= last; {
			for more && sent <= last && sent-i <= burst {
				if err := send(min(burst, last+1-sent)); err != nil {
					return err
				}
			}
			if sent == i { // skip the others
				i, sent = last, last
				if err := send(1); err != nil {
					return err
				}
			}
			m, err := c.receiveAnswer(requests[i], true, false)
			if err != nil {
				return err
			}
			more = answered(i, m) && more
			i++
		}
		return nil
	})
}

// receiveAnswer waits for an answer to a request. Without must, it only looks at
// messages that have arrived already, and m is nil if the answer is not among them. Without
// whole, an answer without an errno has its header alone. The caller has the turn.
func (c *Conn) receiveAnswer(request *Message, must, whole bool) (m *Message, err error) {
	for must || c.t.ready() {
		b, err := c.next()
		if err != nil {
			return nil, err
		}
		h, err := ParseHeader(b)
		if !answers(h, request) {
			continue // another's message, so its faults do not matter
		}
		switch {
		case err != nil:
		case whole || h.Errno != 0:
			if m, err = Parse(b); err != nil || m.KeyAuth != nil || m.KeyEncrypt != nil {
				clear(b) // it has keys, or can have
			}
		default:
			m = &Message{Header: h}
		}
		if err != nil && !must && h.Errno == 0 {
			return nil, nil // the result of send was success
		}
		return m, err
	}
	return nil, nil
}

// next returns the next message of a bundle, or else receives a message.
func (c *Conn) next() (b []byte, err error) {
	if len(c.rest) == 0 {
		n, err := c.t.recv(c.buf)
		if err != nil || !c.bundles {
			return c.buf[:n], err
		}
		c.rest = c.buf[:n]
	}
	b, c.rest = Split(c.rest)
	return b, nil
}

// Receive waits for the next message of any kind: answers to other processes,
// ACQUIRE, EXPIRE.
func (c *Conn) Receive(ctx context.Context) (*Message, error) {
	var m *Message
	err := c.inTurn(ctx, func() (err error) {
		n, err := c.t.recv(c.buf)
		if err == nil {
			m, err = Parse(c.buf[:n])
		}
		return err
	})
	return m, err
}

// CallEach is Call for a request with several answers. It passes them to each, until
// that returns done or an error. An answer with an errno is the last; each gets it too,
// and the errno is returned.
func (c *Conn) CallEach(ctx context.Context, request *Message, each func(*Message) (done bool, err error)) error {
	return c.inTurn(ctx, func() error {
		if err := c.ask(request); err != nil {
			return err
		}
		must := c.t.answers(request.Type)
		for {
			m, err := c.receiveAnswer(request, must, true)
			switch {
			case err != nil:
				return err
			case m == nil:
				_, err := each(Ack(request.Header))
				return err
			case m.Errno != 0:
				each(m)
				return m.Errno
			}
			if done, err := each(m); done || err != nil {
				return err
			}
		}
	})
}

// ask numbers a request and sends it. The caller has the turn.
func (c *Conn) ask(request *Message) error {
	b, err := appendNumbered(newMessage(), request)
	if err != nil {
		return err
	}
	defer clear(b) // it may contain keys
	return c.t.send(b, request.Files)
}

// askAll is ask for several requests. bundle: they are sent as one bundle, or as several if
// they are too long for one or have descriptors, which belong to the first request of a
// bundle.
func (c *Conn) askAll(requests []*Message, bundle bool) error {
	if c.out == nil {
		c.out = make([]byte, 0, MaxMessage) // growing would leave keys in smaller arrays
	}
	empty := func() {
		clear(c.out) // it may contain keys
		c.out = c.out[:0]
	}
	defer empty()
	var files []int
	begun := false
	send := func() error {
		err := c.t.send(c.out, files)
		if begun && errors.Is(err, syscall.EPIPE) {
			err = io.ErrUnexpectedEOF // earlier ones may have been carried out
		}
		empty()
		begun, files = true, nil
		return err
	}
	b := newMessage()
	for _, request := range requests {
		var err error
		b, err = appendNumbered(b[:0], request)
		if err == nil && len(c.out) > 0 && (!bundle || len(c.out)+len(b) > MaxMessage || len(request.Files) > 0) {
			err = send()
		}
		if err == nil {
			c.out, files = append(c.out, b...), append(files, request.Files...)
		}
		clear(b)
		if err != nil {
			return err
		}
	}
	return send()
}

// appendNumbered numbers a request and appends it in wire form to b, for the caller to
// clear.
func appendNumbered(b []byte, request *Message) ([]byte, error) {
	request.PID = uint32(os.Getpid())
	if !request.Unnumbered {
		request.Seq = lastSeq.Add(1)
	}
	return request.Append(b)
}

// answers reports whether a header belongs to the answer to a request.
func answers(h Header, request *Message) bool {
	return h.Seq == request.Seq && h.PID == request.PID && h.Type == request.Type
}

// inTurn runs f alone, with ctx in effect on the transport.
func (c *Conn) inTurn(ctx context.Context, f func() error) error {
	select {
	case <-c.turn:
		defer func() { c.turn <- struct{}{} }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	deadline, _ := ctx.Deadline()
	if err := c.t.setDeadline(deadline); err != nil {
		return err
	}
	cut := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		c.t.setDeadline(time.Unix(1, 0)) // long past
		close(cut)
	})
	err := f()
	if !stop() {
		<-cut // so that it cannot cut short the next call
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return context.DeadlineExceeded // the transport's clock was ahead
	}
	return err
}

// CallForFiles is Call for a request whose answer has file descriptors; the caller owns
// them. Only the embedded daemon sends such answers.
func (c *Conn) CallForFiles(ctx context.Context, request *Message) (fds []int, err error) {
	t, ok := c.t.(*unixTransport)
	if !ok {
		return nil, syscall.EOPNOTSUPP
	}
	err = c.CallEach(ctx, request, func(*Message) (bool, error) { return true, nil })
	// Only an answer to this request has descriptors.
	fds, t.fds = t.fds, nil
	if err != nil {
		closeAll(fds)
		return nil, err
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		syscall.Close(fd)
	}
}

// maxFDs is the maximum number of descriptors in a message (SCM_MAX_FD in Linux).
const maxFDs = 253

// A unixTransport is a SOCK_SEQPACKET socket.
type unixTransport struct {
	c   *net.UnixConn
	fds []int               // that came with messages
	oob [4*maxFDs + 20]byte // for recv; as much as maxFDs descriptors need, or more
}

// peer returns the credentials of the listener at the time of the connection.
func (t *unixTransport) peer() (cred *syscall.Ucred, err error) {
	raw, err := t.c.SyscallConn()
	if err != nil {
		return nil, err
	}
	cerr := raw.Control(func(fd uintptr) {
		cred, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	return cred, errors.Join(cerr, err)
}

func (t *unixTransport) send(b []byte, fds []int) (err error) {
	if len(fds) == 0 {
		_, err = t.c.Write(b)
		return err
	}
	_, _, err = t.c.WriteMsgUnix(b, syscall.UnixRights(fds...), nil)
	return err
}

func (t *unixTransport) recv(buf []byte) (int, error) {
	n, oobn, flags, _, err := t.c.ReadMsgUnix(buf, t.oob[:syscall.CmsgSpace(4*maxFDs)])
	t.fds = append(t.fds, Descriptors(t.oob[:oobn])...)
	switch {
	case errors.Is(err, io.EOF):
		return 0, fmt.Errorf("the stack closed the connection: %w", io.ErrUnexpectedEOF)
	case err != nil:
		return 0, err
	case flags&syscall.MSG_TRUNC != 0:
		return 0, fmt.Errorf("a message is longer than %d bytes: %w", len(buf), syscall.EMSGSIZE)
	}
	return n, nil
}

// Descriptors returns the descriptors that came with a message of a unix socket (SCM_RIGHTS
// in unix(7)), from its control data. The caller owns them.
func Descriptors(oob []byte) (fds []int) {
	if len(oob) == 0 {
		return nil
	}
	l, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range l {
		if got, err := syscall.ParseUnixRights(&l[i]); err == nil {
			fds = append(fds, got...)
		}
	}
	return fds
}

func (t *unixTransport) answers(Type) bool                { return true }
func (t *unixTransport) ready() bool                      { return false }
func (t *unixTransport) setDeadline(when time.Time) error { return t.c.SetDeadline(when) }
func (t *unixTransport) close() error                     { return t.c.Close() }
