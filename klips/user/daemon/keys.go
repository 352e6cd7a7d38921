package daemon

import (
	"context"
	"syscall"

	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user/control"
)

// keys answers a request for the keys of an SA. As with a handover, a client that is not
// root may change SAs, but must not learn keys. The copies are overwritten when the answer
// has been sent.
func (s *server) keys(ctx context.Context, c *client, m *pfkey.Message) error {
	refuse := func(err error) error {
		s.log.Warn("keys are refused", "pid", c.pid, "err", err)
		return s.publish(c, toSender(pfkey.ErrorReply(m.Header, pfkey.Errno(err))))
	}
	if !c.root {
		return refuse(syscall.EPERM)
	}
	if s.gone.Load() {
		return refuse(syscall.ESHUTDOWN)
	}
	ids, err := control.SAIDsOf(m)
	if err != nil {
		return refuse(err)
	}
	k, err := s.eng.ReadKeys(ctx, ids[0])
	if err != nil {
		return refuse(err)
	}
	defer k.Clear()
	out, err := control.KeysReply(m.Header, k).Marshal()
	if err != nil {
		return err
	}
	s.log.Info("keys are given", "pid", c.pid, "sa", ids[0].String())
	ok := c.wait(c.answerWith(out, nil))
	clear(out) // nothing sends it any more
	return sent(ok)
}
