package manual

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips"
)

const (
	errnoSRCH    = syscall.ESRCH
	errnoNETDOWN = syscall.ENETDOWN
)

// A model is a stack that stores SAs, groups, eroutes, inbound policies and the
// physical devices of virtual ones. Like old kernels it refuses to replace an eroute
// that does not exist.
// Request number failAt, from 1, fails.
type model struct {
	clitest.Stack
	groups           [][]klips.SAID // a single SA is a group of one
	eroutes          map[klips.Selector]klips.SAID
	also             map[klips.Selector][]klips.SAID // further SAs of eroutes
	policies         map[klips.SAID]klips.Selector
	specs            map[klips.SAID]klips.SASpec
	devices          map[string]string
	guards           map[klips.Selector]klips.Guard
	noFilter         bool             // the kernel has no packet filter
	lacks            klips.Capability // a missing ability; CapAEAD: none is missing
	requests, failAt int
	added            int      // SAs
	listed           int      // how often the SAs were listed
	used             []string // SAIDs of SAs that have received
}

func newModel() *model {
	return &model{
		Stack:   clitest.Stack{Local: netip.MustParseAddr("10.0.0.1")},
		eroutes: map[klips.Selector]klips.SAID{}, policies: map[klips.SAID]klips.Selector{},
		specs: map[klips.SAID]klips.SASpec{}, devices: map[string]string{"ipsec0": "eth0"},
		guards: map[klips.Selector]klips.Guard{},
	}
}

func (m *model) String() string {
	var lines []string
	for _, g := range m.groups {
		var ids []string
		for _, id := range g {
			ids = append(ids, id.String())
		}
		lines = append(lines, strings.Join(ids, " ")+"\n")
	}
	for id, s := range m.policies {
		lines = append(lines, fmt.Sprintf("policy %v %v %v\n", id, s.Src, s.Dst))
	}
	for name, physical := range m.devices {
		if name != "ipsec0" || physical != "eth0" {
			lines = append(lines, fmt.Sprintf("%s -> %s\n", name, physical))
		}
	}
	for s, id := range m.eroutes {
		lines = append(lines, fmt.Sprintf("eroute %v %v %v\n", s.Src, s.Dst, id))
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// guarded lists the guards.
func (m *model) guarded() string {
	var lines []string
	for s, g := range m.guards {
		line := fmt.Sprintf("guard %v %v", s.Src, s.Dst)
		if g.In {
			line += " and back"
		}
		if g.Peer.IsValid() {
			line += " but " + g.Peer.String()
		}
		lines = append(lines, line+"\n")
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

func (m *model) Guard(_ context.Context, g klips.Guard) (was bool, err error) {
	if m.noFilter {
		return false, &klips.OpError{Op: "guard", Err: syscall.EOPNOTSUPP}
	}
	if err := m.fail(); err != nil {
		return false, err
	}
	_, was = m.guards[g.Selector]
	m.guards[g.Selector] = g
	return was, nil
}

func (m *model) Unguard(_ context.Context, s klips.Selector) error {
	if _, ok := m.guards[s]; !ok {
		return &klips.OpError{Op: "unguard", Err: syscall.ENOENT}
	}
	delete(m.guards, s)
	return nil
}

func (m *model) Has(c klips.Capability) bool { return c == klips.CapAEAD || c != m.lacks }

func (m *model) fail() error {
	if m.requests++; m.requests == m.failAt {
		return &klips.OpError{Op: "test", Err: syscall.ENOMEM}
	}
	return nil
}

func (m *model) find(id klips.SAID) int {
	return slices.IndexFunc(m.groups, func(g []klips.SAID) bool { return slices.Contains(g, id) })
}

// ReadGroup returns a group. SAs to the left host are inbound.
func (m *model) ReadGroup(_ context.Context, id klips.SAID) (group []klips.SA, err error) {
	i := m.find(id)
	if i < 0 {
		return nil, &klips.OpError{Op: "get SA", Err: syscall.ESRCH}
	}
	for _, id := range m.groups[i] {
		sa := klips.SA{ID: id, Transform: m.specs[id].Transform, Window: m.specs[id].Window}
		if id.Dst == netip.MustParseAddr("10.0.0.1") || id.Dst == netip.MustParseAddr("2001:db8::1") {
			sa.Dir = klips.Inbound
		}
		group = append(group, sa)
	}
	if group[0].Dir == klips.Inbound {
		slices.Reverse(group)
	}
	return group, nil
}

func (m *model) AddSA(_ context.Context, s *klips.SASpec) error {
	if err := m.fail(); err != nil {
		return err
	}
	if m.find(s.ID) >= 0 {
		return &klips.OpError{Op: "add SA", Err: syscall.EEXIST}
	}
	m.added++
	m.groups = append(m.groups, []klips.SAID{s.ID})
	m.specs[s.ID] = klips.SASpec{ID: s.ID, Src: s.Src, Transform: s.Transform, Window: s.Window, CopyTOS: s.CopyTOS}
	return nil
}

func (m *model) DeleteSA(_ context.Context, id klips.SAID) error {
	if err := m.fail(); err != nil {
		return err
	}
	i := m.find(id)
	if i < 0 {
		return &klips.OpError{Op: "delete SA", Err: syscall.ESRCH}
	}
	for _, member := range m.groups[i] {
		delete(m.policies, member)
	}
	m.groups = slices.Delete(m.groups, i, i+1)
	return nil
}

func (m *model) GetSA(_ context.Context, id klips.SAID) (klips.SA, error) {
	if m.find(id) < 0 {
		return klips.SA{}, &klips.OpError{Op: "get SA", Err: syscall.ESRCH}
	}
	return klips.SA{ID: id}, nil
}

func (m *model) SAs(context.Context) (list []klips.SA, err error) {
	m.listed++
	for _, g := range m.groups {
		for i, id := range g {
			sa := klips.SA{ID: id, Src: m.specs[id].Src, Transform: m.specs[id].Transform, Next: g[i+1:], Used: slices.Contains(m.used, id.String())}
			if p, ok := m.policies[id]; ok {
				sa.Policy = &klips.InboundPolicy{Src: p.Src, Dst: p.Dst}
			}
			list = append(list, sa)
		}
	}
	return list, nil
}

func (m *model) Devices(context.Context) (list []klips.Device, err error) {
	for _, name := range slices.Sorted(maps.Keys(m.devices)) {
		list = append(list, klips.Device{Name: name, Physical: m.devices[name]})
	}
	return list, nil
}

func (m *model) CreateDevice(_ context.Context, name string) error {
	if err := m.fail(); err != nil {
		return err
	}
	m.devices[name] = ""
	return nil
}

func (m *model) DeleteDevice(_ context.Context, name string) error {
	delete(m.devices, name)
	return nil
}

func (m *model) Attach(_ context.Context, virtual, physical string) error {
	if err := m.fail(); err != nil {
		return err
	}
	if _, ok := m.devices[virtual]; !ok {
		return &klips.OpError{Op: "attach", Err: syscall.ENODEV}
	}
	m.devices[virtual] = physical
	return nil
}

func (m *model) Detach(_ context.Context, virtual string) error {
	m.devices[virtual] = ""
	return nil
}

func (m *model) Group(_ context.Context, ids []klips.SAID) error {
	if err := m.fail(); err != nil {
		return err
	}
	for _, id := range ids {
		i := m.find(id)
		if i < 0 {
			return &klips.OpError{Op: "group", Err: syscall.ENOENT}
		}
		m.groups = slices.Delete(m.groups, i, i+1)
	}
	m.groups = append(m.groups, slices.Clone(ids))
	return nil
}

func (m *model) Ungroup(_ context.Context, id klips.SAID) error {
	i := m.find(id)
	if i < 0 {
		return &klips.OpError{Op: "ungroup", Err: syscall.ENOENT}
	}
	g := m.groups[i]
	m.groups = slices.Delete(m.groups, i, i+1)
	for _, id := range g {
		m.groups = append(m.groups, []klips.SAID{id})
	}
	return nil
}

func (m *model) SetEroute(_ context.Context, e klips.Eroute, op klips.ErouteOp) error {
	if err := m.fail(); err != nil {
		return err
	}
	_, there := m.eroutes[e.Selector]
	switch i := m.find(e.ID); {
	case op == klips.ErouteAddIn && (i < 0 || e.ID.Proto != klips.ProtoTun && !m.Has(klips.CapTransportPolicy)):
		return &klips.OpError{Op: "set policy", Err: syscall.ENOENT}
	case op == klips.ErouteAddIn:
		m.policies[e.ID] = e.Selector
		return nil
	case op == klips.ErouteAdd && there:
		return &klips.OpError{Op: "set eroute", Err: syscall.EEXIST}
	case op == klips.ErouteReplace && !there:
		return &klips.OpError{Op: "set eroute", Err: syscall.ENOENT}
	}
	m.eroutes[e.Selector] = e.ID
	return nil
}

func (m *model) DeleteEroute(_ context.Context, s klips.Selector) error {
	if err := m.fail(); err != nil {
		return err
	}
	if _, there := m.eroutes[s]; !there {
		return &klips.OpError{Op: "delete eroute", Err: syscall.ENOENT}
	}
	delete(m.eroutes, s)
	return nil
}

func (m *model) Eroutes(context.Context) ([]klips.Eroute, error) {
	var list []klips.Eroute
	for s, id := range m.eroutes {
		list = append(list, klips.Eroute{Selector: s, ID: id, Also: m.also[s]})
	}
	return list, nil
}
