package plan

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"

	"github.com/klips-go/ipsec/klips"
)

// A Transaction is changes that a stack carries out all or none. First all are rehearsed:
// carried out in memory, by the rules of the stack. So the first is asked for when nothing
// that can be known is in the way of the last. What the stack refuses after all ends the
// transaction, and those before it are taken back.
//
// From [Begin] to [Transaction.End] other programs cannot change the stack, so what was
// rehearsed is what the stack meets. A process that is killed meanwhile leaves the stack
// with what was carried out until then.
//
// A Transaction is for one goroutine.
type Transaction struct {
	// Model has what the stack has when all that was rehearsed is carried out.
	Model *Model

	stack   klips.Stack
	release func()
	steps   []step // all that were rehearsed
	done    int    // how many of them were carried out
}

// A step is a change, and what takes it back.
type step struct {
	change klips.Change
	back   []klips.Change
	ok     bool // something does
}

// Begin keeps other programs from changing a stack, and reads what it has. The caller ends
// the transaction. The error is that of [klips.Stack].Hold or of its Snapshot.
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

// Rehearsal returns a transaction that can be rehearsed and no more.
func Rehearsal(m *Model) *Transaction { return &Transaction{Model: m, release: func() {}} }

// ThisHost returns what a [Model] asks about a host, for this one: the addresses are those
// of now.
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

// Rehearse carries a change out in memory, behind those before it. The error is that of
// the stack; the change is then no part of the transaction.
func (t *Transaction) Rehearse(ctx context.Context, c klips.Change) error {
	back, ok := t.Model.Inverse(c)
	if err := t.Model.Do(ctx, c); err != nil {
		return err
	}
	t.steps = append(t.steps, step{c, back, ok})
	return nil
}

// Apply carries out the next n changes that were rehearsed. The result and the error are
// those of [klips.Stack].Apply. After an error the caller takes the transaction back.
func (t *Transaction) Apply(ctx context.Context, n int) (klips.Result, error) {
	var changes []klips.Change
	for _, s := range t.steps[t.done:][:n] {
		changes = append(changes, s.change)
	}
	r, err := t.stack.Apply(ctx, changes...)
	t.done += len(r.Outcomes)
	return r, err
}

// ErrNoWay is why some changes cannot be taken back: nobody has the keys of an SA that is
// gone, and no stack takes an inbound policy away.
var ErrNoWay = errors.New("no stack can")

// A Left is a change that was carried out and not taken back.
type Left struct {
	klips.Change
	Err error // of the stack, or [ErrNoWay]
}

// TakeBack takes back what was carried out, the last first, and returns what it cannot
// take back: nothing, as a rule.
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

// End lets others change the stack again.
func (t *Transaction) End() { t.release() }

// Apply carries out changes on a stack, all or none, and returns their outcomes. The error
// is about the change that is refused, an *[klips.OpError] as a rule. Nothing is changed
// then, but for what its Left names.
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
