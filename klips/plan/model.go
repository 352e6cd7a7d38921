// Package plan carries out changes in memory, with the rules of the stacks. So a list
// of changes can be checked as a whole before a stack carries out the first, and the
// inverse of each change is known before it is made. [Apply] carries out changes on a
// stack, all or none.
package plan

import (
	"cmp"
	"context"
	"crypto/sha256"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/internal/arrange"
	"github.com/klips-go/ipsec/klips/serial"
)

// A Model is a stack without packets, in the simplest form. It must not be used by
// several goroutines at once. The zero Model has no devices.
type Model struct {
	// Stack is the name of the stack that it models; may be empty.
	Stack string
	// Local reports whether an address is the host's now. nil: it has none.
	Local func(netip.Addr) bool
	// Physical finds a physical device. nil: every device exists.
	Physical func(name string) (mtu int, ok bool)

	sas     map[klips.SAID]*sa
	made    int             // number of SAs and eroutes made
	keys    map[keyed][]*sa // SAs with the same combined-mode key, oldest first
	routes  map[klips.Selector]route
	devices []klips.Device
	debug   klips.Debug
	knobs   []klips.Knob
	// partial: the model may lack some of the stack's objects, so a missing object is
	// not an error.
	partial bool
	has     func(klips.Capability) bool // nil: all capabilities of the embedded stack
}

// A keyed is the hash of a combined-mode key; zero for none.
type keyed [sha256.Size]byte

// A route is an eroute.
type route struct {
	klips.Eroute
	number int // ascending with age: the older, the smaller
}

// An sa is an SA and its neighbours in its group, in processing order.
type sa struct {
	klips.SA
	number         int // ascending with age: the older, the smaller
	key            keyed
	before, behind *sa
}

var _ serial.Doer = (*Model)(nil)

// NewModel makes a Model with two devices, ipsec0 and ipsec1.
func NewModel(local func(netip.Addr) bool, physical func(string) (int, bool)) *Model {
	return &Model{Local: local, Physical: physical, devices: []klips.Device{{Name: "ipsec0"}, {Name: "ipsec1"}}}
}

// Wanted is what [Of] needs in its snapshot.
var Wanted = klips.Want{SAs: true, Eroutes: true, Devices: true, Debug: true, Knobs: true, Unread: klips.GroupTables[:]}

// Of returns a model in the state of a stack, which is read with [Wanted]. Snapshots
// contain no keys, so the model does not notice a new SA with the key of an existing
// one. If lines of the tables are unreadable, a missing object is not an error.
func Of(info klips.Info, s *klips.Snapshot) *Model {
	m := &Model{Stack: info.Name, has: info.Has, devices: slices.Clone(s.Devices), debug: s.Debug, knobs: slices.Clone(s.Knobs), partial: len(s.Unread) > 0}
	for i := range m.devices {
		m.devices[i].PhysMTU = 0 // Physical returns it
	}
	for _, d := range slices.Backward(s.SAs) {
		m.insert(&sa{SA: d})
	}
	for _, d := range s.SAs {
		if len(d.Next) > 0 {
			// The tables of a KLIPS with broken groups may even contain a loop.
			if next := m.sas[d.Next[0]]; next != nil && next.before == nil && m.sas[d.ID].first() != next {
				m.sas[d.ID].behind, next.before = next, m.sas[d.ID]
			}
		}
	}
	for _, e := range s.Eroutes {
		m.setRoute(e)
	}
	return m
}

// Clone returns another model in the same state.
func (m *Model) Clone() *Model {
	n := *m
	n.sas, n.keys, n.made = nil, nil, 0
	n.routes, n.devices, n.knobs = maps.Clone(m.routes), slices.Clone(m.devices), slices.Clone(m.knobs)
	for _, s := range m.byAge() {
		c := *s
		n.insert(&c)
	}
	for _, s := range n.sas {
		if s.before != nil {
			s.before = n.sas[s.before.ID]
		}
		if s.behind != nil {
			s.behind = n.sas[s.behind.ID]
		}
	}
	n.made = m.made
	return &n
}

// insert adds an SA as the newest.
func (m *Model) insert(s *sa) {
	if m.sas == nil {
		m.sas, m.keys = map[klips.SAID]*sa{}, map[keyed][]*sa{}
	}
	m.made++
	s.number = m.made
	m.sas[s.ID] = s
	if s.key != (keyed{}) {
		m.keys[s.key] = append(m.keys[s.key], s)
	}
}

// remove removes an SA.
func (m *Model) remove(s *sa) {
	delete(m.sas, s.ID)
	if s.key != (keyed{}) {
		m.keys[s.key] = slices.DeleteFunc(m.keys[s.key], func(o *sa) bool { return o == s })
	}
}

// same returns the SAs with a key.
func (m *Model) same(k keyed) []*sa {
	if k == (keyed{}) {
		return nil
	}
	return m.keys[k]
}

func (m *Model) setRoute(e klips.Eroute) {
	if m.routes == nil {
		m.routes = map[klips.Selector]route{}
	}
	m.made++
	m.routes[e.Selector] = route{e, m.made}
}

// byAge returns the SAs, the oldest first.
func (m *Model) byAge() []*sa {
	return slices.SortedFunc(maps.Values(m.sas), func(a, b *sa) int { return a.number - b.number })
}

// Name returns the name of the modelled stack, or "model".
func (m *Model) Name() string { return cmp.Or(m.Stack, "model") }

// Version returns a version line.
func (m *Model) Version(context.Context) (string, error) { return "model", nil }

// Has reports the capabilities of the modelled stack. Without one it returns true,
// except for offload and for messages to key daemons.
func (m *Model) Has(c klips.Capability) bool {
	if m.has != nil {
		return m.has(c)
	}
	return c != klips.CapOffload && c != klips.CapEvents
}

// Close does nothing.
func (m *Model) Close() error { return nil }

func refuse(op, object string, err syscall.Errno) error {
	return &klips.OpError{Op: op, Object: object, Err: err}
}

// first returns the first SA of a group, in processing order.
func (s *sa) first() *sa {
	for s.before != nil {
		s = s.before
	}
	return s
}

// rest returns the SAIDs of an SA and of those after it.
func (s *sa) rest() (ids []klips.SAID) {
	for ; s != nil; s = s.behind {
		ids = append(ids, s.ID)
	}
	return ids
}

// missing refuses a change that needs a missing object.
func (m *Model) missing(op, object string, err syscall.Errno) error {
	if m.partial {
		return nil
	}
	return refuse(op, object, err)
}

// AddSA makes an SA.
func (m *Model) AddSA(_ context.Context, s *klips.SASpec) error {
	if err := s.CheckName(); err != nil || s.Fault() != klips.FaultNone {
		return refuse("add SA", s.ID.String(), syscall.EINVAL)
	}
	if old := m.sas[s.ID]; old != nil {
		if !old.AddAgain {
			return refuse("add SA", s.ID.String(), syscall.EEXIST)
		}
		old.AddAgain = false
		return nil
	}
	if s.Offload != "" && !m.Has(klips.CapOffload) {
		return refuse("add SA", s.ID.String(), syscall.EOPNOTSUPP)
	}
	if s.CopyTOS && !m.Has(klips.CapCopyTOS) {
		return &klips.OpError{Op: "add SA", Object: s.ID.String(), Err: syscall.EOPNOTSUPP, Fault: klips.FaultCopyTOS}
	}
	if err := s.Check(); err != nil {
		return &klips.OpError{Op: "add SA", Object: s.ID.String(), Err: err}
	}
	n := &sa{SA: klips.SA{
		ID: s.ID, Transform: s.Transform, State: klips.Mature, Src: s.Src, Window: s.Window, ESN: s.ESN, Align8: s.Align8, CopyTOS: s.CopyTOS,
		AuthKeyBits: 8 * len(s.AuthKey), EncKeyBits: 8 * len(s.EncKey),
		NATT: s.NATT.WithPorts(), RefCount: klips.IdleRefs, RefHim: s.RefHim, OutIf: s.OutIf,
	}}
	last := s.Seq
	if n.Dir = klips.DirectionOf(s.ID.Dst, s.Src, m.local); n.Dir == klips.Inbound {
		last = s.ReplaySeq
	}
	if last != nil {
		n.Seq = *last
	}
	if enc, _ := s.Enc.Info(); s.ID.Proto == klips.ProtoESP && enc.AEAD {
		n.key = sha256.Sum256(append([]byte{byte(s.Enc)}, s.EncKey...))
	} else if s.ID.Proto == klips.ProtoESP && enc.IV > 0 {
		n.IV = make([]byte, enc.IV)
	}
	for _, other := range m.same(n.key) {
		if n.Dir.Sends() && other.Dir.Sends() && !s.ReuseKey {
			return &klips.OpError{Op: "add SA", Object: s.ID.String(), Err: syscall.EKEYREJECTED, Fault: klips.FaultKeyUsed, Other: other.ID}
		}
	}
	limits := func(count, soft, hard uint64) klips.Counter {
		if hard != 0 {
			soft = min(soft, hard)
		}
		return klips.Counter{Count: count, Soft: soft, Hard: hard}
	}
	n.Life = klips.Life{
		Allocations: limits(1, uint64(s.Soft.Allocations), uint64(s.Hard.Allocations)),
		Bytes:       limits(0, s.Soft.Bytes, s.Hard.Bytes),
		AddTime:     limits(0, s.Soft.AddTime, s.Hard.AddTime),
		UseTime:     limits(0, s.Soft.UseTime, s.Hard.UseTime),
		Packets:     limits(0, s.Soft.Packets, s.Hard.Packets),
	}
	m.insert(n)
	n.Ref = uint32(n.number)
	return nil
}

func (m *Model) local(a netip.Addr) bool { return m.Local != nil && m.Local(a) }

// DeleteSA removes an SA and its group.
func (m *Model) DeleteSA(_ context.Context, id klips.SAID) error {
	s := m.sas[id]
	if s == nil {
		return m.missing("delete SA", id.String(), syscall.ESRCH)
	}
	for s = s.first(); s != nil; s = s.behind {
		m.remove(s)
	}
	return nil
}

// GetSA returns one SA.
func (m *Model) GetSA(_ context.Context, id klips.SAID) (klips.SA, error) {
	s := m.sas[id]
	if s == nil {
		return klips.SA{}, refuse("get SA", id.String(), syscall.ESRCH)
	}
	d := s.SA
	d.Next = s.rest()[1:]
	d.SameKey = nil
	for _, other := range m.same(s.key) {
		if other != s && len(d.SameKey) < 4 {
			d.SameKey = append(d.SameKey, other.ID)
		}
	}
	return d, nil
}

// ReadGroup returns the SAs of a group.
func (m *Model) ReadGroup(ctx context.Context, id klips.SAID) (l []klips.SA, err error) {
	s := m.sas[id]
	if s == nil {
		return nil, refuse("get SA", id.String(), syscall.ESRCH)
	}
	for s = s.first(); s != nil; s = s.behind {
		d, _ := m.GetSA(ctx, s.ID)
		l = append(l, d)
	}
	return l, nil
}

// ClearSAs removes all SAs.
func (m *Model) ClearSAs(context.Context) error {
	m.sas, m.keys = nil, nil
	return nil
}

// SAs lists the SAs.
func (m *Model) SAs(ctx context.Context) ([]klips.SA, error) {
	var l []klips.SA
	for _, s := range slices.Backward(m.byAge()) {
		d, _ := m.GetSA(ctx, s.ID)
		l = append(l, d)
	}
	klips.SortSAs(l)
	return l, nil
}

// Group links SAs pair by pair, and removes all links again if one is refused.
func (m *Model) Group(_ context.Context, ids []klips.SAID) error {
	if len(ids) < 2 || len(ids) > klips.MaxGroup {
		return refuse("group", "", syscall.EINVAL)
	}
	if m.groupAgain(ids) {
		m.sas[ids[0]].GroupAgain = false
		return nil
	}
	for i := 1; i < len(ids); i++ {
		if err := m.link(ids[i-1], ids[i]); err != nil {
			for ; i > 1; i-- {
				m.unlink(ids[i-2], ids[i-1])
			}
			return err
		}
	}
	return nil
}

// groupAgain reports whether a group exists, and may be made again.
func (m *Model) groupAgain(ids []klips.SAID) bool {
	s := m.sas[ids[0]]
	if s == nil || !s.GroupAgain {
		return false
	}
	members := s.first().rest()
	return len(members) == len(ids) && !slices.ContainsFunc(ids, func(id klips.SAID) bool { return !slices.Contains(members, id) })
}

func (m *Model) link(inner, outer klips.SAID) error {
	for _, id := range []klips.SAID{inner, outer} {
		if m.sas[id] == nil {
			return m.missing("group", id.String(), syscall.ENOENT)
		}
	}
	a, b := m.inOrder(inner, outer)
	switch {
	case a.behind != nil:
		return refuse("group", a.ID.String(), syscall.EEXIST)
	case b.before != nil || a.first() == b:
		return refuse("group", b.ID.String(), syscall.EEXIST)
	}
	a.behind, b.before = b, a
	return nil
}

// inOrder returns two SAs in processing order.
func (m *Model) inOrder(inner, outer klips.SAID) (a, b *sa) {
	a, b = m.sas[inner], m.sas[outer]
	if b.Dir == klips.Inbound {
		a, b = b, a
	}
	return a, b
}

// unlink undoes link.
func (m *Model) unlink(inner, outer klips.SAID) {
	if m.sas[inner] != nil && m.sas[outer] != nil {
		a, b := m.inOrder(inner, outer)
		a.behind, b.before = nil, nil
	}
}

// Ungroup takes a group apart.
func (m *Model) Ungroup(_ context.Context, id klips.SAID) error {
	s := m.sas[id]
	if s == nil {
		return m.missing("ungroup", id.String(), syscall.ENOENT)
	}
	for s = s.first(); s != nil; {
		next := s.behind
		s.before, s.behind = nil, nil
		s = next
	}
	return nil
}

// SetEroute makes an eroute, or sets an inbound policy.
func (m *Model) SetEroute(_ context.Context, e klips.Eroute, op klips.ErouteOp) error {
	if op == klips.ErouteAddIn || op == klips.ErouteReplaceIn {
		return m.setPolicy(e)
	}
	if err := e.CheckAlso("add eroute", m.Has(klips.CapAlso)); err != nil {
		return err
	}
	if old, ok := m.routes[e.Selector]; ok && op == klips.ErouteAdd {
		if !old.AddAgain || !old.SameTarget(&e) {
			return refuse("add eroute", e.Selector.String(), syscall.EEXIST)
		}
		old.AddAgain = false
		m.routes[e.Selector] = old
		return nil
	}
	e.Packets, e.Also = 0, slices.Clone(e.Also)
	m.setRoute(e)
	return nil
}

func (m *Model) setPolicy(e klips.Eroute) error {
	if m.sas[e.ID] == nil {
		return m.missing("set inbound policy", e.ID.String(), syscall.ENOENT)
	}
	owner := m.policyOwner(e.ID)
	transport := owner.ID.Proto != klips.ProtoTun
	switch {
	case transport && !m.Has(klips.CapTransportPolicy):
		return refuse("set inbound policy", e.ID.String(), syscall.ENOENT)
	case transport && owner.ID.Dst.Is6() != e.Is6():
		return refuse("set inbound policy", e.ID.String(), syscall.EINVAL)
	}
	owner.Policy = &e.Selector
	owner.Flags |= klips.FlagInFlow
	return nil
}

// policyOwner returns the SA that an inbound policy for another belongs to: the first
// tun SA from there, or the last SA.
func (m *Model) policyOwner(id klips.SAID) *sa {
	s := m.sas[id]
	for s.ID.Proto != klips.ProtoTun && s.behind != nil {
		s = s.behind
	}
	return s
}

// DeleteEroute removes an eroute.
func (m *Model) DeleteEroute(_ context.Context, s klips.Selector) error {
	if _, ok := m.routes[s]; !ok {
		return m.missing("delete eroute", s.String(), syscall.ENOENT)
	}
	delete(m.routes, s)
	return nil
}

// ClearEroutes removes all eroutes.
func (m *Model) ClearEroutes(context.Context) error {
	m.routes = nil
	return nil
}

// Eroutes lists the eroutes.
func (m *Model) Eroutes(context.Context) ([]klips.Eroute, error) {
	l := m.EroutesByAge()
	arrange.Sort(l, klips.CompareEroutes)
	return l, nil
}

// EroutesByAge lists the eroutes, the oldest first.
func (m *Model) EroutesByAge() (l []klips.Eroute) {
	routes := slices.Collect(maps.Values(m.routes))
	arrange.Sort(routes, func(a, b route) int { return a.number - b.number })
	for _, r := range routes {
		l = append(l, r.Eroute)
	}
	return l
}

func (m *Model) device(name string) *klips.Device {
	for i := range m.devices {
		if m.devices[i].Name == name {
			return &m.devices[i]
		}
	}
	return nil
}

// Attach binds a device.
func (m *Model) Attach(_ context.Context, virtual, physical string) error {
	return m.attach(virtual, physical, false)
}

// AttachDirect binds a device whose packets leave past the kernel's IP output.
func (m *Model) AttachDirect(_ context.Context, virtual, physical string) error {
	if !m.Has(klips.CapDirect) {
		return &klips.OpError{Op: "attach", Object: virtual + " to " + physical, Err: syscall.EOPNOTSUPP, Fault: klips.FaultDirect}
	}
	return m.attach(virtual, physical, true)
}

func (m *Model) attach(virtual, physical string, direct bool) error {
	d := m.device(virtual)
	if d == nil {
		return refuse("attach", virtual, syscall.ENODEV)
	}
	name, _, _ := strings.Cut(physical, ":")
	mtu, ok := m.physical(name)
	if !ok {
		return refuse("attach", physical, syscall.ENXIO)
	}
	if d.Physical != "" {
		return refuse("attach", virtual, syscall.EBUSY)
	}
	d.Physical, d.MTU, d.AttMTU, d.Direct = name, klips.DeviceMTU, mtu, direct
	return nil
}

func (m *Model) physical(name string) (mtu int, ok bool) {
	if m.Physical == nil {
		return 0, true
	}
	return m.Physical(name)
}

// Detach unbinds a device.
func (m *Model) Detach(_ context.Context, virtual string) error {
	d := m.device(virtual)
	if d == nil || d.Physical == "" {
		return refuse("detach", virtual, syscall.ENODEV)
	}
	d.Physical, d.AttMTU, d.Direct = "", 0, false
	return nil
}

// DetachAll unbinds all devices.
func (m *Model) DetachAll(ctx context.Context) error {
	for _, d := range m.devices {
		_ = m.Detach(ctx, d.Name)
	}
	return nil
}

// CreateDevice makes a device.
func (m *Model) CreateDevice(_ context.Context, virtual string) error {
	n, ok := klips.DeviceNumber(virtual)
	switch {
	case !ok:
		return refuse("create device", virtual, syscall.EINVAL)
	case n >= klips.MaxDevices:
		return refuse("create device", virtual, syscall.ENOENT)
	case m.device(virtual) != nil:
		return refuse("create device", virtual, syscall.EEXIST)
	}
	m.devices = append(m.devices, klips.Device{Name: virtual})
	arrange.Sort(m.devices, func(a, b klips.Device) int {
		x, _ := klips.DeviceNumber(a.Name)
		y, _ := klips.DeviceNumber(b.Name)
		return x - y
	})
	return nil
}

// DeleteDevice removes a device.
func (m *Model) DeleteDevice(_ context.Context, virtual string) error {
	if m.device(virtual) == nil {
		return refuse("delete device", virtual, syscall.ENOENT)
	}
	m.devices = slices.DeleteFunc(m.devices, func(d klips.Device) bool { return d.Name == virtual })
	return nil
}

// Devices lists the devices.
func (m *Model) Devices(context.Context) ([]klips.Device, error) {
	l := slices.Clone(m.devices)
	for i := range l {
		if l[i].Physical != "" {
			l[i].PhysMTU, _ = m.physical(l[i].Physical)
		}
	}
	return l, nil
}

// SetDebug changes the debug masks.
func (m *Model) SetDebug(_ context.Context, c klips.DebugChange) error {
	for i, mask := range c.Masks {
		if c.Set {
			m.debug[i] |= mask
		} else {
			m.debug[i] &= mask
		}
	}
	return nil
}

// Debug returns the debug masks.
func (m *Model) Debug(context.Context) (klips.Debug, error) { return m.debug, nil }
