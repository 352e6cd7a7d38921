package offload

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/klips-go/ipsec/klips/user/packet"
)

// refused returns why a Splitter must refuse a frame; empty: it must not.
func refused(frame []byte) string {
	if len(frame) < HeaderLen+20 {
		return "no IP header"
	}
	h, p := frame[:HeaderLen], frame[HeaderLen:]
	size := int(binary.NativeEndian.Uint16(h[4:]))
	start, at := int(binary.NativeEndian.Uint16(h[6:])), int(binary.NativeEndian.Uint16(h[8:]))
	begun := h[0]&needsChecksum != 0
	if h[1] == gsoNone {
		if begun && start+at+2 > len(p) {
			return "a checksum beyond the packet"
		}
		return ""
	}
	ip := map[byte]int{4: 20, 6: 40}[p[0]>>4]
	least := map[byte]int{gsoTCPv4: 20, gsoTCPv6: 20, gsoUDP: 8}[h[1]&^gsoECN]
	switch {
	case least == 0:
		return "a kind that was not asked for"
	case ip == 0 || h[1]&^gsoECN == gsoTCPv4 && ip != 20 || h[1]&^gsoECN == gsoTCPv6 && ip != 40:
		return "another version of IP"
	case size == 0:
		return "no segment size"
	case !begun:
		return "a checksum that is not left to be completed"
	case start < ip:
		return "a transport header inside the IP header"
	case start+least > len(p):
		return "a transport header beyond the packet"
	case ip == 20 && int(p[0]&15)*4 != start:
		return "a transport header that does not follow the IPv4 header"
	}
	header := start + least
	if least == 20 {
		header = start + int(p[start+tcpLen]>>4)*4
	}
	switch {
	case header < start+least:
		return "a TCP header that is too short"
	case header >= len(p):
		return "no data"
	}
	return ""
}

// compareSplit gives a frame to a Splitter and to WireGuard. Either both make the same
// packets of it, or the Splitter refuses it for a reason. The frame or WireGuard's packets
// are changed such that these differences, which are meant, do not count:
//
//   - It refuses bundles with the flag for ECN, as it does not ask for them.
//   - It trusts the place of the checksum in the virtio header of a bundle. The kernel
//     and the Splitter know it of TCP and UDP.
//   - It does not count extension headers of IPv6 as payload (RFC 8200 section 4).
//   - It leaves CWR in all segments; RFC 3168 section 6.1.2 wants it in the first one.
//   - It lets a computed UDP checksum of 0 be, which means that there is none (RFC 768).
//   - Of a single packet, it sums a checksum that was begun at an odd place as if it were
//     even.
func compareSplit(t testing.TB, w *wireGuard, frame []byte) {
	t.Helper()
	frame = bytes.Clone(frame)
	got, err := splitFrame(frame)
	if why := refused(frame); (err != nil) != (why != "") {
		t.Fatalf("the Splitter returns %v for a frame with %q\n%.150x", err, why, frame)
	}
	if err != nil {
		return
	}
	h, start := frame[:HeaderLen], int(binary.NativeEndian.Uint16(frame[6:]))
	at := int(binary.NativeEndian.Uint16(h[8:]))
	begun := h[0]&needsChecksum != 0
	tcp := h[1] != gsoNone && h[1] != gsoUDP && h[1] != gsoUDP|gsoECN
	if h[1] != gsoNone {
		h[1] &^= gsoECN
		at = udpChecksum
		if tcp {
			at = tcpChecksum
		}
		binary.NativeEndian.PutUint16(h[8:], uint16(at))
	}
	want, err := w.split(t, frame)
	if err != nil || len(got) != len(want) {
		t.Fatalf("the Splitter makes %d packets, and WireGuard %d (%v) of\n%.150x", len(got), len(want), err, frame)
	}
	for i, q := range want {
		if h[1] != gsoNone && q[0]>>4 == 6 {
			binary.BigEndian.PutUint16(q[4:], binary.BigEndian.Uint16(q[4:])+uint16(start-40))
		}
		field := []byte{1, 1} // none
		if begun {
			field = q[start+at : start+at+2]
		}
		if tcp && i > 0 && q[start+tcpFlags]&flagCWR != 0 {
			q[start+tcpFlags] &^= flagCWR
			sum := uint32(^binary.BigEndian.Uint16(field)) + ^uint32(flagCWR)&0xffff // RFC 1624
			binary.BigEndian.PutUint16(field, ^packet.Fold(uint64(sum)))
		}
		switch {
		case at == udpChecksum && field[0] == 0 && field[1] == 0:
			field[0], field[1] = 0xff, 0xff
		case begun && h[1] == gsoNone && at%2 != 0:
			copy(field, got[i][start+at:])
		}
		if !bytes.Equal(got[i], q) {
			t.Fatalf("packet %d of %d is\n%.150x, and WireGuard's\n%.150x, of\n%.150x", i, len(got), got[i], q, frame)
		}
	}
}

// frames are frames of all kinds.
func frames() (l [][]byte) {
	for _, s := range kinds() {
		for _, n := range []int{1, 29, 1000} {
			for _, option := range []byte{0, 1} {
				s.n, s.option = n, option
				New(true).Each(buffers(train(3, s, nil)), func(parts [][]byte, _ []*packet.Buffer) { l = append(l, bytes.Join(parts, nil)) })
			}
		}
		s.n, s.option = 60, 0
		s.flags = 0xff &^ flagCWR
		for _, twin := range []bool{false, true} {
			s.twin = twin
			p := s.packet()[offset:]
			l = append(l, append(make([]byte, HeaderLen), p...))
			f, _ := read(p, 0)
			f.header = f.ip + tcpMin
			if f.udp {
				f.header = f.ip + udpMin
			}
			for _, size := range []int{7, 20, 30, 60, 100} {
				f.size = size
				b := append(make([]byte, HeaderLen), p...)
				setLengths(b[HeaderLen:], &f, len(p))
				f.virtio(b[:HeaderLen])
				l = append(l, b)
				b = bytes.Clone(b)
				b[1] |= gsoECN
				if !f.udp {
					b[HeaderLen+f.ip+tcpFlags] = 0xff
				}
				l = append(l, b)
				b = bytes.Clone(b) // a single packet, with a checksum that was begun
				b[1] = gsoNone
				l = append(l, b)
			}
		}
	}
	// Headers between IP and UDP: options of IPv4, extension headers of IPv6.
	for _, b := range slices.Clone(l) {
		f, _ := read(b[HeaderLen:], 0)
		ip := HeaderLen + f.ip
		if f.ip == 0 || b[1] == gsoNone {
			continue
		}
		b = slices.Insert(bytes.Clone(b), ip, 1, 1, 1, 1, 1, 1, 1, 0)
		binary.NativeEndian.PutUint16(b[6:], uint16(f.ip+8))
		if f.ip == 20 {
			b[HeaderLen] += 2
		} else {
			b[ip], b[ip+1], b[HeaderLen+6] = b[HeaderLen+6], 0, 0
		}
		l = append(l, b)
	}
	return l
}

// Splitter and WireGuard make the same of each frame, also if a byte of its headers is
// wrong.
func TestSplitWireGuard(t *testing.T) {
	w := openWireGuard(t)
	for _, b := range frames() {
		compareSplit(t, w, b)
		for i := range min(len(b), HeaderLen+64) {
			for _, c := range []byte{0, 5, 0xff, b[i] + 1, b[i] - 1, b[i] ^ 0x80} {
				x := bytes.Clone(b)
				x[i] = c
				compareSplit(t, w, x)
			}
		}
		for n := range min(len(b), HeaderLen+100) {
			compareSplit(t, w, b[:n])
		}
	}
}

func FuzzSplitWireGuard(f *testing.F) {
	w := openWireGuard(f)
	for _, b := range frames() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) <= HeaderLen+maxTotal {
			compareSplit(t, w, frame)
		}
	})
}
