package serial

import (
	"context"

	"github.com/klips-go/ipsec/klips"
)

// Calls is the reverse of [New]: a stack with a method for each change and each table.
// Each makes one Apply or one Snapshot.
type Calls struct{ klips.Stack }

var (
	_ Doer        = Calls{}
	_ GroupReader = Calls{}
	_ Tuner       = Calls{}
	_ Guardian    = Calls{}
)

func (c Calls) do(ctx context.Context, change klips.Change) error {
	_, err := klips.Do(ctx, c.Stack, change)
	return err
}

func (c Calls) Name() string                  { return c.Info().Name }
func (c Calls) Has(cap klips.Capability) bool { return c.Info().Has(cap) }

func (c Calls) AddSA(ctx context.Context, spec *klips.SASpec) error {
	return c.do(ctx, klips.AddSA{SASpec: spec})
}

func (c Calls) DeleteSA(ctx context.Context, id klips.SAID) error {
	return c.do(ctx, klips.DeleteSA{ID: id})
}

func (c Calls) ClearSAs(ctx context.Context) error { return c.do(ctx, klips.ClearSAs{}) }

func (c Calls) Group(ctx context.Context, ids []klips.SAID) error {
	return c.do(ctx, klips.Group{IDs: ids})
}

func (c Calls) Ungroup(ctx context.Context, id klips.SAID) error {
	return c.do(ctx, klips.Ungroup{ID: id})
}

func (c Calls) SetEroute(ctx context.Context, e klips.Eroute, op klips.ErouteOp) error {
	return c.do(ctx, klips.ErouteChange(e, op))
}

func (c Calls) DeleteEroute(ctx context.Context, s klips.Selector) error {
	return c.do(ctx, klips.DeleteEroute{Selector: s})
}

func (c Calls) ClearEroutes(ctx context.Context) error { return c.do(ctx, klips.ClearEroutes{}) }

func (c Calls) Attach(ctx context.Context, virtual, physical string) error {
	return c.do(ctx, klips.Attach{Virtual: virtual, Physical: physical})
}

// AttachDirect is [DirectAttacher]'s.
func (c Calls) AttachDirect(ctx context.Context, virtual, physical string) error {
	return c.do(ctx, klips.Attach{Virtual: virtual, Physical: physical, Direct: true})
}

func (c Calls) Detach(ctx context.Context, virtual string) error {
	return c.do(ctx, klips.Detach{Virtual: virtual})
}

func (c Calls) DetachAll(ctx context.Context) error { return c.do(ctx, klips.DetachAll{}) }

func (c Calls) CreateDevice(ctx context.Context, virtual string) error {
	return c.do(ctx, klips.CreateDevice{Virtual: virtual})
}

func (c Calls) DeleteDevice(ctx context.Context, virtual string) error {
	return c.do(ctx, klips.DeleteDevice{Virtual: virtual})
}

func (c Calls) SetDebug(ctx context.Context, d klips.DebugChange) error {
	return c.do(ctx, klips.SetDebug{DebugChange: d})
}

func (c Calls) Set(ctx context.Context, knobs map[string]int) error {
	return c.do(ctx, klips.SetKnobs{Knobs: knobs})
}

func (c Calls) Guard(ctx context.Context, g klips.Guard) (before bool, err error) {
	o, err := klips.Do(ctx, c.Stack, klips.SetGuard{Guard: g})
	return o.Before, err
}

func (c Calls) Unguard(ctx context.Context, s klips.Selector) error {
	return c.do(ctx, klips.RemoveGuard{Selector: s})
}

func (c Calls) Version(ctx context.Context) (string, error) {
	t, err := c.Snapshot(ctx, klips.Want{Version: true})
	if err != nil {
		return "", err
	}
	return t.Version, nil
}

func (c Calls) Knobs(ctx context.Context) ([]klips.Knob, error) {
	t, err := c.Snapshot(ctx, klips.Want{Knobs: true})
	if err != nil {
		return nil, err
	}
	return t.Knobs, nil
}

func (c Calls) GetSA(ctx context.Context, id klips.SAID) (klips.SA, error) {
	return klips.ReadSA(ctx, c.Stack, id)
}

func (c Calls) ReadGroup(ctx context.Context, id klips.SAID) ([]klips.SA, error) {
	return klips.ReadGroup(ctx, c.Stack, id)
}

func (c Calls) SAs(ctx context.Context) ([]klips.SA, error) { return klips.ReadSAs(ctx, c.Stack) }

func (c Calls) Eroutes(ctx context.Context) ([]klips.Eroute, error) {
	return klips.ReadEroutes(ctx, c.Stack)
}

func (c Calls) Devices(ctx context.Context) ([]klips.Device, error) {
	return klips.ReadDevices(ctx, c.Stack)
}

func (c Calls) Debug(ctx context.Context) (klips.Debug, error) {
	return klips.ReadDebug(ctx, c.Stack)
}
