package syntax

import (
	"net/netip"
	"strings"
)

// ParseSubnet parses a subnet of family f: an address for [ParseAddr], a slash and a
// prefix length or, for IPv4 only, a contiguous mask in any form of address. "%default"
// is every address and needs a family. Host bits are zeroed. A port after the mask,
// which KLIPS' parser accepted and its commands ignored, is refused. Errors are
// *[Error].
func ParseSubnet(text string, f Family, r Resolver) (netip.Prefix, error) {
	p, err := ParsePrefix(text, f, r)
	return p.Masked(), err
}

// ParsePrefix parses the same as [ParseSubnet], but keeps the host bits.
func ParsePrefix(text string, f Family, r Resolver) (netip.Prefix, error) {
	switch {
	case text == "":
		return netip.Prefix{}, errEmpty()
	case text == "%default" && f == Family4:
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0), nil
	case text == "%default" && f == Family6:
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0), nil
	case text == "%default":
		return netip.Prefix{}, syntaxf("%%default needs an address family; say which before it")
	}
	addrText, mask, found := strings.Cut(text, "/")
	if !found {
		return netip.Prefix{}, syntaxf("no / in subnet; a single host is written with /32 (IPv4) or /128 (IPv6)")
	}
	addr, err := ParseAddr(addrText, f, r)
	if err != nil {
		return netip.Prefix{}, err
	}
	bits, err := parseMask(mask, addr)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(addr, bits), nil
}

// parseMask returns the length of a mask for a.
func parseMask(mask string, a netip.Addr) (int, error) {
	if mask == "" {
		return 0, syntaxf("no prefix length after /")
	}
	if i := strings.IndexByte(mask, ':'); i >= 0 {
		if a.Is6() && strings.IndexByte(mask[i+1:], ':') >= 0 {
			return 0, syntaxf("an IPv6 subnet takes a prefix length, not a mask")
		}
		return 0, kindf(Port, "a subnet takes no port after its mask; ports have options of their own")
	}
	if n, err := ParseNumber(mask, 10, ^uint64(0)); err == nil || strings.Trim(mask, "0123456789") == "" {
		if err != nil || n > uint64(a.BitLen()) {
			return 0, kindf(PrefixLength, "prefix length above %d", a.BitLen())
		}
		return int(n), nil
	}
	if a.Is6() {
		return 0, syntaxf("an IPv6 subnet takes a decimal prefix length only")
	}
	m, err := ParseAddr(mask, Family4, nil)
	if err != nil {
		return 0, &Error{Msg: "mask: " + err.Error(), Err: err}
	}
	b := m.As4()
	v := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	n := 0
	for v&(1<<31) != 0 {
		v <<= 1
		n++
	}
	if v != 0 {
		return 0, syntaxf("the mask has ones after zeros")
	}
	return n, nil
}
