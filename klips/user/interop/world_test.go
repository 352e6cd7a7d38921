package interop

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/serial"
	"github.com/klips-go/ipsec/klips/user/engine"
)

// Two gateways, and the networks behind them.
var (
	gateways = [2][2]netip.Addr{
		{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
		{netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::2")},
	}
	inner = [2][2][]netip.Addr{
		{{netip.MustParseAddr("10.1.0.5"), netip.MustParseAddr("10.1.9.9")}, {netip.MustParseAddr("2001:db8:a::5"), netip.MustParseAddr("2001:db8:a:1::5")}},
		{{netip.MustParseAddr("10.2.0.5"), netip.MustParseAddr("10.2.9.9")}, {netip.MustParseAddr("2001:db8:b::5"), netip.MustParseAddr("2001:db8:b:1::5")}},
	}
	nets = [2][2][]netip.Prefix{
		{prefixes("10.1.0.0/16", "10.1.0.0/24", "10.1.0.5/32", "192.0.2.1/32", "0.0.0.0/0"), prefixes("2001:db8:a::/48", "2001:db8:a::5/128", "2001:db8::1/128", "::/0")},
		{prefixes("10.2.0.0/16", "10.2.0.0/24", "10.2.0.5/32", "192.0.2.2/32", "0.0.0.0/0"), prefixes("2001:db8:b::/48", "2001:db8:b::5/128", "2001:db8::2/128", "::/0")},
	}
)

func prefixes(texts ...string) (l []netip.Prefix) {
	for _, s := range texts {
		l = append(l, netip.MustParsePrefix(s))
	}
	return l
}

// A member is the transform of an SA in a group.
type member struct {
	proto klips.Proto
	klips.Transform
}

var (
	memberTun  = member{proto: klips.ProtoTun}
	memberComp = member{klips.ProtoComp, klips.Transform{Comp: alg.Deflate}}
	memberAES  = member{klips.ProtoESP, klips.Transform{Enc: alg.AES, Auth: alg.SHA1}}
	member3DES = member{klips.ProtoESP, klips.Transform{Enc: alg.TripleDES, Auth: alg.MD5}}
	memberGCM  = member{klips.ProtoESP, klips.Transform{Enc: alg.AESGCM}}
	memberNull = member{klips.ProtoESP, klips.Transform{Enc: alg.Null, Auth: alg.SHA256}}
	memberAH   = member{klips.ProtoAH, klips.Transform{Auth: alg.SHA256}}
)

// kinds are kinds of groups, inner to outer. All are authenticated.
var kinds = [][]member{
	{memberTun, memberAES}, {memberTun, memberGCM}, {memberTun, member3DES, memberAH}, {memberTun, memberComp, memberAES}, {memberTun, memberAH},
	{memberTun, memberNull}, {memberAES}, {memberGCM, memberAH}, {memberAH}, {memberComp, member3DES}, {memberTun, memberComp, memberGCM, memberAH},
}

// A group is an SA group, in one direction.
type group struct {
	kind   []member
	ids    []klips.SAID
	src    netip.Addr
	natt   klips.NATT
	policy *klips.Selector // inbound
}

func (g *group) tunnel() bool { return g.kind[0].proto == klips.ProtoTun }

// secret reports whether the group encrypts.
func (g *group) secret() bool {
	return slices.ContainsFunc(g.kind, func(m member) bool { return m.proto == klips.ProtoESP && m.Enc != alg.Null })
}

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

func choose[T any](c *chooser, of ...T) T { return of[int(c.byte())%len(of)] }

// A world is two gateways whose tables mirror each other, and a model of each.
type world struct {
	net     *klipstest.Network
	hosts   [2]*klipstest.Host
	engines [2]*engine.Engine
	models  [2]*klipstest.Model
	seen    int // packets on the network
	number  uint32
	groups  map[klips.SAID]*group // by first SA
}

func newWorld(tb testing.TB) *world {
	w := &world{net: new(klipstest.Network)}
	for i := range w.hosts {
		w.hosts[i] = klipstest.NewHost(w.net, gateways[i][:], "eth0")
		e, err := engine.New(w.hosts[i], engine.Config{Version: "test"})
		if err != nil {
			tb.Fatal(err)
		}
		w.engines[i] = e
		ctx := context.Background()
		if err := errors.Join(e.CreateDevice(ctx, "ipsec0"), e.Attach(ctx, "ipsec0", "eth0")); err != nil {
			tb.Fatal(err)
		}
	}
	return w
}

func (w *world) close() {
	for _, e := range w.engines {
		e.Close()
	}
}

// both changes an engine and its model, which must return the same.
func (w *world) both(t *testing.T, side int, what any, f func(serial.Doer) error) bool {
	t.Helper()
	want, got := f(w.models[side]), f(w.engines[side])
	var e syscall.Errno
	errors.As(want, &e)
	if (want == nil) != (got == nil) || want != nil && !errors.Is(got, e) {
		t.Fatalf("%v: the engine's answer is %v, the model's %v", what, got, want)
	}
	return got == nil
}

// fill clears the tables and makes new objects.
func (w *world) fill(t *testing.T, c *chooser) {
	t.Helper()
	ctx := t.Context()
	w.groups = map[klips.SAID]*group{}
	for side := range 2 {
		local := func(a netip.Addr) bool { return slices.Contains(gateways[side][:], a) }
		w.models[side] = klipstest.NewModel(local, nil)
		if err := errors.Join(w.engines[side].ClearSAs(ctx), w.engines[side].ClearEroutes(ctx)); err != nil {
			t.Fatal(err)
		}
	}
	var targets [][2]klips.SAID // by the side that sends
	for _, spi := range []klips.SPI{klips.SPIPass, klips.SPIDrop, klips.SPIReject, klips.SPITrap, klips.SPIHold} {
		targets = append(targets, [2]klips.SAID{klips.Magic(spi), klips.Magic(spi)})
	}
	for n := range 1 + c.byte()%4 {
		kind, family, natt := choose(c, kinds...), int(c.byte()%2), klips.NATT{}
		if last := kind[len(kind)-1]; c.byte()%4 == 0 && last.proto == klips.ProtoESP && family == 0 {
			natt = klips.NATT{Type: klips.NATTNonESP, SPort: 4500, DPort: 4500}
		}
		var ids [2]klips.SAID
		for from := range 2 {
			g := w.group(t, kind, from, family, klips.SPI(0x1000+16*int(n)), natt)
			ids[from] = g.ids[0]
		}
		targets = append(targets, ids, ids)
	}
	for range c.byte() % 6 {
		family, id := int(c.byte()%2), choose(c, targets...)
		a, b := choose(c, nets[0][family]...), choose(c, nets[1][family]...)
		var proto uint8
		var port uint16
		if c.byte()%3 == 0 {
			proto = choose(c, uint8(17), 6, 253)
			if proto != 253 {
				port = choose(c, uint16(0), 7)
			}
		}
		narrow := c.byte()%4 == 0 // by an inbound policy
		for from := range 2 {
			s := klips.Selector{Src: a, Dst: b, Proto: proto, DstPort: port}
			if from == 1 {
				s.Src, s.Dst = b, a
			}
			w.both(t, from, s, func(k serial.Doer) error {
				return k.SetEroute(ctx, klips.Eroute{Selector: s, ID: id[from]}, klips.ErouteReplace)
			})
			if g := w.groups[id[from]]; g != nil && narrow && w.both(t, 1-from, s, func(k serial.Doer) error {
				return k.SetEroute(ctx, klips.Eroute{Selector: s, ID: id[from]}, klips.ErouteAddIn)
			}) {
				g.policy = &s
			}
		}
	}
}

// group makes a group from one side to the other, on both sides.
func (w *world) group(t *testing.T, kind []member, from, family int, spi klips.SPI, natt klips.NATT) *group {
	t.Helper()
	ctx := t.Context()
	g := &group{kind: kind, src: gateways[from][family], natt: natt}
	for i, m := range kind {
		s := &klips.SASpec{ID: klips.SAID{Dst: gateways[1-from][family], SPI: spi + klips.SPI(i), Proto: m.proto}, Src: g.src, Transform: m.Transform}
		if m.proto == klips.ProtoESP || m.proto == klips.ProtoAH {
			enc, _ := m.Enc.Info()
			auth, _ := m.Auth.Info()
			s.Window = 64
			s.AuthKey = bytes.Repeat([]byte{byte(spi), byte(i), byte(from)}, 64)[:auth.KeyBits[0]/8]
			s.EncKey = bytes.Repeat([]byte{byte(i), byte(spi), byte(from), 0x35, 0x9c}, 64)[:enc.KeyBits[0]/8]
			if m.proto == klips.ProtoESP {
				s.NATT = natt
			}
		}
		g.ids = append(g.ids, s.ID)
		for side := range 2 {
			if !w.both(t, side, s.ID, func(k serial.Doer) error { return k.AddSA(ctx, s) }) {
				t.Fatalf("%v cannot be made", s.ID)
			}
		}
	}
	if len(g.ids) > 1 {
		for side := range 2 {
			if !w.both(t, side, g.ids, func(k serial.Doer) error { return k.Group(ctx, g.ids) }) {
				t.Fatalf("%v cannot be grouped", g.ids)
			}
		}
	}
	w.groups[g.ids[0]] = g
	return g
}
