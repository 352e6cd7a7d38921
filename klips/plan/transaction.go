package plan

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"

	"github.com/klips-go/ipsec/klips"
)

// A Transaction is a list of changes that a stack carries out all or none. First all
// are rehearsed: they are carried out in memory, by the rules of the stack. So the
// stack gets the first change only if all are valid as far as is known. If the stack
// still refuses one, the transaction ends, and the changes before it are undone.
//
// From [Begin] to [Transaction.End] other programs cannot change the stack, so the
// rehearsal stays valid. If the process is killed meanwhile, the changes made until
// then stay.
//
// A Transaction must not be used by several goroutines at once.
type Transaction struct {
	// Model is the state of the stack after all rehearsed changes.
	Model *Model

	stack   klips.Stack
	release func()
	steps   []step // all rehearsed changes
	done    int    // number of changes carried out
}

// A step is a change and its inverse.
type step struct {
	change klips.Change
	back   []klips.Change
	ok     bool // there is an inverse
}

// Begin holds a stack against changes by other programs, and reads its state. The
// caller ends the transaction. The error is that of [klips.Stack].Hold or of its
// Snapshot.
func Begin(ctx context.Context, s klips.Stack) (*Transaction, error) {
	release, err := s.Hold(ctx)
	if err != nil {
		return nil, err
	}
	m, err := Read(ctx, s)
	if err != nil {
		release()
		return nil, err
	}
	return &Transaction{Model: m, stack: s, release: release}, nil
}

// Read returns a model in the state of a stack, on this host. The error is that of
// [klips.Stack].Snapshot.
func Read(ctx context.Context, s klips.Stack) (*Model, error) {
	now, err := s.Snapshot(ctx, Wanted)
	if err != nil {
		return nil, err
	}
	m := Of(s.Info(), now)
	m.Local, m.Physical = ThisHost()
	return m, nil
}

// Rehearsal returns a transaction that can only be rehearsed.
func Rehearsal(m *Model) *Transaction { return &Transaction{Model: m, release: func() {}} }

// ThisHost returns the functions of a [Model] for this host, with its current
// addresses.
func ThisHost() (local func(netip.Addr) bool, physical func(name string) (mtu int, ok bool)) {
	own := map[netip.Addr]bool{}
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			own[p.Addr().Unmap()] = true
		}
	}
	local = func(a netip.Addr) bool { return own[a] || a.IsLoopback() }
	return local, func(name string) (mtu int, ok bool) {
		d, err := net.InterfaceByName(name)
		if err != nil {
			return 0, false
		}
		return d.MTU, true
	}
}

// Rehearse carries out a change in memory, after the earlier ones. After an error,
// which is that of the stack, the change is not a part of the transaction.
func (t *Transaction) Rehearse(ctx context.Context, c klips.Change) error {
	back, ok := t.Model.Inverse(c)
	if err := t.Model.Do(ctx, c); err != nil {
		return err
	}
	t.steps = append(t.steps, step{c, back, ok})
	return nil
}

// Apply carries out the next n rehearsed changes. The result and the error are those of
// [klips.Stack].Apply. After an error the caller must take the transaction back.
func (t *Transaction) Apply(ctx context.Context, n int) (klips.Result, error) {
	var changes []klips.Change
	for _, s := range t.steps[t.done:][:n] {
		changes = append(changes, s.change)
	}
	r, err := t.stack.Apply(ctx, changes...)
	t.done += len(r.Outcomes)
	return r, err
}

// ErrNoWay is why some changes cannot be undone: the keys of a removed SA are lost, and
// no stack can remove an inbound policy.
var ErrNoWay = errors.New("no stack can")

// A Left is a change that was carried out and not undone.
type Left struct {
	klips.Change
	Err error // of the stack, or [ErrNoWay]
}

// TakeBack undoes the changes that were carried out, the last first, and returns those
// that it cannot undo: normally none.
func (t *Transaction) TakeBack(ctx context.Context) (left []Left) {
	for ; t.done > 0; t.done-- {
		s := t.steps[t.done-1]
		err := ErrNoWay
		if s.ok {
			_, err = t.stack.Apply(ctx, s.back...)
		}
		if err != nil {
			left = append(left, Left{s.change, err})
		}
	}
	return left
}

// End lets other programs change the stack again.
func (t *Transaction) End() { t.release() }

// Apply carries out changes on a stack, all or none, and returns their outcomes. The
// error is that of the refused change, normally an *[klips.OpError]. Then no change
// stays, except for those in its Left.
func Apply(ctx context.Context, s klips.Stack, changes ...klips.Change) (klips.Result, error) {
	t, err := Begin(ctx, s)
	if err != nil {
		return klips.Result{}, err
	}
	defer t.End()
	for _, c := range changes {
		if err := t.Rehearse(ctx, c); err != nil {
			return klips.Result{}, err
		}
	}
	r, err := t.Apply(ctx, len(changes))
	if err == nil {
		return r, nil
	}
	left := t.TakeBack(context.WithoutCancel(ctx))
	if len(left) == 0 {
		return klips.Result{}, err
	}
	var what []string
	for _, l := range left {
		what = append(what, l.String()+": "+l.Err.Error())
	}
	var oe *klips.OpError
	if !errors.As(err, &oe) {
		oe = &klips.OpError{Err: err}
	}
	refused := *oe
	if refused.Left != "" {
		what = append(what, refused.Left)
	}
	refused.Left = strings.Join(what, ", ")
	return klips.Result{}, &refused
}
