package lab

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
)

// A Layer is one header of a packet.
type Layer struct {
	Name string // "arp", "ip", "ip6", "frag", "ah", "esp", "comp", "icmp", "icmp6", "udp", "tcp", "proto", "short"
	Text string // its text in a line
	Len  int    // bytes from here to the end of the packet, by the IP header's count
}

// Summary returns a packet's layers on one line: addresses, the headers that are not
// encrypted from the outside in, and the length of the IP packet.
func Summary(link LinkType, frame []byte) string {
	var s []string
	layers := Layers(link, frame)
	for _, l := range layers {
		s = append(s, l.Text)
	}
	if len(layers) > 0 && layers[0].Len > 0 {
		s = append(s, fmt.Sprintf("len=%d", layers[0].Len))
	}
	return strings.Join(s, " ")
}

// TOS returns the TOS or traffic class of the outermost IP header of a frame, or 0 if it
// has none.
func TOS(link LinkType, frame []byte) uint8 {
	if link == LinkEthernet {
		frame = frame[min(14, len(frame)):]
	}
	switch {
	case len(frame) < 2:
	case frame[0]>>4 == 4:
		return frame[1]
	case frame[0]>>4 == 6:
		return frame[0]<<4 | frame[1]>>4
	}
	return 0
}

// Layers splits a frame into the headers that are not encrypted. It never fails: if a
// header is cut off, the last layer is "short".
func Layers(link LinkType, frame []byte) []Layer {
	if link == LinkEthernet {
		if len(frame) < 14 {
			return []Layer{{Name: "short", Text: "short frame"}}
		}
		switch t := binary.BigEndian.Uint16(frame[12:]); t {
		case 0x0800, 0x86dd:
			frame = frame[14:]
		case 0x0806:
			return []Layer{{Name: "arp", Text: "ARP"}}
		default:
			return []Layer{{Name: "proto", Text: fmt.Sprintf("ethertype=0x%04x", t)}}
		}
	}
	return appendIP(nil, frame)
}

func appendIP(ls []Layer, b []byte) []Layer {
	short := Layer{Name: "short", Text: "short packet"}
	if len(b) == 0 {
		return append(ls, short)
	}
	if b[0]>>4 == 4 && len(b) >= 20 {
		n, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
		if n < 20 || total < n || total > len(b) {
			return append(ls, short)
		}
		b = b[:total]
		ls = append(ls, Layer{"ip", addrs(b[12:16], b[16:20]), total})
		frag := binary.BigEndian.Uint16(b[6:])
		return appendPayload(ls, b[9], b[n:], int(frag&0x1fff)*8, frag&0x2000 != 0)
	}
	if b[0]>>4 == 6 && len(b) >= 40 {
		total := 40 + int(binary.BigEndian.Uint16(b[4:]))
		if total > len(b) {
			return append(ls, short)
		}
		b = b[:total]
		ls = append(ls, Layer{"ip6", addrs(b[8:24], b[24:40]), total})
		return appendPayload(ls, b[6], b[40:], 0, false)
	}
	return append(ls, short)
}

func addrs(src, dst []byte) string {
	s, _ := netip.AddrFromSlice(src)
	d, _ := netip.AddrFromSlice(dst)
	return s.String() + " > " + d.String()
}

// appendPayload appends the layers after an IP header whose next protocol is proto. off
// and more are the offset and flag of an IPv4 fragment.
func appendPayload(ls []Layer, proto byte, b []byte, off int, more bool) []Layer {
	if off > 0 || more {
		text := fmt.Sprintf("frag(off=%d,len=%d", off, len(b))
		if more {
			text += ",more"
		}
		ls = append(ls, Layer{"frag", text + ")", len(b)})
		if off > 0 {
			return ls
		}
	}
	u32 := func(i int) uint32 { return binary.BigEndian.Uint32(b[i:]) }
	u16 := func(i int) uint16 { return binary.BigEndian.Uint16(b[i:]) }
	add := func(name, format string, args ...any) {
		ls = append(ls, Layer{name, fmt.Sprintf(format, args...), len(b)})
	}
	need := map[byte]int{1: 8, 4: 1, 6: 20, 17: 8, 41: 1, 44: 8, 50: 8, 51: 12, 58: 4, 108: 4, 0: 8, 43: 8, 60: 8}
	if n, ok := need[proto]; ok && len(b) < n {
		add("short", "short protocol=%d", proto)
		return ls
	}
	switch proto {
	case 0, 43, 60: // IPv6 extension headers with the common format
		n := (int(b[1]) + 1) * 8
		if n > len(b) {
			add("short", "short protocol=%d", proto)
			return ls
		}
		return appendPayload(ls, b[0], b[n:], 0, false)
	case 44: // IPv6 fragment
		f := u16(2)
		return appendPayload(ls, b[0], b[8:], int(f&^7), f&1 != 0)
	case 4, 41:
		return appendIP(ls, b)
	case 50:
		add("esp", "ESP(spi=0x%x,seq=%d)", u32(0), u32(4))
	case 51:
		n := (int(b[1]) + 2) * 4
		if n > len(b) {
			add("short", "short protocol=%d", proto)
			return ls
		}
		add("ah", "AH(spi=0x%x,seq=%d)", u32(4), u32(8))
		return appendPayload(ls, b[0], b[n:], 0, false)
	case 108:
		add("comp", "COMP(cpi=0x%x,next=%d)", u16(2), b[0])
	case 1:
		add("icmp", "ICMP %s", icmpName(true, b))
	case 58:
		add("icmp6", "ICMP6 %s", icmpName(false, b))
	case 17:
		add("udp", "UDP %d > %d", u16(0), u16(2))
	case 6:
		add("tcp", "TCP %d > %d %s", u16(0), u16(2), tcpFlags(b[13]))
	default:
		add("proto", "protocol=%d", proto)
	}
	return ls
}

func tcpFlags(f byte) string {
	var s strings.Builder
	for i, c := range "FSRPAU" {
		if f&(1<<i) != 0 {
			s.WriteRune(c)
		}
	}
	return s.String()
}

func isICMPError(v4 bool, typ byte) bool {
	if v4 {
		return typ == 3 || typ == 11 || typ == 12
	}
	return typ < 128
}

// icmpName returns the name of an ICMP message of at least 4 bytes.
func icmpName(v4 bool, b []byte) string {
	if v4 {
		switch b[0] {
		case 0:
			return fmt.Sprintf("echo reply seq=%d", binary.BigEndian.Uint16(b[6:]))
		case 8:
			return fmt.Sprintf("echo request seq=%d", binary.BigEndian.Uint16(b[6:]))
		case 3:
			switch b[1] {
			case 0:
				return "network unreachable"
			case 1:
				return "host unreachable"
			case 2:
				return "protocol unreachable"
			case 3:
				return "port unreachable"
			case 4:
				return fmt.Sprintf("too big, mtu=%d", binary.BigEndian.Uint16(b[6:]))
			case 13:
				return "administratively prohibited"
			}
		case 11:
			return "time exceeded"
		}
	} else {
		switch {
		case (b[0] == 128 || b[0] == 129) && len(b) >= 8:
			kind := "request"
			if b[0] == 129 {
				kind = "reply"
			}
			return fmt.Sprintf("echo %s seq=%d", kind, binary.BigEndian.Uint16(b[6:]))
		case b[0] == 1:
			names := []string{"no route", "administratively prohibited", "beyond scope", "address unreachable", "port unreachable"}
			if int(b[1]) < len(names) {
				return names[b[1]]
			}
		case b[0] == 2 && len(b) >= 8:
			return fmt.Sprintf("too big, mtu=%d", binary.BigEndian.Uint32(b[4:]))
		case b[0] == 3:
			return "time exceeded"
		}
	}
	return fmt.Sprintf("type=%d code=%d", b[0], b[1])
}

// IsHousekeeping reports whether a frame only serves the link: ARP, neighbour
// discovery, multicast listener discovery. Such frames are in clear on any IPsec link
// and are not part of the traffic.
func IsHousekeeping(link LinkType, frame []byte) bool {
	ls := Layers(link, frame)
	if len(ls) == 0 {
		return true
	}
	last := ls[len(ls)-1]
	if last.Name == "arp" {
		return true
	}
	if last.Name != "icmp6" || len(ls) != 2 {
		return false
	}
	switch t := frame[len(frame)-last.Len]; {
	case t >= 130 && t <= 137, t == 143:
		return true
	}
	return false
}
