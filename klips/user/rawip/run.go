package rawip

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/user/mmsg"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// placeOf returns where a UDP socket must be bound to send packet p as it is; ok is false
// if none can: the packet is no UDP packet, or its IP header is not one that the kernel
// makes for such a socket (options, fragments, DF, a flow label).
func placeOf(p []byte) (k place, head int, ok bool) {
	switch {
	case len(p) >= ipv4Len+udpLen && p[0] == 0x45:
		k.family, head = unix.AF_INET, ipv4Len
		ok = p[9] == packet.ProtoUDP && p[6] == 0 && p[7] == 0 && p[8] != 0 && p[16]>>4 < 14
	case len(p) >= ipv6Len+udpLen && p[0]>>4 == 6:
		k.family, head = unix.AF_INET6, ipv6Len
		ok = p[6] == packet.ProtoUDP && p[1]&15 == 0 && p[2] == 0 && p[3] == 0 && p[7] != 0 && p[24] != 0xff
	}
	if !ok || int(binary.BigEndian.Uint16(p[head+4:])) != len(p)-head || len(p) == head+udpLen {
		return k, 0, false
	}
	k.port = binary.BigEndian.Uint16(p[head:])
	return k, head, true
}

// minRun is the least number of packets that are sent as a run, unless they follow one of
// the same flow. With fewer, raw sockets cost no more. Their packets leave as the engine
// made them: in IPv4 with UDP checksum 0, as RFC 3948 section 2.1 has it, which the kernel
// does not do for a run.
const minRun = 4

// runLen returns how many packets at the beginning of pkts can be sent as one run by
// place k, and the length of their headers; 0: none. before is the first packet of the
// run that was sent just before; nil: there was none.
func (s *sending) runLen(pkts []*packet.Buffer, before []byte) (n int, k place, data int) {
	first := pkts[0].Bytes()
	k, head, ok := placeOf(first)
	if !ok || s.unfit.Load() || !s.ports.has(k) {
		return 0, k, 0
	}
	least := minRun
	if before != nil && sameHeaders(before, first, head) {
		least = 1
	}
	if len(pkts) < least {
		return 0, k, 0
	}
	data = head + udpLen
	for total := 0; n < len(pkts) && n < mmsg.MaxRun; {
		p := pkts[n].Bytes()
		total += len(p) - data
		if n > 0 && (len(p) > len(first) || total > mmsg.MaxRunBytes || !sameHeaders(first, p, head) || !follows(pkts[n-1].Bytes(), p, data)) {
			break
		}
		n++
		if len(p) < len(first) {
			break // only the last one may be shorter
		}
	}
	if n < least {
		return 0, k, 0
	}
	return n, k, data
}

// sendRun sends packets of one run, and reports whether the kernel has accepted them. If
// it refuses that because of the device, there are no runs until Refit. From an address of
// another host, such as that of a packet in clear that is only forwarded, there is none.
func (s *sending) sendRun(k place, pkts []*packet.Buffer, data int) bool {
	at := s.ports.use(k)
	if at == nil {
		return false
	}
	defer at.release()
	s.run.Reset()
	for _, b := range pkts {
		s.run.Add(b.Bytes()[data:])
	}
	p := pkts[0].Bytes()
	h := mmsg.Headers{IfIndex: uint32(s.index)}
	to := binary.BigEndian.Uint16(p[data-udpLen+2:])
	if k.family == unix.AF_INET {
		h.Class, h.HopLimit = p[1], p[8]
		h.Src = netip.AddrFrom4([4]byte(p[12:16]))
		h.Dst = netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[16:20])), to)
	} else {
		h.Class, h.HopLimit = p[0]<<4|p[1]>>4, p[7]
		h.Src = netip.AddrFrom16([16]byte(p[8:24]))
		h.Dst = netip.AddrPortFrom(netip.AddrFrom16([16]byte(p[24:40])), to)
	}
	if !s.ports.local(h.Src) {
		return false
	}
	err := s.run.Send(at.fd, &h, s.full)
	switch err {
	case unix.EIO, unix.EINVAL, unix.EMSGSIZE, unix.EOPNOTSUPP:
		s.unfit.Store(true)
	}
	return err == nil
}

// sameHeaders reports whether p is a UDP packet with the headers of first, except
// lengths, checksums and the IPv4 identification. head is the length of the IP header of
// first.
func sameHeaders(first, p []byte, head int) bool {
	_, h, ok := placeOf(p)
	if !ok || h != head || string(p[:2]) != string(first[:2]) || string(p[head:head+4]) != string(first[head:head+4]) {
		return false
	}
	if head == ipv4Len {
		return p[8] == first[8] && string(p[12:ipv4Len]) == string(first[12:ipv4Len])
	}
	return p[7] == first[7] && string(p[8:ipv6Len]) == string(first[8:ipv6Len])
}

// follows reports whether p has the SPI of the packet before it, and the next number:
// then a receiver can take a run apart that comes to it as one packet, see firstLen. data
// is the length of the headers.
func follows(before, p []byte, data int) bool {
	if isNonIKE(p[data:]) != isNonIKE(before[data:]) {
		return false
	}
	if isNonIKE(p[data:]) {
		data += 8
	}
	return len(p) >= data+8 && len(before) >= data+8 && string(p[data:data+4]) == string(before[data:data+4]) &&
		binary.BigEndian.Uint32(p[data+4:]) == binary.BigEndian.Uint32(before[data+4:])+1
}
