package nexthop

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips/rtnl"
)

// patience is how long a test waits for an answer. Only a fault takes so long.
const patience = time.Minute

var (
	peer, other = netip.MustParseAddr("10.2.0.1"), netip.MustParseAddr("2001:db8::2")
	gateway     = netip.MustParseAddr("192.0.2.254")
	mac1, mac2  = [6]byte{2, 1}, [6]byte{2, 2}
)

// A kernel answers as a test wants. It reports each question in asked; the answer comes
// after a value in answer.
type kernel struct {
	asked, answer chan struct{}

	mu        sync.Mutex
	via       map[netip.Addr]netip.Addr
	neighbour map[netip.Addr]rtnl.Neighbour
	err       error
	closed    bool
}

func newKernel() *kernel {
	return &kernel{
		asked: make(chan struct{}, 1000), answer: make(chan struct{}, 1000),
		via:       map[netip.Addr]netip.Addr{peer: gateway, other: other},
		neighbour: map[netip.Addr]rtnl.Neighbour{},
	}
}

func (k *kernel) NextHop(ctx context.Context, to netip.Addr, _ int) (netip.Addr, error) {
	k.asked <- struct{}{}
	select {
	case <-k.answer:
	case <-ctx.Done():
		return netip.Addr{}, ctx.Err()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.via[to], k.err
}

func (k *kernel) Neighbour(_ context.Context, device int, addr netip.Addr) (rtnl.Neighbour, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := k.neighbour[addr]
	n.Device, n.Addr = device, addr
	return n, nil
}

func (k *kernel) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	return nil
}

// set gives the kernel a neighbour, and returns what it reports about that.
func (k *kernel) set(addr netip.Addr, link [6]byte) *rtnl.Neighbour {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := rtnl.Neighbour{Device: 7, Addr: addr, Link: link, Usable: link != [6]byte{}}
	k.neighbour[addr] = n
	return &n
}

func start(t *testing.T, k *kernel) *Table {
	t.Helper()
	table := New(k, 7)
	t.Cleanup(func() {
		table.Close()
		if !k.closed {
			t.Error("Close does not close the connection to the kernel")
		}
	})
	return table
}

// wait waits for a value.
func wait(t *testing.T, c chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("not within %v: %s", patience, what)
	}
}

// settled waits until the table knows a destination and has no other question, and returns
// the hop.
func settled(t *testing.T, table *Table, dst netip.Addr) *Hop {
	t.Helper()
	known := func() bool { return (*table.hops.Load())[dst] != nil }
	for end := time.Now().Add(patience); !known() || len(table.asked) > 0; {
		if time.Now().After(end) {
			t.Fatalf("%v is not known within %v", dst, patience)
		}
		if !known() {
			table.Find(dst)
		}
	}
	return table.Find(dst)
}

// An unknown destination is asked for, and known later. What the kernel reports about its
// neighbour applies at once, also to what is not known to be usable yet.
func TestFind(t *testing.T) {
	k := newKernel()
	k.set(gateway, mac1)
	table := start(t, k)
	if h := table.Find(peer); h != nil {
		t.Fatalf("a hop before the kernel has answered: %+v", h)
	}
	wait(t, k.asked, "a question")
	k.answer <- struct{}{}
	if h := settled(t, table, peer); h == nil || h.LinkAddr != mac1 {
		t.Fatalf("hop %+v, want %v", h, mac1)
	}
	before := table.Find(peer)
	table.Changed(k.set(gateway, mac1))
	table.Changed(&rtnl.Neighbour{Device: 8, Addr: gateway})
	table.Changed(&rtnl.Neighbour{Device: 7, Addr: peer})
	if table.Find(peer) != before {
		t.Error("a hop changes by what is not about it")
	}
	table.Changed(k.set(gateway, mac2))
	if h := table.Find(peer); h == nil || h.LinkAddr != mac2 {
		t.Errorf("hop %+v after the neighbour has got the address %v", h, mac2)
	}
	table.Changed(k.set(gateway, [6]byte{}))
	if h := table.Find(peer); h != nil {
		t.Errorf("hop %+v after the neighbour has gone", h)
	}
	if len(table.asked) != 0 || len(k.asked) != 0 {
		t.Error("a known destination is asked for again")
	}
	table.Changed(k.set(gateway, mac1))
	if h := table.Find(peer); h == nil || h.LinkAddr != mac1 {
		t.Errorf("hop %+v after the neighbour has come back", h)
	}
}

// What changes during a question makes its answer void.
func TestChangeWhileAsked(t *testing.T) {
	for name, change := range map[string]func(*Table, *kernel){
		"a route": func(t *Table, k *kernel) {
			k.mu.Lock()
			k.via[peer] = other
			k.mu.Unlock()
			t.Forget()
		},
		"a neighbour": func(t *Table, k *kernel) { t.Changed(k.set(gateway, mac2)) },
	} {
		t.Run(name, func(t *testing.T) {
			k := newKernel()
			k.set(gateway, mac1)
			k.set(other, mac2)
			table := start(t, k)
			table.Find(peer)
			wait(t, k.asked, "a question")
			change(table, k)
			k.answer <- struct{}{}
			wait(t, k.asked, "a second question")
			if h := (*table.hops.Load())[peer]; h != nil {
				t.Errorf("the first answer counts: %+v", h)
			}
			k.answer <- struct{}{}
			if h := settled(t, table, peer); h == nil || h.LinkAddr != mac2 {
				t.Errorf("hop %+v, want %v", h, mac2)
			}
		})
	}
}

// Forget forgets all. A destination without a hop is not asked for with each packet, and
// one that the kernel gives no answer for is asked for again.
func TestForget(t *testing.T) {
	k := newKernel()
	k.set(gateway, mac1)
	table := start(t, k)
	none := netip.MustParseAddr("203.0.113.1")
	for range 10 {
		k.answer <- struct{}{}
	}
	settled(t, table, peer)
	if h := settled(t, table, none); h != nil {
		t.Errorf("hop %+v without a route", h)
	}
	for len(table.asked) > 0 { // settled may have asked twice
		runtime.Gosched()
	}
	table.Forget()
	if h := table.Find(peer); h != nil {
		t.Errorf("hop %+v after Forget", h)
	}
	settled(t, table, peer)

	k.mu.Lock()
	k.err = errors.New("no memory")
	k.mu.Unlock()
	table.Forget()
	for range 3 {
		for len(k.asked) > 0 {
			<-k.asked
		}
		table.Find(peer)
		k.answer <- struct{}{}
		wait(t, k.asked, "one more question")
	}
}

// The number of destinations is bounded, and no caller waits or allocates.
func TestBounds(t *testing.T) {
	k := newKernel()
	table := start(t, k)
	many := map[netip.Addr]*Hop{}
	for i := range maxHops {
		many[netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)})] = &Hop{LinkAddr: mac1, usable: true}
	}
	known := netip.AddrFrom4([4]byte{10, 9, 0, 1})
	table.hops.Store(&many)
	if n := testing.AllocsPerRun(100, func() {
		if table.Find(known) == nil || table.Find(peer) != nil {
			t.Error("a full table has lost a hop, or has one too many")
		}
	}); n != 0 {
		t.Errorf("Find allocates %v times", n)
	}
	if len(k.asked)+len(table.asked) != 0 {
		t.Error("a full table asks")
	}
	table.Forget()
	if n := testing.AllocsPerRun(2*maxAsked, func() { table.Find(peer) }); n != 0 {
		t.Errorf("Find of an unknown destination allocates %v times", n)
	}
	if len(table.asked) > maxAsked {
		t.Errorf("%d questions wait", len(table.asked))
	}
}
