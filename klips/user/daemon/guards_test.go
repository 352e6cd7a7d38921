package daemon_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/guard"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/user"
	"github.com/klips-go/ipsec/klips/user/clock/clocktest"
	"github.com/klips-go/ipsec/klips/user/daemon"
)

// A filter is a packet filter in memory.
type filter struct {
	mu    sync.Mutex
	cond  *sync.Cond
	rules guard.Rules
	sets  int
	empty bool // another program has removed the rules, but not the sets
	err   error
	lost  func(error)
}

func newFilter(left guard.Rules) *filter {
	f := &filter{rules: left.Normal()}
	f.cond = sync.NewCond(&f.mu)
	return f
}

func (f *filter) Set(r guard.Rules) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	f.rules, f.empty = r.Normal(), false
	f.sets++
	f.cond.Broadcast()
	return nil
}

func (f *filter) Read() (guard.Rules, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rules.Clone(), nil
}

func (f *filter) Whole() (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.empty, nil
}

func (f *filter) Counters() (guard.Counters, error) { return guard.Counters{Out: 3, In: 4}, nil }

func (f *filter) Watch(lost func(error)) (stop func(), err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost = lost
	f.cond.Broadcast()
	return func() {}, nil
}

// change changes the filter, as another program might. It waits until the daemon
// watches the filter, because the daemon begins with that beside its other work.
func (f *filter) change(what func()) {
	f.mu.Lock()
	for f.lost == nil {
		f.cond.Wait() // the test's own time limit ends it
	}
	what()
	lost := f.lost
	f.mu.Unlock()
	lost(nil)
}

// flush removes the rules.
func (f *filter) flush() { f.change(func() { f.rules = guard.Rules{} }) }

func (f *filter) flows() []guard.Flow {
	r, _ := f.Read()
	return r.Flows
}

// text describes the flows and the peers.
func text(r guard.Rules) string {
	var words []string
	for _, f := range r.Flows {
		w := "out "
		if f.In {
			w = "in "
		}
		if f.Pass {
			w += "pass "
		}
		if f.ByHand {
			w += "by hand "
		}
		words = append(words, w+f.Selector.String())
	}
	for _, p := range r.Peers {
		words = append(words, p.String())
	}
	slices.Sort(words)
	return strings.Join(words, ", ")
}

// becomes waits until the filter has these rules.
func (f *filter) becomes(t *testing.T, want ...string) {
	t.Helper()
	slices.Sort(want)
	f.mu.Lock()
	defer f.mu.Unlock()
	for text(f.rules) != strings.Join(want, ", ") {
		stop := context.AfterFunc(t.Context(), f.cond.Broadcast)
		f.cond.Wait() // the test's own time limit ends it
		stop()
	}
}

// is checks what the filter has now.
func (f *filter) is(t *testing.T, want ...string) {
	t.Helper()
	slices.Sort(want)
	r, _ := f.Read()
	if got := text(r); got != strings.Join(want, ", ") {
		t.Errorf("the filter has %q, want %q", got, want)
	}
}

// A guarded is a daemon with a filter, and a client of it.
type guarded struct {
	klipstest.Client
	*filter
	log    *lockedBuffer
	clock  *clocktest.Clock
	rundir string
}

func startGuarded(t *testing.T, f *filter) *guarded {
	t.Helper()
	g := &guarded{filter: f, log: new(lockedBuffer), clock: clocktest.New()}
	h := klipstest.NewHost(new(klipstest.Network), []netip.Addr{local}, "eth0")
	g.rundir = startWith(t, daemon.Config{Host: h, Filter: f, Clock: g.clock, Log: slog.New(slog.NewTextHandler(g.log, nil))})
	c, err := klipstest.Dial(user.SocketPath(g.rundir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	g.Client = c
	return g
}

var (
	netFlow = klips.Selector{Src: netip.MustParsePrefix("10.1.0.0/16"), Dst: netip.MustParsePrefix("10.2.0.0/16")}
	net6    = klips.Selector{Src: netip.MustParsePrefix("fd01::/64"), Dst: netip.MustParsePrefix("fd02::/64")}
	part    = klips.Selector{Src: netip.MustParsePrefix("10.1.0.0/16"), Dst: netip.MustParsePrefix("10.2.3.0/24")}
	peer    = netip.MustParseAddr("192.0.2.2")
	other   = netip.MustParseAddr("192.0.2.3")
)

const (
	outNet = "out 10.1.0.0/16 -> 10.2.0.0/16"
	inNet  = "in 10.2.0.0/16 -> 10.1.0.0/16"
)

// TestGuard: a flow is guarded before the answer is sent, and until its last guard
// ends. The filter has the SAs' remote addresses and the flows that may pass.
func TestGuard(t *testing.T) {
	g := startGuarded(t, newFilter(guard.Rules{}))
	ctx := t.Context()
	if s, err := g.Status(ctx); err != nil || s.Unprotected != nil {
		t.Errorf("Status = %+v, %v, which counts packets that no filter drops", s.Unprotected, err)
	}
	for i, want := range []bool{false, true} {
		was, err := g.Guard(ctx, klips.Guard{Selector: netFlow, In: true, Peer: peer})
		if err != nil || was != want {
			t.Errorf("Guard number %d = %v, %v, want %v", i, was, err, want)
		}
		g.is(t, outNet, inNet, "192.0.2.2")
	}
	if s, err := g.Status(ctx); err != nil || s.Unprotected == nil || *s.Unprotected != (guard.Counters{Out: 3, In: 4}) {
		t.Errorf("Status = %+v, %v", s.Unprotected, err)
	}
	spec := klips.SASpec{ID: klips.SAID{Dst: other, SPI: 0x100, Proto: klips.ProtoTun}, Src: local, Transform: klips.Transform{}}
	if err := g.AddSA(ctx, &spec); err != nil {
		t.Fatal(err)
	}
	g.becomes(t, outNet, inNet, "192.0.2.2", "192.0.2.3")
	if err := g.SetEroute(ctx, klips.Eroute{Selector: part, ID: klips.Magic(klips.SPIPass)}, klips.ErouteAdd); err != nil {
		t.Fatal(err)
	}
	g.becomes(t, outNet, inNet, "out pass 10.1.0.0/16 -> 10.2.3.0/24", "in pass 10.2.3.0/24 -> 10.1.0.0/16", "192.0.2.2", "192.0.2.3")
	if err := g.ClearEroutes(ctx); err != nil {
		t.Fatal(err)
	}
	if err := g.DeleteSA(ctx, spec.ID); err != nil {
		t.Fatal(err)
	}
	g.becomes(t, outNet, inNet, "192.0.2.2")
	if err := g.Unguard(ctx, netFlow); err != nil {
		t.Fatal(err)
	}
	g.is(t)
	if err := g.Unguard(ctx, netFlow); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("a second Unguard = %v", err)
	}
	for _, s := range []klips.Selector{{}, {Src: netFlow.Src, Dst: net6.Dst}, {Src: netip.MustParsePrefix("10.1.0.1/16"), Dst: netFlow.Dst}} {
		if _, err := g.Guard(ctx, klips.Guard{Selector: s}); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("Guard(%v) = %v, want EINVAL", s, err)
		}
	}
}

// TestGuardByHand: the knobs close the flows of eroutes and inbound policies that were
// set by hand.
func TestGuardByHand(t *testing.T) {
	g := startGuarded(t, newFilter(guard.Rules{}))
	ctx := t.Context()
	add := func(s klips.Selector, id klips.SAID, op klips.ErouteOp) {
		t.Helper()
		if err := g.SetEroute(ctx, klips.Eroute{Selector: s, ID: id}, op); err != nil {
			t.Fatal(err)
		}
	}
	in := klips.SASpec{ID: klips.SAID{Dst: local, SPI: 0x200, Proto: klips.ProtoTun}, Src: peer}
	if err := g.AddSA(ctx, &in); err != nil {
		t.Fatal(err)
	}
	add(netFlow, klips.SAID{Dst: peer, SPI: 0x100, Proto: klips.ProtoTun}, klips.ErouteAdd)
	add(part, klips.Magic(klips.SPIPass), klips.ErouteAdd)
	add(klips.Selector{Src: netFlow.Dst, Dst: netFlow.Src}, in.ID, klips.ErouteAddIn)
	g.is(t)
	passes := []string{"out pass 10.1.0.0/16 -> 10.2.3.0/24", "192.0.2.2"}
	if err := g.SetKnob(ctx, "outbound_clear", 1); err != nil {
		t.Fatal(err)
	}
	g.is(t, append(passes, "out by hand 10.1.0.0/16 -> 10.2.0.0/16")...)
	add(net6, klips.Magic(klips.SPIDrop), klips.ErouteAdd)
	g.becomes(t, append(passes, "out by hand 10.1.0.0/16 -> 10.2.0.0/16", "out by hand fd01::/64 -> fd02::/64")...)
	if err := g.DeleteEroute(ctx, net6); err != nil {
		t.Fatal(err)
	}
	g.becomes(t, append(passes, "out by hand 10.1.0.0/16 -> 10.2.0.0/16")...)
	if err := g.SetKnob(ctx, "inbound_policy_required", 1); err != nil {
		t.Fatal(err)
	}
	g.is(t, append(passes, "out by hand 10.1.0.0/16 -> 10.2.0.0/16", "in by hand 10.2.0.0/16 -> 10.1.0.0/16", "in pass 10.2.3.0/24 -> 10.1.0.0/16")...)
	for _, knob := range []string{"inbound_policy_required", "outbound_clear"} {
		if err := g.SetKnob(ctx, knob, 0); err != nil {
			t.Fatal(err)
		}
	}
	g.is(t)
}

func (g *guarded) SetKnob(ctx context.Context, name string, value int) error {
	return g.Client.Set(ctx, map[string]int{name: value})
}

// TestGuardNowhere: without a packet filter, a knob that needs one is refused; others
// are set.
func TestGuardNowhere(t *testing.T) {
	rundir := startWith(t, daemon.Config{Host: klipstest.NewHost(new(klipstest.Network), []netip.Addr{local}, "eth0")})
	c := dial(t, rundir)
	if err := c.Set(t.Context(), map[string]int{"outbound_clear": 1, "tos": 0}); !errors.Is(err, syscall.EOPNOTSUPP) {
		t.Errorf("outbound_clear=drop: %v, want EOPNOTSUPP", err)
	}
	if err := c.Set(t.Context(), map[string]int{"outbound_clear": 0, "inbound_policy_required": 1}); err != nil {
		t.Error(err)
	}
	knobs, err := c.Knobs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"outbound_clear": 0, "inbound_policy_required": 1, "tos": 1}
	for _, k := range knobs {
		if v, ok := want[k.Name]; ok && v != k.Value {
			t.Errorf("%s = %d, want %d", k.Name, k.Value, v)
		}
	}
}

// TestGuardLeft: what an earlier daemon closed stays closed until a client opens it.
func TestGuardLeft(t *testing.T) {
	var left guard.Rules
	left.Close(klips.Guard{Selector: netFlow, In: true, Peer: peer})
	left.Flows = append(left.Flows, guard.Flow{Selector: net6, ByHand: true})
	all := []string{outNet, inNet, "out by hand fd01::/64 -> fd02::/64", "192.0.2.2"}
	f := newFilter(left)
	g := startGuarded(t, f)
	ctx := t.Context()
	if _, err := g.Guard(ctx, klips.Guard{Selector: part, Peer: other}); err != nil {
		t.Fatal(err)
	}
	g.is(t, append(all, "out 10.1.0.0/16 -> 10.2.3.0/24", "192.0.2.3")...)
	if err := g.Unguard(ctx, part); err != nil {
		t.Fatal(err)
	}
	if err := g.SetKnob(ctx, "inbound_policy_required", 0); err != nil { // of the other direction
		t.Fatal(err)
	}
	g.is(t, append(all, "192.0.2.3")...)
	if err := g.SetKnob(ctx, "outbound_clear", 0); err != nil {
		t.Fatal(err)
	}
	g.is(t, outNet, inNet, "192.0.2.2", "192.0.2.3")
	if err := g.Leave(ctx); err != nil {
		t.Fatal(err)
	}
	g.is(t, outNet, inNet, "192.0.2.2", "192.0.2.3")
}

// TestGuardStopped: a stop opens all flows.
func TestGuardStopped(t *testing.T) {
	f := newFilter(guard.Rules{})
	t.Run("stop", func(t *testing.T) {
		g := startGuarded(t, f)
		if _, err := g.Guard(t.Context(), klips.Guard{Selector: netFlow}); err != nil {
			t.Fatal(err)
		}
		if err := g.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	f.is(t) // the daemon has ended
}

// TestGuardMended: when another program empties the filter, it is set again after a
// pause, so that two such programs do not repair it without end.
func TestGuardMended(t *testing.T) {
	g := startGuarded(t, newFilter(guard.Rules{}))
	if _, err := g.Guard(t.Context(), klips.Guard{Selector: netFlow}); err != nil {
		t.Fatal(err)
	}
	f := g.filter
	var sets int
	f.change(func() { sets = f.sets }) // nothing has changed
	for range 2 {
		g.flush()
		for len(g.flows()) == 0 { // the test's own time limit ends it
			g.clock.Advance(time.Second) // it pauses between two repairs
		}
		g.is(t, outNet)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sets != sets+2 {
		t.Errorf("the filter was set %d times, want 2", f.sets-sets)
	}
}

// TestHide: the filter drops ICMP errors about protected packets from the start of the
// daemon to its stop. Changes by other programs are mended, and the next daemon goes on.
func TestHide(t *testing.T) {
	f := newFilter(guard.Rules{})
	hides := func() bool { r, _ := f.Read(); return r.Hide }
	t.Run("leave", func(t *testing.T) {
		g := startGuarded(t, f)
		if !hides() {
			t.Error("they pass after a start")
		}
		if _, err := g.Guard(t.Context(), klips.Guard{Selector: netFlow}); err != nil || !hides() {
			t.Errorf("they pass while a flow is guarded: %v", err)
		}
		if err := g.Unguard(t.Context(), netFlow); err != nil || !hides() {
			t.Errorf("they pass when no flow is guarded any more: %v", err)
		}
		g.flush()
		for !hides() { // the test's own time limit ends it
			g.clock.Advance(time.Second)
		}
		if err := g.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	if !hides() {
		t.Error("they pass after a daemon has left its devices")
	}
	t.Run("stop", func(t *testing.T) {
		g := startGuarded(t, f)
		if err := g.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	if r, _ := f.Read(); !r.Empty() {
		t.Errorf("after a stop the filter has %+v", r)
	}
}

// TestGuardEmptied: the rules are made again when they were removed, although the sets
// exist.
func TestGuardEmptied(t *testing.T) {
	g := startGuarded(t, newFilter(guard.Rules{}))
	if _, err := g.Guard(t.Context(), klips.Guard{Selector: netFlow}); err != nil {
		t.Fatal(err)
	}
	f := g.filter
	f.change(func() { f.empty = true })
	for whole := false; !whole; whole, _ = f.Whole() { // the test's own time limit ends it
		g.clock.Advance(time.Second)
	}
	g.is(t, outNet)
}

// TestNoFilter: without a packet filter in the kernel, the client receives an error,
// and the log has one line.
func TestNoFilter(t *testing.T) {
	f := newFilter(guard.Rules{})
	f.err = guard.ErrNone
	g := startGuarded(t, f)
	for range 3 {
		if _, err := g.Guard(t.Context(), klips.Guard{Selector: netFlow}); !errors.Is(err, syscall.EOPNOTSUPP) {
			t.Errorf("Guard = %v, want EOPNOTSUPP", err)
		}
	}
	if err := g.Unguard(t.Context(), netFlow); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("Unguard = %v, want ENOENT", err)
	}
	for _, text := range []string{"by routes alone", "ICMP errors"} {
		if n := strings.Count(g.log.String(), text); n != 1 {
			t.Errorf("the log has %d lines with %q, want 1:\n%s", n, text, g.log)
		}
	}
	if r, _ := f.Read(); !reflect.DeepEqual(r, guard.Rules{}) {
		t.Errorf("the filter has %v", r)
	}
}
