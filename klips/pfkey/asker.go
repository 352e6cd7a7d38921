package pfkey

import (
	"context"

	"github.com/klips-go/ipsec/klips"
)

// An Asker asks a stack for what is one request and has no other answer than
// success or an errno: these methods of [klips.Stack] are the same wherever
// PF_KEY is spoken. It is the function that sends a request and waits; op and
// object name it in the error, a *[klips.OpError].
type Asker func(ctx context.Context, op, object string, request *Message) error

// DeleteSA removes an SA and the group it is in (DELETE).
func (ask Asker) DeleteSA(ctx context.Context, id klips.SAID) error {
	return ask(ctx, "delete SA", id.String(), DeleteSA(id))
}

// ClearSAs removes all SAs (FLUSH).
func (ask Asker) ClearSAs(ctx context.Context) error {
	return ask(ctx, "clear SAs", "", Flush())
}

// Ungroup takes the whole group of an SA apart (X_GRPSA with one SA).
func (ask Asker) Ungroup(ctx context.Context, id klips.SAID) error {
	return ask(ctx, "ungroup", id.String(), Ungroup(id))
}

// SetEroute adds or replaces an eroute or sets an inbound policy (X_ADDFLOW).
func (ask Asker) SetEroute(ctx context.Context, e klips.Eroute, op klips.ErouteOp) error {
	name, object := "add eroute", e.Selector.String()
	if op == klips.ErouteAddIn || op == klips.ErouteReplaceIn {
		name, object = "set inbound policy", e.ID.String()
	}
	return ask(ctx, name, object, AddFlow(e, op))
}

// DeleteEroute removes the eroute with this selector (X_DELFLOW).
func (ask Asker) DeleteEroute(ctx context.Context, s klips.Selector) error {
	return ask(ctx, "delete eroute", s.String(), DelFlow(s))
}

// ClearEroutes removes all eroutes (X_DELFLOW with the flag CLEARFLOW).
func (ask Asker) ClearEroutes(ctx context.Context) error {
	return ask(ctx, "clear eroutes", "", ClearFlows())
}

// SetDebug changes the debug masks (X_DEBUG).
func (ask Asker) SetDebug(ctx context.Context, c klips.DebugChange) error {
	return ask(ctx, "set debug", "", Debug(c))
}

// CreateDevice makes ipsecN (X_PLUMBIF).
func (ask Asker) CreateDevice(ctx context.Context, virtual string) error {
	return ask.plumb(ctx, "create device", virtual, true)
}

// DeleteDevice removes ipsecN (X_UNPLUMBIF).
func (ask Asker) DeleteDevice(ctx context.Context, virtual string) error {
	return ask.plumb(ctx, "delete device", virtual, false)
}

func (ask Asker) plumb(ctx context.Context, op, virtual string, create bool) error {
	m, err := Plumb(virtual, create)
	if err != nil {
		return &klips.OpError{Op: op, Object: virtual, Err: err}
	}
	return ask(ctx, op, virtual, m)
}
