package xfrm

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/rtnl"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// A chooser takes choices from a fuzzer's input, zeros after its end.
type chooser []byte

func (c *chooser) byte() byte {
	if len(*c) == 0 {
		return 0
	}
	b := (*c)[0]
	*c = (*c)[1:]
	return b
}

// choose returns one of some values.
func choose[T any](c *chooser, of ...T) T { return of[int(c.byte())%len(of)] }

var (
	here6  = netip.MustParseAddr("2001:db8::1")
	there6 = netip.MustParseAddr("2001:db8::2")
)

func (c *chooser) addr() netip.Addr {
	return choose(c, here, there, here6, there6, netip.IPv4Unspecified(), netip.IPv6Unspecified(), netip.Addr{})
}

func (c *chooser) prefix() netip.Prefix {
	return choose(c, any4, any6, netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.1.0.0/16"), host(here), host(there6), netip.Prefix{},
		netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("0.0.1.0/32"), netip.PrefixFrom(there, 1))
}

func (c *chooser) said() klips.SAID {
	return klips.SAID{
		Proto: choose(c, klips.ProtoTun, klips.ProtoESP, klips.ProtoAH, klips.ProtoComp),
		SPI:   choose(c, klips.SPI(0x100), 0x101, 0x102),
		Dst:   choose(c, here, there, there6),
	}
}

func (c *chooser) selector() klips.Selector {
	s := klips.Selector{Src: choose(c, any4, netip.MustParsePrefix("10.1.0.0/16")), Dst: choose(c, any4, netip.MustParsePrefix("10.2.0.0/16"), netip.MustParsePrefix("10.2.3.4/32"))}
	if c.byte()%4 == 0 {
		s.Src, s.Dst = any6, netip.MustParsePrefix("2001:db8::/32")
	}
	if s.Proto = choose(c, uint8(0), 6); s.Proto != 0 {
		s.DstPort = choose(c, uint16(0), 80)
	}
	return s
}

// command changes tables as a command does; a refused command changes nothing.
func (c *chooser) command(t *tables) {
	switch c.byte() % 8 {
	case 0, 1, 2:
		s := &klips.SASpec{ID: c.said(), Src: choose(c, here, netip.IPv4Unspecified())}
		if s.ID.Dst == here {
			s.Src = there
		} else if s.ID.Dst == there6 {
			s.Src = here6
		}
		switch s.ID.Proto {
		case klips.ProtoESP:
			s.Enc, s.EncKey, s.Auth, s.AuthKey = alg.AES, make([]byte, 16), alg.SHA256, make([]byte, 32)
			s.ESN, s.Window = c.byte()%2 != 0, 64
		case klips.ProtoAH:
			s.Auth, s.AuthKey = alg.SHA256Trunc, make([]byte, 32)
		case klips.ProtoComp:
			s.Comp = alg.Deflate
		}
		if x, err := newSA(s, time.Unix(1e9, 0)); err == nil {
			_ = t.addSA(x)
		}
	case 3, 4:
		_ = t.group([]klips.SAID{c.said(), c.said(), c.said()}[:2+c.byte()%2])
	case 5:
		_ = t.setEroute(klips.Eroute{Selector: c.selector(), ID: choose(c, c.said(), klips.Magic(klips.SPITrap), klips.Magic(klips.SPIDrop))}, klips.ErouteReplace)
	case 6:
		_ = t.setEroute(klips.Eroute{Selector: c.selector(), ID: c.said()}, klips.ErouteAddIn)
	case 7:
		_ = t.ungroup(c.said())
	}
}

// numberedDump is the kernel's dump of our objects, with those of other programs.
func numberedDump(o *objects, others *dump, links []rtnl.Link) *dump {
	d := &dump{links: links, addrs: []rtnl.Addr{{Index: 2, Prefix: host(here)}}}
	last := uint32(0)
	for _, p := range others.policies {
		last = max(last, p.Index&^7)
	}
	for _, k := range o.order {
		p := *o.policies[k]
		if p.Index == 0 {
			last += 8
			p.Index = last
		}
		d.policies = append(d.policies, &p)
	}
	if o.census != nil {
		last += 8
		p := *o.census
		p.Index = last
		d.policies = append(d.policies, &p)
	}
	byID := func(a, b nlxfrm.ID) int { return strings.Compare(a.String(), b.String()) }
	for _, id := range slices.SortedFunc(maps.Keys(o.states), byID) {
		d.states = append(d.states, o.states[id])
	}
	d.policies = append(d.policies, others.policies...)
	d.states = append(d.states, others.states...)
	return d
}

// legal removes what a kernel cannot have: a second state with the same ID and mark, or
// a second policy with the same key. It gives policies with the same index different
// ones.
func legal(d *dump) {
	type name struct {
		nlxfrm.ID
		nlxfrm.Mark
	}
	states, keys, numbers := map[name]bool{}, map[nlxfrm.PolicyKey]bool{}, map[uint32]bool{}
	d.states = slices.DeleteFunc(d.states, func(s *nlxfrm.State) bool {
		n := name{s.ID, s.Mark}
		twice := states[n]
		states[n] = true
		return twice
	})
	d.policies = slices.DeleteFunc(d.policies, func(p *nlxfrm.Policy) bool {
		twice := keys[p.Key()]
		keys[p.Key()] = true
		return twice
	})
	last := uint32(1 << 16)
	for i, p := range d.policies {
		if numbers[p.Index>>3] {
			c := *p
			last += 8
			c.Index, d.policies[i] = last, &c
		}
		numbers[d.policies[i].Index>>3] = true
	}
}

// edit changes one object of a dump, ours or another program's.
func (c *chooser) edit(d *dump) {
	i := int(c.byte())
	kind := c.byte()
	if kind%4 == 3 || len(d.policies) == 0 {
		if len(d.states) == 0 {
			return
		}
		i %= len(d.states)
		s := *d.states[i]
		c.editState(&s)
		if kind < 0x80 {
			d.states[i] = &s
		} else {
			d.states = append(d.states, &s)
		}
		return
	}
	i %= len(d.policies)
	switch p := *d.policies[i]; {
	case kind >= 0xf0:
		d.policies = append(d.policies[:i], d.policies[i+1:]...)
	case kind < 0x80:
		c.editPolicy(&p)
		d.policies[i] = &p
	default:
		c.editPolicy(&p)
		d.policies = append(d.policies, &p)
	}
}

func (c *chooser) editState(s *nlxfrm.State) {
	switch c.byte() % 12 {
	case 0:
		s.Dst = c.addr()
	case 1:
		s.Src = c.addr()
	case 2:
		s.SPI = uint32(c.byte()) << (c.byte() % 25)
	case 3:
		s.Proto = choose(c, uint8(4), 50, 51, 108, 0, 43)
	case 4:
		s.Mode = nlxfrm.Mode(c.byte())
	case 5:
		s.ReqID = uint32(c.byte())
	case 6:
		s.Mark = nlxfrm.Mark{Value: uint32(c.byte()), Mask: 0xff}
	case 7:
		s.IfID = uint32(c.byte() % 3)
	case 8:
		s.Crypt, s.Auth, s.AEAD, s.Comp = nil, nil, nil, choose(c, "", "deflate", "lzs")
	case 9:
		s.ReplayESN = choose(c, nil, &nlxfrm.ReplayESN{Window: uint32(c.byte())}, &nlxfrm.ReplayESN{Window: 64, Bitmap: []uint32{uint32(c.byte())}})
	case 10:
		s.Selector = nlxfrm.Selector{Src: c.prefix(), Dst: c.prefix(), Family: uint16(c.byte() % 11)}
	case 11:
		s.Family, s.Flags, s.Offload = uint16(c.byte()), c.byte(), &nlxfrm.Offload{IfIndex: int32(c.byte())}
	}
}

func (c *chooser) editPolicy(p *nlxfrm.Policy) {
	switch c.byte() % 14 {
	case 0:
		p.Selector.Dst = c.prefix()
	case 1:
		p.Selector.Src = c.prefix()
	case 2:
		p.Selector.Family = choose(c, nlxfrm.FamilyUnspec, nlxfrm.FamilyIPv4, nlxfrm.FamilyIPv6, 77)
	case 3:
		p.Selector.Proto, p.Selector.DstPort, p.Selector.DstPortMask = c.byte(), uint16(c.byte()), uint16(c.byte())<<8
	case 4:
		p.Dir = nlxfrm.Dir(c.byte() % 4)
	case 5:
		p.Action = nlxfrm.Action(c.byte() % 3)
	case 6:
		p.Priority = uint32(c.byte()) << (c.byte() % 25)
	case 7:
		p.Index = uint32(c.byte()) << 3
	case 8:
		p.Mark = nlxfrm.Mark{Value: uint32(c.byte()), Mask: uint32(c.byte())}
	case 9:
		p.IfID = choose(c, uint32(0), 1, 2, parkSAs, parkRoutes)
	case 10:
		p.Limits.HardPackets = choose(c, uint64(0), mark, mark|isInbound, mark|servesBoth, mark+1<<32)
	case 11:
		p.Limits.SoftPackets, p.Limits.SoftBytes = uint64(c.byte())<<32|uint64(c.byte()), uint64(c.byte())<<(c.byte()%57)
	case 12:
		p.Templates = nil
	case 13:
		if len(p.Templates) == 0 {
			p.Templates = make([]nlxfrm.Template, 1+c.byte()%2)
		}
		p.Templates = append([]nlxfrm.Template(nil), p.Templates...)
		t := &p.Templates[int(c.byte())%len(p.Templates)]
		*t = nlxfrm.Template{ID: nlxfrm.ID{Dst: c.addr(), SPI: 0x100 + uint32(c.byte()%3), Proto: 50}, Src: c.addr(),
			Family: choose(c, t.Family, nlxfrm.FamilyIPv4, nlxfrm.FamilyIPv6, 0), ReqID: choose(c, t.ReqID, 4, 50, 51, 108, 61),
			AuthAlgs: uint32(c.byte() % 4), CryptAlgs: uint32(c.byte())<<8 | uint32(c.byte())}
	}
}

// todo lists the steps of a plan, one a line.
func (p *plan) todo() (l []string) {
	for _, w := range p.rewrites {
		l = append(l, fmt.Sprintf("make again %v: %+v, %+v", w.new.ID, *w.old, *w.new))
	}
	if p.counted != nil {
		l = append(l, fmt.Sprintf("census %+v", p.counted.object))
	}
	for _, s := range slices.Concat(p.records, p.in, p.states, p.out, p.unlinks, p.removals) {
		l = append(l, fmt.Sprintf("%T %+v", s.object, s.object))
	}
	return l
}

// FuzzDump makes tables with commands and dumps them as a kernel does, together with
// objects of other programs. It then edits the dump and loads it again. An unedited
// dump needs no change; an edited one needs none after its plan has been carried out;
// and objects of other programs stay.
func FuzzDump(f *testing.F) {
	f.Add([]byte{4, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 3, 0, 0, 1, 1, 0, 1, 5, 0, 0, 1, 0, 0, 0, 0, 1, 0})
	f.Add([]byte{0x83, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, 6, 0, 1, 0, 1, 0, 0, 0, 2, 0, 1, 13, 3, 2, 0, 0})
	f.Add([]byte{2, 0, 1, 0, 1, 1, 5, 1, 1, 1, 1, 2, 1, 0, 1, 4, 3, 0x90, 9, 3, 0, 0x81, 10, 0, 0, 1, 4, 2})
	// A state that the kernel has made by itself.
	f.Add([]byte("\x83\x00\x00\x00\x01\x00\xb7\xb7\xb7\x00\x00\x01\x00\x00\x003333\x00\x03\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x02\x01\x00\x00\x00\x02\x00\x01\r\x03\x02\x00\x00"))
	f.Fuzz(func(t *testing.T, input []byte) {
		if len(input) > 128 {
			t.Skip("longer than it need be")
		}
		c := chooser(input)
		var links []rtnl.Link
		n := c.byte()
		if n&0x80 != 0 {
			links = []rtnl.Link{{Index: 2, Name: "eth0"}, {Index: 3, Name: "ipsec0", Kind: kindXfrm, IfID: 1, Parent: 2}}
		}
		have := newObjects()
		for range n & 0x0f {
			tb, had := load(numberedDump(have, &dump{}, links))
			c.command(tb)
			o, err := tb.compile()
			if err != nil {
				continue // the kernel cannot do this; nothing has changed
			}
			if _, err := diff(had, o, &dump{}); err != nil {
				t.Fatalf("alone in the kernel: %v", err)
			}
			have = o
			tb, had = load(numberedDump(have, &dump{}, links))
			if o, err = tb.compile(); err != nil {
				t.Fatalf("a second time: %v", err)
			}
			if p, err := diff(had, o, &dump{}); err != nil || len(p.todo()) != 0 {
				t.Fatalf("a second time there is still to do: %q, %v", p.todo(), err)
			}
		}
		d := numberedDump(have, &dump{}, links)
		if len(d.policies) == 0 {
			d.policies = []*nlxfrm.Policy{{Selector: normal(nlxfrm.Selector{Src: any4, Dst: any4}), Dir: nlxfrm.DirOut, Index: 8}}
		}
		for len(c) > 0 {
			c.edit(d)
		}
		legal(d)
		tb, had := load(d)
		for _, s := range tb.sas {
			s.list(time.Unix(2e9, 0))
			tb.offloadOf(s)
		}
		states, policies := foreign(d, had)
		want, err := tb.compile()
		if err != nil {
			return // the kernel cannot do this; nothing is done
		}
		p, err := diff(had, want, d)
		if err != nil {
			return // another program's policy is in the way
		}
		for _, s := range slices.Concat(p.unlinks, p.removals) {
			switch o := s.object.(type) {
			case *nlxfrm.Policy:
				if !ours(o) {
					t.Fatalf("would remove a policy that others made: %+v", o)
				}
			case *nlxfrm.State:
				for _, s := range states {
					if s == o {
						t.Fatalf("would remove a state that others made: %+v", o)
					}
				}
			}
		}
		// The plan has been carried out, so nothing is left to do. The states that the kernel
		// makes by itself are there, too.
		rest := slices.DeleteFunc(slices.Clone(d.states), func(s *nlxfrm.State) bool { return had.states[s.ID] == s })
		tb, had = load(numberedDump(want, &dump{states: rest, policies: policies}, links))
		again, err := tb.compile()
		if err != nil {
			t.Fatalf("after the change: %v", err)
		}
		if p, err := diff(had, again, d); err != nil || len(p.todo()) != 0 {
			t.Fatalf("after the change there is still to do: %q, %v", p.todo(), err)
		}
	})
}
