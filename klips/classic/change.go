package classic

import (
	"context"
	"iter"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// klipsWindow is the largest replay window of KLIPS, in packets.
const klipsWindow = 64

// AddSA makes an SA (ADD). KLIPS ignores limits in packets. Other features that KLIPS
// lacks are refused here, because it would misread the message: EINVAL for large
// windows and ESN, EPROTO for combined-mode ciphers, EOPNOTSUPP for offload to a device,
// for sequence numbers to continue from, for padded AH headers and for a copied TOS.
func (s *Stack) AddSA(ctx context.Context, spec *klips.SASpec) error {
	enc, _ := spec.Enc.Info()
	var errno syscall.Errno
	var fault klips.Fault
	switch {
	case enc.AEAD:
		errno = syscall.EPROTO
	case spec.Align8:
		errno, fault = syscall.EOPNOTSUPP, klips.FaultAlign8
	case spec.CopyTOS:
		errno, fault = syscall.EOPNOTSUPP, klips.FaultCopyTOS
	case spec.Window > klipsWindow, spec.ESN:
		errno = syscall.EINVAL
	case spec.Offload != "", spec.Seq != nil, spec.ReplaySeq != nil:
		errno = syscall.EOPNOTSUPP
	}
	if errno != 0 {
		return &klips.OpError{Op: "add SA", Object: spec.ID.String(), Err: errno, Fault: fault}
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

// Events registers for SA types and returns the kernel's messages.
func (s *Stack) Events(ctx context.Context, w klips.EventWant) (iter.Seq2[klips.Event, error], error) {
	c, err := s.pfkey()
	if err != nil {
		return nil, err
	}
	l, err := c.Events(ctx, w)
	if err != nil {
		return nil, &klips.OpError{Op: "listen", Err: err}
	}
	return l, nil
}
