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
	mark       byte // the first byte of data; 0: none in particular
	reserved   byte // the low half of TCP's byte 12
	evil       bool // the reserved flag of IPv4
	cut        bool // the UDP length is one less than that of the packet
	plain      bool // UDP without checksum
	twin       bool // a checksum of 0xffff is 0, and the reverse
	spoilIP    bool // a wrong checksum of the IP header
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
		if s.evil {
			b[offset+6] |= 0x80
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
		if s.cut {
			b[at+5]--
		}
	} else {
		b = binary.BigEndian.AppendUint32(b, s.seq)
		b = binary.BigEndian.AppendUint32(b, s.ack)
		b = append(b, 0x50, s.flags, byte(s.window>>8), byte(s.window), 0, 0, byte(s.urgent>>8), byte(s.urgent))
		if s.option != 0 {
			b[at+12] = 0x60
			b = append(b, 1, 1, 253, s.option)
		}
		b[at+12] |= s.reserved & 15
	}
	for i := range s.n {
		b = append(b, byte(int(s.seq)+i))
	}
	if s.n > 0 && s.mark != 0 {
		b[len(b)-s.n] = s.mark
	}
	packet.SetTotal(b[offset:], len(b)-offset)
	packet.FixChecksum(b[offset:])
	if s.twin && s.n >= 4 {
		// Two bytes of data make the checksum 0, which can be written in two ways.
		data := b[len(b)-s.n:]
		data[2], data[3] = 0, 0
		checksum(b[offset:], at-offset, sum-offset)
		if s.udp && b[sum] == 0xff && b[sum+1] == 0xff {
			b[sum], b[sum+1] = 0, 0
		}
		copy(data[2:], b[sum:sum+2])
	}
	if !s.plain {
		checksum(b[offset:], at-offset, sum-offset)
	}
	if s.twin && s.n >= 4 {
		b[sum], b[sum+1] = ^b[sum], ^b[sum+1]
	}
	if s.spoilIP && !s.v6 {
		b[offset+10]++
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

// splitByHand splits a bundle as the kernel does (inet_gso_segment, tcp_gso_segment,
// __udp_gso_segment). datagrams is the most that it may have.
func splitByHand(t testing.TB, b []byte, datagrams int) (out [][]byte) {
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
	if udp && (int(binary.BigEndian.Uint16(p[ip+4:])) != len(p)-ip || (len(p)-header-1)/size >= datagrams) {
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
		l := splitByHand(t, b, maxDatagrams)
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

// play makes packets of several flows, at most as many as there are in a batch. Three
// bytes of the script stand for a packet: its flow, a change, and the extent of the
// change. Most packets are of few flows.
func play(script []byte) (bufs [][]byte) {
	const most = 128
	flows := map[byte]*seg{}
	emit := func(q seg) {
		q.mark = byte(len(bufs) + 1)
		bufs = append(bufs, q.packet())
	}
	for ; len(script) >= 3 && len(bufs) < most; script = script[3:] {
		flow, change, arg := script[0], script[1], script[2]
		if flow < 0xe0 {
			flow %= 6
		}
		s := flows[flow]
		if s == nil {
			s = &kinds()[flow%4]
			s.sport += uint16(flow / 4)
			s.n = 40
			flows[flow] = s
		}
		const repeat, swap = 1, 2
		again, odd := 0, func([]byte) []byte { return nil }
		q := *s // what is only of this packet
		switch change %= 48; change {
		case repeat:
			again = int(arg) % 100
		case swap, swap + 1, swap + 2: // more often than the others
		case 5:
			s.tos ^= arg
		case 6:
			s.ttl--
		case 7:
			s.window++
		case 8:
			s.ack++
		case 9:
			s.label++
		case 10:
			s.id += uint16(arg)
		case 11:
			s.seq += uint32(int8(arg))
		case 12:
			s.df = !s.df
		case 13:
			s.n = 1 + int(arg)*int(arg)
		case 14:
			q.n = int(arg)
		case 15:
			q.flags |= arg
		case 16:
			q.flags |= flagPSH
		case 17:
			q.option = arg
		case 18:
			q.urgent = uint16(arg)
		case 19:
			q.reserved = arg
		case 20:
			q.evil = !q.v6
		case 21:
			q.cut = q.udp
		case 22:
			q.plain = q.udp
		case 23:
			q.twin = true
		case 24:
			q.spoilIP = true
		case 25:
			q.spoil = q.n > 0
		case 26: // a fragment, or another length
			odd = func(b []byte) []byte { b[offset+6] |= 0x20; return b }
		case 27: // the end is missing
			odd = func(b []byte) []byte { return b[:min(len(b), offset+int(arg))] }
		case 28: // another bit
			odd = func(b []byte) []byte { b[min(len(b)-1, offset+int(arg/4))] ^= 1 << (arg % 8); return b }
		}
		q.seq, q.id, q.tos, q.ttl, q.df = s.seq, s.id, s.tos, s.ttl, s.df
		q.window, q.ack, q.label = s.window, s.ack, s.label
		for range 1 + min(again, most-1-len(bufs)) {
			emit(q)
			q.seq += uint32(q.n)
			q.id++
		}
		s.seq, s.id = q.seq, q.id
		last := len(bufs) - 1
		if b := odd(bufs[last]); b != nil {
			bufs[last] = b
		}
		if last > 0 && change >= swap && change < swap+3 {
			bufs[last-1], bufs[last] = bufs[last], bufs[last-1]
		}
	}
	return bufs
}

// Mixed flows with any changes come out unchanged.
func TestRandom(t *testing.T) {
	m := New(true)
	rapid.Check(t, func(r *rapid.T) {
		merged(t, m, play(rapid.SliceOfN(rapid.Byte(), 0, 240).Draw(r, "script")))
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
