package xfrm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/internal/arrange"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// A step is one change of the kernel's objects, and how to undo it.
type step struct {
	do     nlxfrm.Request
	undo   func() nlxfrm.Request // rarely needed
	object any                   // for errors: a *nlxfrm.State or *nlxfrm.Policy
	// gone is the errno that means that the object to be removed does not exist, which
	// is not an error.
	gone syscall.Errno
}

// A plan is the steps from one set of objects to another.
//
// Records come first: if the plan is interrupted, the objects made later have their
// owner. Then come policies that let packets in, so that they exist when states begin
// to deliver packets. Then come states, and last the policies that send packets, since
// the peer may be this host. Objects that are no longer needed are removed last, in the
// opposite order. So no packet is sent in clear at any moment, and packets that could
// pass before and after can pass in between. The exception is a state that must be
// replaced because its mode has changed. The kernel cannot hold two states with one
// SPI, so between two requests there is none, and packets are dropped.
type plan struct {
	// census marks the census unreliable; then come the others, and then counted.
	census, counted *step

	records, in, states, out []step
	rewrites                 []rewrite
	unlinks                  []step // removals of policies that use states
	removals                 []step // of states and records

	// left has the sequence numbers of the removed states just before their removal.
	left map[nlxfrm.ID]*nlxfrm.AE
}

// A rewrite is an existing state that must be replaced. goesOn: it still belongs to the
// same SA, and continues its sequence numbers.
type rewrite struct {
	old, new *nlxfrm.State
	goesOn   bool
}

// A move is an eroute's policy that changes its priority.
type move struct{ old, new *nlxfrm.Policy }

// compareMoves orders moves so that no policy passes another at any moment: first those
// to a higher number, from the highest; then those to a lower number, from the lowest.
func compareMoves(a, b move) int {
	back := func(m move) bool { return m.new.Priority > m.old.Priority }
	switch {
	case back(a) && back(b):
		return cmp.Compare(b.old.Priority, a.old.Priority)
	case back(a):
		return -1
	case back(b):
		return 1
	}
	return cmp.Compare(a.old.Priority, b.old.Priority)
}

// diff plans the steps. It returns an error if another program's policy has the key of
// a wanted one.
func diff(have, want *objects, d *dump) (*plan, error) {
	p := &plan{left: map[nlxfrm.ID]*nlxfrm.AE{}}
	for id, w := range want.states {
		switch h := have.states[id]; {
		case h == nil:
			p.states = append(p.states, step{do: nlxfrm.AddState(w), undo: func() nlxfrm.Request { return nlxfrm.DeleteState(id, w.Mark) }, object: w})
		case want.made[id]: // a new SA that replaces a removed one
			p.rewrites = append(p.rewrites, rewrite{h, w, false})
		case h.Mode != w.Mode, h.Src != w.Src, h.ReqID != w.ReqID, h.IfID != w.IfID, h.Selector != w.Selector,
			h.OutputMark != w.OutputMark, h.Flags != w.Flags, h.ExtraFlags != w.ExtraFlags, h.Processor != w.Processor:
			p.rewrites = append(p.rewrites, rewrite{h, w, true})
		}
	}
	others := map[nlxfrm.PolicyKey]bool{}
	for _, o := range d.policies {
		if !ours(o) {
			others[o.Key()] = true
		}
	}
	var moves []move
	for _, k := range want.order {
		w, h := want.policies[k], have.policies[k]
		list := &p.in
		switch {
		case w.IfID == parkSAs:
			list = &p.records
		case w.Dir == nlxfrm.DirOut:
			list = &p.out
		}
		switch {
		case h == nil && others[k]:
			return nil, refuse("", "", syscall.EEXIST, fmt.Sprintf("another program has made the policy %v; remove it, or let that program do this", k))
		case h == nil:
			*list = append(*list, step{do: nlxfrm.AddPolicy(w), undo: func() nlxfrm.Request { return nlxfrm.DeletePolicy(k) }, object: w})
		case list == &p.out && h.Priority != w.Priority:
			moves = append(moves, move{h, w})
		case !samePolicy(h, w):
			*list = append(*list, step{do: nlxfrm.UpdatePolicy(w), undo: func() nlxfrm.Request { return nlxfrm.UpdatePolicy(h) }, object: w})
		}
	}
	arrange.Sort(moves, compareMoves)
	var moved []step
	for _, m := range moves {
		moved = append(moved, step{do: nlxfrm.UpdatePolicy(m.new), undo: func() nlxfrm.Request { return nlxfrm.UpdatePolicy(m.old) }, object: m.new})
	}
	p.out = append(moved, p.out...)
	p.unlinks, p.removals = removals(have, want)
	p.recount(have.census, want.census)
	return p, nil
}

// empty reports whether there is nothing to do.
func (p *plan) empty() bool {
	return len(p.records)+len(p.in)+len(p.states)+len(p.out)+len(p.rewrites)+len(p.unlinks)+len(p.removals) == 0
}

// recount plans the steps before and after the others.
func (p *plan) recount(have, want *nlxfrm.Policy) {
	same := have == nil && want == nil || have != nil && want != nil && samePolicy(have, want)
	if p.empty() && same {
		return
	}
	if have != nil {
		p.census = &step{do: nlxfrm.UpdatePolicy(unreliable(have)), undo: func() nlxfrm.Request { return nlxfrm.UpdatePolicy(have) }, object: have}
	}
	switch {
	case want != nil:
		p.counted = &step{do: nlxfrm.UpdatePolicy(want), object: want}
	case have != nil:
		p.counted = &step{do: nlxfrm.DeletePolicy(censusKey()), object: have, gone: syscall.ENOENT}
	}
}

// removals returns the steps that remove objects that are not wanted: first policies
// that use states, and then the rest.
func removals(have, want *objects) (unlinks, rest []step) {
	var out, in, states, records []step
	for _, k := range have.order {
		if want.policies[k] != nil {
			continue
		}
		h := have.policies[k]
		s := step{do: nlxfrm.DeletePolicy(k), undo: func() nlxfrm.Request { return nlxfrm.AddPolicy(h) }, object: h, gone: syscall.ENOENT}
		switch {
		case h.IfID == parkSAs:
			records = append(records, s)
		case h.Dir == nlxfrm.DirOut:
			out = append(out, s)
		default:
			in = append(in, s)
		}
	}
	for id, h := range have.states {
		if want.states[id] == nil {
			states = append(states, step{do: nlxfrm.DeleteState(id, h.Mark), undo: func() nlxfrm.Request { return nlxfrm.AddState(again(h, nil)) }, object: h, gone: syscall.ESRCH})
		}
	}
	return append(out, in...), append(states, records...)
}

// samePolicy compares what the kernel keeps of our policies.
func samePolicy(a, b *nlxfrm.Policy) bool {
	return a.Action == b.Action && a.Priority == b.Priority && a.Limits == b.Limits && slices.Equal(a.Templates, b.Templates)
}

// apply executes the plan, and rolls back on an error.
func (p *plan) apply(ctx context.Context, c kernel) error {
	var rewrites []step
	for _, w := range p.rewrites {
		two, err := w.steps(ctx, c)
		if err != nil {
			return err
		}
		rewrites = append(rewrites, two...)
	}
	if p.census != nil {
		if _, err := run(ctx, c, []step{*p.census}); err != nil {
			return err
		}
	}
	steps := slices.Concat(p.records, p.in, rewrites, p.states, p.out)
	done, err := run(ctx, c, steps)
	if err == nil {
		err = p.checkOffload(func(id nlxfrm.ID, m nlxfrm.Mark) (*nlxfrm.State, error) { return c.GetState(ctx, id, m) })
	}
	for _, l := range [...][]step{p.unlinks, p.removals} {
		if err != nil {
			break
		}
		if err = p.leave(ctx, c, l); err == nil {
			var more []step
			more, err = run(ctx, c, l)
			done = append(done, more...)
		}
	}
	if err != nil {
		// A rollback must not be stopped by the reason that stopped the plan.
		if back := undo(context.WithoutCancel(ctx), c, done); back != nil {
			err = errors.Join(err, fmt.Errorf("and not all could be taken back, the next command will try: %w", back))
		} else if p.census != nil {
			// If this fails, the next command reads all objects.
			_ = undo(context.WithoutCancel(ctx), c, []step{*p.census})
		}
	} else if p.counted != nil {
		_, _ = run(context.WithoutCancel(ctx), c, []step{*p.counted}) // the same
	}
	clearSteps(steps)
	clearSteps(p.unlinks)
	clearSteps(p.removals)
	return err
}

// leave notes the sequence numbers of the states that the steps will remove.
func (p *plan) leave(ctx context.Context, c kernel, l []step) error {
	for _, s := range l {
		st, ok := s.object.(*nlxfrm.State)
		if !ok || !numbered(st) {
			continue
		}
		ae, err := c.GetAE(ctx, st.ID, st.Mark)
		switch {
		case err == nil:
			p.left[st.ID] = ae
		case !errors.Is(err, s.gone):
			return wrapError(err, st)
		}
	}
	return nil
}

// checkOffload checks that devices have taken the states that they should. If a device
// cannot, the kernel processes the packets itself and reports nothing.
func (p *plan) checkOffload(get func(nlxfrm.ID, nlxfrm.Mark) (*nlxfrm.State, error)) error {
	var made []*nlxfrm.State
	for _, s := range p.states {
		made = append(made, s.object.(*nlxfrm.State))
	}
	for _, w := range p.rewrites {
		made = append(made, w.new)
	}
	for _, w := range made {
		if w.Offload == nil {
			continue
		}
		is, err := get(w.ID, w.Mark)
		if err != nil {
			return wrapError(err, w)
		}
		is.ClearKeys()
		if is.Offload == nil {
			return fault("", said(w), klips.FaultOffloadRefused, noOffload)
		}
	}
	return nil
}

// clearSteps overwrites the keys in the requests.
func clearSteps(l []step) {
	for i := range l {
		l[i].do.Clear()
	}
}

// run executes steps and returns those that succeeded, with the first error.
func run(ctx context.Context, c kernel, steps []step) (done []step, err error) {
	if len(steps) == 0 {
		return nil, nil
	}
	rs := make([]nlxfrm.Request, len(steps))
	for i, s := range steps {
		rs[i] = s.do
	}
	errs, failed := c.Batch(ctx, rs)
	for i, e := range errs {
		switch {
		case e == nil:
			done = append(done, steps[i])
		case steps[i].gone != 0 && errors.Is(e, steps[i].gone):
		case err == nil:
			err = wrapError(e, steps[i].object)
		}
	}
	return done, errors.Join(err, failed)
}

func undo(ctx context.Context, c kernel, done []step) error {
	back := make([]step, 0, len(done))
	for _, s := range slices.Backward(done) {
		back = append(back, step{do: s.undo(), object: s.object})
	}
	_, err := run(ctx, c, back)
	clearSteps(back)
	return err
}

// seqGap is how many sequence numbers are skipped when a state is replaced. Packets may
// be sent after its numbers were read and before it is removed, and no number may be
// used twice (RFC 4303 section 3.3.3; with AES-GCM it would reveal the authentication
// key, RFC 4106 section 2).
const seqGap = 4096

// steps replaces a state, and continues the numbers that it has now.
func (w rewrite) steps(ctx context.Context, c kernel) ([]step, error) {
	ae, err := c.GetAE(ctx, w.old.ID, w.old.Mark)
	if err != nil {
		return nil, wrapError(err, w.old)
	}
	old, renewed := again(w.old, ae), w.new
	if w.goesOn {
		renewed = again(w.new, ae)
		// The numbers come in the form for the old window, which changes when the state gets or
		// loses a processor.
		if n := windowOf(w.new); windowOf(renewed) != n {
			setWindow(renewed, n)
		}
	}
	return []step{
		{do: nlxfrm.DeleteState(old.ID, old.Mark), undo: func() nlxfrm.Request { return nlxfrm.AddState(old) }, object: old},
		{do: nlxfrm.AddState(renewed), undo: func() nlxfrm.Request { return nlxfrm.DeleteState(old.ID, old.Mark) }, object: renewed},
	}, nil
}

// again returns the state in the form in which the kernel accepts it once more.
func again(s *nlxfrm.State, ae *nlxfrm.AE) *nlxfrm.State {
	n := *s
	n.Stats, n.LastUsed = nlxfrm.Stats{}, 0
	if ae != nil {
		n.Replay, n.ReplayESN = ae.Replay, ae.ReplayESN
		if ae.Current != nil {
			n.Current = *ae.Current
		}
	}
	if n.ReplayESN != nil {
		n.ReplayWindow = 0 // the kernel refuses both forms together
		e := *n.ReplayESN
		if n.Current.Packets != 0 && (e.OutSeq != 0 || e.OutSeqHigh != 0) {
			if e.OutSeq > ^uint32(0)-seqGap && s.Flags&nlxfrm.FlagESN != 0 {
				e.OutSeqHigh++
			}
			e.OutSeq = skipSeqs(e.OutSeq, s.Flags&nlxfrm.FlagESN != 0)
		}
		n.ReplayESN = &e
	} else if n.Replay != nil {
		r := *n.Replay
		if n.Current.Packets != 0 && r.OutSeq != 0 {
			r.OutSeq = skipSeqs(r.OutSeq, s.ExtraFlags&nlxfrm.ExtraOSeqMayWrap != 0)
		}
		n.Replay = &r
	}
	return &n
}

// skipSeqs skips seqGap numbers. If they must not wrap, they end at the last one.
func skipSeqs(n uint32, wraps bool) uint32 {
	if n > ^uint32(0)-seqGap && !wraps {
		return ^uint32(0)
	}
	return n + seqGap
}
