package daemon

import (
	"context"
	"errors"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user"
)

// answer carries out the request in b and sends what is to be said. Its error is
// that of sending.
func (s *server) answer(ctx context.Context, b []byte, send func(*pfkey.Message) error) error {
	m, err := pfkey.Parse(b)
	if err != nil {
		return send(refusal(b, err))
	}
	defer m.Clear()
	if err := pfkey.CheckPrivate(m); err != nil {
		return send(refusal(b, err))
	}
	switch m.Type {
	case pfkey.TypeXList:
		return s.list(ctx, m, send)
	case pfkey.TypeXStatus:
		return s.status(ctx, m, send)
	case pfkey.TypeXStop:
		err := send(pfkey.Ack(m.Header))
		s.stop()
		return err
	}
	r, err := s.do(ctx, m)
	if err != nil {
		r = failure(m, err)
	}
	return send(r)
}

// refusal answers what is not a proper message, as far as its header can be
// read.
func refusal(b []byte, err error) *pfkey.Message {
	h, _ := pfkey.ParseHeader(b)
	return pfkey.ErrorReply(h, pfkey.Errno(err))
}

// failure answers a request that could not be carried out.
func failure(m *pfkey.Message, err error) *pfkey.Message {
	r := pfkey.ErrorReply(m.Header, pfkey.Errno(err))
	// A group names several SAs: say which one was at fault.
	var op *klips.OpError
	if m.Type == pfkey.TypeXGroup && errors.As(err, &op) {
		r.XData = new(pfkey.Data(op.Object))
	}
	return r
}

// do carries out a request and returns its answer.
func (s *server) do(ctx context.Context, m *pfkey.Message) (*pfkey.Message, error) {
	e := s.eng
	switch m.Type {
	case pfkey.TypeAdd:
		spec, err := m.SASpec()
		if err != nil {
			return nil, err
		}
		defer spec.ClearKeys()
		if err := e.AddSA(ctx, spec); err != nil {
			return nil, err
		}
		sa, err := e.GetSA(ctx, spec.ID)
		if err != nil { // deleted by somebody else already
			return pfkey.Ack(m.Header), nil
		}
		return pfkey.AddReply(m, &sa), nil
	case pfkey.TypeDelete:
		id, err := m.SAID()
		if err != nil {
			return nil, err
		}
		sa, err := e.GetSA(ctx, id)
		if err == nil {
			err = e.DeleteSA(ctx, id)
		}
		return pfkey.DeleteReply(m, sa.Ref), err
	case pfkey.TypeGet:
		id, err := m.SAID()
		if err != nil {
			return nil, err
		}
		sa, err := e.GetSA(ctx, id)
		return pfkey.GetReply(m, &sa, time.Now()), err
	case pfkey.TypeFlush:
		return pfkey.Ack(m.Header), e.ClearSAs(ctx)
	case pfkey.TypeGroupSA:
		ids, err := m.Group()
		switch {
		case err != nil:
		case len(ids) == 1:
			err = e.Ungroup(ctx, ids[0])
		default:
			err = e.Group(ctx, ids)
		}
		return pfkey.GroupReply(m), err
	case pfkey.TypeXGroup:
		ids, err := m.Group()
		if err == nil {
			err = e.Group(ctx, ids)
		}
		return pfkey.Ack(m.Header), err
	case pfkey.TypeAddFlow:
		r, op, err := m.Eroute()
		if err == nil {
			err = e.SetEroute(ctx, r, op)
		}
		return pfkey.AddFlowReply(m), err
	case pfkey.TypeDelFlow:
		if m.ClearsFlows() {
			return pfkey.DelFlowReply(m), e.ClearEroutes(ctx)
		}
		sel, err := m.Selector()
		if err == nil {
			err = e.DeleteEroute(ctx, sel)
		}
		return pfkey.DelFlowReply(m), err
	case pfkey.TypeDebug:
		c, err := m.DebugChange()
		if err == nil {
			err = e.SetDebug(ctx, c)
		}
		return pfkey.Ack(m.Header), err
	case pfkey.TypePlumbIf, pfkey.TypeUnplumbIf:
		name, create, err := m.Plumb()
		switch {
		case err != nil:
		case create:
			err = e.CreateDevice(ctx, name)
		default:
			err = e.DeleteDevice(ctx, name)
		}
		return pfkey.PlumbReply(m, 0), err
	case pfkey.TypeXAttach, pfkey.TypeXDetach:
		virtual, physical, err := m.Devices()
		switch {
		case err != nil:
		case m.Type == pfkey.TypeXAttach:
			err = e.Attach(ctx, virtual, physical)
		default:
			err = e.Detach(ctx, virtual)
		}
		return pfkey.Ack(m.Header), err
	case pfkey.TypeXDetachAll:
		return pfkey.Ack(m.Header), e.DetachAll(ctx)
	}
	return nil, syscall.ENOSYS
}

// list sends a table, or the one SA that was asked for.
func (s *server) list(ctx context.Context, m *pfkey.Message, send func(*pfkey.Message) error) error {
	e := s.eng
	switch *m.XTable {
	case pfkey.TableSAs:
		if m.XSAIDs == nil {
			return sendAll(m, send, func() ([]klips.SA, error) { return e.SAs(ctx) })
		}
		return sendAll(m, send, func() (l []klips.SA, err error) {
			for _, id := range *m.XSAIDs {
				sa, err := e.GetSA(ctx, id)
				if err != nil {
					return nil, err
				}
				l = append(l, sa)
			}
			return l, nil
		})
	case pfkey.TableEroutes:
		return sendAll(m, send, func() ([]klips.Eroute, error) { return e.Eroutes(ctx) })
	case pfkey.TableDevices:
		return sendAll(m, send, func() ([]klips.Device, error) { return e.Devices(ctx) })
	case pfkey.TableDebug:
		return sendAll(m, send, func() ([]klips.Debug, error) {
			d, err := e.Debug(ctx)
			return []klips.Debug{d}, err
		})
	case pfkey.TableVersion:
		return sendAll(m, send, func() ([]string, error) {
			v, err := e.Version(ctx)
			return []string{v}, err
		})
	}
	return send(pfkey.ErrorReply(m.Header, syscall.EINVAL))
}

func sendAll[T any](m *pfkey.Message, send func(*pfkey.Message) error, read func() ([]T, error)) error {
	l, err := read()
	if err != nil {
		return send(pfkey.ErrorReply(m.Header, pfkey.Errno(err)))
	}
	return pfkey.SendList(m, slices.Values(l), send)
}

// status tells how the daemon is.
func (s *server) status(ctx context.Context, m *pfkey.Message, send func(*pfkey.Message) error) error {
	devices, _ := s.eng.Devices(ctx)
	sas, eroutes := s.eng.Count()
	r, err := pfkey.StatusReply(m.Header, user.Status{
		PID:     os.Getpid(),
		Version: s.version,
		Rundir:  s.rundir,
		Uptime:  int64(time.Since(s.started).Seconds()),
		SAs:     sas,
		Eroutes: eroutes,
		Devices: devices,
	})
	if err != nil {
		return err
	}
	return send(r)
}
