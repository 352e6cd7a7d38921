package pfkey

import (
	"context"
	"syscall"

	"github.com/klips-go/ipsec/klips"
)

// ForChange makes the request for a change. EOPNOTSUPP: KLIPS has no single message for
// it. Other errors are those of [Plumb].
func ForChange(change klips.Change) (*Message, error) {
	switch c := change.(type) {
	case klips.DeleteSA:
		return DeleteSA(c.ID), nil
	case klips.ClearSAs:
		return Flush(), nil
	case klips.Ungroup:
		return Ungroup(c.ID), nil
	case klips.SetEroute:
		return AddFlow(c.Eroute, c.ErouteOp()), nil
	case klips.SetPolicy:
		return AddFlow(c.Eroute(), c.ErouteOp()), nil
	case klips.DeleteEroute:
		return DelFlow(c.Selector), nil
	case klips.ClearEroutes:
		return ClearFlows(), nil
	case klips.SetDebug:
		return Debug(c.DebugChange), nil
	case klips.CreateDevice:
		return Plumb(c.Virtual, true)
	case klips.DeleteDevice:
		return Plumb(c.Virtual, false)
	}
	return nil, syscall.EOPNOTSUPP
}

// An Asker sends a request to a stack and waits for the answer; op and object are for
// its error, a *[klips.OpError]. Its methods carry out changes that are one request
// ([ForChange]) whose answer is success or an errno.
type Asker func(ctx context.Context, op, object string, request *Message) error

// change carries out a change.
func (ask Asker) change(ctx context.Context, c klips.Change) error {
	m, err := ForChange(c)
	if err != nil {
		return &klips.OpError{Op: c.Op(), Object: c.Object(), Err: err}
	}
	return ask(ctx, c.Op(), c.Object(), m)
}

// DeleteSA removes an SA and the group it is in (DELETE).
func (ask Asker) DeleteSA(ctx context.Context, id klips.SAID) error {
	return ask.change(ctx, klips.DeleteSA{ID: id})
}

// ClearSAs removes all SAs (FLUSH).
func (ask Asker) ClearSAs(ctx context.Context) error { return ask.change(ctx, klips.ClearSAs{}) }

// Ungroup takes the whole group of an SA apart (X_GRPSA with one SA).
func (ask Asker) Ungroup(ctx context.Context, id klips.SAID) error {
	return ask.change(ctx, klips.Ungroup{ID: id})
}

// SetEroute adds or replaces an eroute or sets an inbound policy (X_ADDFLOW).
func (ask Asker) SetEroute(ctx context.Context, e klips.Eroute, op klips.ErouteOp) error {
	return ask.change(ctx, klips.ErouteChange(e, op))
}

// DeleteEroute removes the eroute with this selector (X_DELFLOW).
func (ask Asker) DeleteEroute(ctx context.Context, s klips.Selector) error {
	return ask.change(ctx, klips.DeleteEroute{Selector: s})
}

// ClearEroutes removes all eroutes (X_DELFLOW with the flag CLEARFLOW).
func (ask Asker) ClearEroutes(ctx context.Context) error {
	return ask.change(ctx, klips.ClearEroutes{})
}

// SetDebug changes the debug masks (X_DEBUG).
func (ask Asker) SetDebug(ctx context.Context, c klips.DebugChange) error {
	return ask.change(ctx, klips.SetDebug{DebugChange: c})
}

// CreateDevice makes ipsecN (X_PLUMBIF).
func (ask Asker) CreateDevice(ctx context.Context, virtual string) error {
	return ask.change(ctx, klips.CreateDevice{Virtual: virtual})
}

// DeleteDevice removes ipsecN (X_UNPLUMBIF).
func (ask Asker) DeleteDevice(ctx context.Context, virtual string) error {
	return ask.change(ctx, klips.DeleteDevice{Virtual: virtual})
}
