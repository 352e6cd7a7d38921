package guard

import (
	"encoding/binary"
	"net"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The expressions of rules. Values are loaded into registers of 4 bytes each, and
// compared there; if a comparison fails, the rule ends.

// reg is the first register; reg+n is n words behind it.
const reg = unix.NFT_REG32_00

// A match is expressions that end the rule for packets that do not match.
type match []expr.Any

func equal(b ...byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: b}
}

func meta(key expr.MetaKey) expr.Any { return &expr.Meta{Key: key, Register: reg} }

// family matches packets of one version of IP.
func family(is6 bool) match {
	f := byte(unix.NFPROTO_IPV4)
	if is6 {
		f = unix.NFPROTO_IPV6
	}
	return match{meta(expr.MetaKeyNFPROTO), equal(f)}
}

// device matches packets by device. A name that ends with an asterisk matches any
// device with that prefix.
func device(in bool, name string) match {
	key := expr.MetaKeyOIFNAME
	if in {
		key = expr.MetaKeyIIFNAME
	}
	b := []byte(name)
	if n := len(b) - 1; b[n] == '*' {
		b = b[:n]
	} else {
		b = append(b, make([]byte, unix.IFNAMSIZ-len(b))...)
	}
	return match{meta(key), equal(b...)}
}

// metaSecpath is NFT_META_SECPATH, rtXfrm NFT_RT_XFRM: the kernel has decapsulated the
// packet, or will protect it.
const (
	metaSecpath = expr.MetaKey(25)
	rtXfrm      = expr.RtKey(4)
)

// kernelProtects matches packets that the kernel protects.
func kernelProtects(in bool) match {
	if in {
		return match{meta(metaSecpath), equal(1)}
	}
	return match{&expr.Rt{Register: reg, Key: rtXfrm}, equal(1)}
}

// localAddr matches inbound packets by destination, and outbound ones by source: it is
// an address of this host.
func localAddr(in bool) match {
	return match{
		&expr.Fib{Register: reg, ResultADDRTYPE: true, FlagDADDR: in, FlagSADDR: !in},
		equal(binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)...),
	}
}

// fromNet loads bytes of the IP header, fromTransport of the header after it. Later
// fragments have no such header: the rule ends.
func fromNet(at uint32, offset, length int) expr.Any {
	return &expr.Payload{DestRegister: at, Base: expr.PayloadBaseNetworkHeader, Offset: uint32(offset), Len: uint32(length)}
}

func fromTransport(at uint32, offset, length int) expr.Any {
	return &expr.Payload{DestRegister: at, Base: expr.PayloadBaseTransportHeader, Offset: uint32(offset), Len: uint32(length)}
}

// proto matches packets of a protocol.
func proto(p byte) match { return match{meta(expr.MetaKeyL4PROTO), equal(p)} }

// among matches packets whose loaded value is in a set.
func among(set *nftables.Set) expr.Any {
	return &expr.Lookup{SourceRegister: reg, SetName: set.Name, SetID: set.ID}
}

// addrOffset returns the offset of an address in the IP header.
func addrOffset(is6, dst bool) int {
	switch {
	case is6 && dst:
		return 24
	case is6:
		return 8
	case dst:
		return 16
	}
	return 12
}

func addrLen(is6 bool) int {
	if is6 {
		return 16
	}
	return 4
}

// later matches all fragments except the first.
func later(is6 bool) match {
	if is6 { // RFC 8200 section 4.5: 13 bits of offset, 2 reserved, M
		return match{
			&expr.Exthdr{DestRegister: reg, Type: unix.IPPROTO_FRAGMENT, Offset: 2, Len: 2, Op: expr.ExthdrOpIpv6},
			&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 2, Mask: []byte{0xff, 0xf8}, Xor: []byte{0, 0}},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: reg, Data: []byte{0, 0}},
		}
	}
	return match{ // RFC 791 section 3.1: 3 bits of flags, 13 of offset
		fromNet(reg, 6, 2),
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 2, Mask: []byte{0x1f, 0xff}, Xor: []byte{0, 0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg, Data: []byte{0, 0}},
	}
}

// load loads the key of a shape from a packet.
func (s shape) load() (m match) {
	at := uint32(reg)
	n := s.addrLen()
	for i, bits := range [...]int{s.srcBits, s.dstBits} {
		m = append(m, fromNet(at, addrOffset(s.is6, i == 1), n))
		if bits < n*8 {
			m = append(m, &expr.Bitwise{SourceRegister: at, DestRegister: at, Len: uint32(n), Mask: net.CIDRMask(bits, n*8), Xor: make([]byte, n)})
		}
		at += uint32(n / 4)
	}
	if s.proto {
		m = append(m, &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: at})
		at++
	}
	if s.sport {
		m = append(m, fromTransport(at, 0, 2))
		at++
	}
	if s.dport {
		m = append(m, fromTransport(at, 2, 2))
	}
	return m
}

// quoted loads an address of the packet that an ICMP error quotes. That packet is after
// the ICMP header of 8 bytes (RFC 792, RFC 4443 section 3).
func quoted(is6, dst bool) expr.Any {
	return fromTransport(reg, 8+addrOffset(is6, dst), addrLen(is6))
}

// quotedProto loads the protocol of the quoted packet.
func quotedProto(is6 bool) expr.Any {
	if is6 {
		return fromTransport(reg, 8+6, 1)
	}
	return fromTransport(reg, 8+9, 1)
}

// quotedPort loads a UDP port of the quoted packet. With IPv4 options the port is
// elsewhere; such an error is not recognised, and dropped.
func quotedPort(is6, dst bool) expr.Any {
	offset := 8 + 20
	if is6 {
		offset = 8 + 40
	}
	if dst {
		offset += 2
	}
	return fromTransport(reg, offset, 2)
}

func portKey(p uint16) []byte { return binary.BigEndian.AppendUint16(nil, p) }
