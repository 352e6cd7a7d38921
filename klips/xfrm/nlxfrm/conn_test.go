package nlxfrm

import (
	"context"
	"errors"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
)

// A fakeSocket answers requests like a kernel whose receive buffer holds a limited
// number of answers.
type fakeSocket struct {
	answer func(netlink.Message) []answer
	room   int

	mu       sync.Mutex
	queue    []answer
	sends    int
	overrun  bool
	deadline chan struct{} // closed when the deadline has passed
	hung     func()        // called when no answer will come
}

// An answer is what one Receive returns.
type answer struct {
	msgs []netlink.Message
	err  error
	hang bool // until the deadline
}

func newFake(room int, f func(netlink.Message) []answer) *fakeSocket {
	return &fakeSocket{answer: f, room: room, deadline: make(chan struct{})}
}

func (s *fakeSocket) SendMessages(msgs []netlink.Message) ([]netlink.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sends++
	for _, m := range msgs {
		for _, a := range s.answer(m) {
			if len(s.queue) == s.room {
				s.overrun = true // and the answer is lost
				continue
			}
			s.queue = append(s.queue, a)
		}
	}
	return msgs, nil
}

func (s *fakeSocket) Receive() ([]netlink.Message, error) {
	s.mu.Lock()
	if s.overrun {
		s.overrun = false
		s.mu.Unlock()
		return nil, &netlink.OpError{Op: "receive", Err: os.NewSyscallError("recvmsg", syscall.ENOBUFS)}
	}
	hang := len(s.queue) == 0
	var a answer
	if !hang {
		a, s.queue = s.queue[0], s.queue[1:]
		hang = a.hang
	}
	deadline, hung := s.deadline, s.hung
	s.mu.Unlock()
	if hang {
		if hung != nil {
			hung()
		}
		<-deadline
		return nil, &netlink.OpError{Op: "receive", Err: os.ErrDeadlineExceeded}
	}
	return a.msgs, a.err
}

func (s *fakeSocket) SetDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.IsZero() {
		s.deadline = make(chan struct{})
	} else {
		close(s.deadline)
	}
	return nil
}

func (s *fakeSocket) Close() error { return nil }

func ack(m netlink.Message) answer {
	return answer{msgs: []netlink.Message{{Header: netlink.Header{Type: netlink.Error, Sequence: m.Header.Sequence}, Data: make([]byte, 20)}}}
}

func refuse(m netlink.Message, errno syscall.Errno, text string) answer {
	return answer{err: &netlink.OpError{Op: "receive", Err: errno, Message: text, Sequence: m.Header.Sequence}}
}

func manyRequests(n int) []Request {
	rs := make([]Request, n)
	for i := range rs {
		rs[i] = AddState(aesSHA1(uint32(i)))
	}
	return rs
}

func TestBatch(t *testing.T) {
	const n, bad, unencodable = 1000, 700, 300
	count := 0
	s := newFake(16, func(m netlink.Message) []answer {
		if got := be.Uint32(m.Data[72:]); got == bad {
			return []answer{refuse(m, syscall.EEXIST, "it is there")}
		}
		count++
		return []answer{ack(m)}
	})
	c := newConn(s)
	rs := manyRequests(n)
	rs[unencodable] = AddState(&State{ID: ID{Dst: v4a}, Src: v6a})
	errs, err := c.Batch(context.Background(), rs)
	if err != nil {
		t.Fatal(err)
	}
	for i, err := range errs {
		switch i {
		case bad:
			var e *Error
			if !errors.Is(err, syscall.EEXIST) || !errors.As(err, &e) || e.Message != "it is there" || e.Op != "add state" {
				t.Errorf("error %#v", err)
			}
		case unencodable:
			if !errors.Is(err, syscall.EINVAL) {
				t.Errorf("error %v, want %v", err, syscall.EINVAL)
			}
		default:
			if err != nil {
				t.Errorf("request %d: %v", i, err)
			}
		}
	}
	if want := (n - 1 + 15) / 16; s.sends != want || count != n-2 {
		t.Errorf("%d sends, %d states; want %d, %d", s.sends, count, want, n-2)
	}
}

// TestOverrun: when acks are lost, the result of their requests is unknown.
func TestOverrun(t *testing.T) {
	s := newFake(8, func(m netlink.Message) []answer { return []answer{ack(m)} })
	errs, err := newConn(s).Batch(context.Background(), manyRequests(40))
	if !errors.Is(err, syscall.ENOBUFS) {
		t.Errorf("error %v, want %v", err, syscall.ENOBUFS)
	}
	for i, err := range errs {
		if !errors.Is(err, syscall.ENOBUFS) {
			t.Errorf("request %d: error %v, want %v", i, err, syscall.ENOBUFS)
		}
	}
}

// TestContext: an abandoned request does not disturb later ones.
func TestContext(t *testing.T) {
	state, err := aesSHA1(7).encode()
	if err != nil {
		t.Fatal(err)
	}
	var late []answer // to abandoned requests
	asked := 0
	s := newFake(1000, nil)
	s.answer = func(m netlink.Message) []answer {
		asked++
		var a answer
		switch {
		case m.Header.Flags&netlink.Dump == netlink.Dump:
			a = answer{msgs: []netlink.Message{{Header: netlink.Header{Type: msgNewSA, Flags: netlink.Multi, Sequence: m.Header.Sequence}, Data: append([]byte(nil), state...)}}}
		case m.Header.Type == msgDelSA:
			a = refuse(m, syscall.ESRCH, "")
		default:
			a = ack(m)
		}
		if asked%2 == 1 {
			late = append(late, a)
			return []answer{{hang: true}}
		}
		all := append(late, a)
		late = nil
		return all
	}
	c := newConn(s)
	for name, try := range map[string]func(context.Context) error{
		"change": func(ctx context.Context) error { return c.AddState(ctx, aesSHA1(1)) },
		"refused": func(ctx context.Context) error {
			err := c.DeleteState(ctx, ID{v4a, 1, 50}, Mark{})
			if errors.Is(err, syscall.ESRCH) {
				return nil
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			// The context ends after the request was sent, while its answer is awaited.
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			s.hung = cancel
			if err := try(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("error %v, want %v", err, context.Canceled)
			}
			if err := try(context.Background()); err != nil {
				t.Errorf("the next request: %v", err)
			}
			if err := try(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("with a context that has ended: error %v", err)
			}
			if asked%2 != 0 {
				t.Errorf("a request was sent although its context had ended")
			}
		})
	}
	t.Run("dump", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		s.hung = cancel
		if _, err := c.DumpStates(ctx, 0); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want %v", err, context.Canceled)
		}
		// The old dump is read first, so that the kernel accepts a new one.
		s.queue, late = append(s.queue, late...), nil
		got, err := c.DumpStates(context.Background(), 0)
		if err != nil || len(got) != 1 || got[0].SPI != 7 {
			t.Errorf("states %v, error %v", got, err)
		}
		if len(s.queue) != 0 {
			t.Errorf("%d answers were not read", len(s.queue))
		}
	})
}

func TestMalformedAnswer(t *testing.T) {
	s := newFake(10, func(m netlink.Message) []answer {
		return []answer{{msgs: []netlink.Message{{Header: netlink.Header{Type: msgNewSA, Sequence: m.Header.Sequence}, Data: make([]byte, 100)}}}}
	})
	if _, err := newConn(s).GetState(context.Background(), ID{v4a, 1, 50}, Mark{}); !errors.Is(err, ErrMalformed) {
		t.Errorf("error %v, want %v", err, ErrMalformed)
	}
	if _, err := newConn(s).GetAE(context.Background(), ID{v4a, 1, 50}, Mark{}); !errors.Is(err, ErrMalformed) {
		t.Errorf("error %v, want %v", err, ErrMalformed)
	}
}
