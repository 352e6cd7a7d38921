package manual

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"syscall"

	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/klips"
)

// close returns the steps that keep the flow of the connection from leaving in clear,
// even if the stack or the routes go away. They come before the routes. open undoes
// them.
func (k *connection) close(at *situation) (steps []step) {
	if k.shunt == "%pass" {
		return nil
	}
	steps = append(steps, step{guard: k.guard()})
	if k.me().updown != "" || at != nil && at.past {
		return steps // the script makes the routes
	}
	for _, dst := range k.backstops() {
		switch {
		case k.far(dst, at):
		case at == nil || !slices.Contains(at.backstops, dst):
			steps = append(steps, step{backstop: &dst})
		}
	}
	// A backstop of another connection would take packets to this peer: the kernel
	// would not use the route through the physical device, to which those packets are
	// bound.
	if at != nil && k.shunt == "" {
		for _, dst := range at.backstops {
			if dst.Contains(k.peer().addr) {
				steps = append(steps, step{backstop: &dst, remove: true, ifExists: true})
			}
		}
	}
	return steps
}

// open returns the steps that undo close. If the flow needs no route and the connection
// is up, it stays closed.
func (k *connection) open(operation string, at *situation) (steps []step) {
	if k.shunt == "%pass" || operation == "unroute" && at != nil && at.past && at.flow().own() && !at.held() {
		return nil
	}
	if k.me().updown == "" {
		for _, dst := range k.backstops() {
			if !k.far(dst, nil) {
				steps = append(steps, step{backstop: &dst, remove: true, ifExists: true})
			}
		}
	}
	return append(steps, step{guard: k.guard(), remove: true, ifExists: true})
}

// guard returns the guard for the flow of the connection.
func (k *connection) guard() *klips.Guard {
	g := &klips.Guard{Selector: k.selector()}
	if k.shunt == "" {
		g.In, g.Peer = true, k.peer().addr
	}
	return g
}

// backstops returns the networks that get a backstop.
func (k *connection) backstops() []netip.Prefix { return halves(k.peer().subnet) }

// far reports whether a network contains the far end of an SA, of this connection or of
// any other: a backstop would stop the protected packets to it.
func (k *connection) far(dst netip.Prefix, at *situation) bool {
	if k.shunt == "" && dst.Contains(k.peer().addr) {
		return true
	}
	if at == nil {
		return false
	}
	for _, sa := range at.sas {
		if sa.Dir.Sends() && dst.Contains(sa.ID.Dst) {
			return true
		}
	}
	return false
}

// guard carries out a step with a guard, and returns the step that undoes it.
func (x *executor) guard(ctx context.Context, s *step) (back []step, err error) {
	stack, err := x.env.Stack(ctx)
	if err != nil {
		return nil, err
	}
	defer stack.Close()
	guards := stack.Info().Has(klips.CapGuard)
	switch {
	case !guards && s.remove:
		return nil, syscall.ENOENT
	case !guards:
		return nil, nil
	}
	// Wait for the answer to a request that has been sent: its result must be known.
	ctx = context.WithoutCancel(ctx)
	if s.remove {
		_, err := klips.Do(ctx, stack, klips.RemoveGuard{Selector: s.guard.Selector})
		if errors.Is(err, syscall.EOPNOTSUPP) {
			err = syscall.ENOENT // the flow was not guarded
		}
		return nil, explain.Error(klips.RemoveGuard{}, s.guard.Selector.String(), err)
	}
	o, err := klips.Do(ctx, stack, klips.SetGuard{Guard: *s.guard})
	switch {
	case errors.Is(err, syscall.EOPNOTSUPP):
		x.note("this kernel has no usable nftables: without it, routes alone keep %s from leaving in clear, and nothing keeps the answers from coming so", klips.FormatPrefix(s.guard.Dst))
		return nil, nil
	case err != nil || o.Before:
		return nil, explain.Error(klips.SetGuard{}, s.guard.Selector.String(), err)
	}
	return []step{{guard: s.guard, remove: true, ifExists: true}}, nil
}

// backstop carries out a step with a backstop, and returns the step that undoes it.
func (x *executor) backstop(s *step) (back []step, err error) {
	if s.remove {
		if err := x.net.removeBackstop(*s.backstop); err != nil {
			return nil, err
		}
		return []step{{backstop: s.backstop}}, nil
	}
	was, err := x.net.addBackstop(*s.backstop)
	if err != nil || was {
		return nil, err
	}
	return []step{{backstop: s.backstop, remove: true, ifExists: true}}, nil
}
