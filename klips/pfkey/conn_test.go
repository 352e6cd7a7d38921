package pfkey

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips"
)

// listen serves one socket until the test ends: f gets each connection.
func listen(t *testing.T, f func(c *net.UnixConn)) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				f(c)
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return path
}

// serve answers each request with the result of f.
func serve(t *testing.T, f func(m *Message) []*Message) (path string) {
	return listen(t, func(c *net.UnixConn) {
		buf := make([]byte, MaxMessage)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			m, err := Parse(buf[:n])
			if err != nil {
				t.Errorf("server: %v", err)
				return
			}
			for _, r := range f(m) {
				b, err := r.Marshal()
				if err != nil {
					t.Errorf("server: %v", err)
					return
				}
				if _, err := c.Write(b); err != nil {
					return
				}
			}
		}
	})
}

func dial(t *testing.T, path string) *Conn {
	t.Helper()
	c, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestCall(t *testing.T) {
	id := said(klips.ProtoESP, 0x1000, gw)
	path := serve(t, func(m *Message) []*Message {
		other, early, unasked := Ack(m.Header), Ack(m.Header), Ack(m.Header)
		other.PID++
		early.Seq--
		unasked.Type, unasked.PID, unasked.Seq = TypeExpire, 0, m.Seq
		broken := Ack(m.Header)
		broken.PID++
		broken.KMPrivate = new(Opaque("abcd"))
		answer := Ack(m.Header)
		if m.Type == TypeDelete {
			answer = ErrorReply(m.Header, syscall.ESRCH)
		}
		return []*Message{other, early, unasked, broken, answer}
	})
	c := dial(t, path)
	last := lastSeq.Load()
	for n := range uint32(5) {
		m := Flush()
		got, err := c.Call(t.Context(), m)
		if want := last + n*2 + 1; err != nil || got.Type != TypeFlush || got.Seq != want || got.PID != uint32(os.Getpid()) || m.Seq != want {
			t.Fatalf("Call(FLUSH) = %v, %v, want seq %d", got, err, want)
		}
		got, err = c.Call(t.Context(), DeleteSA(id))
		if !errors.Is(err, syscall.ESRCH) || got == nil || got.Errno != syscall.ESRCH {
			t.Fatalf("Call(DELETE) = %v, %v, want ESRCH", got, err)
		}
	}
	if _, err := c.Call(t.Context(), AddSA(&klips.SASpec{})); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("Call with an impossible request = %v, want EINVAL", err)
	}
	if _, err := c.Call(t.Context(), Flush()); err != nil {
		t.Errorf("Call after that = %v", err)
	}
}

func TestCallsTakeTurns(t *testing.T) {
	path := serve(t, func(m *Message) []*Message { return []*Message{Ack(m.Header)} })
	both := [2]*Conn{dial(t, path), dial(t, path)}
	last := lastSeq.Load()
	var wg sync.WaitGroup
	for i := range 20 {
		c := both[i%2]
		wg.Go(func() {
			for range 20 {
				if _, err := c.Call(t.Context(), Flush()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	// The connections of a process share one count.
	if n := lastSeq.Load() - last; n != 400 {
		t.Errorf("400 calls took %d sequence numbers", n)
	}
}

func TestLateAnswer(t *testing.T) {
	var late []*Message
	asked := make(chan struct{})
	path := serve(t, func(m *Message) []*Message {
		late = append(late, Ack(m.Header))
		switch m.Type {
		case TypeGet:
			return nil
		case TypeDelete:
			close(asked)
			return nil
		}
		return late
	})
	c := dial(t, path)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond) // no answer comes, however long it is
	defer cancel()
	if m, err := c.Call(ctx, GetSA(said(50, 256, gw))); err != context.DeadlineExceeded {
		t.Errorf("Call = %v, %v, want DeadlineExceeded", m, err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	if m, err := c.Call(ctx, DeleteSA(said(50, 256, gw))); err != context.Canceled {
		t.Errorf("Call = %v, %v, want Canceled", m, err)
	}
	if m, err := c.Call(ctx, Flush()); err != context.Canceled {
		t.Errorf("Call = %v, %v, want Canceled", m, err)
	}
	if m, err := c.Call(t.Context(), Flush()); err != nil || m.Type != TypeFlush {
		t.Errorf("Call after late answers = %v, %v", m, err)
	}
}

// CallAll sends bundles of requests that fit a datagram, with descriptors only at their
// beginnings, and takes each answer out of its bundle. Late answers do not confuse the next
// call.
func TestCallAllBundles(t *testing.T) {
	bundles := make(chan []Type, 100) // of the requests that arrived
	path := listen(t, func(c *net.UnixConn) {
		buf, oob := make([]byte, MaxMessage+1), make([]byte, 64)
		for {
			n, oobn, _, _, err := c.ReadMsgUnix(buf, oob)
			if err != nil || n == 0 {
				return
			}
			fds := Descriptors(oob[:oobn])
			closeAll(fds)
			var types []Type
			var out []byte
			for b := buf[:n]; len(b) > 0; {
				var one []byte
				one, b = Split(b)
				m, err := Parse(one)
				if err != nil {
					t.Errorf("server: %v", err)
					return
				}
				if types = append(types, m.Type); m.Type == TypeAdd && (len(fds) == 0 || len(types) > 1) {
					t.Errorf("%d descriptors came with request %d of a bundle", len(fds), len(types))
				}
				out, _ = ErrorReply(m.Header, syscall.Errno(m.Seq%2)).Append(out)
			}
			bundles <- types
			if len(types) > 1 { // with the answer to a request of another process
				out, _ = Ack(Header{Type: TypeGet, Seq: 1, PID: 1}).Append(out)
			}
			if _, err := c.Write(out); err != nil {
				return
			}
		}
	})
	c := dial(t, path)
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	long := func() *Message {
		return &Message{Header: Header{Type: FirstPrivate}, Private: []Extension{{FirstPrivate, make([]byte, MaxMessage/2+4)}}}
	}
	withFile := func() *Message { return &Message{Header: Header{Type: TypeAdd}, Files: []int{int(f.Fd())}} }
	requests := []*Message{Flush(), Flush(), long(), Flush(), long(), withFile(), Flush(), withFile()}
	for range 100 {
		requests = append(requests, GetSA(said(50, 256, gw)))
	}
	next := 0
	err = c.CallAll(t.Context(), requests, true, func(i int, m *Message) bool {
		if i != next || m.Type != requests[i].Type || m.Seq != requests[i].Seq || m.Errno != syscall.Errno(m.Seq%2) {
			t.Errorf("answer %d is passed as number %d: %v", next, i, m)
		}
		next++
		return true
	})
	if err != nil || next != len(requests) {
		t.Fatalf("%d answers, %v; want %d", next, err, len(requests))
	}
	flushed := Flush()
	if m, err := c.Call(t.Context(), flushed); m == nil && err != nil || m.Seq != flushed.Seq {
		t.Errorf("Call after bundles = %v, %v", m, err)
	}
	c.Close()
	var lengths []int
	for len(bundles) > 0 {
		lengths = append(lengths, len(<-bundles))
	}
	if want := []int{4, 1, 2, 25, 32, 32, 12, 1}; !slices.Equal(lengths, want) {
		t.Errorf("the bundles have %d requests, want %d", lengths, want)
	}
}

func TestReceive(t *testing.T) {
	path := listen(t, func(c *net.UnixConn) {
		b, _ := Acquire(Acquisition{Src: ap("10.0.0.1:0"), Dst: ap("10.0.0.2:0")}).Marshal()
		c.Write(b)
		c.Write([]byte("garbage, garbage, garbage"))
		c.Write(make([]byte, MaxMessage+100))
	})
	c := dial(t, path)
	if m, err := c.Receive(t.Context()); err != nil || m.Type != TypeAcquire {
		t.Errorf("Receive = %v, %v, want ACQUIRE", m, err)
	}
	if m, err := c.Receive(t.Context()); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("Receive = %v, %v, want EINVAL", m, err)
	}
	if m, err := c.Receive(t.Context()); !errors.Is(err, syscall.EMSGSIZE) {
		t.Errorf("Receive = %v, %v, want EMSGSIZE", m, err)
	}
	if m, err := c.Receive(t.Context()); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Receive = %v, %v, want ErrUnexpectedEOF", m, err)
	}
}

func TestDialErrors(t *testing.T) {
	dir := t.TempDir()
	if _, err := Dial(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Dial of nothing = %v, want ErrNotExist", err)
	}
	// A socket without a listener.
	path := filepath.Join(dir, "left")
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if _, err := Dial(path); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("Dial of a dead socket = %v, want ECONNREFUSED", err)
	}
	if os.Geteuid() == 0 {
		t.Log("as root no socket is forbidden: that error is not tried")
		return
	}
	l, err = net.ListenUnix("unixpacket", &net.UnixAddr{Name: filepath.Join(dir, "mine"), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chmod(filepath.Join(dir, "mine"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(filepath.Join(dir, "mine")); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("Dial of a forbidden socket = %v, want ErrPermission", err)
	}
}

// A kernelDouble is a transport like an AF_KEY socket: send returns the errno, and
// messages of all processes arrive.
type kernelDouble struct {
	transport
	errno syscall.Errno
	sent  []Type
}

func (k *kernelDouble) send(b []byte, _ []int) error {
	k.sent = append(k.sent, Type(b[1]))
	if k.errno != 0 {
		return k.errno
	}
	return nil
}
func (k *kernelDouble) answers(t Type) bool         { return t == TypeGet }
func (k *kernelDouble) ready() bool                 { return false }
func (k *kernelDouble) setDeadline(time.Time) error { return nil }

func TestCallWithoutAnswer(t *testing.T) {
	k := &kernelDouble{}
	c := newConn(k)
	if m, err := c.Call(t.Context(), Debug(klips.DebugChange{})); err != nil || m.Type != TypeDebug {
		t.Errorf("Call(X_DEBUG) = %v, %v", m, err)
	}
	k.errno = syscall.EACCES
	if m, err := c.Call(t.Context(), Flush()); m != nil || !errors.Is(err, syscall.EACCES) {
		t.Errorf("Call(FLUSH) = %v, %v, want EACCES", m, err)
	}
}

func ap(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
