package capture

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// ip4 returns an IPv4 packet. It needs no checksum here.
func ip4(src, dst string, proto byte, body []byte) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0x45, 0}, uint16(20+len(body)))
	b = append(b, 0, 1, 0, 0, 64, proto, 0, 0)
	b = append(append(b, netip.MustParseAddr(src).AsSlice()...), netip.MustParseAddr(dst).AsSlice()...)
	return append(b, body...)
}

func ip6(src, dst string, proto byte, body []byte) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0x60, 0, 0, 0}, uint16(len(body)))
	b = append(b, proto, 64)
	b = append(append(b, netip.MustParseAddr(src).AsSlice()...), netip.MustParseAddr(dst).AsSlice()...)
	return append(b, body...)
}

// words returns numbers of 32 bits in network byte order.
func words(l ...uint32) (b []byte) {
	for _, n := range l {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return b
}

// udp returns a UDP packet.
func udp(src, dst uint32, body []byte) []byte {
	return append(words(src<<16|dst, uint32(8+len(body))<<16), body...)
}

// ah returns AH with an ICV of 12 bytes around a body.
func ah(next byte, spi, number uint32, body []byte) []byte {
	return append(words(uint32(next)<<24|4<<16, spi, number, 0, 0, 0), body...)
}

const (
	gw1, gw2 = "192.0.2.1", "192.0.2.2"
	in1, in2 = "10.1.0.1", "10.2.0.1"
)

// summary returns a view as text: the protocols and ports of the headers, and the layers.
func summary(v view) (l []string) {
	for _, h := range v.headers {
		text := end(h.src, h.srcPort) + ">" + end(h.dst, h.dstPort)
		if h.fragment {
			text += " fragment"
		}
		l = append(l, text)
	}
	for _, a := range v.layers {
		l = append(l, layerText(a))
	}
	return l
}

func layerText(l layer) string { return l.id.String() + "#" + string('0'+rune(l.number)) }

func TestLook(t *testing.T) {
	esp := words(0x102, 7, 0, 0)
	fragment := ip4(gw1, gw2, 50, esp)
	fragment[7] = 1
	ports := []uint16{500, 4500}
	for name, c := range map[string]struct {
		packet []byte
		want   []string
	}{
		"none":                 {nil, nil},
		"esp":                  {ip4(gw1, gw2, 50, esp), []string{gw1 + ">" + gw2, "esp0x102@192.0.2.2#7"}},
		"short esp":            {ip4(gw1, gw2, 50, esp[:7]), []string{gw1 + ">" + gw2}},
		"later fragment":       {fragment, []string{gw1 + ">" + gw2 + " fragment"}},
		"esp6":                 {ip6("2001:db8::1", "2001:db8::2", 50, esp), []string{"2001:db8::1>2001:db8::2", "esp0x102@2001:db8::2#7"}},
		"behind an extension":  {ip6("2001:db8::1", "2001:db8::2", 60, append([]byte{50, 0, 1, 4, 0, 0, 0, 0}, esp...)), []string{"2001:db8::1>2001:db8::2", "esp0x102@2001:db8::2#7"}},
		"ah and esp":           {ip4(gw1, gw2, 51, ah(50, 0x103, 5, esp)), []string{gw1 + ">" + gw2, "ah0x103@192.0.2.2#5", "esp0x102@192.0.2.2#7"}},
		"ah and tunnel":        {ip4(gw1, gw2, 51, ah(4, 0x103, 5, ip4(in1, in2, 17, udp(9, 53, nil)))), []string{gw1 + ">" + gw2, "10.1.0.1:9>10.2.0.1:53", "ah0x103@192.0.2.2#5"}},
		"ah with a bad length": {ip4(gw1, gw2, 51, append([]byte{50, 200}, ah(50, 0x103, 5, esp)[2:]...)), []string{gw1 + ">" + gw2, "ah0x103@192.0.2.2#5"}},
		"comp":                 {ip4(gw1, gw2, 108, words(0x0400<<16|0x1234, 0)), []string{gw1 + ">" + gw2, "comp0x1234@192.0.2.2#0"}},
		"tunnel":               {ip4(gw1, gw2, 4, ip4(in1, in2, 1, words(0, 0))), []string{gw1 + ">" + gw2, in1 + ">" + in2}},
		"esp in udp":           {ip4(gw1, gw2, 17, udp(4500, 4500, esp)), []string{gw1 + ":4500>" + gw2 + ":4500", "esp0x102@192.0.2.2#7"}},
		"after 8 zero bytes":   {ip4(gw1, gw2, 17, udp(500, 500, append(make([]byte, 8), esp...))), []string{gw1 + ":500>" + gw2 + ":500", "esp0x102@192.0.2.2#7"}},
		"ike":                  {ip4(gw1, gw2, 17, udp(500, 500, words(1, 2, 3, 4))), []string{gw1 + ":500>" + gw2 + ":500"}},
		"ike with a marker":    {ip4(gw1, gw2, 17, udp(4500, 4500, words(0, 2, 3, 4))), []string{gw1 + ":4500>" + gw2 + ":4500"}},
		"keepalive":            {ip4(gw1, gw2, 17, udp(4500, 4500, []byte{0xff})), []string{gw1 + ":4500>" + gw2 + ":4500"}},
		"another port":         {ip4(gw1, gw2, 17, udp(53, 9, esp)), []string{gw1 + ":53>" + gw2 + ":9"}},
	} {
		if diff := cmp.Diff(c.want, summary(look(c.packet, ports))); diff != "" {
			t.Errorf("%s\n%s", name, diff)
		}
	}
}

// No packet makes look panic or go on without an end, and what it finds is in the packet.
func FuzzLook(f *testing.F) {
	esp := words(0x102, 7, 0, 0)
	f.Add(ip4(gw1, gw2, 51, ah(50, 0x103, 5, esp)))
	f.Add(ip4(gw1, gw2, 17, udp(4500, 4500, esp)))
	f.Add(ip6("2001:db8::1", "2001:db8::2", 41, ip6("fd01::1", "fd02::1", 108, esp)))
	f.Add(ip4(gw1, gw2, 4, ip4(gw1, gw2, 4, ip4(gw1, gw2, 4, ip4(gw1, gw2, 4, ip4(gw1, gw2, 4, ip4(gw1, gw2, 4, ip4(gw1, gw2, 4, ip4(gw1, gw2, 4, ip4(gw1, gw2, 4, nil))))))))))
	f.Fuzz(func(t *testing.T, p []byte) {
		v := look(slices.Clip(slices.Clone(p)), []uint16{500, 4500})
		if len(v.headers)+len(v.layers) > maxHeaders {
			t.Errorf("%d headers, %d layers", len(v.headers), len(v.layers))
		}
		for _, h := range v.headers {
			if h.length > len(p) || !h.src.IsValid() || h.src.BitLen() != h.dst.BitLen() {
				t.Errorf("header %+v of %d bytes", h, len(p))
			}
		}
		if len(v.layers) > 0 && len(v.headers) == 0 {
			t.Errorf("layers without a header: %v", v.layers)
		}
		tab := exampleTables()
		for _, it := range []*item{{device: device{"ipsec0", true}, out: true, view: v}, {device: device{"ipsec0", true}, view: v}, {device: device{"eth0", false}, view: v}} {
			if s, ok := tab.about(it); ok && s.comment("") == "" {
				t.Errorf("no comment for %+v", v)
			}
		}
	})
}

// Filters compare all that is given with one header.
func TestSelects(t *testing.T) {
	icmp, esp := uint8(1), uint8(50)
	v := look(ip4(gw1, gw2, 51, ah(4, 0x103, 5, ip4(in1, in2, 17, udp(9, 53, nil)))), nil)
	w := look(ip4(gw1, gw2, 17, udp(4500, 4500, words(0x102, 7, 0))), []uint16{4500})
	net := netip.MustParsePrefix
	for i, c := range []struct {
		f    filter
		v    view
		want bool
	}{
		{filter{}, v, true},
		{filter{src: net("192.0.2.0/24")}, v, true},
		{filter{src: net("10.1.0.1/32"), dst: net("10.2.0.0/16")}, v, true},
		{filter{src: net("10.2.0.0/16")}, v, false},
		{filter{src: net("192.0.2.1/32"), dst: net("10.2.0.0/16")}, v, false},
		{filter{port: 53, dst: net("10.2.0.0/16")}, v, true},
		{filter{port: 54}, v, false},
		{filter{proto: &icmp}, v, false},
		{filter{proto: &esp}, w, true},
		{filter{proto: &esp}, v, false},
		{filter{port: 4500}, w, true},
		{filter{src: net("::/0")}, v, false},
		{filter{src: net("10.0.0.0/8")}, view{}, false},
	} {
		if got := c.f.selects(&c.v); got != c.want {
			t.Errorf("%d: %v, want %v", i, got, c.want)
		}
	}
}
