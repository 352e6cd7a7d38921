package daemon_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user"
	"github.com/klips-go/ipsec/klips/user/control"
)

// Many changes are carried out up to the first that is refused, and none after it,
// however many were sent ahead. Later changes are not affected.
func TestApplyMany(t *testing.T) {
	rundir, _ := start(t)
	c := dial(t, rundir)
	ctx := t.Context()
	for _, at := range []int{0, 1, 30, 31, 32, 33, 64, 199} {
		if err := c.ClearSAs(ctx); err != nil {
			t.Fatal(err)
		}
		var changes []klips.Change
		for i := range 200 {
			changes = append(changes, klips.AddSA{SASpec: tunSpec(klips.SPI(0x1000 + i))})
		}
		changes[at] = klips.DeleteSA{ID: tunSpec(0x9999).ID}
		r, err := c.Apply(ctx, changes...)
		var oe *klips.OpError
		if !errors.Is(err, syscall.ESRCH) || !errors.As(err, &oe) || oe.Op != "delete SA" || len(r.Outcomes) != at {
			t.Errorf("%d outcomes and %v when change %d is refused", len(r.Outcomes), err, at)
		}
		if l, err := c.SAs(ctx); err != nil || len(l) != at {
			t.Errorf("%d SAs, %v, when change %d is refused", len(l), err, at)
		}
		if r, err := c.Apply(ctx, changes[at+1:]...); err != nil || len(r.Outcomes) != 199-at {
			t.Errorf("%d outcomes, %v for the rest of them", len(r.Outcomes), err)
		}
	}
	// A change that the client itself refuses ends the changes like any other.
	six := []klips.Change{klips.ClearSAs{}, klips.AddSA{SASpec: tunSpec(0x1000)}, klips.Attach{Virtual: "mast0", Physical: "eth0"}, klips.AddSA{SASpec: tunSpec(0x1001)}}
	r, err := c.Apply(ctx, six...)
	var oe *klips.OpError
	if !errors.As(err, &oe) || oe.Fault != klips.FaultMast || len(r.Outcomes) != 2 {
		t.Errorf("%d outcomes, %v with a mast device", len(r.Outcomes), err)
	}
	// Guarding a guarded flow is not an error. The daemon has no filter here, so
	// guarding is refused.
	if r, err := c.Apply(ctx, klips.ClearSAs{}, klips.SetGuard{}); err == nil || len(r.Outcomes) != 1 {
		t.Errorf("%d outcomes, %v with a guard", len(r.Outcomes), err)
	}
}

// Several goroutines use one client: the changes of one do not end the unit of another.
func TestApplyAtOnce(t *testing.T) {
	rundir, _ := start(t)
	c := dial(t, rundir)
	ctx := t.Context()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for range 20 {
				var changes []klips.Change
				for i := range 40 {
					changes = append(changes, klips.AddSA{SASpec: tunSpec(klips.SPI(0x1000*(g+1) + i))})
				}
				for i := range 40 {
					changes = append(changes, klips.DeleteSA{ID: tunSpec(klips.SPI(0x1000*(g+1) + i)).ID})
				}
				changes[60] = klips.DeleteSA{ID: tunSpec(0x9999).ID}
				if r, err := c.Apply(ctx, changes...); !errors.Is(err, syscall.ESRCH) || len(r.Outcomes) != 60 {
					t.Errorf("%d outcomes, %v; want 60", len(r.Outcomes), err)
				}
				if r, err := c.Apply(ctx, changes[61:]...); err != nil || len(r.Outcomes) != 19 {
					t.Errorf("%d outcomes, %v for the rest", len(r.Outcomes), err)
				}
				if _, err := c.Apply(ctx, klips.DeleteSA{ID: tunSpec(klips.SPI(0x1000*(g+1) + 20)).ID}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// After any kind of refused request in a unit, the others are cancelled until its end.
func TestCancelled(t *testing.T) {
	rundir, _ := start(t)
	c, err := pfkey.Dial(user.SocketPath(rundir))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := t.Context()
	impossible := pfkey.AddSA(tunSpec(0x1000))
	impossible.SA = nil
	for _, wrong := range []*pfkey.Message{pfkey.DeleteSA(tunSpec(0x9999).ID), impossible} {
		for i, m := range []*pfkey.Message{control.Begin(), wrong, pfkey.AddSA(tunSpec(0x1000)), pfkey.Flush(), control.DetachAll(), control.End(), pfkey.AddSA(tunSpec(0x1000)), pfkey.DeleteSA(tunSpec(0x1000).ID)} {
			_, err := c.Call(ctx, m)
			switch {
			case i == 1:
				if err == nil {
					t.Errorf("%v is carried out", m)
				}
			case i > 1 && i < 5:
				if !errors.Is(err, syscall.ECANCELED) {
					t.Errorf("%v = %v, want ECANCELED", m.Type, err)
				}
			case err != nil:
				t.Errorf("request %d, %v = %v", i, m.Type, err)
			}
		}
	}
}

// bundle writes requests as one datagram, with the numbers of the socket.
func (s *socket) bundle(list ...*pfkey.Message) {
	s.t.Helper()
	var b []byte
	for _, m := range list {
		s.seq++
		m.Seq, m.PID = s.seq, s.pid
		var err error
		if b, err = m.Append(b); err != nil {
			s.t.Fatal(err)
		}
	}
	if _, err := s.c.Write(b); err != nil {
		s.t.Fatal(err)
	}
}

// answers reads a datagram of answers to the last n requests or the first of them, and
// returns their errnos.
func (s *socket) answers(n int) (errnos []syscall.Errno) {
	s.t.Helper()
	want := s.seq - uint32(n)
	for b := s.read(); len(b) > 0; {
		var one []byte
		one, b = pfkey.Split(b)
		h, err := pfkey.ParseHeader(one)
		if want++; err != nil || h.Seq != want || h.PID != s.pid {
			s.t.Errorf("an answer is %+v, %v; want the number %d", h, err, want)
		}
		errnos = append(errnos, h.Errno)
	}
	return errnos
}

// The answers to a bundle are a bundle, in the order of the requests, also after a refused
// one. Long answers and those of a listing have datagrams of their own.
func TestBundle(t *testing.T) {
	rundir, _ := start(t)
	s := open(t, rundir)
	begun, _ := s.ask(control.Begin())
	if !control.AcceptsBundles(begun) || control.CheckReply(begun) != nil {
		t.Errorf("BEGIN is answered with %v, which does not permit bundles", begun)
	}
	s.bundle(pfkey.AddSA(tunSpec(0x1000)), pfkey.AddSA(tunSpec(0x1001)), control.DetachAll())
	if got := s.answers(3); !slices.Equal(got, make([]syscall.Errno, 3)) {
		t.Errorf("the answers are %d, want no errors", got)
	}
	s.bundle(control.DetachAll(), control.ListTable(control.TableSAs), pfkey.DeleteSA(tunSpec(0x1001).ID))
	first := s.read()
	if h, err := pfkey.ParseHeader(first); err != nil || h.Type != control.TypeDetachAll {
		t.Errorf("the first answer is %x, %v", first, err)
	}
	for i := range 2 {
		m, err := pfkey.Parse(s.read())
		if err != nil || m.Type != control.TypeList {
			t.Errorf("message %d of the listing is %v, %v", i, m, err)
		}
	}
	if got := s.answers(1); !slices.Equal(got, []syscall.Errno{0}) {
		t.Errorf("the answer after the listing is %d", got)
	}
	s.bundle(pfkey.DeleteSA(tunSpec(0x1001).ID), pfkey.AddSA(tunSpec(0x1002)), pfkey.GetSA(tunSpec(0x1000).ID))
	if got := s.answers(3); !slices.Equal(got, []syscall.Errno{syscall.ESRCH, syscall.ECANCELED}) {
		t.Errorf("the answers to a refused and a cancelled request are %d", got)
	}
	if got := s.answers(1); !slices.Equal(got, []syscall.Errno{syscall.ECANCELED}) {
		t.Errorf("the answer after them is %d", got)
	}
	s.bundle(control.End())
	if got := s.answers(1); !slices.Equal(got, []syscall.Errno{0}) {
		t.Errorf("END is answered with %d", got)
	}
	if l, err := dial(t, rundir).SAs(t.Context()); err != nil || len(l) != 1 {
		t.Errorf("%d SAs, %v; want the first", len(l), err)
	}
}

// Outside of units a bundle is refused, as all bytes of which the first message has not the
// length. Nothing of it is carried out.
func TestBundleWithoutUnit(t *testing.T) {
	rundir, _ := start(t)
	s := open(t, rundir)
	s.bundle(pfkey.AddSA(tunSpec(0x1000)), pfkey.AddSA(tunSpec(0x1001)))
	if h, err := pfkey.ParseHeader(s.read()); err != nil || h.Errno != syscall.EMSGSIZE {
		t.Errorf("the answer is %+v, %v, want EMSGSIZE", h, err)
	}
	if l, err := dial(t, rundir).SAs(t.Context()); err != nil || len(l) != 0 {
		t.Errorf("%d SAs, %v; want none", len(l), err)
	}
}

// The answers to a bundle come in as many datagrams as they need.
func TestBundleOfLongAnswers(t *testing.T) {
	rundir, _ := start(t)
	s := open(t, rundir)
	s.ask(control.Begin())
	route := trap(klips.SPIPass)
	route.IdentSrc = &klips.Ident{Type: 3, Text: strings.Repeat("a", 9000)}
	list := []*pfkey.Message{}
	for range 6 {
		list = append(list, pfkey.AddFlow(route, klips.ErouteReplace))
	}
	s.bundle(list...) // both are sent before an answer is read
	s.bundle(list...)
	n := 0
	for n < 2*len(list) {
		b := s.read()
		if len(b) > pfkey.MaxMessage {
			t.Errorf("a datagram has %d bytes", len(b))
		}
		for len(b) > 0 {
			var one []byte
			if one, b = pfkey.Split(b); len(one) == 0 {
				t.Fatal("no whole message")
			}
			if m, err := pfkey.Parse(one); err != nil || m.Errno != 0 {
				t.Errorf("answer %d is %v, %v", n, m, err)
			}
			n++
		}
	}
}
