package rtnl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// errMalformed is the error for a message that cannot be parsed.
var errMalformed = errors.New("malformed rtnetlink message")

func encode(head []byte, ae *netlink.AttributeEncoder) ([]byte, error) {
	b, err := ae.Encode()
	return append(head, b...), err
}

// appendAttr appends an attribute (struct rtattr), with zeros to a multiple of 4 bytes.
func appendAttr(b []byte, typ uint16, body []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(body)))
	b = append(binary.NativeEndian.AppendUint16(b, typ), body...)
	return append(b, make([]byte, -len(body)&3)...)
}

// ifinfo is a struct ifinfomsg.
func ifinfo(index int, flags, mask uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], mask)
	return b
}

// parseLink parses the data of an RTM_NEWLINK message.
func parseLink(b []byte) (l Link, err error) {
	if len(b) < unix.SizeofIfInfomsg {
		return l, fmt.Errorf("%w: a device of %d bytes", errMalformed, len(b))
	}
	l.Index = int(int32(binary.NativeEndian.Uint32(b[4:])))
	l.Up = binary.NativeEndian.Uint32(b[8:])&unix.IFF_UP != 0
	ad, err := netlink.NewAttributeDecoder(b[unix.SizeofIfInfomsg:])
	if err != nil {
		return l, fmt.Errorf("%w: %w", errMalformed, err)
	}
	for ad.Next() {
		switch ad.Type() {
		case unix.IFLA_IFNAME:
			l.Name = ad.String()
		case unix.IFLA_MTU:
			l.MTU = int(ad.Uint32())
		case unix.IFLA_CARRIER:
			l.Carrier = ad.Uint8() != 0
		case unix.IFLA_IFALIAS:
			l.Alias = ad.String()
		case unix.IFLA_LINKINFO:
			ad.Nested(l.parseInfo)
		case unix.IFLA_STATS64:
			l.Stats.parse(ad.Bytes())
		}
	}
	if err := ad.Err(); err != nil {
		return l, fmt.Errorf("%w: %w", errMalformed, err)
	}
	return l, nil
}

func (l *Link) parseInfo(info *netlink.AttributeDecoder) error {
	var data []byte
	for info.Next() {
		switch info.Type() {
		case unix.IFLA_INFO_KIND:
			l.Kind = info.String()
		case unix.IFLA_INFO_DATA:
			data = info.Bytes()
		}
	}
	if err := info.Err(); err != nil || l.Kind != "xfrm" {
		return err
	}
	ad, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return err
	}
	for ad.Next() {
		switch ad.Type() {
		case infoXfrmLink:
			l.Parent = int(int32(ad.Uint32()))
		case infoXfrmIfID:
			l.IfID = ad.Uint32()
		}
	}
	return ad.Err()
}

// parse parses a struct rtnl_link_stats64, which is longer in newer kernels.
func (s *Stats) parse(b []byte) {
	for i, f := range []*uint64{&s.RxPackets, &s.TxPackets, &s.RxBytes, &s.TxBytes, &s.RxErrors, &s.TxErrors, &s.RxDropped, &s.TxDropped} {
		if len(b) >= 8*(i+1) {
			*f = binary.NativeEndian.Uint64(b[8*i:])
		}
	}
}

// message is a struct ifaddrmsg and its attributes.
func (a *Addr) message() []byte {
	b := make([]byte, unix.SizeofIfAddrmsg)
	b[0], b[1], b[3] = familyOf(a.Prefix.Addr()), byte(a.Prefix.Bits()), a.Scope
	if a.NoDAD && a.Prefix.Addr().Is6() {
		b[2] = unix.IFA_F_NODAD
	}
	binary.NativeEndian.PutUint32(b[4:], uint32(a.Index))
	ae := netlink.NewAttributeEncoder()
	ae.Bytes(unix.IFA_LOCAL, a.Prefix.Addr().AsSlice())
	ae.Bytes(unix.IFA_ADDRESS, a.Prefix.Addr().AsSlice())
	b, _ = encode(b, ae) // fixed sizes
	return b
}

// familyOf returns the family of an address for a message.
func familyOf(a netip.Addr) uint8 {
	if a.Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// parseAddr parses the data of an RTM_NEWADDR message. The prefix is zero if the
// message has no address.
func parseAddr(b []byte) (a Addr, err error) {
	if len(b) < unix.SizeofIfAddrmsg {
		return a, fmt.Errorf("%w: an address of %d bytes", errMalformed, len(b))
	}
	bits := int(b[1])
	a.Unsure = b[2]&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 && b[2]&unix.IFA_F_OPTIMISTIC == 0
	a.Scope = b[3]
	a.Index = int(int32(binary.NativeEndian.Uint32(b[4:])))
	ad, err := netlink.NewAttributeDecoder(b[unix.SizeofIfAddrmsg:])
	if err != nil {
		return a, fmt.Errorf("%w: %w", errMalformed, err)
	}
	for ad.Next() {
		// On a point-to-point device IFA_ADDRESS is the other end.
		if t := ad.Type(); t == unix.IFA_LOCAL || t == unix.IFA_ADDRESS && !a.Prefix.IsValid() {
			if ip, ok := netip.AddrFromSlice(ad.Bytes()); ok {
				a.Prefix = netip.PrefixFrom(ip, bits)
			}
		}
	}
	if err := ad.Err(); err != nil {
		return a, fmt.Errorf("%w: %w", errMalformed, err)
	}
	return a, nil
}
