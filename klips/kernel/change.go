package kernel

import (
	"context"
	"errors"
	"iter"
	"slices"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// klipsWindow is the largest replay window of KLIPS, in packets.
const klipsWindow = 64

// AddSA makes an SA (ADD). Limits in packets do not reach KLIPS; what else it
// does not have is refused here, since it would take the message for another:
// EINVAL for large windows and ESN, EPROTO for combined-mode ciphers, EOPNOTSUPP
// for devices that are to work.
func (s *Stack) AddSA(ctx context.Context, spec *klips.SASpec) error {
	enc, _ := spec.Enc.Info()
	var errno syscall.Errno
	switch {
	case enc.AEAD:
		errno = syscall.EPROTO
	case spec.Window > klipsWindow, spec.ESN:
		errno = syscall.EINVAL
	case spec.Offload != "":
		errno = syscall.EOPNOTSUPP
	}
	if errno != 0 {
		return &klips.OpError{Op: "add SA", Object: spec.ID.String(), Err: errno}
	}
	m := pfkey.AddSA(spec)
	defer m.Clear()
	r, err := s.call(ctx, "add SA", spec.ID.String(), m)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.added, s.owner = r, spec.ID
	s.mu.Unlock()
	return nil
}

// Group links SAs, one message (X_GRPSA) a pair. When KLIPS refuses a pair, the
// links that were made before are taken back.
func (s *Stack) Group(ctx context.Context, ids []klips.SAID) error {
	if len(ids) < 2 || len(ids) > klips.MaxGroup {
		return &klips.OpError{Op: "group", Err: syscall.EINVAL}
	}
	for i := 1; i < len(ids); i++ {
		if err := s.link(ctx, ids[i-1], ids[i]); err != nil {
			var oe *klips.OpError
			if i > 1 && errors.As(err, &oe) {
				if uerr := s.unlink(ctx, ids[:i]); uerr != nil {
					oe.Detail = "the links made before could not be taken back: " + uerr.Error()
				}
			}
			return err
		}
	}
	return nil
}

func (s *Stack) link(ctx context.Context, a, b klips.SAID) error {
	return s.Asker(ctx, "group", a.String()+" "+b.String(), pfkey.GroupPair(a, b))
}

// unlink takes back the links between SAs that stand one after the other in a
// group. KLIPS can only take a whole group apart: what was linked to its ends
// before is linked again.
func (s *Stack) unlink(ctx context.Context, ids []klips.SAID) error {
	ctx = context.WithoutCancel(ctx)
	group := ids
	if lines, err := s.groups(); err == nil {
		group = wholeGroup(lines, ids)
	}
	if err := s.Ungroup(ctx, ids[0]); err != nil {
		return err
	}
	for i := 1; i < len(group); i++ {
		a, b := group[i-1], group[i]
		if slices.Contains(ids, a) && slices.Contains(ids, b) {
			continue
		}
		if err := s.link(ctx, a, b); err != nil {
			return err
		}
	}
	return nil
}

// wholeGroup returns the group that has ids, in the order in which it is made:
// tables have inbound groups the other way round.
func wholeGroup(lines [][]klips.SAID, ids []klips.SAID) []klips.SAID {
	whole := ids
	for _, l := range lines {
		a, b := slices.Index(l, ids[0]), slices.Index(l, ids[1])
		if a < 0 || b < 0 || len(l) < len(whole) {
			continue
		}
		whole = slices.Clone(l)
		if a > b {
			slices.Reverse(whole)
		}
	}
	return whole
}

// Listen registers for SA types and returns the kernel's messages, see
// [pfkey.Listener]. The Stack must not be used for anything else meanwhile.
func (s *Stack) Listen(ctx context.Context, types ...pfkey.SAType) (iter.Seq2[[]byte, error], error) {
	c, err := s.pfkey()
	if err != nil {
		return nil, err
	}
	l, err := c.Listen(ctx, types...)
	if err != nil {
		return nil, &klips.OpError{Op: "listen", Err: err}
	}
	return l, nil
}

var _ pfkey.Listener = (*Stack)(nil)
