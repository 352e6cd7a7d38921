package klipstest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
)

// A Model is a stack without packets, said as plainly as possible: the oracle
// that other stacks are compared with. It is for one goroutine. The zero value
// has no physical devices and no addresses.
type Model struct {
	Local    func(netip.Addr) bool                // whether an address is the host's now
	Physical func(name string) (mtu int, ok bool) // physical devices

	sas     []klips.SA            // oldest first; Next is the follower alone
	keys    map[klips.SAID]string // of combined modes, of SAs that are or were there
	routes  []klips.Eroute
	devices []klips.Device
	debug   klips.Debug
	refs    uint32
}

var _ klips.Stack = (*Model)(nil)

// NewModel makes a Model with two devices, ipsec0 and ipsec1.
func NewModel(local func(netip.Addr) bool, physical func(string) (int, bool)) *Model {
	return &Model{Local: local, Physical: physical, devices: []klips.Device{{Name: "ipsec0"}, {Name: "ipsec1"}}}
}

// Clone returns another model in the same state.
func (m *Model) Clone() *Model {
	n := *m
	n.sas, n.routes, n.devices, n.keys = slices.Clone(m.sas), slices.Clone(m.routes), slices.Clone(m.devices), maps.Clone(m.keys)
	return &n
}

// Name returns "model".
func (m *Model) Name() string { return "model" }

// Version returns a line.
func (m *Model) Version(context.Context) (string, error) { return "model", nil }

// Has reports true, but for devices that work for SAs.
func (m *Model) Has(c klips.Capability) bool { return c != klips.CapOffload }

// Close does nothing.
func (m *Model) Close() error { return nil }

func refuse(op, object string, err syscall.Errno) error {
	return &klips.OpError{Op: op, Object: object, Err: err}
}

func (m *Model) find(id klips.SAID) *klips.SA {
	for i := range m.sas {
		if m.sas[i].ID == id {
			return &m.sas[i]
		}
	}
	return nil
}

// chain is an SA and what follows it, in processing order.
func (m *Model) chain(id klips.SAID) []klips.SAID {
	l := []klips.SAID{id}
	for s := m.find(id); len(s.Next) > 0; s = m.find(s.Next[0]) {
		l = append(l, s.Next[0])
	}
	return l
}

// before is the SA in front of another in its group, nil if there is none.
func (m *Model) before(id klips.SAID) *klips.SA {
	for i := range m.sas {
		if len(m.sas[i].Next) > 0 && m.sas[i].Next[0] == id {
			return &m.sas[i]
		}
	}
	return nil
}

// group is everything that an SA is linked with, in processing order.
func (m *Model) group(id klips.SAID) []klips.SAID {
	for b := m.before(id); b != nil; b = m.before(id) {
		id = b.ID
	}
	return m.chain(id)
}

// AddSA makes an SA.
func (m *Model) AddSA(_ context.Context, s *klips.SASpec) error {
	known := slices.Contains([]klips.Proto{klips.ProtoTun, klips.ProtoESP, klips.ProtoAH, klips.ProtoComp}, s.ID.Proto)
	if !known || s.ID.SPI < klips.MinSPI || s.Window > 4096 || s.NATT.Type > klips.NATTNonESP || s.Fault() != klips.FaultNone {
		return refuse("add SA", s.ID.String(), syscall.EINVAL)
	}
	if m.find(s.ID) != nil {
		return refuse("add SA", s.ID.String(), syscall.EEXIST)
	}
	if s.Offload != "" {
		return refuse("add SA", s.ID.String(), syscall.EOPNOTSUPP)
	}
	if err := checkTransform(s); err != 0 {
		return refuse("add SA", s.ID.String(), err)
	}
	sa := klips.SA{
		ID: s.ID, Transform: s.Transform, State: klips.Mature, Src: s.Src, Window: s.Window, ESN: s.ESN,
		AuthKeyBits: 8 * len(s.AuthKey), EncKeyBits: 8 * len(s.EncKey),
		NATT: s.NATT.WithPorts(), RefCount: 3, RefHim: s.RefHim, OutIf: s.OutIf,
	}
	last := s.Seq
	if m.Local(s.ID.Dst) {
		sa.Dir = klips.Inbound
		last = s.ReplaySeq
	}
	if last != nil {
		sa.Seq = *last
	}
	aead := ""
	if enc, _ := s.Enc.Info(); enc.AEAD && s.ID.Proto == klips.ProtoESP {
		aead = fmt.Sprint(s.Enc, s.EncKey)
	}
	for _, other := range m.sas {
		if aead != "" && m.keys[other.ID] == aead && sa.Dir == klips.Outbound && other.Dir == klips.Outbound && !s.ReuseKey {
			return &klips.OpError{Op: "add SA", Object: s.ID.String(), Err: syscall.EKEYREJECTED, Fault: klips.FaultKeyUsed, Other: other.ID}
		}
	}
	m.refs++
	sa.Ref = m.refs
	if m.keys == nil {
		m.keys = map[klips.SAID]string{}
	}
	m.keys[s.ID] = aead
	if enc, _ := s.Enc.Info(); s.ID.Proto == klips.ProtoESP && !enc.AEAD && enc.IV > 0 {
		sa.IV = make([]byte, enc.IV)
	}
	limits := func(count, soft, hard uint64) klips.Counter {
		if hard != 0 {
			soft = min(soft, hard)
		}
		return klips.Counter{Count: count, Soft: soft, Hard: hard}
	}
	sa.Life = klips.Life{
		Allocations: limits(1, uint64(s.Soft.Allocations), uint64(s.Hard.Allocations)),
		Bytes:       limits(0, s.Soft.Bytes, s.Hard.Bytes),
		AddTime:     limits(0, s.Soft.AddTime, s.Hard.AddTime),
		UseTime:     limits(0, s.Soft.UseTime, s.Hard.UseTime),
		Packets:     limits(0, s.Soft.Packets, s.Hard.Packets),
	}
	m.sas = append(m.sas, sa)
	return nil
}

// checkTransform says what is wrong with algorithms and keys, 0 for nothing.
func checkTransform(s *klips.SASpec) syscall.Errno {
	fits := func(bits []int, key []byte) bool { return slices.Contains(bits, 8*len(key)) }
	auth, authKnown := s.Auth.Info()
	enc, encKnown := s.Enc.Info()
	numbered := s.ID.Proto == klips.ProtoESP || s.ID.Proto == klips.ProtoAH
	if !s.SeqFits() {
		return syscall.EINVAL
	}
	if s.ESN && (!numbered || s.Window == 0 || s.Auth == 0 && !enc.AEAD) {
		return syscall.EINVAL
	}
	ok := false
	switch s.ID.Proto {
	case klips.ProtoTun:
		ok = s.Comp == 0
	case klips.ProtoComp:
		ok = s.Comp != 0 && s.Enc == 0 && s.Auth == 0
	case klips.ProtoAH:
		ok = s.Comp == 0 && s.Enc == 0 && len(s.EncKey) == 0 && s.Auth != 0 && authKnown && fits(auth.KeyBits, s.AuthKey)
	case klips.ProtoESP:
		if s.Comp == 0 && !encKnown {
			return syscall.EPROTO
		}
		ok = s.Comp == 0 && s.Enc != 0 && fits(enc.KeyBits, s.EncKey) &&
			(s.Auth == 0 || authKnown && fits(auth.KeyBits, s.AuthKey)) &&
			!(s.Enc == alg.Null && s.Auth == 0) && !(enc.AEAD && (s.Auth != 0 || len(s.AuthKey) != 0))
	}
	if !ok {
		return syscall.EINVAL
	}
	return 0
}

// DeleteSA removes an SA and its group.
func (m *Model) DeleteSA(_ context.Context, id klips.SAID) error {
	if m.find(id) == nil {
		return refuse("delete SA", id.String(), syscall.ESRCH)
	}
	for _, g := range m.group(id) {
		m.sas = slices.DeleteFunc(m.sas, func(s klips.SA) bool { return s.ID == g })
	}
	return nil
}

// GetSA returns one SA.
func (m *Model) GetSA(_ context.Context, id klips.SAID) (klips.SA, error) {
	if m.find(id) == nil {
		return klips.SA{}, refuse("get SA", id.String(), syscall.ESRCH)
	}
	s := *m.find(id)
	s.Next = m.chain(id)[1:]
	for _, other := range m.sas {
		if m.keys[id] != "" && m.keys[other.ID] == m.keys[id] && other.ID != id && len(s.SameKey) < 4 {
			s.SameKey = append(s.SameKey, other.ID)
		}
	}
	return s, nil
}

// ClearSAs removes all SAs.
func (m *Model) ClearSAs(context.Context) error {
	m.sas = nil
	return nil
}

// SAs lists the SAs.
func (m *Model) SAs(ctx context.Context) ([]klips.SA, error) {
	var l []klips.SA
	for _, s := range slices.Backward(m.sas) {
		s, _ = m.GetSA(ctx, s.ID)
		l = append(l, s)
	}
	klips.SortSAs(l)
	return l, nil
}

// Group links SAs pair by pair and takes all back if one cannot be linked.
func (m *Model) Group(_ context.Context, ids []klips.SAID) error {
	if len(ids) < 2 || len(ids) > klips.MaxGroup {
		return refuse("group", "", syscall.EINVAL)
	}
	saved := slices.Clone(m.sas)
	for i := 1; i < len(ids); i++ {
		if err := m.link(ids[i-1], ids[i]); err != nil {
			m.sas = saved
			return err
		}
	}
	return nil
}

func (m *Model) link(inner, outer klips.SAID) error {
	for _, id := range []klips.SAID{inner, outer} {
		if m.find(id) == nil {
			return refuse("group", id.String(), syscall.ENOENT)
		}
	}
	a, b := inner, outer
	if m.find(outer).Dir == klips.Inbound {
		a, b = b, a
	}
	switch {
	case len(m.find(a).Next) > 0:
		return refuse("group", a.String(), syscall.EEXIST)
	case m.before(b) != nil || slices.Contains(m.chain(b), a):
		return refuse("group", b.String(), syscall.EEXIST)
	}
	m.find(a).Next = []klips.SAID{b}
	return nil
}

// Ungroup takes a group apart.
func (m *Model) Ungroup(_ context.Context, id klips.SAID) error {
	if m.find(id) == nil {
		return refuse("ungroup", id.String(), syscall.ENOENT)
	}
	for _, g := range m.group(id) {
		m.find(g).Next = nil
	}
	return nil
}

// SetEroute adds or replaces an eroute or sets an inbound policy.
func (m *Model) SetEroute(ctx context.Context, e klips.Eroute, op klips.ErouteOp) error {
	switch op {
	case klips.ErouteAddIn, klips.ErouteReplaceIn:
		return m.setPolicy(e)
	case klips.ErouteReplace:
		_ = m.DeleteEroute(ctx, e.Selector)
	}
	if slices.ContainsFunc(m.routes, func(r klips.Eroute) bool { return r.Selector == e.Selector }) {
		return refuse("add eroute", e.Selector.String(), syscall.EEXIST)
	}
	e.Packets = 0
	m.routes = append(m.routes, e)
	return nil
}

func (m *Model) setPolicy(e klips.Eroute) error {
	if m.find(e.ID) == nil {
		return refuse("set inbound policy", e.ID.String(), syscall.ENOENT)
	}
	var owner *klips.SA // the first tun SA, or the last SA
	for _, id := range m.chain(e.ID) {
		if owner = m.find(id); id.Proto == klips.ProtoTun {
			break
		}
	}
	if owner.ID.Proto != klips.ProtoTun && owner.ID.Dst.Is6() != e.Is6() {
		return refuse("set inbound policy", e.ID.String(), syscall.EINVAL)
	}
	owner.Policy = &e.Selector
	owner.Flags |= klips.FlagInFlow
	return nil
}

// DeleteEroute removes an eroute.
func (m *Model) DeleteEroute(_ context.Context, s klips.Selector) error {
	n := len(m.routes)
	m.routes = slices.DeleteFunc(m.routes, func(r klips.Eroute) bool { return r.Selector == s })
	if len(m.routes) == n {
		return refuse("delete eroute", s.String(), syscall.ENOENT)
	}
	return nil
}

// ClearEroutes removes all eroutes.
func (m *Model) ClearEroutes(context.Context) error {
	m.routes = nil
	return nil
}

// Eroutes lists the eroutes.
func (m *Model) Eroutes(context.Context) ([]klips.Eroute, error) {
	l := slices.Clone(m.routes)
	slices.SortFunc(l, klips.CompareEroutes)
	return l, nil
}

// Count adds packets to the counter of an eroute.
func (m *Model) Count(s klips.Selector, packets uint64) {
	for i := range m.routes {
		if m.routes[i].Selector == s {
			m.routes[i].Packets += packets
		}
	}
}

// Match returns the eroute that takes a packet, nil if none does: of those that
// match and are not refined by another that matches, the one with the greatest
// key.
func (m *Model) Match(src, dst netip.Addr, proto uint8, sport, dport uint16) *klips.Eroute {
	var all []klips.Eroute
	for _, r := range m.routes {
		if r.Src.Contains(src) && r.Dst.Contains(dst) && (r.Proto == 0 || r.Proto == proto) &&
			(r.SrcPort == 0 || r.SrcPort == sport) && (r.DstPort == 0 || r.DstPort == dport) {
			all = append(all, r)
		}
	}
	var best *klips.Eroute
	for i := range all {
		refined := slices.ContainsFunc(all, func(o klips.Eroute) bool { return refines(o.Selector, all[i].Selector) })
		if !refined && (best == nil || greater(all[i].Selector, best.Selector)) {
			best = &all[i]
		}
	}
	return best
}

// refines reports whether a's mask has all bits of b's, and more; both match
// the same packet.
func refines(a, b klips.Selector) bool {
	ge := func(x, y uint16) bool { return y == 0 || x != 0 }
	return a != b && a.Src.Bits() >= b.Src.Bits() && a.Dst.Bits() >= b.Dst.Bits() &&
		ge(uint16(a.Proto), uint16(b.Proto)) && ge(a.SrcPort, b.SrcPort) && ge(a.DstPort, b.DstPort)
}

func greater(a, b klips.Selector) bool {
	return cmp.Or(a.Src.Addr().Compare(b.Src.Addr()), a.Dst.Addr().Compare(b.Dst.Addr()),
		cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.SrcPort, b.SrcPort), cmp.Compare(a.DstPort, b.DstPort),
		cmp.Compare(a.Src.Bits()+a.Dst.Bits(), b.Src.Bits()+b.Dst.Bits())) > 0
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
	d := m.device(virtual)
	if d == nil {
		return refuse("attach", virtual, syscall.ENODEV)
	}
	name, _, _ := strings.Cut(physical, ":")
	mtu, ok := m.Physical(name)
	if !ok {
		return refuse("attach", physical, syscall.ENXIO)
	}
	if d.Physical != "" {
		return refuse("attach", virtual, syscall.EBUSY)
	}
	d.Physical, d.MTU, d.AttMTU = name, klips.DeviceMTU, mtu
	return nil
}

// Detach unbinds a device.
func (m *Model) Detach(_ context.Context, virtual string) error {
	d := m.device(virtual)
	if d == nil || d.Physical == "" {
		return refuse("detach", virtual, syscall.ENODEV)
	}
	d.Physical, d.AttMTU = "", 0
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
	slices.SortFunc(m.devices, func(a, b klips.Device) int {
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
			l[i].PhysMTU, _ = m.Physical(l[i].Physical)
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

// SameTables compares the tables of two stacks, but for what time and chance
// make different, and returns what differs in words, "" for nothing.
func SameTables(ctx context.Context, want, got klips.Stack) (string, error) {
	w, err := tables(ctx, want)
	if err != nil {
		return "", err
	}
	g, err := tables(ctx, got)
	if err != nil {
		return "", err
	}
	return diff(w, g), nil
}

// A table is all tables of a stack.
type table struct {
	SAs     []klips.SA
	Eroutes []klips.Eroute
	Devices []klips.Device
	Debug   klips.Debug
}

func tables(ctx context.Context, s klips.Stack) (t table, err error) {
	if t.SAs, err = s.SAs(ctx); err != nil {
		return t, err
	}
	for i := range t.SAs {
		sa := &t.SAs[i]
		clear(sa.IV)
		sa.Ref, sa.Idle = 0, 0
		sa.Life.AddTime.Count, sa.Life.UseTime.Count = 0, 0
		sa.Idle = time.Duration(0)
	}
	if t.Eroutes, err = s.Eroutes(ctx); err != nil {
		return t, err
	}
	for i := range t.Eroutes {
		t.Eroutes[i].PID = 0
	}
	if t.Devices, err = s.Devices(ctx); err != nil {
		return t, err
	}
	t.Debug, err = s.Debug(ctx)
	return t, err
}
