package daemon

import (
	"context"
	"syscall"

	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user/control"
)

// do carries out a request that passed control.Check, and returns what to send.
func (s *server) do(ctx context.Context, c *client, m *pfkey.Message) result {
	var r result
	var err error
	if s.gone.Load() {
		return failed(m, syscall.ESHUTDOWN)
	}
	switch m.Type {
	case pfkey.TypeGetSPI, pfkey.TypeUpdate, pfkey.TypeAdd, pfkey.TypeDelete, pfkey.TypeGet, pfkey.TypeFlush:
		r, err = s.doSA(ctx, m)
	case pfkey.TypeGroupSA, control.TypeGroup:
		r, err = s.doGroup(ctx, m)
	case pfkey.TypeAddFlow, pfkey.TypeDelFlow:
		r, err = s.doFlow(ctx, m)
	case pfkey.TypeAcquire, pfkey.TypeRegister, pfkey.TypeExpire:
		r, err = s.doKeying(c, m)
	case pfkey.TypeDebug:
		change, cerr := m.DebugChange()
		if err = cerr; err == nil {
			err = s.eng.SetDebug(ctx, change)
		}
		r = toSender(pfkey.Ack(m.Header)) // KLIPS sends nothing at all
	case pfkey.TypePlumbIf, pfkey.TypeUnplumbIf, control.TypeAttach, control.TypeDetach, control.TypeDetachAll:
		r, err = s.doDevice(ctx, m)
	case pfkey.TypeNATTMapping:
		err = syscall.EINVAL
	default:
		err = syscall.ENOSYS
	}
	if err != nil {
		return failed(m, err)
	}
	return r
}

// doSA makes, changes, removes or reads SAs.
func (s *server) doSA(ctx context.Context, m *pfkey.Message) (result, error) {
	e := s.eng
	switch m.Type {
	case pfkey.TypeFlush:
		return toAll(pfkey.Ack(m.Header)), e.ClearSAs(ctx)
	case pfkey.TypeGetSPI:
		id, src, r, err := m.Reservation()
		if err != nil {
			return result{}, err
		}
		spi, err := e.ReserveSA(ctx, id, src, r.Min, r.Max)
		return toAll(pfkey.GetSPIReply(m, spi)), err
	case pfkey.TypeAdd:
		spec, err := control.SASpecOf(m)
		if err != nil {
			return result{}, err
		}
		defer spec.ClearKeys()
		if err := e.AddSA(ctx, spec); err != nil {
			return result{}, err
		}
		sa, err := e.GetSA(ctx, spec.ID)
		return toAll(pfkey.AddReply(m, &sa)), err
	case pfkey.TypeUpdate:
		return s.update(ctx, m)
	}
	id, err := m.SAID()
	if err != nil {
		return result{}, err
	}
	sa, err := e.GetSA(ctx, id)
	if err != nil {
		return result{}, err
	}
	if m.Type == pfkey.TypeGet {
		return toSender(pfkey.GetReply(m, &sa, s.clock.Now())), nil
	}
	return toAll(pfkey.DeleteReply(m, sa.Ref)), e.DeleteSA(ctx, id)
}

// update changes an SA: only its UDP ports if the message has nothing else, otherwise
// the whole SA.
func (s *server) update(ctx context.Context, m *pfkey.Message) (result, error) {
	id, err := m.SAID()
	if err != nil {
		return result{}, err
	}
	old, err := s.eng.GetSA(ctx, id)
	if err != nil {
		return result{}, syscall.ENOENT
	}
	if n, only := m.Ports(old.NATT); only {
		err = s.eng.SetPorts(ctx, id, n.SPort, n.DPort)
	} else {
		spec, serr := control.SASpecOf(m)
		if serr != nil {
			return result{}, serr
		}
		defer spec.ClearKeys()
		err = s.eng.UpdateSA(ctx, spec)
	}
	if err != nil {
		return result{}, err
	}
	sa, err := s.eng.GetSA(ctx, id)
	return toAll(pfkey.UpdateReply(m, &sa, s.clock.Now())), err
}

// doGroup groups SAs, or takes a group apart.
func (s *server) doGroup(ctx context.Context, m *pfkey.Message) (result, error) {
	ids, err := control.GroupOf(m)
	if err != nil {
		return result{}, err
	}
	if len(ids) == 1 {
		return toAll(pfkey.GroupReply(m)), s.eng.Ungroup(ctx, ids[0])
	}
	if err := s.eng.Group(ctx, ids); err != nil {
		return result{}, err
	}
	if m.Type == control.TypeGroup {
		return result{answer: pfkey.Ack(m.Header), broadcasts: pfkey.GroupReplies(m.Header, ids)}, nil
	}
	return toAll(pfkey.GroupReply(m)), nil
}

// doFlow adds and removes eroutes.
func (s *server) doFlow(ctx context.Context, m *pfkey.Message) (result, error) {
	if m.Type == pfkey.TypeAddFlow {
		r, op, err := control.ErouteOf(m)
		if err == nil {
			err = s.eng.SetEroute(ctx, r, op)
		}
		return toAll(pfkey.AddFlowReply(m)), err
	}
	if m.ClearsFlows() {
		return toAll(pfkey.DelFlowReply(m)), s.eng.ClearEroutes(ctx)
	}
	sel, err := m.Selector()
	if err == nil {
		err = s.eng.DeleteEroute(ctx, sel)
	}
	return toAll(pfkey.DelFlowReply(m)), err
}

// doKeying forwards messages between key daemons, and registers them.
func (s *server) doKeying(c *client, m *pfkey.Message) (result, error) {
	switch m.Type {
	case pfkey.TypeRegister:
		if !s.clients.register(c, m.SAType) {
			return result{}, syscall.ENOBUFS
		}
		auth, other := algorithms(m.SAType)
		r := toAll(pfkey.RegisterReply(m, auth, other))
		r.to = m.SAType
		return r, nil
	case pfkey.TypeExpire:
		return toAll(m), nil
	}
	// ACQUIRE: a key daemon sends it only to report a failure, in its errno.
	if s.clients.count(m.SAType) == 0 {
		return result{}, syscall.EPROTONOSUPPORT
	}
	r := result{answer: pfkey.Ack(m.Header), broadcasts: []*pfkey.Message{m}, to: m.SAType}
	if s.clients.has(c, m.SAType) {
		r.answer = m
	}
	return r, nil
}

// doDevice makes, removes, attaches and detaches virtual devices.
func (s *server) doDevice(ctx context.Context, m *pfkey.Message) (result, error) {
	e := s.eng
	switch m.Type {
	case pfkey.TypePlumbIf, pfkey.TypeUnplumbIf:
		name, create, err := m.Plumb()
		switch {
		case err != nil:
		case create:
			err = e.CreateDevice(ctx, name)
		default:
			err = e.DeleteDevice(ctx, name)
		}
		return toSender(pfkey.PlumbReply(m, 0)), err
	case control.TypeDetachAll:
		return toSender(pfkey.Ack(m.Header)), e.DetachAll(ctx)
	}
	virtual, physical, err := control.DevicesOf(m)
	switch {
	case err != nil:
	case m.Type == control.TypeAttach && control.DirectOf(m):
		err = e.AttachDirect(ctx, virtual, physical)
	case m.Type == control.TypeAttach:
		err = e.Attach(ctx, virtual, physical)
	default:
		err = e.Detach(ctx, virtual)
	}
	return toSender(pfkey.Ack(m.Header)), err
}
