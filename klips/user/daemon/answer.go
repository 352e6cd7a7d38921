package daemon

import (
	"context"
	"errors"
	"iter"
	"os"
	"slices"
	"sync"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user"
	"github.com/klips-go/ipsec/klips/user/control"
)

// answerAll carries out the request in b, or in a unit the bundle of requests, and returns
// when the answers have been sent. An error means that c does not read them.
func (s *server) answerAll(ctx context.Context, c *client, b []byte) error {
	if !c.inUnit {
		return s.answer(ctx, c, b)
	}
	for len(b) > 0 {
		var request []byte
		request, b = pfkey.Split(b)
		c.gathers = true
		if err := s.answer(ctx, c, request); err != nil {
			return err
		}
		c.closeFiles() // they belong to the first request
	}
	c.gathers = false
	return sent(c.flush())
}

// answer carries out the request in b, sends its answer to c and broadcasts the
// messages about it. It returns when the answer has been sent, or gathered with those to
// other requests of a bundle. An error means that c does not read it.
func (s *server) answer(ctx context.Context, c *client, b []byte) error {
	send := func(m *pfkey.Message) error {
		out, err := m.Marshal()
		if err != nil {
			return err
		}
		return sent(c.wait(c.answer(out)))
	}
	h, err := pfkey.ParseHeader(b)
	if err != nil {
		// A KLIPS kernel's write() refuses these bytes before it has a message, so no
		// other client receives one.
		c.refused = true
		return send(pfkey.ErrorReply(h, pfkey.Errno(err)))
	}
	c.gathers = c.gathers && gathered(h.Type)
	s.debug("request", c, h)
	m, err := pfkey.Parse(b)
	if err == nil {
		defer m.Clear()
		err = control.Check(m)
	}
	if c.inUnit && c.refused && h.Type != control.TypeEnd && h.Type != control.TypeRelease {
		return send(pfkey.ErrorReply(h, syscall.ECANCELED))
	}
	if err != nil {
		c.refused = true
		return s.publish(c, failed(&pfkey.Message{Header: h}, err))
	}
	leave := func() {}
	if changes(m.Type) {
		switch {
		case s.turn.enter(ctx, c):
			// Leave before the answer is sent: the client may read it slowly.
			leave = sync.OnceFunc(func() { s.turn.leave(c) })
			defer leave()
		case m.Type != control.TypeHandOver && m.Type != control.TypeLeave:
			c.refused = true
			return send(pfkey.ErrorReply(m.Header, syscall.EALREADY))
		} // the next daemon does not wait any longer
	}
	// reply sends an answer that has only an errno.
	reply := func(err error) error {
		leave()
		c.refused = c.refused || err != nil
		return send(pfkey.ErrorReply(m.Header, pfkey.Errno(err)))
	}
	switch m.Type {
	case control.TypeBegin, control.TypeEnd, control.TypeHold, control.TypeRelease:
		switch {
		case !s.bracket(ctx, c, m.Type):
			return send(pfkey.ErrorReply(m.Header, syscall.EALREADY))
		case m.Type == control.TypeBegin:
			return send(control.Begun(m.Header))
		}
		return send(pfkey.Ack(m.Header))
	case control.TypeList:
		var out []byte // free again when it is sent
		return s.list(ctx, m, func(m *pfkey.Message) (err error) {
			if out, err = m.Append(out[:0]); err != nil {
				return err
			}
			return sent(c.waitAtMost(c.answer(out), listTimeout))
		})
	case control.TypeStatus:
		return s.status(ctx, m, send)
	case control.TypeTrace:
		f, err := control.FlowOf(m)
		if err != nil {
			return reply(err)
		}
		d, err := s.eng.Trace(ctx, f)
		if err != nil {
			return reply(err)
		}
		answer, err := control.ValueReply(m.Header, d)
		if err != nil {
			return err
		}
		return send(answer)
	case control.TypeKeys:
		return s.keys(ctx, c, m)
	case control.TypeSet:
		return reply(s.set(m))
	case control.TypeGuard:
		f, err := control.GuardOf(m)
		if err == nil {
			err = s.guards.guard(f)
		}
		if err == syscall.EEXIST { // it was guarded before; this does not cancel a unit
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
		return s.handOver(c, m)
	case control.TypeStop, control.TypeLeave:
		err := send(pfkey.Ack(m.Header))
		if m.Type == control.TypeStop {
			s.removes.Store(true)
		}
		s.stop()
		return err
	}
	c.changed = true
	// Not held while the answer is sent: the client may read it slowly.
	s.changes.Lock()
	if len(c.files) > 0 && s.offerPorts != nil {
		s.offerPorts(c.files)
		c.files = nil
		defer s.offerPorts(nil)
	}
	r := s.do(ctx, c, m)
	c.refused = c.refused || r.answer != nil && r.answer.Errno != 0
	done, err := s.queue(c, r)
	s.changes.Unlock()
	leave()
	if err != nil {
		return err
	}
	return sent(c.wait(done))
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
		return syscall.EOPNOTSUPP // it would be on without an effect
	}
	if err := s.eng.SetKnobs(knobs); err != nil {
		return err
	}
	s.guards.knobs(knobs)
	return nil
}

// errGone means that a client does not read its answers.
var errGone = errors.New("it does not take its answers")

func sent(ok bool) error {
	if !ok {
		return errGone
	}
	return nil
}

// A result is what the daemon sends after a request.
type result struct {
	answer     *pfkey.Message   // for the client that asked
	broadcasts []*pfkey.Message // for the other clients that want messages for SA type to
	to         pfkey.SAType
}

// toAll is an answer that every client receives.
func toAll(m *pfkey.Message) result { return result{answer: m, broadcasts: []*pfkey.Message{m}} }

// toSender is an answer that only the client that asked receives.
func toSender(m *pfkey.Message) result { return result{answer: m} }

// failed answers a request that could not be carried out. Every client receives the
// error, as from KLIPS, except for requests about devices and private ones.
func failed(m *pfkey.Message, err error) result {
	r := pfkey.ErrorReply(m.Header, pfkey.Errno(err))
	switch {
	case m.PlumbIf != nil:
		return toSender(pfkey.PlumbReply(m, r.Errno))
	case m.Type == control.TypeGroup:
		return groupFailed(m, r, err)
	case m.Type >= pfkey.FirstPrivate: // only the client that asked receives it
		return toSender(r)
	}
	res := toAll(r)
	var op *klips.OpError
	if errors.As(err, &op) && op.Fault == klips.FaultKeyUsed {
		// The client that asked learns which SA has the key.
		res.answer = control.KeyUsed(m.Header, op.Other)
	}
	return res
}

// groupFailed answers a private request for a group, and names the SA at fault. Other
// clients receive what a KLIPS kernel sends about a pair.
func groupFailed(m, r *pfkey.Message, err error) result {
	res := toSender(r)
	var op *klips.OpError
	if errors.As(err, &op) {
		control.NameObject(r, op.Object)
	}
	if ids, err := control.GroupOf(m); err == nil {
		pair := pfkey.ErrorReply(m.Header, r.Errno)
		pair.Type, pair.SAType = pfkey.TypeGroupSA, pfkey.SATypeOf(ids[0].Proto)
		res.broadcasts = []*pfkey.Message{pair}
	}
	return res
}

// publish queues the messages of a result and waits until the answer has been sent.
func (s *server) publish(c *client, r result) error {
	done, err := s.queue(c, r)
	if err != nil {
		return err
	}
	return sent(c.wait(done))
}

// queue queues the messages of a result; the channel is for c.wait.
func (s *server) queue(c *client, r result) (<-chan struct{}, error) {
	s.debug("answer", c, r.answer.Header)
	answer := s.marshal(r.answer)
	if answer == nil {
		// The client still learns the result of its request.
		r = toSender(pfkey.ErrorReply(r.answer.Header, r.answer.Errno))
		var err error
		if answer, err = r.answer.Marshal(); err != nil {
			return nil, err
		}
	}
	var broadcasts [][]byte
	for _, m := range r.broadcasts {
		b := answer
		if m != r.answer {
			b = s.marshal(m)
		}
		if b != nil {
			broadcasts = append(broadcasts, b)
		}
	}
	return s.clients.answer(c, answer, r.to, broadcasts), nil
}

// list sends a table, or the SAs that were asked for.
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
			return sendFrom(s, m, send, saPart, e.SAsFrom)
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
		return sendFrom(s, m, send, eroutePart, e.EroutesFrom)
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
		err = syscall.ESHUTDOWN // the next daemon may have changed some of it already
	}
	if err != nil {
		return send(pfkey.ErrorReply(m.Header, pfkey.Errno(err)))
	}
	return control.SendList(m, slices.Values(l), send)
}

// The lengths of the parts of a listing, in records: a client has one part in memory. For a
// part of the eroutes all are looked through.
const (
	saPart     = 1 << 12
	eroutePart = 1 << 16
)

// sendFrom sends a long table, or the part of it that was asked for. from yields up to n
// records after *place, and moves it on; see [engine.Engine.SAsFrom].
func sendFrom[T any, P comparable](s *server, m *pfkey.Message, send func(*pfkey.Message) error, n int, from func(place *P, n int) iter.Seq[T]) error {
	var place, end P
	part, err := control.PlaceOf(m, &place)
	if err != nil {
		return send(pfkey.ErrorReply(m.Header, pfkey.Errno(err)))
	}
	records := from(&place, n)
	if !part {
		records = func(yield func(T) bool) {
			for {
				for r := range from(&place, n) {
					if !yield(r) {
						return
					}
				}
				if place == end {
					return
				}
			}
		}
	}
	err = control.SendPart(m, records, func() any {
		if place == end {
			return nil
		}
		return place
	}, func(m *pfkey.Message) error {
		if s.gone.Load() {
			return errMoved
		}
		return send(m)
	})
	if err == errMoved {
		return send(pfkey.ErrorReply(m.Header, syscall.ESHUTDOWN))
	}
	return err
}

// errMoved means that the next daemon may have changed some of a table already.
var errMoved = errors.New("the stack has moved to the next daemon")

// status sends the daemon's status.
func (s *server) status(ctx context.Context, m *pfkey.Message, send func(*pfkey.Message) error) error {
	devices, _ := s.eng.Devices(ctx)
	for i, d := range devices {
		if s.mtu == nil {
			continue
		}
		if mtu, err := s.mtu(d.Name); err == nil { // what is listed may be that of KLIPS
			devices[i].MTU = mtu
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
		Dropped: s.clients.lost(),
		Holds:   user.Holds(s.eng.Holds()),
		Drops:   s.eng.Drops(),

		LastDrops: s.eng.LastDrops(),
		Marks:     s.marks.status(s.eng.MarksBehind()),
	}
	if s.rights != nil {
		rights := s.rights()
		status.Rights = &rights
	}
	if n, ok := s.guards.counters(); ok {
		status.Unprotected = &n
	}
	r, err := control.ValueReply(m.Header, status)
	if err != nil {
		return err
	}
	return send(r)
}
