package mtu

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/commands/internal/made"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/commands/internal/routes"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/serial"
)

var (
	addr   = netip.MustParseAddr
	prefix = netip.MustParsePrefix
)

// A fakeNetwork routes 10.2.0.0/16, fd02::/16 and 192.0.2.3 into ipsec0, all else by eth0.
type fakeNetwork struct {
	mtus  map[string]int
	route int // MTU of the route to the peer
	none  bool
}

func (n *fakeNetwork) way(dst netip.Addr) (routes.Way, bool, error) {
	src := addr("10.1.0.1")
	if dst.Is6() {
		src = addr("fd01::1")
	}
	switch {
	case n.none:
		return routes.Way{}, false, nil
	case prefix("10.2.0.0/16").Contains(dst), prefix("fd02::/16").Contains(dst), dst == addr("192.0.2.3"):
		return routes.Way{Device: "ipsec0", Src: src}, true, nil
	}
	return routes.Way{Device: "eth0", Src: addr("192.0.2.1"), MTU: n.route}, true, nil
}

func (n *fakeNetwork) routeMTU(_ netip.Addr, device string) (int, error) {
	if device != "eth0" {
		return 0, unix.ENODEV
	}
	return n.route, nil
}

func (n *fakeNetwork) mtu(device string) (int, error) {
	if mtu, ok := n.mtus[device]; ok {
		return mtu, nil
	}
	return 0, unix.ENODEV
}

func (n *fakeNetwork) addresses() ([]netip.Addr, error) {
	return []netip.Addr{addr("192.0.2.1"), addr("10.1.0.1"), addr("fd01::1")}, nil
}

func fake(virtual int) *fakeNetwork {
	return &fakeNetwork{mtus: map[string]int{"eth0": 1500, "ipsec0": virtual}}
}

// A stack is a stack with another name, whose outbound ESP SAs have learned a path MTU.
type stack struct {
	klips.Stack
	name    string
	pathMTU int
}

func (s stack) Info() klips.Info {
	i := s.Stack.Info()
	i.Name = s.name
	return i
}

func (s stack) Snapshot(ctx context.Context, w klips.Want) (*klips.Snapshot, error) {
	t, err := s.Stack.Snapshot(ctx, w)
	if err == nil {
		for i := range t.SAs {
			if t.SAs[i].ID.Proto == klips.ProtoESP {
				t.SAs[i].PathMTU = s.pathMTU
			}
		}
	}
	return t, err
}

// model returns a stack with a tunnel for IPv4, one for IPv6 in UDP, a group in transport
// mode, an inbound SA and an eroute to %drop.
func model(t *testing.T) *klipstest.Model {
	m := klipstest.NewModel(func(a netip.Addr) bool { return a == addr("192.0.2.1") },
		func(name string) (int, bool) { return 1500, name == "eth0" })
	peer, third := addr("192.0.2.2"), addr("192.0.2.3")
	id := func(p klips.Proto, spi klips.SPI, dst netip.Addr) klips.SAID {
		return klips.SAID{Proto: p, SPI: spi, Dst: dst}
	}
	esp := func(i klips.SAID, natt klips.NATTType) *klips.SASpec {
		return &klips.SASpec{ID: i, Transform: klips.Transform{Enc: alg.AES, Auth: alg.SHA1}, EncKey: make([]byte, 16), AuthKey: make([]byte, 20), NATT: klips.NATT{Type: natt}}
	}
	ctx := t.Context()
	for i, err := range []error{
		m.AddSA(ctx, &klips.SASpec{ID: id(klips.ProtoTun, 0x100, peer)}),
		m.AddSA(ctx, esp(id(klips.ProtoESP, 0x101, peer), 0)),
		m.Group(ctx, []klips.SAID{id(klips.ProtoTun, 0x100, peer), id(klips.ProtoESP, 0x101, peer)}),
		m.AddSA(ctx, &klips.SASpec{ID: id(klips.ProtoTun, 0x102, peer)}),
		m.AddSA(ctx, esp(id(klips.ProtoESP, 0x103, peer), klips.NATTNonESP)),
		m.Group(ctx, []klips.SAID{id(klips.ProtoTun, 0x102, peer), id(klips.ProtoESP, 0x103, peer)}),
		m.AddSA(ctx, esp(id(klips.ProtoESP, 0x104, third), 0)),
		m.AddSA(ctx, &klips.SASpec{ID: id(klips.ProtoAH, 0x105, third), Transform: klips.Transform{Auth: alg.SHA1}, AuthKey: make([]byte, 20)}),
		m.Group(ctx, []klips.SAID{id(klips.ProtoESP, 0x104, third), id(klips.ProtoAH, 0x105, third)}),
		m.AddSA(ctx, esp(id(klips.ProtoESP, 0x106, addr("192.0.2.1")), 0)),
		m.SetEroute(ctx, klips.Eroute{Selector: klips.Selector{Src: prefix("10.1.0.0/16"), Dst: prefix("10.2.0.0/16")}, ID: id(klips.ProtoTun, 0x100, peer)}, klips.ErouteAdd),
		m.SetEroute(ctx, klips.Eroute{Selector: klips.Selector{Src: prefix("fd01::/16"), Dst: prefix("fd02::/16")}, ID: id(klips.ProtoTun, 0x102, peer)}, klips.ErouteAdd),
		m.SetEroute(ctx, klips.Eroute{Selector: klips.Selector{Src: prefix("192.0.2.1/32"), Dst: prefix("192.0.2.3/32")}, ID: id(klips.ProtoESP, 0x104, third)}, klips.ErouteAdd),
		m.SetEroute(ctx, klips.Eroute{Selector: klips.Selector{Src: prefix("10.1.0.0/16"), Dst: prefix("10.3.0.0/16")}, ID: klips.Magic(klips.SPIDrop)}, klips.ErouteAdd),
		m.SetEroute(ctx, klips.Eroute{Selector: klips.Selector{Src: prefix("10.1.0.0/16"), Dst: prefix("10.4.0.0/16")}, ID: id(klips.ProtoTun, 0x100, peer)}, klips.ErouteAdd),
		m.SetEroute(ctx, klips.Eroute{Selector: klips.Selector{Src: prefix("10.9.0.0/16"), Dst: prefix("10.5.0.0/16")}, ID: id(klips.ProtoTun, 0x100, peer)}, klips.ErouteAdd),
		m.Attach(ctx, "ipsec0", "eth0"),
	} {
		if err != nil {
			t.Fatal(i, err)
		}
	}
	return m
}

func run(t *testing.T, n *fakeNetwork, e echoer, s stack, args ...string) clitest.Result {
	t.Helper()
	s.Stack = serial.New(model(t))
	if s.name == "" {
		s.name = "user"
	}
	rundir := t.TempDir()
	dir, err := made.Make(rundir)
	if err == nil {
		end := func(p string) made.End { return made.End{Subnet: prefix(p)} }
		err = dir.Put(made.Connection{Conn: "net", Config: "/etc/ipsec.conf", Form: made.Form{Interface: "ipsec0", Local: 1,
			Ends: [2]made.End{end("10.2.0.0/16"), end("10.1.0.0/16")}}})
		dir.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	w := clitest.World{Wrap: func(*clitest.Stack) klips.Stack { return s }, Environ: map[string]string{"IPSEC_RUNDIR": rundir}}
	return clitest.Run(app(n, e), w, args...)
}

// TestGolden: the arithmetic of tunnels and of transport mode, by address, by connection and by
// SAID, with and without contradictions.
func TestGolden(t *testing.T) {
	for name, c := range map[string]struct {
		n    *fakeNetwork
		s    stack
		args []string
	}{
		"fits":       {fake(1438), stack{}, []string{"10.2.0.9"}},
		"connection": {fake(1438), stack{}, []string{"net"}},
		"small":      {fake(1280), stack{}, []string{"esp0x101@192.0.2.2"}},
		"large":      {fake(1500), stack{}, []string{"10.2.0.9", "--src", "10.1.7.7", "--len", "1500"}},
		"path":       {&fakeNetwork{mtus: map[string]int{"eth0": 1500, "ipsec0": 1330}, route: 1450}, stack{pathMTU: 1300}, []string{"fd02::9"}},
		"transport":  {fake(1500), stack{}, []string{"--len=100", "--src=192.0.2.1", "192.0.2.3"}},
		"own":        {fake(1438), stack{}, []string{"10.4.0.9"}},
		"others":     {fake(1438), stack{}, []string{"10.5.0.9"}},
		"kernel":     {fake(16260), stack{name: "xfrm"}, []string{"10.2.0.9"}},
	} {
		r := run(t, c.n, nil, c.s, c.args...)
		if r.Status != 0 || r.Err != "" {
			t.Errorf("%s: status %d, %s", name, r.Status, r.Err)
		}
		clitest.Golden(t, name+".txt", r.Out)
		r = run(t, c.n, nil, c.s, append(c.args, "--json")...)
		clitest.GoldenJSON(t, "mtu", name, r.Out)
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		n      *fakeNetwork
		args   string
		status int
		want   string
	}{
		{fake(1438), "", cli.ExitUsage, "DST is missing"},
		{fake(1438), "10.2.0.1 10.2.0.2", cli.ExitUsage, "one destination at a time"},
		{fake(1438), "10.2.0.1 --len 7", cli.ExitUsage, "--len"},
		{fake(1438), "fd02::1 --len 39", cli.ExitFailed, "a packet of IPv6 has 40 bytes at least"},
		{fake(1438), "10.2.0.1 --src fd01::1", cli.ExitUsage, "one is IPv4 and one is IPv6"},
		{fake(1438), "net --src 10.1.0.1", cli.ExitUsage, "--src goes with an address"},
		{fake(1438), "net --probe", cli.ExitUsage, "--probe needs an address"},
		{fake(1438), "nets", cli.ExitFailed, "nets is no connection that was brought up, no address and no SAID"},
		{fake(1438), "172.16.0.1", cli.ExitFailed, "no eroute selects packets from 192.0.2.1 to 172.16.0.1"},
		{fake(1438), "10.2.0.1 --src 10.9.0.1", cli.ExitFailed, "no eroute selects packets from 10.9.0.1 to 10.2.0.1"},
		{fake(1438), "10.3.0.1 --src 10.1.0.1", cli.ExitFailed, "which protects nothing"},
		{fake(1438), "10.5.0.1 --probe", cli.ExitFailed, "no address of this host is in the source network of the eroute 10.9.0.0/16 -> 10.5.0.0/16"},
		{fake(1438), "esp0x106@192.0.2.1", cli.ExitFailed, "is inbound"},
		{fake(1438), "esp0x999@192.0.2.2", cli.ExitFailed, "esp0x999@192.0.2.2"},
		{&fakeNetwork{none: true, mtus: map[string]int{}}, "esp0x101@192.0.2.2", cli.ExitFailed, "there is no route to 192.0.2.2"},
	} {
		r := run(t, c.n, nil, stack{}, strings.Fields(c.args)...)
		if r.Status != c.status || r.Out != "" || !strings.Contains(r.Err, c.want) {
			t.Errorf("mtu %s: status %d, %q, %q, want %d, %q", c.args, r.Status, r.Out, r.Err, c.status, c.want)
		}
	}
}

// A pathEcho is a path that carries packets of up to carries bytes.
type pathEcho struct {
	carries int
	lossy   int // each length is lost so often before it is answered
	sizes   map[int]int
	err     error
	closed  int
}

func (p *pathEcho) echo(_ context.Context, size int) (answer, error) {
	if p.sizes == nil {
		p.sizes = map[int]int{}
	}
	p.sizes[size]++
	if p.err != nil {
		return answer{}, p.err
	}
	if size > p.carries || p.sizes[size] <= p.lossy {
		return answer{reason: silence}, nil
	}
	return answer{ok: true}, nil
}

func (p *pathEcho) close() { p.closed++ }

// TestProbe: the longest packet that is answered is found, whatever the path carries, in few
// requests; if the arithmetic is right, in one of each length around the limit.
func TestProbe(t *testing.T) {
	for carries := 20; carries <= 2000; carries++ {
		for _, lossy := range []int{0, tries - 1} {
			p := &pathEcho{carries: carries, lossy: lossy}
			got, err := search(t.Context(), p, 28, 1438, 1500)
			want := output.MTUProbe{LargestAnsweredBytes: carries, SmallestLostBytes: carries + 1}
			switch {
			case carries < 28:
				want = output.MTUProbe{SmallestLostBytes: 28}
			case carries >= 1500:
				want = output.MTUProbe{LargestAnsweredBytes: 1500}
			}
			if want.Reason = got.Reason; err != nil || *got != want || (got.Reason == "") != (want.SmallestLostBytes == 0) {
				t.Fatalf("a path that carries %d: %+v, %v, want %+v", carries, got, err, want)
			}
			if n := len(p.sizes); n > 14 || carries == 1438 && n > 3 {
				t.Fatalf("a path that carries %d needs %d lengths", carries, n)
			}
		}
	}
	broken := errors.New("broken")
	if _, err := search(t.Context(), &pathEcho{err: broken}, 28, 1438, 1500); err != broken {
		t.Errorf("search = %v, want %v", err, broken)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := search(ctx, &pathEcho{carries: 1500}, 28, 1438, 1500); !errors.Is(err, context.Canceled) {
		t.Errorf("search = %v after an interrupt", err)
	}
}

// TestProbed: the result of a probe, and the advice that follows from it, are printed.
func TestProbed(t *testing.T) {
	for name, carries := range map[string]int{"probe-right": 1438, "probe-less": 1300, "probe-none": 0, "probe-all": 9000} {
		p := &pathEcho{carries: carries}
		r := run(t, fake(1438), p, stack{}, "--probe", "10.2.0.9")
		if r.Status != 0 || p.closed != 1 {
			t.Errorf("%s: status %d, %s, closed %d", name, r.Status, r.Err, p.closed)
		}
		clitest.Golden(t, name+".txt", r.Out[strings.Index(r.Out, "the longest"):])
		r = run(t, fake(1438), &pathEcho{carries: carries}, stack{}, "--probe", "10.2.0.9", "--json")
		clitest.GoldenJSON(t, "mtu", name, r.Out)
	}
}

// extended returns a struct sock_extended_err with the address of the host that reports it.
func extended(errno unix.Errno, info uint32, from netip.Addr) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(errno))
	b = append(b, 2, 3, 4, 0)
	b = binary.NativeEndian.AppendUint32(b, info)
	b = binary.NativeEndian.AppendUint32(b, 0)
	switch {
	case from.Is4():
		b = binary.NativeEndian.AppendUint16(b, unix.AF_INET)
		b = append(b, 0, 0)
	case from.Is6():
		b = binary.NativeEndian.AppendUint16(b, unix.AF_INET6)
		b = append(b, 0, 0, 0, 0, 0, 0)
	}
	return append(b, from.AsSlice()...)
}

// FuzzErrorWords: the kernel's description of an error may end anywhere.
func FuzzErrorWords(f *testing.F) {
	f.Add(extended(unix.EMSGSIZE, 1300, addr("192.0.2.7")))
	f.Add(extended(unix.EMSGSIZE, 1300, netip.Addr{}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if text := errorWords(b); (text == "") != (len(b) < 16) {
			t.Errorf("errorWords(%x) = %q", b, text)
		}
	})
}

func TestErrorWords(t *testing.T) {
	for _, c := range []struct {
		b    []byte
		want string
	}{
		{extended(unix.EMSGSIZE, 1300, addr("192.0.2.7")), "192.0.2.7 reports that it is too long, and that 1300 bytes fit"},
		{extended(unix.EMSGSIZE, 1300, addr("2001:db8::7")), "2001:db8::7 reports that it is too long, and that 1300 bytes fit"},
		{extended(unix.EMSGSIZE, 1300, netip.Addr{}), "this host reports that it is too long, and that 1300 bytes fit"},
		{extended(unix.EHOSTUNREACH, 0, addr("192.0.2.7")), "192.0.2.7 reports: no route to host"},
		{make([]byte, 15), ""},
	} {
		if got := errorWords(c.b); got != c.want {
			t.Errorf("errorWords(%x) = %q, want %q", c.b, got, c.want)
		}
	}
}

// TestEcho: a request has the length that was asked for, and only its own answer counts.
func TestEcho(t *testing.T) {
	for dst, header := range map[string]int{"192.0.2.2": 20, "2001:db8::2": 40} {
		s := &echoSocket{dst: addr(dst), id: 0x1234, seq: 7}
		request := s.request(100)
		if len(request) != 100-header {
			t.Errorf("%s: a request of %d bytes in a packet of 100", dst, len(request))
		}
		answer := bytes.Clone(request)
		if answer[0] = echoReply6; header == 20 {
			answer[0] = echoReply
			answer = append([]byte{0: 0x45, 19: 0}, answer...)
		}
		if !s.answers(answer, request) {
			t.Errorf("%s: the answer does not count", dst)
		}
		for name, change := range map[string]func(b []byte) []byte{
			"shorter":  func(b []byte) []byte { return b[:len(b)-1] },
			"empty":    func(b []byte) []byte { return nil },
			"another":  func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
			"its type": func(b []byte) []byte { b[len(b)-len(request)] = 3; return b },
			"earlier":  func(b []byte) []byte { b[len(b)-len(request)+7]--; return b },
		} {
			if s.answers(change(bytes.Clone(answer)), request) {
				t.Errorf("%s: an answer with a difference counts: %s", dst, name)
			}
		}
	}
}
