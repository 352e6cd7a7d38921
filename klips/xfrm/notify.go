package xfrm

import (
	"context"
	"errors"
	"iter"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

var _ klips.Notifier = (*Stack)(nil)

// Notify listens to the kernel, see [klips.Notifier].
func (s *Stack) Notify(ctx context.Context, acquire bool) (iter.Seq2[klips.Notice, error], error) {
	l, err := nlxfrm.Listen(acquire)
	if err != nil {
		return nil, about(err, "listen", "")
	}
	return func(yield func(klips.Notice, error) bool) {
		defer l.Close()
		for {
			messages, err := l.Receive(ctx)
			if errors.Is(err, syscall.ENOBUFS) { // some are lost, so anything may have changed
				messages, err = []nlxfrm.Notice{{}}, nil
			}
			if err != nil {
				yield(klips.Notice{}, about(err, "listen", ""))
				return
			}
			for _, m := range messages {
				if !yield(notice(m), nil) {
					return
				}
			}
		}
	}, nil
}

func notice(m nlxfrm.Notice) (n klips.Notice) {
	if m.Expired != nil {
		n.Expired, n.Hard = said(m.Expired), m.Hard
	}
	if m.Acquire != nil {
		sel := flowOf(m.Acquire)
		n.Acquire = &sel
	}
	if v := m.Moved; v != nil {
		n.Moved = klips.SAID{Dst: v.ID.Dst, SPI: klips.SPI(v.ID.SPI), Proto: klips.Proto(v.ID.Proto)}
		n.From, n.To = v.Old, v.New
	}
	return n
}
