// Package serial makes a [klips.Stack] from methods that carry out one change at a time
// and read one table at a time. The stacks of this project have such methods, and so
// have the doubles of tests.
package serial

import (
	"context"
	"errors"
	"iter"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
)

// A Doer is a stack that has a method for each change and for each table. The
// documentation and errors are those of the change, or of the part of a
// [klips.Snapshot], with the method's name.
type Doer interface {
	Reader
	Tables
	Devices
}

// A Reader reads tables.
type Reader interface {
	Name() string
	Has(c klips.Capability) bool
	Version(ctx context.Context) (string, error)
	GetSA(ctx context.Context, id klips.SAID) (klips.SA, error)
	SAs(ctx context.Context) ([]klips.SA, error)
	Eroutes(ctx context.Context) ([]klips.Eroute, error)
	Devices(ctx context.Context) ([]klips.Device, error)
	Debug(ctx context.Context) (klips.Debug, error)
	Close() error
}

// Tables changes SAs, groups and eroutes.
type Tables interface {
	AddSA(ctx context.Context, spec *klips.SASpec) error
	DeleteSA(ctx context.Context, id klips.SAID) error
	ClearSAs(ctx context.Context) error
	Group(ctx context.Context, ids []klips.SAID) error
	Ungroup(ctx context.Context, id klips.SAID) error
	// SetEroute makes an eroute, or sets the inbound policy of the SA e.ID.
	SetEroute(ctx context.Context, e klips.Eroute, op klips.ErouteOp) error
	DeleteEroute(ctx context.Context, s klips.Selector) error
	ClearEroutes(ctx context.Context) error
}

// Devices changes devices and debug masks.
type Devices interface {
	Attach(ctx context.Context, virtual, physical string) error
	Detach(ctx context.Context, virtual string) error
	DetachAll(ctx context.Context) error
	CreateDevice(ctx context.Context, virtual string) error
	DeleteDevice(ctx context.Context, virtual string) error
	SetDebug(ctx context.Context, c klips.DebugChange) error
}

// Optional interfaces of a Doer. Some go with a capability, which [Info] adds.
type (
	// A GroupReader reads one group without reading all SAs ([klips.CapGroupRead]).
	GroupReader interface {
		ReadGroup(ctx context.Context, id klips.SAID) ([]klips.SA, error)
	}
	// A KnobReader has knobs ([klips.CapKnobs]).
	KnobReader interface {
		Knobs(ctx context.Context) ([]klips.Knob, error)
	}
	// A Tuner sets knobs.
	Tuner interface {
		KnobReader
		Set(ctx context.Context, knobs map[string]int) error
	}
	// A Guardian guards flows ([klips.CapGuard]).
	Guardian interface {
		Guard(ctx context.Context, g klips.Guard) (before bool, err error)
		Unguard(ctx context.Context, s klips.Selector) error
	}
	// A DirectAttacher attaches devices whose packets leave past the kernel's IP output
	// ([klips.CapDirect]).
	DirectAttacher interface {
		AttachDirect(ctx context.Context, virtual, physical string) error
	}
	// A Carrier reports SAs that the stack accepts, but whose packets it drops.
	// CarryFault does not repeat the checks of AddSA.
	Carrier interface {
		CarryFault(ctx context.Context, spec *klips.SASpec) klips.Fault
	}
	// A Texter has its tables as text ([klips.CapText]). Unread reads the named tables,
	// or all if none is named.
	Texter interface {
		Table(ctx context.Context, name string) ([]byte, error)
		Unread(ctx context.Context, tables ...string) ([]klips.UnreadLine, error)
	}
	// A Sharer has tables that other programs use, too.
	Sharer interface {
		Foreign(ctx context.Context) ([]string, error)
	}
	// A PolicySharer lists the policies of other programs, in the order in which the kernel
	// prefers them.
	PolicySharer interface {
		ForeignPolicies(ctx context.Context) ([]klips.ForeignPolicy, error)
	}
	// A DropCounter counts dropped packets that belong to no device.
	DropCounter interface {
		Drops(ctx context.Context) (drop.Counts, error)
	}
	// A DropRecorder records the newest dropped packet for each reason.
	DropRecorder interface {
		LastDrops(ctx context.Context) ([]klips.Dropped, error)
	}
	// A KernelCounter has counters of the kernel for dropped packets.
	KernelCounter interface {
		KernelDrops(ctx context.Context) ([]klips.KernelDrops, error)
	}
	// A Registry is a stack whose tables key daemons use.
	Registry interface {
		Registered(ctx context.Context) (bool, error)
	}
	// A Prober finds out what its kernel can do. An empty list means that nothing is
	// known.
	Prober interface {
		Probe(ctx context.Context) ([]klips.Ability, error)
	}
	// A Marker keeps marks without a process ([klips.CapMarks]).
	Marker interface {
		Marks(ctx context.Context) (dir string, keys int, err error)
	}
	// A Sender sends messages to key daemons ([klips.CapEvents]).
	Sender interface {
		Events(ctx context.Context, w klips.EventWant) (iter.Seq2[klips.Event, error], error)
	}
	// A Holder makes other programs wait before they change the stack. A stack that is
	// not a Holder has no other users.
	Holder interface {
		Hold(ctx context.Context) (release func(), err error)
	}
	// A PortTaker reports whether a UDP port is in use. It belongs to
	// [klips.CapHoldPort].
	PortTaker interface {
		PortTaken(ctx context.Context, port uint16) (bool, error)
	}
)

// Info returns the stack's name and abilities.
func Info(d Reader) klips.Info {
	return klips.Info{Name: d.Name(), Has: func(c klips.Capability) bool { return has(d, c) }}
}

func has(d Reader, c klips.Capability) (ok bool) {
	switch c {
	case klips.CapGroupRead:
		_, ok = d.(GroupReader)
	case klips.CapKnobs:
		_, ok = d.(KnobReader)
	case klips.CapGuard:
		_, ok = d.(Guardian)
		ok = ok || d.Has(c)
	case klips.CapText:
		_, ok = d.(Texter)
	case klips.CapMarks:
		_, ok = d.(Marker)
	case klips.CapHoldPort:
		_, ok = d.(PortTaker)
	default:
		return d.Has(c)
	}
	return ok
}

// Apply carries out changes one by one; changes of the tables only if d is a [Tables].
func Apply(ctx context.Context, d Devices, changes []klips.Change) (r klips.Result, err error) {
	for _, c := range changes {
		o, err := do(ctx, d, c)
		if err != nil {
			return r, err
		}
		r.Outcomes = append(r.Outcomes, o)
	}
	return r, nil
}

// A PortHolder holds a UDP port until it is closed. It is a [PortTaker], too.
type PortHolder interface {
	HoldPort(ctx context.Context, port uint16, form klips.NATTType) (onlyIPv4 bool, err error)
}

func do(ctx context.Context, d Devices, c klips.Change) (o klips.Outcome, err error) {
	if t, ok := d.(Tables); ok {
		if done, err := table(ctx, t, c); done {
			if a, ok := c.(klips.AddSA); ok && err == nil {
				o.Fault = carryFault(ctx, d, a.SASpec)
			}
			return o, err
		}
	}
	switch c := c.(type) {
	case klips.Attach:
		err = attach(ctx, d, c)
	case klips.Detach:
		err = d.Detach(ctx, c.Virtual)
	case klips.DetachAll:
		err = d.DetachAll(ctx)
	case klips.CreateDevice:
		o.NoEffect, err = noEffect(d.CreateDevice(ctx, c.Virtual))
	case klips.DeleteDevice:
		o.NoEffect, err = noEffect(d.DeleteDevice(ctx, c.Virtual))
	case klips.SetDebug:
		err = d.SetDebug(ctx, c.DebugChange)
	case klips.SetKnobs:
		if t, ok := d.(Tuner); ok {
			return o, t.Set(ctx, c.Knobs)
		}
		err = unable(c)
	case klips.SetGuard:
		if g, ok := d.(Guardian); ok {
			o.Before, err = g.Guard(ctx, c.Guard)
			return o, err
		}
		err = unable(c)
	case klips.RemoveGuard:
		if g, ok := d.(Guardian); ok {
			return o, g.Unguard(ctx, c.Selector)
		}
		err = unable(c)
	case klips.HoldPort:
		if p, ok := d.(PortHolder); ok {
			o.OnlyIPv4, err = p.HoldPort(ctx, c.Port, c.Form)
			return o, err
		}
		err = unable(c)
	default:
		err = unable(c)
	}
	return o, err
}

func attach(ctx context.Context, d Devices, c klips.Attach) error {
	if !c.Direct {
		return d.Attach(ctx, c.Virtual, c.Physical)
	}
	if a, ok := d.(DirectAttacher); ok {
		return a.AttachDirect(ctx, c.Virtual, c.Physical)
	}
	return &klips.OpError{Op: c.Op(), Object: c.Object(), Err: syscall.EOPNOTSUPP, Fault: klips.FaultDirect}
}

// noEffect separates the error of a change without effect, which counts as carried out,
// from a refusal.
func noEffect(err error) (none, refused error) {
	var oe *klips.OpError
	if errors.As(err, &oe) && oe.Fault == klips.FaultNoEffect {
		return err, nil
	}
	return nil, err
}

// table carries out a change of the tables; done is false for other changes.
func table(ctx context.Context, t Tables, c klips.Change) (done bool, err error) {
	switch c := c.(type) {
	case klips.AddSA:
		err = t.AddSA(ctx, c.SASpec)
	case klips.DeleteSA:
		err = t.DeleteSA(ctx, c.ID)
	case klips.ClearSAs:
		err = t.ClearSAs(ctx)
	case klips.Group:
		err = t.Group(ctx, c.IDs)
	case klips.Ungroup:
		err = t.Ungroup(ctx, c.ID)
	case klips.SetEroute:
		err = t.SetEroute(ctx, c.Eroute, c.ErouteOp())
	case klips.SetPolicy:
		err = t.SetEroute(ctx, c.Eroute(), c.ErouteOp())
	case klips.DeleteEroute:
		err = t.DeleteEroute(ctx, c.Selector)
	case klips.ClearEroutes:
		err = t.ClearEroutes(ctx)
	default:
		return false, nil
	}
	return true, err
}

func carryFault(ctx context.Context, d any, spec *klips.SASpec) klips.Fault {
	if f, ok := d.(Carrier); ok {
		return f.CarryFault(ctx, spec)
	}
	return klips.FaultNone
}

// unable is the error of a stack that does not support a change.
func unable(c klips.Change) error {
	return &klips.OpError{Op: c.Op(), Object: c.Object(), Err: syscall.EOPNOTSUPP}
}

// Snapshot reads the tables one after the other.
func Snapshot(ctx context.Context, d Reader, w klips.Want) (*klips.Snapshot, error) {
	t := &klips.Snapshot{}
	var err error
	// read reads a part, unless an earlier one failed.
	read := func(wanted bool, f func() error) {
		if wanted && err == nil {
			err = f()
		}
	}
	read(w.Version, func() (err error) { t.Version, err = d.Version(ctx); return err })
	read(w.Eroutes, func() (err error) { t.Eroutes, err = d.Eroutes(ctx); return err })
	read(w.SAs, func() (err error) { t.SAs, err = d.SAs(ctx); return err })
	read(w.SA != klips.SAID{}, func() error {
		sa, err := d.GetSA(ctx, w.SA)
		t.SAs = []klips.SA{sa}
		return err
	})
	read(w.Group != klips.SAID{}, func() (err error) { t.SAs, err = group(ctx, d, w.Group); return err })
	read(w.Devices, func() (err error) { t.Devices, err = d.Devices(ctx); return err })
	read(w.Debug, func() (err error) { t.Debug, err = d.Debug(ctx); return err })
	if k, ok := d.(KnobReader); ok {
		read(w.Knobs, func() (err error) { t.Knobs, err = k.Knobs(ctx); return err })
	}
	if s, ok := d.(Sharer); ok {
		read(w.Foreign, func() (err error) { t.Foreign, err = s.Foreign(ctx); return err })
	}
	if s, ok := d.(PolicySharer); ok {
		read(w.ForeignPolicies, func() (err error) { t.ForeignPolicies, err = s.ForeignPolicies(ctx); return err })
	}
	if c, ok := d.(DropCounter); ok {
		read(w.Drops, func() (err error) { t.Drops, err = c.Drops(ctx); return err })
	}
	if r, ok := d.(DropRecorder); ok {
		read(w.LastDrops, func() (err error) { t.LastDrops, err = r.LastDrops(ctx); return err })
	}
	if k, ok := d.(KernelCounter); ok {
		read(w.KernelDrops, func() (err error) { t.KernelDrops, err = k.KernelDrops(ctx); return err })
	}
	if x, ok := d.(Texter); ok {
		read(len(w.Unread) > 0, func() (err error) { t.Unread, err = x.Unread(ctx, w.Unread...); return err })
		read(w.Text != "", func() (err error) { t.Text, err = x.Table(ctx, w.Text); return err })
	}
	if m, ok := d.(Marker); ok {
		read(w.Marks, func() error {
			t.Marks = &klips.Marks{}
			t.Marks.Dir, t.Marks.Keys, t.Marks.Lost = m.Marks(ctx)
			return nil
		})
	}
	if r, ok := d.(Registry); ok {
		read(w.Registered, func() (err error) { t.Registered, err = r.Registered(ctx); return err })
	}
	if p, ok := d.(PortTaker); ok {
		read(w.Port != 0, func() (err error) { t.PortTaken, err = p.PortTaken(ctx, w.Port); return err })
	}
	if p, ok := d.(Prober); ok {
		read(w.Abilities, func() (err error) { t.Abilities, err = p.Probe(ctx); return err })
	}
	return t, err
}

// group reads the group of an SA.
func group(ctx context.Context, d Reader, id klips.SAID) ([]klips.SA, error) {
	if r, ok := d.(GroupReader); ok {
		return r.ReadGroup(ctx, id)
	}
	sas, err := d.SAs(ctx)
	if err != nil {
		return nil, err
	}
	g := klips.NewGroups(sas)
	if x, ok := d.(Texter); ok {
		lines, err := x.Unread(ctx, klips.GroupTables[:]...)
		if err != nil {
			return nil, err
		}
		g.Unread(lines)
	}
	return g.Of(id)
}

// New makes a stack from a Doer.
func New(d Doer) klips.Stack { return stack{d} }

type stack struct{ d Doer }

func (s stack) Info() klips.Info { return Info(s.d) }
func (s stack) Close() error     { return s.d.Close() }

func (s stack) Apply(ctx context.Context, changes ...klips.Change) (klips.Result, error) {
	return Apply(ctx, s.d, changes)
}

func (s stack) Hold(ctx context.Context) (release func(), err error) {
	if h, ok := s.d.(Holder); ok {
		return h.Hold(ctx)
	}
	return func() {}, nil
}

func (s stack) Snapshot(ctx context.Context, w klips.Want) (*klips.Snapshot, error) {
	return Snapshot(ctx, s.d, w)
}

func (s stack) ReadKeys(ctx context.Context, id klips.SAID) (klips.Keys, error) {
	if r, ok := s.d.(klips.KeyReader); ok {
		return r.ReadKeys(ctx, id)
	}
	return klips.Keys{}, klips.NoKeys(id)
}

func (s stack) Events(ctx context.Context, w klips.EventWant) (iter.Seq2[klips.Event, error], error) {
	if e, ok := s.d.(Sender); ok {
		return e.Events(ctx, w)
	}
	return nil, NoEvents()
}

// NoEvents returns the error of a stack without messages to key daemons.
func NoEvents() error { return &klips.OpError{Op: "listen", Err: syscall.EOPNOTSUPP} }
