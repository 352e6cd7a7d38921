package step

import (
	"context"
	"errors"
	"syscall"

	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/klips"
)

// guard carries out a step with a guard, and returns the step that undoes it.
func (r *Runner) guard(ctx context.Context, s *Step) (back []Step, err error) {
	stack, err := r.Env.Stack(ctx)
	if err != nil {
		return nil, err
	}
	defer stack.Close()
	guards := stack.Info().Has(klips.CapGuard)
	switch {
	case !guards && s.Remove:
		return nil, syscall.ENOENT
	case !guards:
		return nil, nil
	}
	// Wait for the answer to a request that has been sent: its result must be known.
	ctx = context.WithoutCancel(ctx)
	if s.Remove {
		_, err := klips.Do(ctx, stack, klips.RemoveGuard{Selector: s.Guard.Selector})
		if errors.Is(err, syscall.EOPNOTSUPP) {
			err = syscall.ENOENT // the flow was not guarded
		}
		return nil, explain.Error(klips.RemoveGuard{}, s.Guard.Selector.String(), err)
	}
	o, err := klips.Do(ctx, stack, klips.SetGuard{Guard: *s.Guard})
	switch {
	case errors.Is(err, syscall.EOPNOTSUPP):
		r.Note("this kernel has no usable nftables: without it, routes alone keep %s from leaving in clear, and nothing keeps the answers from coming so", klips.FormatPrefix(s.Guard.Dst))
		return nil, nil
	case err != nil || o.Before:
		return nil, explain.Error(klips.SetGuard{}, s.Guard.Selector.String(), err)
	}
	return []Step{{Guard: s.Guard, Remove: true, IfExists: true}}, nil
}

// backstop carries out a step with a backstop, and returns the step that undoes it.
func (r *Runner) backstop(s *Step) (back []Step, err error) {
	if s.Remove {
		if err := r.Net.RemoveBackstop(*s.Backstop); err != nil {
			return nil, err
		}
		return []Step{{Backstop: s.Backstop}}, nil
	}
	was, err := r.Net.AddBackstop(*s.Backstop)
	if err != nil || was {
		return nil, err
	}
	return []Step{{Backstop: s.Backstop, Remove: true, IfExists: true}}, nil
}
