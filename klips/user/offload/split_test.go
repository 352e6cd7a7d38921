package offload

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/klips-go/ipsec/klips/user/packet"
)

// splitFrame splits a frame.
func splitFrame(frame []byte) (packets [][]byte, err error) {
	s := NewSplitter()
	if err := s.Begin(copy(s.Buffer(), frame)); err != nil {
		return nil, err
	}
	for s.Left() > 0 {
		p := make([]byte, len(frame))
		n, err := s.Next(p)
		if err != nil {
			return packets, err
		}
		packets = append(packets, p[:n])
	}
	return packets, nil
}

// checkSplit compares Split of a frame with the packets that it must give.
func checkSplit(t testing.TB, frame []byte, want [][]byte) {
	t.Helper()
	got, err := splitFrame(frame)
	if err != nil || len(got) != len(want) {
		t.Fatalf("Split = %d packets, %v, want %d of frame\n%x", len(got), err, len(want), frame[:min(len(frame), 120)])
	}
	for i := range got {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("packet %d of %d is\n%x, want\n%x", i, len(got), got[i][:min(120, len(got[i]))], want[i][:min(120, len(want[i]))])
		}
	}
}

// The flags of TCP: FIN and PSH stay with the last packet, CWR with the first one (RFC
// 3168 section 6.1.2), and ECE with all.
func TestSplitFlags(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		s := seg{v6: v6, sport: 1, seq: 5, flags: flagACK | flagCWR | 0x40 | flagFIN | flagPSH, ttl: 9, n: 250, id: 0xffff}
		p := s.packet()[offset:]
		f, _ := read(p, 0)
		f.ip = 20
		if v6 {
			f.ip = 40
		}
		f.header, f.size = f.ip+tcpMin, 100
		frame := append(make([]byte, HeaderLen), p...)
		f.virtio(frame)
		frame[1] |= gsoECN
		got, err := splitFrame(frame)
		if err != nil || len(got) != 3 {
			t.Fatalf("%d packets, %v", len(got), err)
		}
		for i, want := range []byte{flagACK | flagCWR | 0x40, flagACK | 0x40, flagACK | 0x40 | flagFIN | flagPSH} {
			if flags := got[i][f.ip+tcpFlags]; flags != want {
				t.Errorf("IPv6 %v: packet %d has flags %#x, want %#x", v6, i, flags, want)
			}
			if h, ok := packet.ParseIP(got[i]); !ok || h.Total != len(got[i]) {
				t.Errorf("IPv6 %v: packet %d is no IP packet", v6, i)
			}
		}
		if !v6 && binary.BigEndian.Uint16(got[1][4:]) != 0 {
			t.Errorf("the identification after 0xffff is %#x", got[1][4:6])
		}
	}
}

// A single packet arrives as it is; a checksum that the kernel has begun is completed.
func TestSplitSingle(t *testing.T) {
	for _, s := range kinds() {
		p := s.packet()[offset:]
		checkSplit(t, append(make([]byte, HeaderLen), p...), [][]byte{p})
		f, _ := read(p, 0)
		at, proto := tcpChecksum, uint64(packet.ProtoTCP)
		if s.udp {
			at, proto = udpChecksum, packet.ProtoUDP
		}
		begun := append(make([]byte, HeaderLen), p...)
		begun[0] = needsChecksum
		binary.NativeEndian.PutUint16(begun[6:], uint16(f.ip))
		binary.NativeEndian.PutUint16(begun[8:], uint16(at))
		binary.BigEndian.PutUint16(begun[HeaderLen+f.ip+at:], packet.Fold(packet.Sum(f.addrs(), proto+uint64(len(p)-f.ip))))
		checkSplit(t, begun, [][]byte{p})
	}
}

// What is no frame is refused.
func TestSplitErrors(t *testing.T) {
	s := kinds()[0]
	p := s.packet()[offset:]
	f, _ := read(p, 0)
	f.size = 100
	good := append(make([]byte, HeaderLen), p...)
	f.virtio(good)
	if l, err := splitFrame(good); len(l) != 10 || err != nil {
		t.Fatalf("%d packets, %v", len(l), err)
	}
	short := NewSplitter()
	if err := short.Begin(copy(short.Buffer(), good)); err != nil {
		t.Fatal(err)
	}
	if _, err := short.Next(make([]byte, 139)); !errors.Is(err, io.ErrShortBuffer) || short.Left() != 9 {
		t.Errorf("Next = %v with %d packets left, want ErrShortBuffer and 9", err, short.Left())
	}
	for name, edit := range map[string]func(b []byte) []byte{
		"no header":             func(b []byte) []byte { return b[:HeaderLen-1] },
		"a short packet":        func(b []byte) []byte { return b[:HeaderLen+19] },
		"no TCP header":         func(b []byte) []byte { return b[:HeaderLen+39] },
		"no data":               func(b []byte) []byte { return b[:HeaderLen+40] },
		"an unknown kind":       func(b []byte) []byte { b[1] = 3; return b },
		"IPv4 as IPv6":          func(b []byte) []byte { b[1] = gsoTCPv6; return b },
		"no segment size":       func(b []byte) []byte { b[4], b[5] = 0, 0; return b },
		"no checksum asked for": func(b []byte) []byte { b[0] = 0; return b },
		"a TCP header too short": func(b []byte) []byte {
			b[HeaderLen+20+tcpLen] = 0x40
			return b
		},
		"TCP beyond the packet": func(b []byte) []byte { binary.NativeEndian.PutUint16(b[6:], 2000); return b },
		"TCP inside of IP":      func(b []byte) []byte { binary.NativeEndian.PutUint16(b[6:], 8); return b },
		"a checksum beyond": func(b []byte) []byte {
			b[1] = gsoNone
			binary.NativeEndian.PutUint16(b[8:], 2000)
			return b
		},
	} {
		if l, err := splitFrame(edit(bytes.Clone(good))); len(l) != 0 || !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %d packets, %v, want ErrFormat", name, len(l), err)
		}
	}
}

// A Splitter reads no further than the frame, and its packets have the right lengths.
func FuzzSplit(f *testing.F) {
	for _, s := range kinds() {
		s.n = 30
		m := New(true)
		m.Each(buffers(train(3, s, nil)), func(parts [][]byte, _ []*packet.Buffer) { f.Add(bytes.Join(parts, nil)) })
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) > HeaderLen+maxTotal {
			return
		}
		got, err := splitFrame(frame)
		if err != nil {
			if !errors.Is(err, ErrFormat) || len(got) > 0 {
				t.Fatalf("%d packets, %v", len(got), err)
			}
			return
		}
		if frame[1] == gsoNone {
			if len(got) != 1 || len(got[0]) != len(frame)-HeaderLen {
				t.Fatalf("%d packets of a frame with one", len(got))
			}
			return
		}
		size := int(binary.NativeEndian.Uint16(frame[4:]))
		header, data := len(got[0]), 0
		for i, p := range got {
			if i == 0 {
				header -= min(size, len(p))
			}
			data += len(p)
		}
		if len(got) > 1 && data-len(got)*header != len(frame)-HeaderLen-header {
			t.Fatalf("%d packets have %d bytes, of a bundle of %d", len(got), data, len(frame)-HeaderLen)
		}
	})
}

func TestSplitAllocates(t *testing.T) {
	x := kinds()[0]
	var frame []byte
	New(true).Each(buffers(train(40, x, nil)), func(parts [][]byte, _ []*packet.Buffer) { frame = bytes.Join(parts, nil) })
	s, p := NewSplitter(), make([]byte, 2000)
	if n := testing.AllocsPerRun(20, func() {
		if err := s.Begin(copy(s.Buffer(), frame)); err != nil || s.Left() != 40 {
			t.Errorf("%v, %d packets", err, s.Left())
		}
		for s.Left() > 0 {
			if _, err := s.Next(p); err != nil {
				t.Error(err)
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
