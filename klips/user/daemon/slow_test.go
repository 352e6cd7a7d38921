package daemon_test

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user"
)

// A listener that never reads delays neither other clients nor packets.
// TestBroadcastIsBounded tests the limit of its queue.
func TestSlowListener(t *testing.T) {
	rundir, h := start(t)
	c := dial(t, rundir)
	send := through(t, c, h)
	slow, good := open(t, rundir), open(t, rundir)
	for _, s := range []*socket{slow, good} {
		s.ask(pfkey.Register(pfkey.SATypeESP))
	}
	good.received()
	id := said(klips.ProtoTun, 0x1001)
	const rounds = 3000
	for i := range rounds {
		if err := c.AddSA(t.Context(), tunSpec(0x1001)); err != nil {
			t.Fatal(err)
		}
		if err := c.DeleteSA(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if i%100 == 0 {
			if l := good.received(); len(l) != 2*min(i, 100) && i > 0 {
				t.Fatalf("round %d: a listener that reads received %d messages, want 200", i, len(l))
			}
		}
	}
	good.received()

	// Packets pass, and the other listener receives ACQUIREs.
	if err := c.SetEroute(t.Context(), trap(klips.SPITrap), klips.ErouteAdd); err != nil {
		t.Fatal(err)
	}
	good.received()
	for i := range 200 {
		send(udp(netip.MustParseAddr("10.1.0.5"), netip.AddrFrom4([4]byte{10, 2, 0, byte(i)}), 1, 2))
	}
	if l := good.received(); len(l) != 200 {
		t.Errorf("%d ACQUIREs were received, want 200", len(l))
	}

	// The slow listener's queue is full, so it does not receive these messages.
	if err := c.ClearEroutes(t.Context()); err != nil {
		t.Fatal(err)
	}
	status, err := c.Status(t.Context())
	if err != nil || status.Dropped < rounds {
		t.Errorf("the status has %d dropped messages, %v; want most of %d", status.Dropped, err, 2*rounds)
	}

	// When it reads at last, it receives the queued messages in order, without gaps up
	// to the first dropped one, and then new messages.
	last := uint32(0)
	n := 0
	for _, b := range slow.received() {
		m, err := pfkey.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if m.Type == pfkey.TypeAdd || m.Type == pfkey.TypeDelete {
			if last != 0 && m.Seq != last+1 {
				t.Fatalf("message %d has seq %d after %d", n, m.Seq, last)
			}
			last = m.Seq
		}
		n++
	}
	if n < 256 || n > 2*rounds {
		t.Errorf("%d messages were kept", n)
	}
	if err := c.AddSA(t.Context(), tunSpec(0x1001)); err != nil {
		t.Fatal(err)
	}
	if l := slow.received(); len(l) != 1 {
		t.Errorf("after that it received %d messages, want 1", len(l))
	}
}

// When no listener can receive an ACQUIRE, the trap does not become a hold.
func TestSlowListenerAndTraps(t *testing.T) {
	rundir, h := start(t)
	c := dial(t, rundir)
	send := through(t, c, h)
	slow := open(t, rundir)
	slow.ask(pfkey.Register(pfkey.SATypeESP))
	if err := c.SetEroute(t.Context(), trap(klips.SPITrap), klips.ErouteAdd); err != nil {
		t.Fatal(err)
	}
	// The kernel decides how much the socket holds. When socket and queue are full, the
	// next ACQUIRE is dropped and counted.
	dropped := func() uint64 {
		s, err := c.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s.Dropped
	}
	for i := 0; dropped() == 0; i++ {
		if i == 1<<16 {
			t.Fatal("the queue is never full")
		}
		send(udp(netip.MustParseAddr("10.1.0.5"), netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)}), 1, 2))
	}
	l, err := c.Eroutes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := len(l) - 2 // the trap and the fence are not holds
	received := 0
	for _, b := range slow.received() {
		if p, err := pfkey.ParseHeader(b); err == nil && p.Type == pfkey.TypeAcquire {
			received++
		}
	}
	if received != n || n < 256 {
		t.Errorf("%d ACQUIREs were delivered for %d holds", received, n)
	}
}

// Broadcasts about others' changes do not confuse a client that waits only for its
// answers.
func TestCommandsBesideListeners(t *testing.T) {
	rundir, _ := start(t)
	c := dial(t, rundir)
	for spi := range klips.SPI(3000) {
		if err := c.AddSA(t.Context(), tunSpec(0x10000+spi)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			other, err := klipstest.Dial(user.SocketPath(rundir))
			if err != nil {
				t.Error(err)
				return
			}
			defer other.Close()
			id := said(klips.ProtoTun, klips.SPI(0x1000+i))
			for ctx.Err() == nil {
				if err := other.AddSA(context.Background(), &klips.SASpec{ID: id, Src: local}); err != nil {
					t.Errorf("beside others: %v", err)
					return
				}
				// All clients receive errors; each still takes only its own for an
				// answer.
				if err := other.Ungroup(context.Background(), said(klips.ProtoTun, 0x9999)); !errors.Is(err, syscall.ENOENT) {
					t.Errorf("Ungroup of nothing = %v", err)
					return
				}
				if err := other.DeleteSA(context.Background(), id); err != nil {
					t.Errorf("beside others: %v", err)
					return
				}
			}
		})
	}
	for range 20 {
		l, err := c.SAs(t.Context())
		if err != nil || len(l) < 3000 || len(l) > 3004 {
			t.Errorf("SAs = %d of them, %v", len(l), err)
		}
		if sa, err := c.GetSA(t.Context(), said(klips.ProtoTun, 0x10005)); err != nil || sa.ID.SPI != 0x10005 {
			t.Errorf("GetSA = %v, %v", sa.ID, err)
		}
	}
	cancel()
	wg.Wait()
}

func TestListen(t *testing.T) {
	rundir, _ := start(t)
	l, c := dial(t, rundir), dial(t, rundir)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	messages, err := l.Events(ctx, klips.EventWant{Register: []uint8{uint8(pfkey.SATypeAH), uint8(pfkey.SATypeESP)}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.AddSA(t.Context(), tunSpec(0x1001)); err != nil {
		t.Fatal(err)
	}
	want := []pfkey.Type{pfkey.TypeRegister, pfkey.TypeRegister, pfkey.TypeAdd}
	for event, err := range messages {
		b := event.PFKey
		if len(want) == 0 {
			if !errors.Is(err, context.Canceled) || len(b) != 0 {
				t.Errorf("the end is %v, want %v", err, context.Canceled)
			}
			continue
		}
		m, perr := pfkey.Parse(b)
		if err != nil || perr != nil || m.Type != want[0] {
			t.Fatalf("%v, %v, %v; want %v", m, err, perr, want[0])
		}
		if m.Type == pfkey.TypeRegister && m.PID != uint32(os.Getpid()) {
			t.Errorf("%v is for another process", m)
		}
		if want = want[1:]; len(want) == 0 {
			cancel()
		}
	}
	if _, err := l.Events(t.Context(), klips.EventWant{Register: []uint8{12}}); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("Listen for an impossible type = %v", err)
	}
	messages, err = l.Events(t.Context(), klips.EventWant{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for event, err := range messages {
		b := event.PFKey
		// Nothing else was sent. A connection that is torn down returns ECONNRESET or
		// ends.
		if len(b) != 0 || !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("received %x, %v; want the end of the connection", b, err)
		}
	}
}
