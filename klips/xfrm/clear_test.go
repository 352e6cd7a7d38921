package xfrm

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// A flowPacket has the fields of an inbound packet that the kernel compares. The type
// and code of an ICMP message are in the fields of the ports.
type flowPacket struct {
	src, dst     netip.Addr
	proto        uint8
	sport, dport uint16
}

// taken reports whether a kernel accepts a packet that has come out of states, the
// outermost first, by the rules of its function __xfrm_policy_check.
func (o *objects) taken(dir nlxfrm.Dir, p flowPacket, path ...*nlxfrm.State) bool {
	var ifID, packetMark uint32
	tunnel := func(s *nlxfrm.State) bool { return s.Mode == nlxfrm.ModeTunnel }
	for _, s := range path {
		if !p.meets(s.Selector) {
			return false
		}
		ifID, packetMark = s.IfID, packetMark&^s.OutputMark.Mask|s.OutputMark.Value
	}
	var best *nlxfrm.Policy
	for _, k := range o.order {
		q := o.policies[k]
		if q.Dir == dir && q.IfID == ifID && packetMark&q.Mark.Mask == q.Mark.Value && p.meets(q.Selector) && (best == nil || q.Priority < best.Priority) {
			best = q
		}
	}
	switch {
	case best == nil:
		return !slices.ContainsFunc(path, tunnel)
	case best.Action == nlxfrm.Block:
		return false
	}
	at := 0
	for _, t := range slices.Backward(best.Templates) {
		next := -1
		if t.Optional {
			if next = at; t.Mode == nlxfrm.ModeTransport {
				continue
			}
		}
		for i := at; i < len(path); i++ {
			s := path[i]
			if s.Proto == t.Proto && (t.SPI == 0 || s.SPI == t.SPI) && s.ReqID == t.ReqID && s.Mode == t.Mode {
				next = i + 1
				break
			}
			if tunnel(s) {
				break
			}
		}
		if next < 0 {
			return false
		}
		at = next
	}
	return !slices.ContainsFunc(path[at:], tunnel)
}

func (p flowPacket) meets(s nlxfrm.Selector) bool {
	in := func(net netip.Prefix, a netip.Addr) bool { return !net.IsValid() || net.Contains(a) }
	return in(s.Src, p.src) && in(s.Dst, p.dst) && (s.Proto == 0 || s.Proto == p.proto) &&
		(p.sport^s.SrcPort)&s.SrcPortMask == 0 && (p.dport^s.DstPort)&s.DstPortMask == 0
}

// inboundWorld makes inbound groups in tables: "tun esp", "esp ah" and so on. Each gets
// the policy, if there is one. It returns the states of each group, the outermost
// first.
func inboundWorld(t *testing.T, dst netip.Addr, ifID uint32, policy *klips.Selector, groups ...string) (o *objects, states [][]*nlxfrm.State) {
	t.Helper()
	tb := newTables()
	tb.local, tb.interfaces = map[netip.Addr]int{dst: 2}, func() bool { return true }
	tb.devices = []device{{number: 0, ifID: ifID, physical: 2}}
	src := dst.Prev()
	var all [][]klips.SAID
	for g, kind := range groups {
		var ids []klips.SAID
		for i, name := range strings.Fields(kind) {
			spec := &klips.SASpec{ID: klips.SAID{Dst: dst, SPI: klips.SPI(0x1000 + 16*g + i)}, Src: src}
			switch name {
			case "tun":
				spec.ID.Proto = klips.ProtoTun
			case "esp", "natt":
				spec.ID.Proto, spec.Enc, spec.EncKey = klips.ProtoESP, alg.AESGCM, make([]byte, 20)
				if name == "natt" {
					spec.NATT = klips.NATT{Type: klips.NATTNonESP, SPort: 4500, DPort: 4500}
				}
			case "ah":
				spec.ID.Proto, spec.Auth, spec.AuthKey = klips.ProtoAH, alg.SHA1, make([]byte, 20)
			case "comp":
				spec.ID.Proto, spec.Comp = klips.ProtoComp, alg.Deflate
			}
			s, err := newSA(spec, time.Now())
			if err == nil {
				err = tb.addSA(s)
			}
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, spec.ID)
		}
		if len(ids) > 1 {
			if err := tb.group(ids); err != nil {
				t.Fatal(err)
			}
		}
		if policy != nil {
			if err := tb.setEroute(klips.Eroute{Selector: *policy, ID: ids[len(ids)-1]}, klips.ErouteAddIn); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, ids)
	}
	o, err := tb.compile()
	if err != nil {
		t.Fatal(err)
	}
	for _, ids := range all {
		var path []*nlxfrm.State
		for _, id := range slices.Backward(ids) {
			if s := o.states[nlxfrm.ID{Dst: id.Dst, SPI: uint32(id.SPI), Proto: uint8(id.Proto)}]; s != nil {
				path = append(path, s)
			}
		}
		states = append(states, path)
	}
	return o, states
}

// TestClearRefused: with an inbound policy, packets of its flow are accepted only from
// the group, of whatever kind it is; without one, clear packets are accepted.
func TestClearRefused(t *testing.T) {
	ends := map[bool][2]netip.Addr{
		false: {here, netip.MustParseAddr("192.0.2.9")},
		true:  {netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("2001:db8::9")},
	}
	for _, c := range []struct {
		groups []string
		ifID   uint32
	}{
		{[]string{"esp"}, 1}, {[]string{"ah"}, 1}, {[]string{"esp ah"}, 1}, {[]string{"comp esp"}, 1},
		{[]string{"esp", "esp"}, 1}, {[]string{"esp", "ah"}, 1}, {[]string{"ah", "esp ah", "comp esp"}, 1},
		{[]string{"tun esp"}, 1}, {[]string{"tun ah", "tun esp ah"}, 1}, {[]string{"tun esp", "esp"}, 1},
		{[]string{"tun esp"}, 0}, {[]string{"tun ah", "tun esp ah"}, 0}, {[]string{"tun esp", "esp", "ah"}, 0},
	} {
		for six, a := range ends {
			dst, other := a[0], a[1]
			src := dst.Prev()
			for _, policy := range []*klips.Selector{nil, {Src: host(src), Dst: host(dst)}, {Src: host(src), Dst: host(dst), Proto: 17, SrcPort: 1000, DstPort: 7}} {
				o, states := inboundWorld(t, dst, c.ifID, policy, c.groups...)
				check := func(what string, p flowPacket, want bool, path ...*nlxfrm.State) {
					t.Helper()
					for _, dir := range inboundDirs {
						if got := o.taken(dir, p, path...); got != want {
							t.Errorf("%q (interface ID %d), policy %v: %s, %v: taken %v, want %v", c.groups, c.ifID, policy, what, dir, got, want)
						}
					}
				}
				udp := flowPacket{src, dst, unix.IPPROTO_UDP, 1000, 7}
				port := flowPacket{src, dst, unix.IPPROTO_UDP, 1000, 9}
				check("in clear", udp, policy == nil)
				check("in clear, another port", port, policy == nil || policy.DstPort != 0)
				check("in clear from elsewhere", flowPacket{other, dst, unix.IPPROTO_UDP, 1000, 7}, true)
				for i, path := range states {
					check("out of "+c.groups[i], udp, true, path...)
					check("out of "+c.groups[i]+", another port", port, policy == nil || policy.DstPort == 0, path...)
					check("out of "+c.groups[i]+", from elsewhere", flowPacket{other, dst, unix.IPPROTO_UDP, 1000, 7}, policy == nil, path...)
					if strings.HasPrefix(c.groups[i], "comp") {
						check("uncompressed, out of "+c.groups[i], udp, true, path[:len(path)-1]...)
						check("uncompressed, out of "+c.groups[i]+", another port", port, policy == nil || policy.DstPort == 0, path[:len(path)-1]...)
					}
					if len(path) > 1 && policy != nil {
						check("out of the outermost SA of "+c.groups[i]+" alone", udp, strings.HasPrefix(c.groups[i], "comp"), path[0])
					}
				}
				icmp := uint8(unix.IPPROTO_ICMP)
				types := map[uint16]bool{0: false, 3: true, 5: false, 8: false, 11: true, 12: true, 13: false}
				if six {
					icmp = unix.IPPROTO_ICMPV6
					types = map[uint16]bool{1: true, 2: true, 3: true, 4: true, 127: true, 128: false, 129: false, 132: false, 133: true, 134: true, 135: true, 136: true, 137: true, 138: false}
				}
				for typ, exempt := range types {
					p := flowPacket{src, dst, icmp, typ, 0}
					if got, want := o.taken(nlxfrm.DirIn, p), exempt || policy == nil || policy.Proto != 0; got != want {
						t.Errorf("%q (interface ID %d), policy %v: ICMP type %d in clear: taken %v, want %v", c.groups, c.ifID, policy, typ, got, want)
					}
					if got, want := o.taken(nlxfrm.DirFwd, p), policy == nil || policy.Proto != 0; got != want {
						t.Errorf("%q (interface ID %d), policy %v: ICMP type %d in clear to be forwarded: taken %v, want %v", c.groups, c.ifID, policy, typ, got, want)
					}
					for i, path := range states {
						check("ICMP out of "+c.groups[i], p, policy == nil || policy.Proto == 0, path...)
					}
				}
			}
		}
	}
}

// UDP-encapsulated ESP is decapsulated only after a policy has accepted the UDP packet.
func TestClearEncapsulated(t *testing.T) {
	for _, kind := range []string{"natt", "tun natt"} {
		o, states := inboundWorld(t, here, 1, &klips.Selector{Src: host(there), Dst: host(here)}, kind)
		for port, want := range map[uint16]bool{4500: true, 4501: false} {
			if got := o.taken(nlxfrm.DirIn, flowPacket{there, here, unix.IPPROTO_UDP, 1024, port}); got != want {
				t.Errorf("%s: UDP to port %d in clear: taken %v, want %v", kind, port, got, want)
			}
		}
		if !o.taken(nlxfrm.DirIn, flowPacket{there, here, unix.IPPROTO_TCP, 1024, 80}, states[0]...) {
			t.Errorf("%s: what comes out is not taken", kind)
		}
	}
}

// When the far side is everything, the near side can still reach itself, and DHCP the
// host. When the far side is a part of the near side, nothing is let in.
func TestClearEverything(t *testing.T) {
	net, far := netip.MustParsePrefix("10.1.0.0/16"), netip.MustParseAddr("10.9.0.1")
	near, other := netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("10.1.7.7")
	for _, c := range []struct {
		policy     klips.Selector
		fromInside bool
	}{
		{klips.Selector{Src: any4, Dst: net}, true},
		{klips.Selector{Src: net, Dst: net}, false},
		{klips.Selector{Src: netip.MustParsePrefix("10.1.7.0/24"), Dst: net}, false},
	} {
		o, _ := inboundWorld(t, here, 1, &c.policy, "tun esp")
		for _, dir := range inboundDirs {
			if got := o.taken(dir, flowPacket{other, near, unix.IPPROTO_TCP, 1024, 22}); got != c.fromInside {
				t.Errorf("policy %v: from %v, %v: taken %v, want %v", c.policy, other, dir, got, c.fromInside)
			}
			if got := o.taken(dir, flowPacket{far, near, unix.IPPROTO_TCP, 1024, 22}); got != !c.policy.Src.Contains(far) {
				t.Errorf("policy %v: from %v, %v: taken %v", c.policy, far, dir, got)
			}
		}
		if !o.taken(nlxfrm.DirIn, flowPacket{other, near, unix.IPPROTO_UDP, 67, 68}) {
			t.Errorf("policy %v: DHCP is refused", c.policy)
		}
	}
}

// TestOwnPolicyInTunnel: an SA that got its own policy before it was put into a tunnel
// keeps it, but a state can have only one.
func TestOwnPolicyInTunnel(t *testing.T) {
	tb := newTables()
	tb.local, tb.interfaces = map[netip.Addr]int{here: 2}, func() bool { return true }
	ids := []klips.SAID{{Dst: here, SPI: 0x100, Proto: klips.ProtoTun}, {Dst: here, SPI: 0x101, Proto: klips.ProtoAH}}
	for i, spec := range []*klips.SASpec{{}, {Transform: klips.Transform{Auth: alg.SHA1}, AuthKey: make([]byte, 20)}} {
		spec.ID, spec.Src = ids[i], there
		s, err := newSA(spec, time.Now())
		if err == nil {
			err = tb.addSA(s)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	admit := func(id klips.SAID, port uint16) error {
		return tb.setEroute(klips.Eroute{ID: id, Selector: klips.Selector{Src: any4, Dst: any4, Proto: 17, DstPort: port}}, klips.ErouteAddIn)
	}
	if err := errors.Join(admit(ids[1], 7), tb.group(ids)); err != nil {
		t.Fatal(err)
	}
	o, err := tb.compile()
	if s := o.states[nlxfrm.ID{Dst: here, SPI: 0x101, Proto: 51}]; err != nil || s.Selector.DstPort != 7 || s.Mode != nlxfrm.ModeTunnel {
		t.Errorf("state %+v, %v", s, err)
	}
	if err := admit(ids[0], 7); err != nil {
		t.Fatal(err)
	}
	if _, err := tb.compile(); err != nil {
		t.Errorf("the same policy for the tunnel: %v", err)
	}
	if err := admit(ids[0], 9); err != nil {
		t.Fatal(err)
	}
	if _, err := tb.compile(); !errors.Is(err, syscall.EOPNOTSUPP) {
		t.Errorf("another policy for the tunnel: %v", err)
	}
}
