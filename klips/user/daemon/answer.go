package daemon

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user"
	"github.com/klips-go/ipsec/klips/user/control"
)

// answer carries out the request in b, and sends its answer to p and news of it
// to whom they concern. It returns when the answer has been sent; an error says
// that p does not take it.
func (s *server) answer(ctx context.Context, p *peer, b []byte) error {
	send := func(m *pfkey.Message) error {
		out, err := m.Marshal()
		if err != nil {
			return err
		}
		return sent(p.wait(p.answer(out)))
	}
	h, err := pfkey.ParseHeader(b)
	if err != nil {
		// What a KLIPS kernel's write() refuses before it has a message: nobody
		// else hears of it.
		p.refused = true
		return send(pfkey.ErrorReply(h, pfkey.Errno(err)))
	}
	s.debug("request", p, h)
	m, err := pfkey.Parse(b)
	if err == nil {
		defer m.Clear()
		err = control.Check(m)
	}
	if p.inUnit && p.refused && h.Type != control.TypeEnd && h.Type != control.TypeRelease {
		return send(pfkey.ErrorReply(h, syscall.ECANCELED))
	}
	if err != nil {
		p.refused = true
		return s.publish(p, failed(&pfkey.Message{Header: h}, err))
	}
	leave := func() {}
	if changes(m.Type) {
		switch {
		case s.turn.enter(ctx, p):
			// It is left before the answer is sent: the client may take its time.
			leave = sync.OnceFunc(func() { s.turn.leave(p) })
			defer leave()
		case m.Type != control.TypeHandOver && m.Type != control.TypeLeave:
			p.refused = true
			return send(pfkey.ErrorReply(m.Header, syscall.EALREADY))
		} // the next daemon does not wait longer
	}
	// reply answers a request of which there is no more to say than its error.
	reply := func(err error) error {
		leave()
		p.refused = p.refused || err != nil
		return send(pfkey.ErrorReply(m.Header, pfkey.Errno(err)))
	}
	switch m.Type {
	case control.TypeBegin, control.TypeEnd, control.TypeHold, control.TypeRelease:
		if !s.bracket(ctx, p, m.Type) {
			return send(pfkey.ErrorReply(m.Header, syscall.EALREADY))
		}
		return send(pfkey.Ack(m.Header))
	case control.TypeList:
		return s.list(ctx, m, func(m *pfkey.Message) error {
			out, err := m.Marshal()
			if err != nil {
				return err
			}
			return sent(p.waitAtMost(p.answer(out), listTimeout))
		})
	case control.TypeStatus:
		return s.status(ctx, m, send)
	case control.TypeSet:
		return reply(s.set(m))
	case control.TypeGuard:
		f, err := control.GuardOf(m)
		if err == nil {
			err = s.guards.guard(f)
		}
		if err == syscall.EEXIST { // it was guarded before, which is no refusal
			return send(pfkey.ErrorReply(m.Header, syscall.EEXIST))
		}
		return reply(err)
	case control.TypeUnguard:
		f, err := control.UnguardedOf(m)
		if err == nil {
			err = s.guards.unguard(f)
		}
		return reply(err)
	case control.TypeHandOver:
		return s.handOver(p, m)
	case control.TypeStop, control.TypeLeave:
		err := send(pfkey.Ack(m.Header))
		if m.Type == control.TypeStop {
			s.removes.Store(true)
		}
		s.stop()
		return err
	}
	defer s.guards.changed()
	// Not held while the answer is sent: the client may take its time.
	s.changes.Lock()
	r := s.do(ctx, p, m)
	p.refused = p.refused || r.answer != nil && r.answer.Errno != 0
	c, err := s.queue(p, r)
	s.changes.Unlock()
	leave()
	if err != nil {
		return err
	}
	return sent(p.wait(c))
}

// set sets knobs.
func (s *server) set(m *pfkey.Message) error {
	knobs, err := control.KnobsOf(m)
	if err != nil {
		return err
	}
	s.changes.Lock()
	defer s.changes.Unlock()
	if s.gone.Load() {
		return syscall.ESHUTDOWN
	}
	if knobs["outbound_clear"] != 0 && !s.guards.can() {
		return syscall.EOPNOTSUPP // it would be on, and close nothing
	}
	if err := s.eng.SetKnobs(knobs); err != nil {
		return err
	}
	s.guards.knobs(knobs)
	return nil
}

// errGone says that a client does not take its answers.
var errGone = errors.New("it does not take its answers")

func sent(ok bool) error {
	if !ok {
		return errGone
	}
	return nil
}

// A result is what there is to say after a request.
type result struct {
	answer *pfkey.Message   // for who asked
	news   []*pfkey.Message // for the others who want messages for SA type to
	to     pfkey.SAType
}

// toAll is an answer that everyone gets.
func toAll(m *pfkey.Message) result { return result{answer: m, news: []*pfkey.Message{m}} }

// toSender is an answer that only the asker gets.
func toSender(m *pfkey.Message) result { return result{answer: m} }

// failed answers a request that could not be carried out. Of KLIPS' messages
// everyone hears the error, except for those about devices.
func failed(m *pfkey.Message, err error) result {
	r := pfkey.ErrorReply(m.Header, pfkey.Errno(err))
	switch {
	case m.PlumbIf != nil:
		return toSender(pfkey.PlumbReply(m, r.Errno))
	case m.Type == control.TypeGroup:
		return groupFailed(m, r, err)
	case m.Type >= pfkey.FirstPrivate: // nobody but the asker knows of it
		return toSender(r)
	}
	res := toAll(r)
	var op *klips.OpError
	if errors.As(err, &op) && op.Fault == klips.FaultKeyUsed {
		// Who asked learns which SA has the key.
		res.answer = control.KeyUsed(m.Header, op.Other)
	}
	return res
}

// groupFailed answers a private request for a group: it says which SA was at
// fault. The others hear what a KLIPS kernel says of a pair.
func groupFailed(m, r *pfkey.Message, err error) result {
	res := toSender(r)
	var op *klips.OpError
	if errors.As(err, &op) {
		control.NameObject(r, op.Object)
	}
	if ids, err := control.GroupOf(m); err == nil {
		pair := pfkey.ErrorReply(m.Header, r.Errno)
		pair.Type, pair.SAType = pfkey.TypeGroupSA, pfkey.SATypeOf(ids[0].Proto)
		res.news = []*pfkey.Message{pair}
	}
	return res
}

// publish queues what there is to say and waits until the answer has been sent.
func (s *server) publish(p *peer, r result) error {
	c, err := s.queue(p, r)
	if err != nil {
		return err
	}
	return sent(p.wait(c))
}

// queue queues what there is to say; the channel is for p.wait.
func (s *server) queue(p *peer, r result) (<-chan struct{}, error) {
	s.debug("answer", p, r.answer.Header)
	answer := s.marshal(r.answer)
	if answer == nil {
		// Who asked still learns how it went.
		r = toSender(pfkey.ErrorReply(r.answer.Header, r.answer.Errno))
		var err error
		if answer, err = r.answer.Marshal(); err != nil {
			return nil, err
		}
	}
	var news [][]byte
	for _, m := range r.news {
		b := answer
		if m != r.answer {
			b = s.marshal(m)
		}
		if b != nil {
			news = append(news, b)
		}
	}
	return s.audience.announce(p, answer, r.to, news), nil
}

// list sends a table, or the one SA that was asked for.
func (s *server) list(ctx context.Context, m *pfkey.Message, send func(*pfkey.Message) error) error {
	e := s.eng
	table, err := control.TableOf(m)
	if err != nil {
		return send(pfkey.ErrorReply(m.Header, pfkey.Errno(err)))
	}
	ids, err := control.SAIDsOf(m)
	if err != nil {
		return send(pfkey.ErrorReply(m.Header, pfkey.Errno(err)))
	}
	switch table {
	case control.TableSAs:
		if len(ids) == 0 {
			return sendAll(s, m, send, func() ([]klips.SA, error) { return e.SAs(ctx) })
		}
		return sendAll(s, m, send, func() (l []klips.SA, err error) {
			for _, id := range ids {
				sa, err := e.GetSA(ctx, id)
				if err != nil {
					return nil, err
				}
				l = append(l, sa)
			}
			return l, nil
		})
	case control.TableGroup:
		return sendAll(s, m, send, func() ([]klips.SA, error) { return e.ReadGroup(ctx, ids[0]) })
	case control.TableEroutes:
		return sendAll(s, m, send, func() ([]klips.Eroute, error) { return e.Eroutes(ctx) })
	case control.TableDevices:
		return sendAll(s, m, send, func() ([]klips.Device, error) { return e.Devices(ctx) })
	case control.TableDebug:
		return sendAll(s, m, send, func() ([]klips.Debug, error) {
			d, err := e.Debug(ctx)
			return []klips.Debug{d}, err
		})
	case control.TableVersion:
		return sendAll(s, m, send, func() ([]string, error) {
			v, err := e.Version(ctx)
			return []string{v}, err
		})
	}
	return send(pfkey.ErrorReply(m.Header, syscall.EINVAL))
}

func sendAll[T any](s *server, m *pfkey.Message, send func(*pfkey.Message) error, read func() ([]T, error)) error {
	l, err := read()
	if err == nil && s.gone.Load() {
		err = syscall.ESHUTDOWN // some of it may have been the next daemon's already
	}
	if err != nil {
		return send(pfkey.ErrorReply(m.Header, pfkey.Errno(err)))
	}
	return control.SendList(m, slices.Values(l), send)
}

// status tells how the daemon is.
func (s *server) status(ctx context.Context, m *pfkey.Message, send func(*pfkey.Message) error) error {
	devices, _ := s.eng.Devices(ctx)
	for i, d := range devices {
		if d.MTU == 0 && s.mtu != nil { // never attached; the system has a number for it
			devices[i].MTU, _ = s.mtu(d.Name)
		}
	}
	sas, eroutes := s.eng.Count()
	status := user.Status{
		PID:     os.Getpid(),
		Version: s.version,
		Rundir:  s.rundir,
		Uptime:  int64(s.clock.Now().Sub(s.started).Seconds()),
		SAs:     sas,
		Eroutes: eroutes,
		Devices: devices,
		Knobs:   s.eng.Knobs(),
		Dropped: s.audience.lost(),
		Holds:   user.Holds(s.eng.Holds()),
		Drops:   s.eng.Drops(),
		Marks:   s.marks.status(s.eng.MarksBehind()),
	}
	if n, ok := s.guards.counters(); ok {
		status.Unprotected = &n
	}
	r, err := control.StatusReply(m.Header, status)
	if err != nil {
		return err
	}
	return send(r)
}
