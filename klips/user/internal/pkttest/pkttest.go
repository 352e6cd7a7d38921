// Package pkttest makes IP packets for tests.
package pkttest

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/klips/user/packet"
)

// The addresses of the packets that UDP makes.
var (
	Src4 = netip.MustParseAddr("192.0.2.1")
	Dst4 = netip.MustParseAddr("198.51.100.2")
	Src6 = netip.MustParseAddr("2001:db8::1")
	Dst6 = netip.MustParseAddr("2001:db8:1::2")
)

// Hex decodes hexadecimal text, which may contain white space.
func Hex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Buffer returns a buffer that holds a copy of p with the usual room around it.
func Buffer(p []byte) *packet.Buffer {
	return packet.NewBuffer(p)
}

// Payload returns n bytes with ascending values.
func Payload(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i)
	}
	return p
}

// UDP returns a packet of the given IP version with a UDP header and n bytes
// after it.
func UDP(version, n int) []byte {
	u := make([]byte, 8, 8+n)
	binary.BigEndian.PutUint16(u, 4000)
	binary.BigEndian.PutUint16(u[2:], 7000)
	binary.BigEndian.PutUint16(u[4:], uint16(8+n))
	return IP(version, packet.ProtoUDP, nil, append(u, Payload(n)...))
}

// IP returns a packet of the given IP version. opts are IPv4 options, or IPv6 extension
// headers whose last one names proto; then proto is the protocol of the first.
func IP(version int, proto uint8, opts, payload []byte) []byte {
	if version == 4 {
		p := make([]byte, 20, 20+len(opts)+len(payload))
		p[0], p[1] = 0x40|byte(5+len(opts)/4), 0x28
		binary.BigEndian.PutUint16(p[4:], 0x1234)
		p[6] = 0x40
		p[8], p[9] = 63, proto
		copy(p[12:], Src4.AsSlice())
		copy(p[16:], Dst4.AsSlice())
		p = append(append(p, opts...), payload...)
		packet.SetTotal(p, len(p))
		packet.FixChecksum(p)
		return p
	}
	p := make([]byte, 40, 40+len(opts)+len(payload))
	p[0], p[1], p[2], p[3] = 0x62, 0x81, 0x23, 0x45
	p[6], p[7] = proto, 63
	copy(p[8:], Src6.AsSlice())
	copy(p[24:], Dst6.AsSlice())
	p = append(append(p, opts...), payload...)
	packet.SetTotal(p, len(p))
	return p
}

// Parse parses the packet in b; the test ends if it is not an IP packet.
func Parse(t testing.TB, b *packet.Buffer) packet.Header {
	t.Helper()
	h, ok := packet.ParseIP(b.Bytes())
	if !ok {
		t.Fatalf("not a whole IP packet: %x", b.Bytes())
	}
	return h
}
