package engine

import (
	"bytes"
	"context"
	"errors"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/eroute"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// Name returns "user".
func (e *Engine) Name() string { return "user" }

// Version returns the line of ipsec_version.
func (e *Engine) Version(context.Context) (string, error) { return e.version, nil }

// Has reports true except for offload: the embedded stack has all other capabilities.
func (e *Engine) Has(c klips.Capability) bool { return c != klips.CapOffload }

// saDone ends an operation on an SA: it writes the debug log, and returns err as an error
// that names the operation and the SA.
func (e *Engine) saDone(op string, id klips.SAID, err error) error {
	e.trace.sa(op, id, err)
	return opError(op, id, err)
}

func opError(op string, id klips.SAID, err error) error {
	if err == nil {
		return nil
	}
	var known *klips.OpError
	if errors.As(err, &known) {
		known.Op = op
		return known
	}
	return &klips.OpError{Op: op, Object: id.String(), Err: err}
}

// AddSA makes an SA. It is inbound if its destination is a local address now. ENOBUFS:
// the memory limit is reached.
func (e *Engine) AddSA(_ context.Context, spec *klips.SASpec) error {
	if spec.Offload != "" {
		return e.saDone("add SA", spec.ID, syscall.EOPNOTSUPP)
	}
	if f := spec.Fault(); f != klips.FaultNone {
		return &klips.OpError{Op: "add SA", Object: spec.ID.String(), Err: syscall.EINVAL, Fault: f}
	}
	sa, err := e.addSA(spec)
	if err == nil {
		e.watch(1, sa)
		e.greet(sa)
		e.heed(sa)
	}
	return e.saDone("add SA", spec.ID, e.saAgain(spec, err))
}

func (e *Engine) addSA(spec *klips.SASpec) (*sadb.SA, error) {
	dir := e.direction(spec.ID.Dst, spec.Src)
	if err := e.room(costOf(&sadb.SA{Fixed: sadb.Fixed{ID: spec.ID, Dir: dir}})); err != nil {
		return nil, err
	}
	begun := &beginning{spec: spec}
	if e.sas.Lookup(spec.ID) == nil { // otherwise it is refused, and the mark is the old SA's
		var err error
		if begun, err = e.keeper.begin(spec); err != nil {
			return nil, err
		}
	}
	sa, err := e.sas.Add(spec, dir, e.now(), func(sa *sadb.SA) error {
		begun.start(sa)
		return initStates(sa)
	})
	e.keeper.begun(begun, sa)
	return sa, err
}

// DeleteSA removes an SA and the other SAs of its group.
func (e *Engine) DeleteSA(_ context.Context, id klips.SAID) error {
	gone, err := e.sas.Delete(id)
	e.watch(-1, gone...)
	e.keeper.ended(gone...)
	e.keeper.settle()
	return e.saDone("delete SA", id, err)
}

// GetSA returns one SA.
func (e *Engine) GetSA(_ context.Context, id klips.SAID) (klips.SA, error) {
	sa := e.sas.Lookup(id)
	if sa == nil {
		return klips.SA{}, opError("get SA", id, syscall.ESRCH)
	}
	return e.listed(sa, e.now()), nil
}

// ReadKeys returns copies of the keys of an SA, which the caller clears.
func (e *Engine) ReadKeys(_ context.Context, id klips.SAID) (k klips.Keys, err error) {
	sa := e.sas.Lookup(id)
	if sa == nil || !sa.Keys(func(auth, enc []byte) { k.AuthKey, k.EncKey = bytes.Clone(auth), bytes.Clone(enc) }) {
		return klips.Keys{}, opError("get keys", id, syscall.ESRCH)
	}
	k.Marked = e.keeper.keeps()
	return k, nil
}

// ReadGroup returns the SAs of the group that an SA is in.
func (e *Engine) ReadGroup(_ context.Context, id klips.SAID) ([]klips.SA, error) {
	members, err := e.sas.Members(id)
	if err != nil {
		return nil, opError("get SA", id, err)
	}
	now := e.now()
	l := make([]klips.SA, len(members))
	for i, sa := range members {
		l[i] = e.listed(sa, now)
	}
	return l, nil
}

// ClearSAs removes all SAs.
func (e *Engine) ClearSAs(context.Context) error {
	gone := e.sas.Flush()
	e.watch(-1, gone...)
	e.keeper.ended(gone...)
	e.keeper.settle()
	if e.trace.on(klips.DebugSPI, allBits) {
		e.trace.changed("spi", "clear SAs", nil)
	}
	return nil
}

// Group makes SAs one group.
func (e *Engine) Group(_ context.Context, ids []klips.SAID) error {
	err := e.groupAgain(ids, e.sas.Group(ids))
	if err == nil && len(ids) > 0 {
		if members, err := e.sas.Members(ids[0]); err == nil {
			e.heed(members[0])
		}
	}
	for _, id := range ids {
		e.trace.sa("group SAs", id, err)
	}
	return err
}

// Ungroup removes the group of an SA. The SAs stay.
func (e *Engine) Ungroup(_ context.Context, id klips.SAID) error {
	e.reconsider()
	return e.saDone("ungroup", id, e.sas.Ungroup(id))
}

// SetEroute adds or replaces an eroute or sets an inbound policy.
func (e *Engine) SetEroute(_ context.Context, r klips.Eroute, op klips.ErouteOp) error {
	if op != klips.ErouteAdd && op != klips.ErouteReplace {
		return e.saDone("set inbound policy", r.ID, e.sas.SetPolicy(r.ID, r.Selector))
	}
	err := r.CheckAlso("add eroute", true)
	if err != nil {
		return err
	}
	switch op {
	case klips.ErouteAdd:
		if err = e.roomForEroute(&r, nil); err == nil {
			err = e.erouteAgain(r, e.routes.Add(r))
		}
	default:
		err = e.roomForEroute(&r, e.routes.Get(r.Selector))
		var old *eroute.Entry
		if err == nil {
			old, err = e.routes.Replace(r)
		}
		if old != nil {
			e.release(e.holds.take(old))
		}
	}
	return e.erouteDone("add eroute", r.Selector, err)
}

// DeleteEroute removes the eroute with this selector.
func (e *Engine) DeleteEroute(_ context.Context, s klips.Selector) error {
	old, err := e.routes.Delete(s)
	if old != nil {
		once(&e.inherited, e.inherited.eroutes, s)
		e.endHold(old)
	}
	return e.erouteDone("delete eroute", s, err)
}

// erouteDone is saDone for eroutes.
func (e *Engine) erouteDone(op string, s klips.Selector, err error) error {
	e.trace.eroute(op, s, err)
	if err == nil {
		return nil
	}
	return &klips.OpError{Op: op, Object: s.String(), Err: err}
}

// ClearEroutes removes all eroutes.
func (e *Engine) ClearEroutes(context.Context) error {
	for _, old := range e.routes.Clear() {
		once(&e.inherited, e.inherited.eroutes, old.Selector())
		e.endHold(old)
	}
	if e.trace.on(klips.DebugEroute, allBits) {
		e.trace.changed("eroute", "clear eroutes", nil)
	}
	return nil
}

// Attach binds ipsecN to a physical device.
func (e *Engine) Attach(_ context.Context, virtual, physical string) error {
	err := e.attach(virtual, physical, false)
	e.trace.device("attach", virtual+" to "+physical, err)
	return err
}

// AttachDirect is Attach for packets that go past the kernel's IP output, see [Wire].
func (e *Engine) AttachDirect(_ context.Context, virtual, physical string) error {
	err := e.attach(virtual, physical, true)
	e.trace.device("attach directly", virtual+" to "+physical, err)
	return err
}

// Detach unbinds ipsecN.
func (e *Engine) Detach(_ context.Context, virtual string) error {
	err := e.detach(virtual)
	e.trace.device("detach", virtual, err)
	return err
}

// DetachAll unbinds all devices.
func (e *Engine) DetachAll(context.Context) error {
	e.detachAll()
	e.trace.device("detach", "all", nil)
	return nil
}

// CreateDevice makes ipsecN.
func (e *Engine) CreateDevice(_ context.Context, virtual string) error {
	err := e.createDevice(virtual)
	e.trace.device("create", virtual, err)
	return err
}

// DeleteDevice removes ipsecN.
func (e *Engine) DeleteDevice(_ context.Context, virtual string) error {
	err := e.deleteDevice(virtual)
	e.trace.device("delete", virtual, err)
	return err
}

// SetDebug changes the debug masks.
func (e *Engine) SetDebug(_ context.Context, c klips.DebugChange) error {
	e.debugMu.Lock()
	defer e.debugMu.Unlock()
	e.trace.set(c)
	return nil
}

// Debug returns the debug masks.
func (e *Engine) Debug(context.Context) (klips.Debug, error) {
	return e.trace.get(), nil
}

// SAs lists the SAs.
func (e *Engine) SAs(context.Context) ([]klips.SA, error) {
	all := e.sas.All()
	now := e.now()
	l := make([]klips.SA, len(all))
	for i, sa := range all {
		l[i] = e.listed(sa, now)
	}
	return l, nil
}

// Eroutes lists the eroutes.
func (e *Engine) Eroutes(context.Context) ([]klips.Eroute, error) {
	all := e.routes.All()
	l := make([]klips.Eroute, len(all))
	for i, r := range all {
		l[i] = r.Eroute()
		e.inherited.markEroute(&l[i])
	}
	return l, nil
}

// Devices lists the devices.
func (e *Engine) Devices(context.Context) ([]klips.Device, error) { return e.devices(), nil }

// listed returns an SA in the form of the listings.
func (e *Engine) listed(sa *sadb.SA, now int64) klips.SA {
	v := info(sa, now)
	v.SameKey = e.sas.SameKey(sa)
	e.inherited.markSA(&v)
	return v
}

// info returns the data of an SA without its group, and with the IV of its next packet.
func info(sa *sadb.SA, now int64) klips.SA {
	v := sa.Info(now)
	v.PathMTU = knownMTU(sa, now)
	if p := sa.Data.(*states).heard.Load(); p != nil {
		v.HeardAddr, v.HeardPort = p.Addr(), p.Port()
	}
	if l := sa.Data.(*states).byWorker.Load(); l != nil {
		for _, s := range *l {
			if s.espOut != nil {
				v.IV = s.espOut.NextIV()
			}
		}
	}
	return v
}

// Count returns the number of SAs and of eroutes.
func (e *Engine) Count() (sas, eroutes int) { return e.sas.Len(), e.routes.Len() }
