package daemon_test

import (
	"errors"
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
