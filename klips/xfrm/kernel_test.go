package xfrm

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"syscall"

	"github.com/klips-go/ipsec/klips/guard"
	"github.com/klips-go/ipsec/klips/rtnl"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// A memory is the tables of a kernel, and counts how they are read.
type memory struct {
	states   map[stateKey]*nlxfrm.State
	policies map[nlxfrm.PolicyKey]*nlxfrm.Policy
	last     uint32 // index of a policy
	links    []rtnl.Link

	dumps, lookups int
	// fail, if not nil, refuses changes.
	fail func(nlxfrm.Change) error
}

type stateKey struct {
	nlxfrm.ID
	nlxfrm.Mark
}

func newMemory() *memory {
	return &memory{states: map[stateKey]*nlxfrm.State{}, policies: map[nlxfrm.PolicyKey]*nlxfrm.Policy{}, links: attachedLinks}
}

// The devices of a host with ipsec0 attached, of either kind.
var (
	attachedLinks = []rtnl.Link{{Index: 2, Name: "eth0"}, {Index: 3, Name: "ipsec0", Kind: kindXfrm, IfID: 1, Parent: 2}}
	dummyLinks    = []rtnl.Link{{Index: 2, Name: "eth0"}, {Index: 3, Name: "ipsec0", Kind: kindDummy, Alias: "eth0"}}
)

// stack returns a stack that reads all objects only if there are no more than few.
func (m *memory) stack(few int) *Stack {
	s := &Stack{
		xfrm: m, few: few, interfaces: func() bool { return true }, processors: func() int { return 3 },
		changeFilter: func(func(*guard.Rules) error) error { return guard.ErrNone },
		host: func(context.Context) ([]rtnl.Link, []rtnl.Addr, error) {
			return m.links, []rtnl.Addr{{Index: 2, Prefix: host(here)}, {Index: 2, Prefix: host(here6)}}, nil
		},
	}
	return s
}

func (m *memory) clone() *memory {
	c := *m
	c.states, c.policies = maps.Clone(m.states), maps.Clone(m.policies)
	return &c
}

func (m *memory) Close() error { return nil }

// copyState returns a copy with its own keys, since readers clear them.
func copyState(s *nlxfrm.State) *nlxfrm.State {
	c := *s
	if s.AEAD != nil {
		a := *s.AEAD
		a.Key = bytes.Clone(a.Key)
		c.AEAD = &a
	}
	if s.Auth != nil {
		a := *s.Auth
		a.Key = bytes.Clone(a.Key)
		c.Auth = &a
	}
	if s.Crypt != nil {
		a := *s.Crypt
		a.Key = bytes.Clone(a.Key)
		c.Crypt = &a
	}
	return &c
}

func copyPolicy(p *nlxfrm.Policy) *nlxfrm.Policy {
	c := *p
	c.Templates = slices.Clone(p.Templates)
	return &c
}

func (m *memory) GetState(_ context.Context, id nlxfrm.ID, mark nlxfrm.Mark) (*nlxfrm.State, error) {
	m.lookups++
	s := m.states[stateKey{id, mark}]
	if s == nil {
		return nil, syscall.ESRCH
	}
	return copyState(s), nil
}

func (m *memory) GetAE(_ context.Context, id nlxfrm.ID, mark nlxfrm.Mark) (*nlxfrm.AE, error) {
	m.lookups++
	s := m.states[stateKey{id, mark}]
	if s == nil {
		return nil, syscall.ESRCH
	}
	return &nlxfrm.AE{ID: id, Mark: mark, Replay: s.Replay, ReplayESN: s.ReplayESN, Current: &s.Current}, nil
}

func (m *memory) GetPolicy(_ context.Context, k nlxfrm.PolicyKey) (*nlxfrm.Policy, error) {
	m.lookups++
	p := m.policies[k]
	if p == nil {
		return nil, syscall.ENOENT
	}
	return copyPolicy(p), nil
}

func (m *memory) DumpStates(context.Context, uint8) (l []*nlxfrm.State, err error) {
	m.dumps++
	for _, s := range m.states {
		l = append(l, copyState(s))
	}
	return l, nil
}

func (m *memory) DumpPolicies(context.Context) (l []*nlxfrm.Policy, err error) {
	m.dumps++
	for _, p := range m.policies {
		l = append(l, copyPolicy(p))
	}
	return l, nil
}

func (m *memory) CountStates(context.Context) (nlxfrm.Count, error) {
	return nlxfrm.Count(len(m.states)), nil
}

func (m *memory) CountPolicies(context.Context) (nlxfrm.Count, error) {
	return nlxfrm.Count(len(m.policies)), nil
}

func (m *memory) Batch(_ context.Context, rs []nlxfrm.Request) ([]error, error) {
	errs := make([]error, len(rs))
	for i, r := range rs {
		c, err := r.Change()
		if err == nil && m.fail != nil {
			err = m.fail(c)
		}
		if err == nil {
			err = m.do(c)
		}
		errs[i] = err
	}
	return errs, nil
}

// do carries out a change as a kernel does.
func (m *memory) do(c nlxfrm.Change) error {
	switch {
	case c.State != nil:
		k := stateKey{c.State.ID, c.State.Mark}
		if c.State.Processor != 0 && c.State.SADir != nlxfrm.SAOut || c.State.SADir == nlxfrm.SAOut && windowOf(c.State) != 0 {
			return syscall.EINVAL
		}
		if c.Add == (m.states[k] != nil) {
			if c.Add {
				return syscall.EEXIST
			}
			return syscall.ESRCH
		}
		m.states[k] = c.State
	case c.Policy != nil:
		k := c.Policy.Key()
		old := m.policies[k]
		switch {
		case old != nil && c.Add:
			return syscall.EEXIST
		case old != nil:
			c.Policy.Index = old.Index
		default:
			m.last += 8
			c.Policy.Index = m.last | uint32(c.Policy.Dir)
		}
		m.policies[k] = c.Policy
	case c.Key != nil:
		if m.policies[*c.Key] == nil {
			return syscall.ENOENT
		}
		delete(m.policies, *c.Key)
	default:
		k := stateKey{c.ID, c.Mark}
		if m.states[k] == nil {
			return syscall.ESRCH
		}
		delete(m.states, k)
	}
	return nil
}
