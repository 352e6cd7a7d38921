package user

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user/control"
)

// Apply carries out changes. It sends several requests before their answers. After a
// refused one the daemon cancels those that follow. When Apply returns, the packet
// filter has been updated.
func (c *Client) Apply(ctx context.Context, changes ...klips.Change) (r klips.Result, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout+time.Duration(len(changes))*perChange)
	defer cancel()
	c.units.Lock() // an END would end the unit of another goroutine too
	defer c.units.Unlock()
	if len(changes) == 1 {
		return c.send(ctx, changes, nil)
	}
	if r, err = c.send(ctx, changes, control.Begin()); err != errNoUnits {
		return r, err
	}
	for i := range changes {
		one, err := c.send(ctx, changes[i:i+1], nil)
		if err != nil {
			return r, err
		}
		r.Outcomes = append(r.Outcomes, one.Outcomes...)
	}
	return r, nil
}

// Hold makes changes of other clients wait. A daemon of an older version does not know
// HOLD; then no client waits.
func (c *Client) Hold(ctx context.Context) (release func(), err error) {
	switch _, err := c.call(ctx, "hold", "", control.Hold()); {
	case errors.Is(err, syscall.EINVAL):
		return func() {}, nil
	case err != nil:
		return nil, err
	}
	return sync.OnceFunc(func() {
		// A daemon that does not answer has lost this client, and ends the hold.
		_, _ = c.call(context.WithoutCancel(ctx), "release", "", control.Release())
	}), nil
}

// errNoUnits is the error of a daemon of an older version, which does not know BEGIN.
var errNoUnits = errors.New("the daemon knows no units of changes")

// send sends changes, after a BEGIN if there are several.
func (c *Client) send(ctx context.Context, changes []klips.Change, begin *pfkey.Message) (r klips.Result, err error) {
	u := &unit{changes: changes, outcomes: make([]klips.Outcome, 0, len(changes))}
	defer u.clear()
	var wrong error // of the first change that is refused before it is sent
	for _, change := range changes {
		m, err := request(change)
		if err != nil {
			wrong = err
			break
		}
		u.requests = append(u.requests, m)
	}
	u.requests = append(u.requests, control.End())
	err = c.with(func(conn *pfkey.Conn) error {
		bundle := false
		if begin != nil {
			begun, err := conn.Call(ctx, begin)
			switch {
			case errors.Is(err, syscall.EINVAL):
				return errNoUnits
			case err != nil:
				return err
			}
			bundle = control.AcceptsBundles(begun)
		}
		return conn.CallAll(ctx, u.requests, bundle, u.answered)
	})
	r.Outcomes = u.outcomes
	done := len(u.outcomes)
	switch {
	case err == errNoUnits:
		return r, err
	case u.refused != nil:
		return r, u.refused
	case err != nil && done < len(changes):
		return r, opError(changes[done].Op(), changes[done].Object(), err)
	case err != nil:
		return r, opError("end", "", err)
	}
	return r, wrong
}

// perChange is the time limit for each of many changes.
const perChange = 10 * time.Millisecond

// A unit is a list of changes that are sent together.
type unit struct {
	changes  []klips.Change
	requests []*pfkey.Message // one for each change, and End

	outcomes []klips.Outcome // of the changes that were carried out
	refused  error           // error of the next one
}

func (u *unit) clear() {
	for _, m := range u.requests {
		m.Clear()
		for _, fd := range m.Files {
			unix.Close(fd)
		}
	}
}

// answered handles the answer to request number i, in order. After a refused one it
// returns false: no more need be sent.
func (u *unit) answered(i int, answer *pfkey.Message) (more bool) {
	if i == len(u.requests)-1 || u.refused != nil {
		return u.refused == nil // later ones are cancelled
	}
	change := u.changes[i]
	o := klips.Outcome{}
	if errno := answer.Errno; errno != 0 {
		_, guard := change.(klips.SetGuard)
		if !guard || errno != syscall.EEXIST {
			u.refused = answerError(change.Op(), change.Object(), answer, errno)
			return false
		}
		o.Before = true
	}
	u.outcomes = append(u.outcomes, o)
	return true
}

// request makes the message for a change. An error means that the change is refused
// before it is sent.
func request(change klips.Change) (m *pfkey.Message, err error) {
	refuse := func(err error) (*pfkey.Message, error) { return nil, opError(change.Op(), change.Object(), err) }
	switch c := change.(type) {
	case klips.AddSA:
		if f := c.Fault(); f != klips.FaultNone {
			return nil, &klips.OpError{Op: c.Op(), Object: c.Object(), Err: syscall.EINVAL, Fault: f}
		}
		if c.Offload != "" {
			return refuse(syscall.EOPNOTSUPP)
		}
		whole := *c.SASpec
		whole.NATT = c.NATT.WithPorts()
		m := control.AddSA(&whole)
		m.Files = ports(&whole)
		return m, nil
	case klips.Group:
		if len(c.IDs) < 2 || len(c.IDs) > klips.MaxGroup {
			return refuse(syscall.EINVAL)
		}
		return control.Group(c.IDs), nil
	case klips.SetEroute:
		if err := c.CheckAlso(c.Op(), true); err != nil {
			return nil, err
		}
		return control.SetEroute(c), nil
	case klips.DetachAll:
		return control.DetachAll(), nil
	case klips.Attach:
		if err := noMast(change, c.Virtual, syscall.ENODEV); err != nil {
			return nil, err
		}
		return control.Attach(c.Virtual, c.Physical, c.Direct), nil
	case klips.Detach:
		if err := noMast(change, c.Virtual, syscall.ENODEV); err != nil {
			return nil, err
		}
		return control.Detach(c.Virtual), nil
	case klips.CreateDevice:
		if err := noMast(change, c.Virtual, syscall.EINVAL); err != nil {
			return nil, err
		}
		m, err = pfkey.ForChange(c)
	case klips.DeleteDevice:
		if err := noMast(change, c.Virtual, syscall.ENOENT); err != nil {
			return nil, err
		}
		m, err = pfkey.ForChange(c)
	case klips.SetKnobs:
		m, err = control.Set(c.Knobs)
	case klips.SetGuard:
		m, err = control.Guard(c.Guard)
	case klips.RemoveGuard:
		m, err = control.Unguard(c.Selector)
	default:
		m, err = pfkey.ForChange(c)
	}
	if err != nil {
		return refuse(err)
	}
	return m, nil
}

// noMast is the error for mast devices, which this stack does not have; err is the
// daemon's answer for other wrong names.
func noMast(c klips.Change, name string, err error) error {
	if f := klips.DeviceFault(name); f != klips.FaultNone {
		return &klips.OpError{Op: c.Op(), Object: name, Err: err, Fault: f}
	}
	return nil
}
