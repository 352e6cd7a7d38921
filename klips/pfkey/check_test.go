package pfkey

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/klips"
)

// takes passes bytes through a stack's checks of a request.
func takes(b []byte) error {
	m, err := Parse(b)
	if err != nil {
		return err
	}
	return Check(m)
}

func TestCheckBytes(t *testing.T) {
	base := dumps(t)
	edit := func(name string, f func(b []byte) []byte) []byte { return f(slices.Clone(base[name])) }
	at := func(name string, off int, v ...byte) []byte {
		return edit(name, func(b []byte) []byte { copy(b[off:], v); return b })
	}
	words := func(b []byte) []byte {
		binary.NativeEndian.PutUint16(b[4:], uint16(len(b)/8))
		return b
	}
	for _, tt := range []struct {
		name string
		in   []byte
		want syscall.Errno
	}{
		{"fine", base["spi ESP add"], 0},
		{"empty", nil, syscall.EMSGSIZE},
		{"15 bytes", base["spi clear"][:15], syscall.EMSGSIZE},
		{"version 1", at("spi clear", 0, 1), syscall.EINVAL},
		{"version before length", edit("spi clear", func(b []byte) []byte { b[0] = 3; return append(b, 0) }), syscall.EINVAL},
		{"cut", base["spi ESP add"][:136], syscall.EMSGSIZE},
		{"too long", append(slices.Clone(base["spi clear"]), make([]byte, 8)...), syscall.EMSGSIZE},
		{"half a word", append(slices.Clone(base["spi clear"]), 0, 0, 0, 0), syscall.EMSGSIZE},
		{"reserved", at("spi clear", 6, 1), syscall.EINVAL},
		{"type 0", at("spi clear", 1, 0), syscall.EINVAL},
		{"type 20", at("spi clear", 1, 20), syscall.EINVAL},
		{"private type", at("spi clear", 1, FirstPrivate), syscall.EINVAL},
		{"errno", at("spi clear", 2, 1), syscall.EINVAL},
		{"satype 12", at("spi ESP add", 3, 12), syscall.EINVAL},
		{"satype 5", at("spi ESP add", 3, 5), syscall.EINVAL},
		{"satype 0 on add", at("spi ESP add", 3, 0), syscall.EINVAL},
		{"satype 0 on register", at("tncfg register", 3, 0), syscall.EINVAL},
		{"satype 5 on register", at("tncfg register", 3, 5), 0},
		{"satype 5 on flush", at("spi clear", 3, 5), syscall.EINVAL},
		{"satype esp on flush", at("spi clear", 3, 3), 0},
		{"satype esp on delflow", at("eroute del", 3, 3), 0},
		{"extension of 0 words", at("spi ESP add", 0x10, 0, 0), syscall.EINVAL},
		{"extension beyond the end", at("spi ESP add", 0x70, 5, 0), syscall.EINVAL},
		{"extension 0", at("spi ESP add", 0x12, 0, 0), syscall.EINVAL},
		{"extension 33", at("spi ESP add", 0x12, 33, 0), syscall.EINVAL},
		{"extension twice", at("spi ESP add", 0x42, 5), syscall.EINVAL},
		{"extension of another message", at("spi delete", 0x42, 7), syscall.EINVAL},
		{"required one missing", edit("spi delete", func(b []byte) []byte { return words(b[:0x40]) }), syscall.EINVAL},
		{"SA of 1 word", edit("eroute clear", func(b []byte) []byte {
			b[0x10] = 1
			return words(b[:0x18])
		}), syscall.EINVAL},
		{"SA of 2 words", edit("eroute clear", func(b []byte) []byte {
			b[0x10] = 2
			return words(b[:0x20])
		}), 0},
		{"replay 64", at("spi ESP add", 0x18, 64), 0},
		{"replay 65", at("spi ESP add", 0x18, 65), syscall.EINVAL},
		{"state larval", at("spi ESP add", 0x19, 0), syscall.EINVAL},
		{"state dying", at("spi ESP add", 0x19, 2), syscall.EINVAL},
		{"state dying on delete", at("spi delete", 0x19, 2), 0},
		{"state dead on delete", at("spi delete", 0x19, 3), syscall.EINVAL},
		{"SAref", at("spi ESP add", 0x20, 0xff, 0x7f), 0},
		{"SAref too large", at("spi ESP add", 0x20, 0, 0x80), syscall.EINVAL},
		{"SAref none", at("spi ESP add", 0x20, 0xff, 0xff, 0xff, 0xff), 0},
		{"SPI 0xff", at("spi ESP add", 0x14, 0, 0, 0, 0xff), syscall.EINVAL},
		{"SPI 0x100", at("spi ESP add", 0x14, 0, 0, 1, 0), 0},
		{"SPI 0xff on delete", at("spi delete", 0x14, 0, 0, 0, 0xff), 0},
		{"address reserved", at("spi ESP add", 0x2e, 1), syscall.EINVAL},
		{"address family", at("spi ESP add", 0x30, 1), syscall.EPFNOSUPPORT},
		{"address family and length", at("spi ESP add", 0x30, 10), syscall.EINVAL},
		{"prefix length", at("spi ESP add", 0x2d, 24), syscall.EAFNOSUPPORT},
		{"key of 0 bits", at("spi ESP add", 0x5c, 0, 0), syscall.EINVAL},
		{"key too long for its extension", at("spi ESP add", 0x5c, 0x81), syscall.EINVAL},
		{"key reserved", at("spi ESP add", 0x5e, 1), syscall.EINVAL},
		{"ESP without cipher", at("spi ESP add", 0x1b, 0), syscall.EINVAL},
		{"ESP NULL with authentication", at("spi ESP add", 0x1b, 11), 0},
		{"ESP NULL without", at("spi ESP add", 0x1a, 0, 11), syscall.EINVAL},
		{"AH without authentication", at("spi AH add", 0x1a, 0), syscall.EINVAL},
		{"AH with cipher", at("spi AH add", 0x1b, 3), syscall.EINVAL},
		{"comp without algorithm", at("spi IPCOMP add", 0x1b, 0), syscall.EINVAL},
		{"comp with authentication", at("spi IPCOMP add", 0x1a, 2), syscall.EINVAL},
		{"tun with anything", at("spi IPIP add, IPv4", 0x1a, 2, 3), 0},
		{"lifetime current", at("spi every optional extension", 0x2a, 2), syscall.EINVAL},
		{"NAT-T type 0", at("spi every optional extension", 0x9c, 0), syscall.EINVAL},
		{"NAT-T type 3", at("spi every optional extension", 0x9c, 3), syscall.EINVAL},
		{"satype2 0", at("spigrp 2 SAs", 0x44, 0), syscall.EINVAL},
		{"satype2 reserved", at("spigrp 2 SAs", 0x45, 1), syscall.EINVAL},
		{"satype2 alone", edit("spigrp 2 SAs", func(b []byte) []byte { return words(b[:0x48]) }), syscall.EINVAL},
		{"delflow of nothing", edit("eroute clear", func(b []byte) []byte { return words(b[:0x10]) }), syscall.EINVAL},
		{"delflow with POLICYONLY alone", at("eroute clear", 0x1c, 16), syscall.EINVAL},
		{"delflow without a mask", edit("eroute del", func(b []byte) []byte { return words(b[:0x58]) }), syscall.EINVAL},
		{"debug too short", edit("klipsdebug all", func(b []byte) []byte {
			b[0x10] = 6
			return words(b[:0x40])
		}), syscall.EINVAL},
		{"plumbif without device", edit("tncfg create", func(b []byte) []byte { return words(b[:0x10]) }), syscall.EINVAL},
	} {
		err := takes(tt.in)
		if got := Errno(err); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		var e *Error
		if tt.want != 0 && (!errors.As(err, &e) || !errors.Is(err, tt.want) || e.Detail == "") {
			t.Errorf("%s: %v is not an *Error with %v", tt.name, err, tt.want)
		}
	}
}

func TestCheckMessages(t *testing.T) {
	a4 := &Address{Addr: gw}
	getspi := func(lo, hi klips.SPI) *Message {
		return &Message{Header: Header{Type: TypeGetSPI, SAType: SATypeESP},
			Src: a4, Dst: a4, SPIRange: &SPIRange{lo, hi}}
	}
	acquire := Acquire(Acquisition{Src: netip.AddrPortFrom(far, 0), Dst: netip.AddrPortFrom(gw, 0)})
	failed := &Message{Header: Header{Type: TypeAcquire, SAType: SATypeESP, Errno: syscall.ENOENT}}
	ident := AddSA(&klips.SASpec{ID: said(klips.ProtoTun, 0x100, gw)})
	ident.IdentSrc = &Ident{Type: 2, Text: "gw.example"}
	badIdent := AddSA(&klips.SASpec{ID: said(klips.ProtoTun, 0x100, gw)})
	badIdent.IdentDst = &Ident{Type: 5}
	proto := ClearFlows()
	proto.Protocol = &Protocol{Proto: 6}
	private := ClearFlows()
	private.Private = []Extension{{FirstPrivate, make([]byte, 4)}}
	dump := &Message{Header: Header{Type: TypeDump, SAType: SATypeESP}}
	promisc := &Message{Header: Header{Type: TypePromisc}}
	for _, tt := range []struct {
		name string
		m    *Message
		want syscall.Errno
	}{
		{"GETSPI", getspi(0x100, 0x200), 0},
		{"GETSPI reserved", getspi(0xff, 0x200), syscall.EEXIST},
		{"GETSPI upside down", getspi(0x201, 0x200), syscall.EINVAL},
		{"ACQUIRE", acquire, syscall.EINVAL},
		{"ACQUIRE that failed", failed, 0},
		{"identity", ident, 0},
		{"identity type", badIdent, syscall.EINVAL},
		{"protocol without flow", proto, syscall.EINVAL},
		{"private extension", private, syscall.EINVAL},
		{"DUMP, which then is ENOSYS", dump, 0},
		{"X_PROMISC", promisc, syscall.EINVAL},
		{"type 20", &Message{Header: Header{Type: 20}}, syscall.EINVAL},
		{"private message", &Message{Header: Header{Type: FirstPrivate}}, syscall.EINVAL},
	} {
		if got := Errno(Check(tt.m)); got != tt.want {
			t.Errorf("%s: Check(%v) = %v, want %v", tt.name, tt.m, Check(tt.m), tt.want)
		}
	}
}

func TestErrno(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want syscall.Errno
	}{
		{nil, 0},
		{&klips.OpError{Op: "add SA", Err: syscall.EEXIST}, syscall.EEXIST},
		{errors.New("something"), syscall.EINVAL},
		{syscall.Errno(0x1000), syscall.EINVAL},
	} {
		if got := Errno(tt.err); got != tt.want {
			t.Errorf("Errno(%v) = %v, want %v", tt.err, got, tt.want)
		}
	}
}

func TestSelectorRefuses(t *testing.T) {
	flow := func(f func(m *Message)) *Message {
		m := DelFlow(selector("10.1.0.0/16", "10.2.0.0/16"))
		f(m)
		return m
	}
	for name, m := range map[string]*Message{
		"two families":      DelFlow(selector("10.0.0.0/8", "2001:db8::/32")),
		"host bits":         DelFlow(selector("10.1.2.3/16", "10.2.0.0/16")),
		"hole in the mask":  flow(func(m *Message) { m.SrcMask.Addr = netip.MustParseAddr("255.0.255.0") }),
		"mask of IPv6":      flow(func(m *Message) { m.DstMask.Addr = netip.MustParseAddr("ffff::") }),
		"port without mask": flow(func(m *Message) { m.DstFlow.Port = 80 }),
		"mask without port": flow(func(m *Message) { m.SrcMask.Port = 0xffff }),
		"no mask":           flow(func(m *Message) { m.SrcMask = nil }),
		"mapped": flow(func(m *Message) {
			a := &Address{Addr: netip.MustParseAddr("::ffff:10.1.0.0")}
			m.SrcFlow, m.DstFlow, m.SrcMask, m.DstMask = a, a, a, a
		}),
	} {
		if s, err := m.Selector(); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%s: Selector() = %v, %v, want EINVAL", name, s, err)
		}
	}
	for _, p := range []string{"0.0.0.0/0", "128.0.0.0/1", "10.1.2.3/32", "10.1.2.0/23", "::/0", "2001:db8::/33", "::1/128"} {
		want := selector(p, p)
		want.Proto, want.SrcPort, want.DstPort = 17, 500, 4500
		m := DelFlow(want)
		if got, err := m.Selector(); err != nil || got != want {
			t.Errorf("Selector() = %v, %v, want %v", got, err, want)
		}
	}
}

func TestDeviceNumber(t *testing.T) {
	for _, tt := range []struct {
		name string
		want uint16
		ok   bool
	}{
		{"ipsec0", 49152, true},
		{"ipsec1", 49153, true},
		{"ipsec63", 49215, true},
		{"ipsec16383", 65535, true},
		{"mast0", 0, true},
		{"mast63", 63, true},
		{"ipsec16384", 0, false},
		{"ipsec65537", 0, false},
		{"mast40960", 0, false},
		{"ipsec", 0, false},
		{"ipsec-1", 0, false},
		{"ipsec+1", 0, false},
		{"ipsec1x", 0, false},
		{"ipsec 1", 0, false},
		{"eth0", 0, false},
		{"", 0, false},
	} {
		got, err := DeviceNumber(tt.name)
		if got != tt.want || (err == nil) != tt.ok {
			t.Errorf("DeviceNumber(%q) = %d, %v, want %d, ok %v", tt.name, got, err, tt.want, tt.ok)
		}
		if tt.ok && DeviceName(got) != tt.name {
			t.Errorf("DeviceName(%d) = %q, want %q", got, DeviceName(got), tt.name)
		}
	}
	for _, n := range []uint16{1, 63, 40959, 40960, 49151, 49152, 65535} {
		name, transport := OutIf(n)
		if got, err := OutIfNumber(name, transport); got != n || err != nil {
			t.Errorf("OutIfNumber(%q, %v) = %d, %v, want %d", name, transport, got, err, n)
		}
	}
	if _, err := OutIfNumber("ipsec1", true); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("OutIfNumber(ipsec1, true) = %v, want EINVAL", err)
	}
	if name, transport := OutIf(40960 + 3); name != "mast3" || !transport {
		t.Errorf("OutIf(40963) = %q, %v, want mast3, true", name, transport)
	}
}

// TestPrivateExtensions: extensions of a private protocol are carried unchanged, in
// order of type, each once.
func TestPrivateExtensions(t *testing.T) {
	m := ClearFlows()
	m.Private = []Extension{{FirstPrivate + 9, []byte("abcd")}, {FirstPrivate, make([]byte, 12)}}
	b, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(m.Private)
	clear(b) // the message must not use it any more
	if d := cmp.Diff(m, back, byAddr); d != "" {
		t.Errorf("it comes back otherwise (-want +got):\n%s", d)
	}
	if s := m.String(); !strings.HasSuffix(s, "ext(0x40)(12 bytes) ext(0x49)(4 bytes)") {
		t.Errorf("String() = %q", s)
	}
	twice, many := ClearFlows(), ClearFlows()
	twice.Private = []Extension{{FirstPrivate, make([]byte, 4)}, {FirstPrivate, make([]byte, 4)}}
	for i := range maxPrivate + 1 {
		many.Private = append(many.Private, Extension{FirstPrivate + ExtType(i), make([]byte, 4)})
	}
	for _, m := range []*Message{twice, many} {
		b, err := m.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if m, err := Parse(b); Errno(err) != syscall.EINVAL {
			t.Errorf("Parse = %v, %v, want EINVAL", m, err)
		}
	}
	long := ClearFlows()
	long.Private = []Extension{{FirstPrivate, make([]byte, 8*maxWords)}}
	for m, want := range map[*Message]syscall.Errno{long: syscall.EMSGSIZE, AddSA(&klips.SASpec{}): syscall.EINVAL} {
		if b, err := m.Marshal(); Errno(err) != want || len(b) != 0 {
			t.Errorf("Marshal(%.80v) = %d bytes, %v, want %v", m, len(b), err, want)
		}
	}
}
