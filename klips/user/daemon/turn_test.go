package daemon_test

import (
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/plan"
	"github.com/klips-go/ipsec/klips/user"
	"github.com/klips-go/ipsec/klips/user/clock/clocktest"
	"github.com/klips-go/ipsec/klips/user/control"
)

// Each of these takes the turn, so that others wait, and each has its end.
func TestTurn(t *testing.T) {
	type client = *pfkey.Conn
	call := func(t *testing.T, c client, m *pfkey.Message) {
		t.Helper()
		if _, err := c.Call(t.Context(), m); err != nil {
			t.Fatalf("%v = %v", m.Type, err)
		}
	}
	for _, c := range []struct {
		name       string
		begin, end func(t *testing.T, c client)
	}{
		{"hold and release",
			func(t *testing.T, c client) { call(t, c, control.Hold()); call(t, c, control.Hold()) },
			func(t *testing.T, c client) { call(t, c, control.Release()); call(t, c, control.Release()) }},
		{"a unit",
			func(t *testing.T, c client) { call(t, c, control.Begin()) },
			func(t *testing.T, c client) { call(t, c, control.End()) }},
		{"a unit within a hold",
			func(t *testing.T, c client) {
				call(t, c, control.Hold())
				call(t, c, control.Begin())
				call(t, c, control.End())
			},
			func(t *testing.T, c client) { call(t, c, control.Release()) }},
		{"a hold within a unit that has failed",
			func(t *testing.T, c client) {
				call(t, c, control.Begin())
				call(t, c, control.Hold())
				if _, err := c.Call(t.Context(), pfkey.DeleteSA(tunSpec(0x999).ID)); !errors.Is(err, syscall.ESRCH) {
					t.Fatal(err)
				}
				call(t, c, control.End())
			},
			func(t *testing.T, c client) { call(t, c, control.Release()) }},
		{"the end of its client",
			func(t *testing.T, c client) { call(t, c, control.Begin()); call(t, c, control.Hold()) },
			func(t *testing.T, c client) { c.Close() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			rundir, _, clock := startAt(t, slog.New(slog.DiscardHandler))
			other := dial(t, rundir)
			holder, err := pfkey.Dial(user.SocketPath(rundir))
			if err != nil {
				t.Fatal(err)
			}
			defer holder.Close()
			c.begin(t, holder)
			quiet := clock.Timers()
			// Each of these changes waits until it is refused; the last one waits until
			// its turn.
			changes := []klips.Change{
				klips.AddSA{SASpec: tunSpec(0x1000)}, klips.ClearSAs{}, klips.ClearEroutes{}, klips.Attach{Virtual: "ipsec0", Physical: "eth0"},
				klips.SetKnobs{Knobs: map[string]int{"tos": 0}}, klips.SetDebug{}, klips.CreateDevice{Virtual: "ipsec7"},
				klips.AddSA{SASpec: tunSpec(0x1001)},
			}
			for i, change := range changes {
				last := i == len(changes)-1
				done := make(chan error, 1)
				go func() {
					_, err := klips.Do(t.Context(), other.Stack, change)
					done <- err
				}()
				for clock.Timers() == quiet {
					runtime.Gosched()
				}
				call(t, holder, pfkey.AddSA(tunSpec(klips.SPI(0x2000+i))))
				if !last {
					clock.Advance(10 * time.Second)
					if err := <-done; !errors.Is(err, syscall.EALREADY) {
						t.Errorf("%v = %v while another client has the turn, want EALREADY", change, err)
					}
					continue
				}
				c.end(t, holder)
				if err := <-done; err != nil {
					t.Errorf("%v = %v after the turn of another client", change, err)
				}
			}
			checkTurns(t, clock, quiet)
			l, err := other.SAs(t.Context())
			if err != nil || len(l) != len(changes)+1 || !slices.ContainsFunc(l, func(sa klips.SA) bool { return sa.ID.SPI == 0x1001 }) {
				t.Errorf("%d SAs, %v; want those of the holder and one of the other", len(l), err)
			}
		})
	}
}

// checkTurns checks that no client waits for a turn.
func checkTurns(t *testing.T, clock *clocktest.Clock, quiet int) {
	t.Helper()
	if n := clock.Timers(); n != quiet {
		t.Errorf("%d timers, want %d", n, quiet)
	}
}

// A client that only reads does not wait, and neither does a stop.
func TestTurnOfOthers(t *testing.T) {
	rundir, _, _ := startAt(t, slog.New(slog.DiscardHandler))
	other, holder := dial(t, rundir), dial(t, rundir)
	release, err := holder.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if _, err := other.Snapshot(t.Context(), klips.Want{Version: true, SAs: true, Eroutes: true, Devices: true, Debug: true, Knobs: true}); err != nil {
		t.Error(err)
	}
	if err := other.Stack.(*user.Client).Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// Of transactions that conflict with each other, one is carried out and the others
// change nothing.
func TestTransactionsAtOnce(t *testing.T) {
	rundir, _ := start(t)
	const n = 4
	var clients [n]klipstest.Client
	for i := range clients {
		clients[i] = dial(t, rundir)
	}
	for range 20 {
		var wg sync.WaitGroup
		var errs [n]error
		for i := range n {
			var changes []klips.Change
			for k := range 30 {
				changes = append(changes, klips.AddSA{SASpec: tunSpec(klips.SPI(0x1000*(i+1) + k))})
			}
			changes = append(changes, klips.AddSA{SASpec: tunSpec(0x999)})
			wg.Go(func() { _, errs[i] = plan.Apply(t.Context(), clients[i].Stack, changes...) })
		}
		wg.Wait()
		done := 0
		for _, err := range errs {
			switch {
			case err == nil:
				done++
			case !errors.Is(err, syscall.EEXIST):
				t.Error(err)
			}
		}
		l, err := clients[0].SAs(t.Context())
		if err != nil || done != 1 || len(l) != 31 {
			t.Errorf("%d of %d transactions were carried out, %d SAs, %v; want one, and its 31 SAs", done, n, len(l), err)
		}
		if err := clients[0].ClearSAs(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
