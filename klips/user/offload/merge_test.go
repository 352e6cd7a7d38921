package offload

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"github.com/klips-go/ipsec/klips/user/packet"
)

const offset = HeaderLen + 6

// A seg is a TCP segment or UDP datagram.
type seg struct {
	v6, udp    bool
	sport      uint16
	seq, ack   uint32
	window     uint16
	flags, tos byte
	ttl        byte
	id         uint16
	df         bool
	label      uint16
	urgent     uint16
	option     byte // 0: no options
	n          int  // bytes of data
	plain      bool // UDP without checksum
	spoil      bool // a wrong checksum
}

var addrs = map[bool][2]netip.Addr{
	false: {netip.MustParseAddr("10.1.0.5"), netip.MustParseAddr("10.2.0.5")},
	true:  {netip.MustParseAddr("2001:db8:a::5"), netip.MustParseAddr("2001:db8:b::5")},
}

// packet makes the packet in a buffer with room before it.
func (s seg) packet() []byte {
	b := make([]byte, offset, 0x10000)
	if s.v6 {
		b = append(b, 0x60|s.tos>>4, s.tos<<4, byte(s.label>>8), byte(s.label), 0, 0, 6, s.ttl)
		if s.udp {
			b[offset+6] = 17
		}
	} else {
		b = append(b, 0x45, s.tos, 0, 0, byte(s.id>>8), byte(s.id), 0, 0, s.ttl, 6, 0, 0)
		if s.udp {
			b[offset+9] = 17
		}
		if s.df {
			b[offset+6] = 0x40
		}
	}
	for _, a := range addrs[s.v6] {
		b = append(b, a.AsSlice()...)
	}
	at := len(b)
	b = binary.BigEndian.AppendUint16(b, s.sport)
	b = binary.BigEndian.AppendUint16(b, 7)
	sum := at + tcpChecksum
	if s.udp {
		sum = at + udpChecksum
		b = append(b, 0, 0, 0, 0)
		binary.BigEndian.PutUint16(b[at+4:], uint16(8+s.n))
	} else {
		b = binary.BigEndian.AppendUint32(b, s.seq)
		b = binary.BigEndian.AppendUint32(b, s.ack)
		b = append(b, 0x50, s.flags, byte(s.window>>8), byte(s.window), 0, 0, byte(s.urgent>>8), byte(s.urgent))
		if s.option != 0 {
			b[at+12] = 0x60
			b = append(b, 1, 1, 253, s.option)
		}
	}
	for i := range s.n {
		b = append(b, byte(int(s.seq)+i))
	}
	packet.SetTotal(b[offset:], len(b)-offset)
	packet.FixChecksum(b[offset:])
	if !s.plain {
		checksum(b[offset:], at-offset, sum-offset)
	}
	if s.spoil {
		b[len(b)-1]++
	}
	return b
}

// checksum computes the TCP or UDP checksum of a packet according to the RFCs.
func checksum(p []byte, ip, at int) {
	p[at], p[at+1] = 0, 0
	proto, a := p[9], p[12:20]
	if ip == 40 {
		proto, a = p[6], p[8:40]
	}
	pseudo := append(bytes.Clone(a), 0, 0, byte(len(p[ip:])>>8), byte(len(p[ip:])), 0, 0, 0, proto)
	var sum uint32
	for _, b := range [][]byte{pseudo, p[ip:]} {
		for i, c := range b {
			sum += uint32(c) << (8 * (1 - i%2))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	c := ^uint16(sum)
	if c == 0 && proto == 17 {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(p[at:], c)
}

// split splits a bundle as the kernel does (inet_gso_segment, tcp_gso_segment,
// __udp_gso_segment).
func splitByHand(t testing.TB, b []byte) (out [][]byte) {
	t.Helper()
	h, p := b[:HeaderLen], b[HeaderLen:]
	if len(p) > 65535 {
		t.Fatalf("a bundle of %d bytes", len(p))
	}
	if bytes.Equal(h, make([]byte, HeaderLen)) {
		return [][]byte{bytes.Clone(p)}
	}
	header, size := int(binary.NativeEndian.Uint16(h[2:])), int(binary.NativeEndian.Uint16(h[4:]))
	ip, at := int(binary.NativeEndian.Uint16(h[6:])), int(binary.NativeEndian.Uint16(h[8:]))
	hd, ok := packet.ParseIP(p)
	if !ok || hd.Total != len(p) || hd.Len != ip || h[0] != 1 || size == 0 || len(p)-header <= size {
		t.Fatalf("header % x of a bundle with IP header %+v", h, hd)
	}
	udp := h[1] == gsoUDP
	if want := map[bool]byte{false: gsoTCPv4, true: gsoTCPv6}[ip == 40]; !udp && h[1] != want || udp != (hd.Proto == 17) {
		t.Fatalf("kind %d of protocol %d, IPv%d", h[1], hd.Proto, hd.Version)
	}
	if udp && (int(binary.BigEndian.Uint16(p[ip+4:])) != len(p)-ip || (len(p)-header-1)/size >= 64) {
		t.Fatalf("a UDP length of %d for %d bytes of %d each", binary.BigEndian.Uint16(p[ip+4:]), len(p)-ip, size)
	}
	// The checksum field has the sum of the pseudo-header.
	whole := bytes.Clone(p)
	checksum(whole, ip, ip+at)
	if sum := packet.Fold(packet.Sum(p[ip:], 0)); ^sum != binary.BigEndian.Uint16(whole[ip+at:]) && sum != 0xffff {
		t.Fatalf("the checksum begins with %x", p[ip+at:ip+at+2])
	}
	for i, data := 0, p[header:]; len(data) > 0; i++ {
		n := min(size, len(data))
		q := append(bytes.Clone(p[:header]), data[:n]...)
		data = data[n:]
		packet.SetTotal(q, len(q))
		if ip == 20 {
			binary.BigEndian.PutUint16(q[4:], binary.BigEndian.Uint16(q[4:])+uint16(i))
		}
		packet.FixChecksum(q)
		if udp {
			binary.BigEndian.PutUint16(q[ip+4:], uint16(8+n))
		} else {
			binary.BigEndian.PutUint32(q[ip+4:], binary.BigEndian.Uint32(q[ip+4:])+uint32(i*size))
			if len(data) > 0 {
				q[ip+13] &^= 0x09 // FIN, PSH
			}
		}
		checksum(q, ip, ip+at)
		out = append(out, q)
	}
	return out
}

// buffers makes buffers of packets with offset bytes before each.
func buffers(all [][]byte) (pkts []*packet.Buffer) {
	for _, b := range all {
		pkts = append(pkts, &packet.Buffer{B: b, Off: offset, End: len(b)})
	}
	return pkts
}

// merged returns the bundles of packets, and checks that they contain all of them.
func merged(t testing.TB, m *Merger, bufs [][]byte) (bundles [][]byte) {
	t.Helper()
	var want [][]byte
	for _, b := range bufs {
		want = append(want, bytes.Clone(b[offset:]))
	}
	var got [][]byte
	m.Each(buffers(bufs), func(parts [][]byte, pkts []*packet.Buffer) {
		b := bytes.Join(parts, nil)
		bundles = append(bundles, b)
		l := splitByHand(t, b)
		if len(b) >= HeaderLen+20 {
			checkSplit(t, b, l)
		}
		for i, p := range pkts {
			if len(l) != len(pkts) || !bytes.Equal(p.Bytes(), l[i]) {
				t.Fatalf("a bundle of %d packets is reported as %d, and number %d is another one", len(l), len(pkts), i)
			}
		}
		got = append(got, l...)
	})
	// Of each flow, the split packets are the original ones, in their order.
	flows := map[string][2][]string{}
	for i, l := range [][][]byte{want, got} {
		for _, p := range l {
			key := string(p[:min(len(p), 1)])
			if f, k := read(p, 0); k != other {
				key = fmt.Sprintf("%v %x %x", f.udp, f.addrs(), p[f.ip:f.ip+4])
			} else if at, n := addresses(p); n != 0 {
				key = fmt.Sprintf("%x", p[at:at+n])
			}
			f := flows[key]
			f[i] = append(f[i], fmt.Sprintf("%x", p))
			flows[key] = f
		}
	}
	for key, f := range flows {
		if len(f[0]) != len(f[1]) {
			t.Fatalf("of flow %s %d packets came out, want %d", key, len(f[1]), len(f[0]))
		}
		for i := range f[0] {
			if f[0][i] != f[1][i] {
				t.Fatalf("packet %d of flow %s came out as\n%s, want\n%s", i, key, f[1][i], f[0][i])
			}
		}
	}
	return bundles
}

// train returns n successive packets.
func train(n int, s seg, edit func(i int, s *seg)) (bufs [][]byte) {
	for i := range n {
		q := s
		q.seq, q.id = s.seq+uint32(i*s.n), s.id+uint16(i)
		if edit != nil {
			edit(i, &q)
		}
		bufs = append(bufs, q.packet())
	}
	return bufs
}

// kinds are the four kinds of packets that can be merged.
func kinds() (l []seg) {
	for _, v6 := range []bool{false, true} {
		for _, udp := range []bool{false, true} {
			l = append(l, seg{v6: v6, udp: udp, sport: 1000, seq: 0xfffff000, ack: 7, window: 500, flags: flagACK, ttl: 63, id: 0xfffe, label: 9, n: 1000})
		}
	}
	return l
}

func TestTrains(t *testing.T) {
	for _, s := range kinds() {
		for _, tt := range []struct {
			name  string
			count int
			edit  func(i int, s *seg)
			want  int // bundles and single packets
		}{
			{"alike", 10, nil, 1},
			{"one", 1, nil, 1},
			{"the last one shorter", 10, func(i int, s *seg) { s.n -= i / 9 }, 1},
			{"one in the middle shorter", 10, func(i int, s *seg) {
				if i == 4 {
					s.n = 1
				}
				if i > 4 {
					s.seq -= 999
				}
			}, 2},
			{"longer ones behind", 4, func(i int, s *seg) { s.n += i; s.seq += uint32(i * (i - 1) / 2) }, 4},
			{"another DSCP", 10, func(i int, s *seg) { s.tos = byte(i / 5 << 2) }, 2},
			{"congestion", 10, func(i int, s *seg) { s.tos = 2 + byte(i/5) }, 2},
			{"another TTL", 10, func(i int, s *seg) { s.ttl = byte(60 + i/5) }, 2},
			{"checksums wrong", 10, func(i int, s *seg) { s.spoil = i == 5 }, 3},
			{"the first checksum wrong", 10, func(i int, s *seg) { s.spoil = i == 0 }, 2},
			{"two flows", 10, func(i int, s *seg) {
				s.sport += uint16(i % 2)
				s.seq -= uint32((i - i/2) * s.n)
				s.id -= uint16(i - i/2)
			}, 2},
		} {
			t.Run(fmt.Sprintf("%s/udp %v/IPv6 %v", tt.name, s.udp, s.v6), func(t *testing.T) {
				if got := merged(t, New(true), train(tt.count, s, tt.edit)); len(got) != tt.want {
					t.Errorf("%d bundles, want %d", len(got), tt.want)
				}
				if !s.udp {
					return
				}
				if got := merged(t, New(false), train(tt.count, s, tt.edit)); len(got) != tt.count {
					t.Errorf("where the kernel takes no datagrams: %d bundles, want %d", len(got), tt.count)
				}
			})
		}
	}
}

// Fields that only one kind of packets has.
func TestFields(t *testing.T) {
	for _, tt := range []struct {
		name    string
		v6, udp bool
		edit    func(i int, s *seg)
		want    int
	}{
		{"IPv4 identifications apart", false, false, func(i int, s *seg) { s.id += uint16(i / 5) }, 2},
		{"IPv4 identifications alike", false, true, func(i int, s *seg) { s.id = 0; s.df = true }, 10},
		{"Don't Fragment", false, true, func(i int, s *seg) { s.df = i < 5 }, 2},
		{"flow labels", true, false, func(i int, s *seg) { s.label += uint16(i / 5) }, 2},
		{"flow labels", true, true, func(i int, s *seg) { s.label += uint16(i / 5) }, 2},
		{"windows", false, false, func(i int, s *seg) { s.window += uint16(i / 5) }, 2},
		{"acknowledgements", true, false, func(i int, s *seg) { s.ack += uint32(i / 5) }, 2},
		{"a hole", false, false, func(i int, s *seg) { s.seq += uint32(i / 5) }, 2},
		{"out of order", false, false, func(i int, s *seg) { s.seq = 0xfffff000 + uint32((i^1)*s.n) }, 10},
		{"PSH at the end", false, false, func(i int, s *seg) { s.flags |= byte(i / 9 * flagPSH) }, 1},
		{"PSH in the middle", true, false, func(i int, s *seg) { s.flags |= map[bool]byte{true: flagPSH}[i == 4] }, 2},
		{"FIN", false, false, func(i int, s *seg) { s.flags |= byte(i / 9) }, 2},
		{"ECE", false, false, func(i int, s *seg) { s.flags |= 0x40 }, 10},
		{"CWR", true, false, func(i int, s *seg) { s.flags |= map[bool]byte{true: 0x80}[i == 4] }, 3},
		{"urgent pointers", false, false, func(i int, s *seg) { s.urgent = uint16(i / 5) }, 2},
		{"options", true, false, func(i int, s *seg) { s.option = byte(1 + i/5) }, 2},
		{"options in some", false, false, func(i int, s *seg) { s.option = byte(i / 5) }, 2},
		{"no data", false, false, func(i int, s *seg) { s.n = 0; s.seq = 5 }, 10},
		{"datagrams without checksum", false, true, func(i int, s *seg) { s.plain = true }, 10},
		{"one datagram without checksum", false, true, func(i int, s *seg) { s.plain = i == 5 }, 3},
	} {
		t.Run(fmt.Sprintf("%s/udp %v/IPv6 %v", tt.name, tt.udp, tt.v6), func(t *testing.T) {
			for _, s := range kinds() {
				if s.v6 != tt.v6 || s.udp != tt.udp {
					continue
				}
				if got := merged(t, New(true), train(10, s, tt.edit)); len(got) != tt.want {
					t.Errorf("%d bundles, want %d", len(got), tt.want)
				}
			}
		})
	}
}

// No bundle is longer than an IP packet can be, or has more datagrams than the kernel
// accepts.
func TestLimits(t *testing.T) {
	for _, s := range kinds() {
		for _, n := range []int{1, 1400, 1418, 8192, 32000, 65000} {
			s.n = n
			bundles := merged(t, New(true), train(128, s, nil))
			per := (65535-len(s.packet())+offset)/n + 1
			if s.udp {
				per = min(per, 64)
			}
			if want := (128 + per - 1) / per; len(bundles) != want {
				t.Errorf("udp %v, IPv6 %v, %d bytes each: %d bundles, want %d", s.udp, s.v6, n, len(bundles), want)
			}
		}
	}
}

// Mixed flows with any changes come out unchanged.
func TestRandom(t *testing.T) {
	m := New(true)
	rapid.Check(t, func(r *rapid.T) {
		flows := kinds()
		other := flows[0]
		other.sport++
		flows = append(flows, other)
		var bufs [][]byte
		for range rapid.IntRange(0, 60).Draw(r, "packets") {
			s := &flows[rapid.IntRange(0, len(flows)-1).Draw(r, "flow")]
			q := *s
			switch rapid.IntRange(0, 40).Draw(r, "change") {
			case 0:
				s.tos ^= 1
			case 1:
				s.ttl--
			case 2:
				s.window++
			case 3:
				s.ack++
			case 4:
				s.label++
			case 5:
				s.id += 3
			case 6:
				s.seq += 5
			case 7:
				s.df = !s.df
			case 8:
				q.flags |= rapid.Byte().Draw(r, "flags")
			case 9:
				q.option = rapid.Byte().Draw(r, "option")
			case 10:
				q.spoil = q.n > 0
			case 11:
				q.plain = q.udp
			case 12:
				q.n = rapid.IntRange(0, 1200).Draw(r, "bytes")
			case 13:
				s.n = rapid.IntRange(1, 3000).Draw(r, "size")
			case 14:
				q.urgent = 1
			}
			q.seq, q.id, q.tos, q.ttl = s.seq, s.id, s.tos, s.ttl
			b := q.packet()
			s.seq += uint32(q.n)
			s.id++
			if rapid.IntRange(0, 20).Draw(r, "odd") == 0 {
				switch rapid.IntRange(0, 2).Draw(r, "how") {
				case 0:
					b[offset+6] |= 0x20 // a fragment, or another next header
				case 1:
					b = b[:offset+rapid.IntRange(0, len(b)-offset).Draw(r, "length")]
				case 2:
					b[offset+rapid.IntRange(0, min(60, len(b)-offset-1)).Draw(r, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(r, "bit")
				}
			}
			bufs = append(bufs, b)
		}
		merged(t, m, bufs)
	})
}

func FuzzEach(f *testing.F) {
	for _, s := range kinds() {
		s.n = 30
		l := train(2, s, nil)
		f.Add(l[0][offset:], l[1][offset:])
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		merged(t, New(true), [][]byte{append(make([]byte, offset), a...), append(make([]byte, offset), b...), append(make([]byte, offset), a...)})
	})
}

func TestNoAllocations(t *testing.T) {
	m := New(true)
	var bufs [][]byte
	for _, s := range kinds() {
		bufs = append(bufs, train(32, s, nil)...)
	}
	bytes := 0
	write := func(parts [][]byte, _ []*packet.Buffer) { bytes += len(parts) }
	pkts := buffers(bufs)
	m.Each(pkts, write)
	if n := testing.AllocsPerRun(20, func() { m.Each(pkts, write) }); n != 0 || bytes == 0 {
		t.Errorf("128 packets allocate %v times", n)
	}
}

func BenchmarkEach(b *testing.B) {
	for _, s := range kinds() {
		s.n = 1400
		pkts := buffers(train(40, s, nil))
		b.Run(fmt.Sprintf("udp %v/IPv6 %v", s.udp, s.v6), func(b *testing.B) {
			m := New(true)
			b.SetBytes(40 * 1400)
			b.ReportAllocs()
			for b.Loop() {
				m.Each(pkts, func([][]byte, []*packet.Buffer) {})
			}
		})
	}
}
