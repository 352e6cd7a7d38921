package plan_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/plan"
	"github.com/klips-go/ipsec/klips/serial"
)

// A host is a stack on this host that refuses one change for a reason that no rehearsal
// can find.
type host struct {
	klips.Stack
	model *plan.Model
	left  int // changes until the refusal; negative: never
	held  int // how often it is held now
	holds int // how often it was held
	loose []klips.Change
}

func newHost() *host {
	m := plan.NewModel(plan.ThisHost())
	return &host{Stack: serial.New(m), model: m, left: -1}
}

func (h *host) Hold(context.Context) (release func(), err error) {
	h.held++
	h.holds++
	return func() { h.held-- }, nil
}

func (h *host) Apply(ctx context.Context, changes ...klips.Change) (r klips.Result, err error) {
	for _, c := range changes {
		if h.held != 1 {
			h.loose = append(h.loose, c)
		}
		if h.left == 0 {
			h.left = -1
			return r, &klips.OpError{Op: c.Op(), Object: c.Object(), Err: syscall.ENOMEM}
		}
		h.left--
		o, err := klips.Do(ctx, h.Stack, c)
		if err != nil {
			return r, err
		}
		r.Outcomes = append(r.Outcomes, o)
	}
	return r, nil
}

// onThisHost changes a change to this host: 127.0.0.1 is its address, and lo its
// device.
func onThisHost(c klips.Change) klips.Change {
	id := func(i klips.SAID) klips.SAID {
		if i.Dst == here {
			i.Dst = netip.MustParseAddr("127.0.0.1")
		}
		return i
	}
	switch c := c.(type) {
	case klips.AddSA:
		c.ID, c.Src = id(c.ID), netip.MustParseAddr("127.0.0.1")
		return c
	case klips.DeleteSA:
		return klips.DeleteSA{ID: id(c.ID)}
	case klips.Ungroup:
		return klips.Ungroup{ID: id(c.ID)}
	case klips.Group:
		ids := slices.Clone(c.IDs)
		for i := range ids {
			ids[i] = id(ids[i])
		}
		return klips.Group{IDs: ids}
	case klips.SetEroute:
		c.ID = id(c.ID)
		return c
	case klips.SetPolicy:
		c.ID = id(c.ID)
		return c
	case klips.Attach:
		return klips.Attach{Virtual: c.Virtual, Physical: strings.Replace(c.Physical, "eth0", "lo", 1)}
	}
	return c
}

// All changes are carried out, or the tables are as before, or the error names those
// that stay. The stack is held during all of this, and not longer.
func TestApply(t *testing.T) {
	ctx := context.Background()
	rapid.Check(t, func(r *rapid.T) {
		h := newHost()
		for range rapid.IntRange(0, 20).Draw(r, "before") {
			_ = h.model.Do(ctx, onThisHost(anyChange(r)))
		}
		before, alone := h.model.Clone(), h.model.Clone()
		var changes []klips.Change
		tidy := rapid.Bool().Draw(r, "tidy")
		for range rapid.IntRange(1, 8).Draw(r, "changes") {
			c := onThisHost(anyChange(r))
			if err := alone.Do(ctx, c); err != nil && tidy {
				continue
			}
			changes = append(changes, c)
		}
		// A successful result is the same as that of the model alone.
		alone = before.Clone()
		var impossible error
		for _, c := range changes {
			if impossible = alone.Do(ctx, c); impossible != nil {
				break
			}
		}
		h.left = rapid.IntRange(-1, len(changes)).Draw(r, "refuse")
		fickle := h.left >= 0 && h.left < len(changes)
		res, err := plan.Apply(ctx, h, changes...)
		if h.held != 0 || h.holds != 1 || len(h.loose) > 0 {
			r.Fatalf("held %d times, %d now; %v while it was not", h.holds, h.held, h.loose)
		}
		var oe *klips.OpError
		switch {
		case impossible != nil:
			if fmt.Sprint(err) != fmt.Sprint(impossible) {
				r.Fatalf("Apply = %v, want %v", err, impossible)
			}
			same(r, "an impossible change", before, h.model)
		case !fickle:
			if err != nil || len(res.Outcomes) != len(changes) {
				r.Fatalf("Apply = %v, %v for %d changes", res, err, len(changes))
			}
			same(r, "all changes", alone, h.model)
		case !errors.As(err, &oe) || !errors.Is(err, syscall.ENOMEM) || len(res.Outcomes) != 0:
			r.Fatalf("Apply = %v, %v", res, err)
		case oe.Left == "":
			same(r, fmt.Sprint("taking back ", changes), before, h.model)
		default:
			if !strings.Contains(oe.Left, plan.ErrNoWay.Error()) {
				r.Fatalf("%q is left", oe.Left)
			}
		}
	})
}

// Changes that cannot be undone are reported.
func TestApplyLeaves(t *testing.T) {
	h := newHost()
	old := klips.SAID{Dst: there, SPI: 0x100, Proto: klips.ProtoTun}
	made := &klips.SASpec{ID: klips.SAID{Dst: there, SPI: 0x101, Proto: klips.ProtoTun}, Src: here}
	if err := h.model.AddSA(t.Context(), &klips.SASpec{ID: old, Src: here}); err != nil {
		t.Fatal(err)
	}
	h.left = 2
	_, err := plan.Apply(t.Context(), h, klips.DeleteSA{ID: old}, klips.AddSA{SASpec: made}, klips.ClearEroutes{})
	var oe *klips.OpError
	if !errors.As(err, &oe) || oe.Op != "clear eroutes" || oe.Left != "delete SA tun0x100@192.0.2.2: no stack can" {
		t.Errorf("Apply = %v (%+v)", err, oe)
	}
	if l, _ := h.model.SAs(t.Context()); len(l) != 0 {
		t.Errorf("%d SAs, want that the new one was taken back", len(l))
	}
}

// A stack that is held by others, or that cannot be read, gets no change and is not
// held.
func TestApplyToNone(t *testing.T) {
	h := newHost()
	if _, err := plan.Apply(t.Context(), busy{h}, klips.ClearSAs{}); !errors.Is(err, syscall.EALREADY) {
		t.Errorf("Apply = %v, want EALREADY", err)
	}
	if _, err := plan.Apply(t.Context(), blind{h}, klips.ClearSAs{}); !errors.Is(err, syscall.EPERM) || h.held != 0 {
		t.Errorf("Apply = %v and %d holds, want EPERM and none", err, h.held)
	}
}

type busy struct{ klips.Stack }

func (busy) Hold(context.Context) (func(), error) { return nil, syscall.EALREADY }

type blind struct{ klips.Stack }

func (blind) Snapshot(context.Context, klips.Want) (*klips.Snapshot, error) {
	return nil, syscall.EPERM
}
