package module_test

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/classic/classictest/module"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user/control"
)

// Package corpustest compares the module with the recordings. This file tests other
// observations, and conclusions from them.

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

// ask writes a message and returns the socket's messages.
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

// do writes messages, which must succeed.
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
		b.Errorf("%v: %v, read back %v; want %v", m, errno, back, want)
	}
}

// table compares a table, including times and random values.
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
		s.Enc, s.EncKey, s.Auth, s.AuthKey = alg.TripleDES, make([]byte, 24), alg.MD5, make([]byte, 16)
	case klips.ProtoAH:
		s.Auth, s.AuthKey = alg.MD5, make([]byte, 16)
	case klips.ProtoComp:
		s.Comp = alg.Deflate
	}
	for _, e := range edit {
		e(s)
	}
	return pfkey.AddSA(s)
}

// Receivers of messages: all sockets get most answers and errors; the sender alone
// those to GET and X_PLUMBIF; no socket one to X_DEBUG; registered ones those to
// REGISTER.
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
	for _, wire := range [][]byte{nil, make([]byte, 15), marshal(t, control.Stop()), marshal(t, pfkey.Flush())[:8]} {
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

// FuzzWrite: no sequence of messages makes the module panic.
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
