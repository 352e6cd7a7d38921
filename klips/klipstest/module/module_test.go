package module_test

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/klipstest/module"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// What the recordings have is tested against them, in package corpustest. Here is
// the rest of what was observed, and what follows from it.

var (
	here  = netip.MustParseAddr("10.9.0.1")
	there = netip.MustParseAddr("10.9.0.2")
)

// A bench is a module with a socket.
type bench struct {
	*testing.T
	*module.Module
	socket *module.Socket
	uptime time.Duration
}

func newBench(t *testing.T) *bench {
	b := &bench{T: t}
	b.Module = module.New(func() time.Duration { return b.uptime })
	b.AddAddr(here)
	b.SetPhysical("eth0", 1500)
	b.socket = b.Open(0)
	return b
}

// ask writes a message and returns what came back to the socket.
func (b *bench) ask(m *pfkey.Message) (errno syscall.Errno, back []*pfkey.Message) {
	b.Helper()
	m.Seq, m.PID = 7, 4242
	wire, err := m.Marshal()
	if err != nil {
		b.Fatal(err)
	}
	errno = b.socket.Write(wire)
	return errno, b.read(b.socket)
}

func (b *bench) read(s *module.Socket) (l []*pfkey.Message) {
	b.Helper()
	for {
		wire, ok := s.Read()
		if !ok {
			return l
		}
		m, err := pfkey.Parse(wire)
		if err != nil {
			b.Fatalf("%x: %v", wire, err)
		}
		l = append(l, m)
	}
}

// do wants messages to be taken.
func (b *bench) do(l ...*pfkey.Message) {
	b.Helper()
	for _, m := range l {
		if errno, _ := b.ask(m); errno != 0 {
			b.Fatalf("%v: %v", m, errno)
		}
	}
}

func (b *bench) refused(want syscall.Errno, m *pfkey.Message) {
	b.Helper()
	errno, back := b.ask(m)
	if errno != want || len(back) != 1 || back[0].Errno != want || back[0].SA != nil {
		b.Errorf("%v: %v, told %v; want %v", m, errno, back, want)
	}
}

// table compares a table, in which times and chance are not left out.
func (b *bench) table(name string, want ...string) {
	b.Helper()
	text := b.Tables()[name]
	if d := cmp.Diff(strings.Join(append(want, ""), "\n"), text); d != "" {
		b.Errorf("%s (-want +got)\n%s", name, d)
	}
}

func tun(spi klips.SPI, dst netip.Addr) klips.SAID {
	return klips.SAID{Dst: dst, SPI: spi, Proto: klips.ProtoTun}
}

func add(id klips.SAID, edit ...func(*klips.SASpec)) *pfkey.Message {
	s := &klips.SASpec{ID: id, Src: here}
	switch id.Proto {
	case klips.ProtoESP:
		s.Enc, s.EncKey, s.Auth, s.AuthKey = klips.Enc3DES, make([]byte, 24), klips.AuthMD5, make([]byte, 16)
	case klips.ProtoAH:
		s.Auth, s.AuthKey = klips.AuthMD5, make([]byte, 16)
	case klips.ProtoComp:
		s.Comp = klips.CompDeflate
	}
	for _, e := range edit {
		e(s)
	}
	return pfkey.AddSA(s)
}

// The errnos of ADD, for what the table of observations has of each kind.
func TestAdd(t *testing.T) {
	esp := klips.SAID{Dst: there, SPI: 0x1000, Proto: klips.ProtoESP}
	ah := klips.SAID{Dst: there, SPI: 0x1000, Proto: klips.ProtoAH}
	comp := klips.SAID{Dst: there, SPI: 0x1000, Proto: klips.ProtoComp}
	cipher := func(a klips.EncAlg, bytes int) func(*klips.SASpec) {
		return func(s *klips.SASpec) { s.Enc, s.EncKey = a, make([]byte, bytes) }
	}
	auth := func(a klips.AuthAlg, bytes int) func(*klips.SASpec) {
		return func(s *klips.SASpec) { s.Auth, s.AuthKey = a, make([]byte, bytes) }
	}
	for _, c := range []struct {
		name string
		m    *pfkey.Message
		want syscall.Errno
		line string // what ipsec_spi has of it, up to a colon
	}{
		{"low SPI", add(tun(0xff, there)), syscall.EINVAL, ""},
		{"lowest SPI", add(tun(0x100, there)), 0, "tun0x100@10.9.0.2 IPIP"},
		{"magic", add(klips.Magic(klips.SPIPass)), syscall.EINVAL, ""},
		{"CPI above 16 bits", add(klips.SAID{Dst: there, SPI: 0x12345, Proto: klips.ProtoComp}), 0, "comp0x12345@10.9.0.2 COMP_DEFLATE"},
		{"to nowhere", add(tun(0x1000, netip.IPv4Unspecified())), 0, "tun0x1000@0.0.0.0 IPIP"},
		{"IPv6 source, IPv4 destination", add(tun(0x1000, there), func(s *klips.SASpec) { s.Src = netip.IPv6LinkLocalAllNodes() }), 0, "tun0x1000@10.9.0.2 IPIP"},
		{"DES", add(esp, cipher(2, 8)), syscall.EPROTO, ""},
		{"null", add(esp, cipher(klips.EncNull, 0)), syscall.EPROTO, ""},
		{"GCM", add(esp, cipher(klips.EncAESGCM, 20), auth(0, 0)), syscall.EPROTO, ""},
		{"CAST", add(esp, cipher(6, 16)), 0, "esp0x1000@10.9.0.2 ESP_ID6_HMAC_MD5"},
		{"no cipher", add(esp, cipher(0, 0)), syscall.EINVAL, ""},
		{"short 3DES key", add(esp, cipher(klips.Enc3DES, 23)), syscall.EINVAL, ""},
		{"long 3DES key", add(esp, cipher(klips.Enc3DES, 25)), syscall.EINVAL, ""},
		{"AES-192", add(esp, cipher(klips.EncAES, 24)), 0, "esp0x1000@10.9.0.2 ESP_AES_HMAC_MD5"},
		{"AES-136", add(esp, cipher(klips.EncAES, 17)), syscall.EINVAL, ""},
		{"no cipher key", add(esp, cipher(klips.EncAES, 0)), syscall.EINVAL, ""},
		{"no authentication", add(esp, auth(0, 0)), 0, "esp0x1000@10.9.0.2 ESP_3DES"},
		{"no authentication, but its key", add(esp, auth(0, 20)), 0, "esp0x1000@10.9.0.2 ESP_3DES"},
		{"unknown authenticator", add(esp, auth(8, 20)), syscall.EINVAL, ""},
		{"AES-XCBC", add(esp, auth(9, 16)), 0, "esp0x1000@10.9.0.2 ESP_3DES_ID9"},
		{"short MD5 key", add(esp, auth(klips.AuthMD5, 15)), syscall.EINVAL, ""},
		{"no MD5 key", add(esp, auth(klips.AuthMD5, 0)), syscall.EINVAL, ""},
		{"AH with SHA-2", add(ah, auth(klips.AuthSHA512, 64)), 0, "ah0x1000@10.9.0.2 AH_HMAC_SHA2_512"},
		{"AH over IPv6", add(klips.SAID{Dst: netip.MustParseAddr("2001:db8::2"), SPI: 0x1000, Proto: klips.ProtoAH}), 0, "ah0x1000@2001:db8::2 AH_HMAC_MD5"},
		{"AH without authentication", add(ah, auth(0, 0)), syscall.EINVAL, ""},
		{"AH with a cipher", add(ah, cipher(klips.Enc3DES, 24)), syscall.EINVAL, ""},
		{"no compression", add(comp, func(s *klips.SASpec) { s.Comp = 0 }), syscall.EINVAL, ""},
		{"odd compression", add(comp, func(s *klips.SASpec) { s.Comp = 4 }), 0, "comp0x1000@10.9.0.2 COMP_UNKNOWN_comp"},
		{"no such device", add(esp, func(s *klips.SASpec) { s.OutIf = 49152 + 7 }), syscall.ENODEV, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			if c.want != 0 {
				b.refused(c.want, c.m)
				b.table("ipsec_spi")
				return
			}
			b.do(c.m)
			if line, _, _ := strings.Cut(b.Tables()["ipsec_spi"], ": "); line != c.line {
				t.Errorf("ipsec_spi has %s, want %s", line, c.line)
			}
			b.refused(syscall.EEXIST, c.m)
		})
	}
}

// Links are pairs; nothing that a second one would break is refused. The freed SA
// shows as zeros, then as the SA that gets its memory.
func TestFreed(t *testing.T) {
	b := newBench(t)
	first, other := tun(0x1001, there), tun(0x1002, there)
	esp := klips.SAID{Dst: there, SPI: 0x1003, Proto: klips.ProtoESP}
	fresh := klips.SAID{Dst: there, SPI: 0x1004, Proto: klips.ProtoESP}
	b.do(add(first), add(other), add(esp), pfkey.GroupPair(first, esp), pfkey.GroupPair(other, esp))
	b.table("ipsec_spigrp", other.String()+" "+esp.String()+" ", first.String()+" "+esp.String()+" ", esp.String()+" ")
	b.do(pfkey.DeleteSA(esp)) // goes back to other, which esp knows
	b.table("ipsec_spigrp", first.String()+" unk00x0@<invalid> ")
	b.do(add(fresh)) // the memory that was freed last
	b.table("ipsec_spigrp", first.String()+" "+fresh.String()+" ", fresh.String()+" ")
	if got := b.Dangling(); !slices.Equal(got, []klips.SAID{first}) || len(b.Faults()) != 0 {
		t.Errorf("dangling: %v, faults: %q", got, b.Faults())
	}
	b.do(pfkey.DeleteSA(first)) // and an SA that it never was grouped with
	b.table("ipsec_spigrp")
	if l := b.Faults(); len(l) != 1 || !strings.Contains(l[0], first.String()) {
		t.Errorf("faults: %q", l)
	}
}

// Each ungroup takes a reference from those that follow.
func TestReferences(t *testing.T) {
	for _, c := range []struct {
		name string
		dst  netip.Addr
		head int // which of the pair is the head
	}{{"outbound", there, 0}, {"inbound", here, 1}} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			pair := []klips.SAID{tun(0x1001, c.dst), {Dst: c.dst, SPI: 0x1002, Proto: klips.ProtoESP}}
			head, tail := pair[c.head], pair[1-c.head]
			b.do(add(pair[0]), add(pair[1]))
			for _, refs := range []int{2, 1, 0} {
				b.do(pfkey.GroupPair(pair[0], pair[1]), pfkey.Ungroup(tail)) // which is behind nobody it could cut
				b.refused(syscall.EEXIST, pfkey.GroupPair(pair[0], pair[1]))
				b.do(pfkey.Ungroup(head))
				if b.Refs(head) != 3 || b.Refs(tail) != refs {
					t.Errorf("references: %d, %d; want 3, %d", b.Refs(head), b.Refs(tail), refs)
				}
			}
			b.table("ipsec_spigrp", head.String()+" ")
			b.refused(syscall.ENOENT, pfkey.GroupPair(pair[0], pair[1]))
			if l := append(b.Faults(), b.Tables()["ipsec_spi"]); len(l) != 1 {
				t.Errorf("faults: %q", l)
			}
		})
	}
}

// What would go through freed memory is told, and nothing panics.
func TestFaults(t *testing.T) {
	a, z := tun(0x1001, there), tun(0x1002, there)
	esp := klips.SAID{Dst: there, SPI: 0x1003, Proto: klips.ProtoESP}
	for _, c := range []struct {
		name  string
		m     *pfkey.Message
		fault bool
	}{
		{"listing", nil, false},
		{"delete", pfkey.DeleteSA(a), true},
		{"ungroup", pfkey.Ungroup(a), true},
		{"flush", pfkey.Flush(), true},
		{"delete another", pfkey.DeleteSA(z), false},
	} {
		for _, reused := range []bool{false, true} {
			b := newBench(t)
			b.do(add(a), add(esp), pfkey.GroupPair(a, esp), add(z), pfkey.GroupPair(z, esp), pfkey.DeleteSA(z), add(z))
			if reused {
				b.do(add(esp))
			}
			if c.m != nil {
				b.do(c.m)
			}
			b.Tables()
			if got := len(b.Faults()) > 0; got != c.fault {
				t.Errorf("%s, memory used again: %v: faults %q", c.name, reused, b.Faults())
			}
		}
	}
	// An inbound policy gets into an SA that has nothing to do with it.
	b := newBench(t)
	one, two := klips.SAID{Dst: here, SPI: 0x1001, Proto: klips.ProtoESP}, klips.SAID{Dst: here, SPI: 0x1002, Proto: klips.ProtoESP}
	end, stray := tun(0x1003, here), tun(0x1004, here)
	policy := pfkey.AddFlow(klips.Eroute{ID: one, Selector: klips.Selector{
		Src: netip.MustParsePrefix("10.2.0.0/16"), Dst: netip.MustParsePrefix("10.1.0.0/16"),
	}}, klips.ErouteAddIn)
	b.do(add(one), add(two), add(end), pfkey.GroupPair(end, one), pfkey.GroupPair(end, two), pfkey.DeleteSA(two))
	b.refused(syscall.ENOENT, policy)
	b.do(add(stray), policy)
	if l := b.Faults(); len(l) != 1 || !strings.Contains(l[0], stray.String()) {
		t.Errorf("faults: %q", l)
	}
}

// An inet6 eroute with a protocol is stored in a wrong place, and with a port it
// is printed wrongly.
func TestErouteIPv6(t *testing.T) {
	b := newBench(t)
	route := func(proto uint8, port uint16) klips.Eroute {
		return klips.Eroute{ID: klips.Magic(klips.SPIDrop), Selector: klips.Selector{
			Src: netip.MustParsePrefix("3049:9::/64"), Dst: netip.MustParsePrefix("3049:1::/64"), Proto: proto, DstPort: port,
		}}
	}
	plain, tcp := route(0, 0), route(6, 0)
	b.do(pfkey.AddFlow(tcp, klips.ErouteAdd))
	b.table("ipsec_eroute", "0          3049:9::600:0:0:0/72 -> 3049:1::/64        => %drop:6")
	b.refused(syscall.EFAULT, pfkey.DelFlow(plain.Selector))
	b.refused(syscall.EEXIST, pfkey.AddFlow(tcp, klips.ErouteAdd))
	b.do(pfkey.DelFlow(tcp.Selector), pfkey.AddFlow(route(6, 80), klips.ErouteAdd), pfkey.AddFlow(plain, klips.ErouteAdd))
	b.table("ipsec_eroute",
		"0          3049:9::/64        -> 3049:1::/64        => %drop",
		"0          [049:9::600]0:0:0/72 ->                    => %drop:6")
}

// Times are KLIPS' seconds; a limit on the use of an SA that was never used shows
// an absurd age; the byte counter of AH runs below zero.
func TestLife(t *testing.T) {
	b := newBench(t)
	id := klips.SAID{Dst: there, SPI: 0x1000, Proto: klips.ProtoAH}
	b.do(add(id, func(s *klips.SASpec) { s.Hard.UseTime = 60 }))
	b.uptime += 5 * time.Second
	life := func() string {
		_, l, _ := strings.Cut(b.Tables()["ipsec_spi"], " jiffies=")
		l, _, _ = strings.Cut(l, " natencap=")
		return l
	}
	if got, want := life(), "4294937796 life(c,s,h)=addtime(5,0,0)usetime(42949377,0,60)"; got != want {
		t.Errorf("jiffies=%s, want %s", got, want)
	}
	errno, back := b.ask(pfkey.GetSA(id))
	if errno != 0 || len(back) != 1 || back[0].LifeCurrent == nil || back[0].LifeCurrent.AddTime != 42949372 {
		t.Errorf("GET: %v, %v", errno, back)
	}
	b.Use(id, 3, -252)
	b.uptime += 2 * time.Second
	want := "4294937996 life(c,s,h)=bytes(18446744073709551364,0,0)addtime(7,0,0)usetime(2,0,60)packets(3,0,0) idle=2"
	if got := life(); got != want {
		t.Errorf("jiffies=%s, want %s", got, want)
	}
}

// UPDATE leaves the old SA behind the new one.
func TestUpdate(t *testing.T) {
	b := newBench(t)
	id := klips.SAID{Dst: there, SPI: 0x1000, Proto: klips.ProtoESP}
	spec := &klips.SASpec{ID: id, Src: here, Transform: klips.Transform{Enc: klips.EncAES}, EncKey: make([]byte, 16)}
	b.refused(syscall.ENOENT, pfkey.UpdateSA(spec))
	b.do(add(id), pfkey.UpdateSA(spec))
	lines := strings.Split(b.Tables()["ipsec_spi"], "\n")
	if len(lines) != 3 || !strings.HasSuffix(lines[0], "refcount=2 ref=0 refhim=0") || !strings.HasSuffix(lines[1], "refcount=3 ref=1 refhim=0") {
		t.Errorf("ipsec_spi:\n%s", strings.Join(lines, "\n"))
	}
}

// What sockets hear: all of them most answers and errors, the sender alone those
// to GET and X_PLUMBIF, nobody one to X_DEBUG, those that registered REGISTER.
func TestSockets(t *testing.T) {
	id := tun(0x1000, there)
	plumb, err := pfkey.Plumb("ipsec7", true)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name       string
		m          *pfkey.Message
		own, other int
	}{
		{"ADD", add(tun(0x1001, there)), 1, 1},
		{"refused ADD", add(id), 1, 1},
		{"GET", pfkey.GetSA(id), 1, 0},
		{"refused GET", pfkey.GetSA(tun(0x9999, there)), 1, 1},
		{"X_PLUMBIF", plumb, 1, 0},
		{"X_DEBUG", pfkey.Debug(klips.DebugChange{Set: true}), 0, 0},
		{"FLUSH", pfkey.Flush(), 1, 1},
		{"REGISTER", pfkey.Register(pfkey.SATypeAH), 1, 0},
		{"REGISTER as the other did", pfkey.Register(pfkey.SATypeESP), 1, 1},
	} {
		b := newBench(t)
		other := b.Open(0)
		errno := other.Write(marshal(t, pfkey.Register(pfkey.SATypeESP)))
		b.do(add(id))
		b.read(other)
		_, own := b.ask(c.m)
		if heard := b.read(other); errno != 0 || len(own) != c.own || len(heard) != c.other {
			t.Errorf("%s: own %v, other %v", c.name, own, heard)
		}
		other.Close()
		b.ask(c.m)
		if heard := b.read(other); len(heard) != 0 {
			t.Errorf("%s: a closed socket hears %v", c.name, heard)
		}
	}
	b := newBench(t)
	for _, wire := range [][]byte{nil, make([]byte, 15), marshal(t, pfkey.Stop()), marshal(t, pfkey.Flush())[:8]} {
		if errno := b.socket.Write(wire); errno == 0 || len(b.read(b.socket)) != 0 {
			t.Errorf("%x: %v", wire, errno)
		}
	}
}

func marshal(t *testing.T, m *pfkey.Message) []byte {
	t.Helper()
	wire, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

// ipsec0 can be neither made nor deleted, and KLIPS says that it was.
func TestPlumb(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct {
		name   string
		create bool
		want   syscall.Errno
	}{
		{"ipsec0", true, 0}, {"ipsec0", false, 0}, {"ipsec1", true, syscall.EEXIST}, {"ipsec2", false, syscall.ENOENT},
		{"ipsec2", true, 0}, {"ipsec63", true, 0}, {"ipsec64", true, syscall.ENOENT}, {"ipsec1", false, 0},
		{"mast0", true, syscall.EEXIST}, {"mast1", true, 0}, {"mast1", false, 0},
	} {
		m, err := pfkey.Plumb(c.name, c.create)
		if err != nil {
			t.Fatal(err)
		}
		errno, back := b.ask(m)
		if errno != 0 || len(back) != 1 || back[0].Errno != c.want {
			t.Errorf("%s, create %v: %v, %v, want %v", c.name, c.create, errno, back, c.want)
		}
	}
	b.table("ipsec_tncfg", "ipsec0 -> NULL mtu=0(0) -> 0", "ipsec2 -> NULL mtu=0(0) -> 0", "ipsec63 -> NULL mtu=0(0) -> 0")
}

func TestDevices(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct {
		name      string
		got, want syscall.Errno
	}{
		{"attach lo", b.Attach("lo", "eth0"), syscall.EOPNOTSUPP},
		{"attach ipsec9", b.Attach("ipsec9", "eth0"), syscall.ENODEV},
		{"attach an alias", b.Attach("ipsec0", "eth0:1"), 0},
		{"detach", b.Detach("ipsec1"), syscall.ENODEV},
		{"detach all by a device that is not there", b.DetachAll("ipsec9"), syscall.ENODEV},
		{"UDP", b.Encap("ipsec0", 5, klips.NATTNonESP), 0},
		{"UDP on eth0", b.Encap("eth0", 5, klips.NATTNonESP), syscall.EOPNOTSUPP},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", c.name, c.got, c.want)
		}
	}
	b.table("ipsec_tncfg", "ipsec0 -> eth0 mtu=16260(1500) -> 1500", "ipsec1 -> NULL mtu=0(0) -> 0")
	if d := cmp.Diff([]module.Encap{{Device: "ipsec0", Socket: 5, Type: klips.NATTNonESP}}, b.Encaps()); d != "" {
		t.Error(d)
	}
	b.SetStats("ipsec0", klips.DeviceStats{TxPackets: 3, TxBytes: 252, TxDropped: 1, RxErrors: 2})
	want := "ipsec0:       0       0    2    0    0     0          0         0      252       3    0    1    0     0       0          0\n"
	if !strings.Contains(b.Tables()["dev"], "\n"+want) {
		t.Errorf("dev:\n%swant\n%s", b.Tables()["dev"], want)
	}
}

// FuzzWrite: no messages, one after another, make the module panic.
func FuzzWrite(f *testing.F) {
	id, esp := tun(0x1000, there), klips.SAID{Dst: there, SPI: 0x1003, Proto: klips.ProtoESP}
	route := klips.Eroute{ID: id, Selector: klips.Selector{Src: netip.MustParsePrefix("2001:db8::/32"), Dst: netip.MustParsePrefix("::/0"), Proto: 6, DstPort: 80}}
	var all []byte
	for _, m := range []*pfkey.Message{
		add(id), add(esp), pfkey.GroupPair(id, esp), pfkey.AddFlow(route, klips.ErouteAdd), pfkey.AddFlow(route, klips.ErouteAddIn),
		pfkey.AddFlow(route, klips.ErouteReplace), pfkey.DelFlow(route.Selector), pfkey.GetSA(id), pfkey.Ungroup(id), pfkey.Ungroup(id),
		pfkey.GetSPI(esp, here, 0x100, 0xffffffff), pfkey.Register(pfkey.SATypeESP), pfkey.DeleteSA(esp), pfkey.ClearFlows(),
		pfkey.Debug(klips.DebugChange{Set: true, Masks: klips.Debug{1}}), pfkey.Flush(),
	} {
		wire, err := m.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
		all = append(all, wire...)
	}
	f.Add(all)
	f.Fuzz(func(t *testing.T, data []byte) {
		m := module.New(func() time.Duration { return 0 })
		s := m.Open(0)
		for len(data) >= 16 {
			n := min(len(data), max(16, 8*int(binary.NativeEndian.Uint16(data[4:]))))
			s.Write(data[:n])
			data = data[n:]
		}
		m.Tables()
	})
}
