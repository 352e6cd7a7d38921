package syntax

import (
	"net/netip"
	"strings"
)

// ParseAddr parses an address of family f; with [FamilyAny] the text determines the
// family.
//
// IPv4 is one to four decimal bytes separated by dots; missing ones at the end are zero
// ("10" is 10.0.0.0, leading zeros are decimal). If f is [Family4], it can also be 0x
// and 8 hex digits in network order, or 0h and 8 hex digits in host order (always
// little-endian, as on KLIPS' machines). IPv6 is hex groups with at most one "::",
// which replaces two groups or more; there is no embedded dotted quad and no zone.
// IPv4-mapped IPv6 addresses are refused: no packet has one.
//
// Other texts are names, which r looks up; a nil r refuses names. Results are unmapped.
// Errors are *[Error].
func ParseAddr(text string, f Family, r Resolver) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, errEmpty()
	}
	if f == Family4 && len(text) == 10 && text[0] == '0' {
		switch text[1] {
		case 'x', 'X':
			return parseHex4(text[2:], false)
		case 'h', 'H':
			return parseHex4(text[2:], true)
		}
	}
	if strings.Contains(text, ":") {
		if f == Family4 {
			return netip.Addr{}, syntaxf("an IPv4 address has no colon")
		}
		return parse6(text)
	}
	a, err := parse4(text)
	switch {
	case err == nil && f == Family6:
		return netip.Addr{}, syntaxf("an IPv4 address where an IPv6 one is wanted")
	case err == nil || err != errNotNumeric:
		return a, err
	}
	return lookup(text, f, r)
}

func parseHex4(digits string, hostOrder bool) (netip.Addr, error) {
	v, err := ParseNumber(digits, 16, 0xffffffff)
	if err != nil {
		return netip.Addr{}, err
	}
	b := [4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}
	if hostOrder {
		b[0], b[1], b[2], b[3] = b[3], b[2], b[1], b[0]
	}
	return netip.AddrFrom4(b), nil
}

// errNotNumeric is the error of parse4 for a text that could be a name.
var errNotNumeric error = &Error{Msg: "not a numeric address"}

// parse4 parses a dotted decimal address. A text whose first or second part is not a
// number may be a name; after two valid bytes it cannot be a name any more.
func parse4(text string) (netip.Addr, error) {
	var b [4]byte
	rest := text
	for i := range b {
		n, digits := 0, 0
		for digits < len(rest) && rest[digits]-'0' <= 9 {
			if n <= 255 {
				n = n*10 + int(rest[digits]-'0')
			}
			digits++
		}
		switch {
		case digits == 0 && i < 2:
			return netip.Addr{}, errNotNumeric
		case digits == 0 && rest[0] == '.':
			return netip.Addr{}, syntaxf("empty byte in dotted decimal address")
		case digits == 0:
			return netip.Addr{}, syntaxf("%s in dotted decimal address", quoteByte(rest, 0))
		case n > 255:
			return netip.Addr{}, syntaxf("byte %d of a dotted decimal address is above 255", i+1)
		}
		b[i] = byte(n)
		rest = rest[digits:]
		if rest == "" {
			return netip.AddrFrom4(b), nil
		}
		if rest[0] != '.' {
			if i == 0 {
				return netip.Addr{}, errNotNumeric
			}
			return netip.Addr{}, syntaxf("%s after byte %d of a dotted decimal address", quoteByte(rest, 0), i+1)
		}
		if i == 3 {
			break
		}
		rest = rest[1:]
		if rest == "" { // "10." is 10.0.0.0
			return netip.AddrFrom4(b), nil
		}
	}
	return netip.Addr{}, syntaxf("more than four bytes in dotted decimal address")
}

// parse6 parses a numeric IPv6 address.
func parse6(text string) (netip.Addr, error) {
	var g [8]uint16
	n, gap := 0, -1
	rest := text
	switch {
	case strings.HasPrefix(rest, "::"):
		gap, rest = 0, rest[2:]
	case rest[0] == ':':
		return netip.Addr{}, syntaxf("an IPv6 address cannot begin with a single colon")
	}
	for rest != "" {
		v, digits := 0, 0
		for digits < len(rest) {
			d, ok := digit(rest[digits])
			if !ok {
				break
			}
			if digits == 4 {
				return netip.Addr{}, syntaxf("a group of an IPv6 address has at most four hex digits")
			}
			v = v<<4 | int(d)
			digits++
		}
		switch {
		case digits == 0 && rest[0] == ':':
			return netip.Addr{}, syntaxf("more than one :: in IPv6 address")
		case digits == 0:
			return netip.Addr{}, syntaxf("%s in IPv6 address", quoteByte(rest, 0))
		case n == 8:
			return netip.Addr{}, syntaxf("more than eight groups in IPv6 address")
		}
		g[n] = uint16(v)
		n++
		rest = rest[digits:]
		switch {
		case rest == "":
		case rest[0] == '.':
			return netip.Addr{}, syntaxf("write the last four bytes of the IPv6 address as two hex groups, not dotted")
		case rest[0] == '%':
			return netip.Addr{}, syntaxf("an IPv6 address takes no zone here")
		case rest[0] != ':':
			return netip.Addr{}, syntaxf("%s in IPv6 address", quoteByte(rest, 0))
		case rest == ":":
			return netip.Addr{}, syntaxf("an IPv6 address cannot end with a single colon")
		case rest[1] != ':':
			rest = rest[1:]
		case gap >= 0:
			return netip.Addr{}, syntaxf("more than one :: in IPv6 address")
		default:
			gap, rest = n, rest[2:]
		}
	}
	switch {
	case gap < 0 && n < 8:
		return netip.Addr{}, syntaxf("an IPv6 address has eight groups, this one %d and no ::", n)
	case gap >= 0 && n == 7:
		// KLIPS' tools refuse these too, so no working script has them.
		return netip.Addr{}, syntaxf("write 0 for a single zero group, :: stands for two or more")
	case gap >= 0 && n > 7:
		return netip.Addr{}, syntaxf("more than eight groups in IPv6 address")
	}
	if gap >= 0 {
		tail := n - gap
		copy(g[8-tail:], g[gap:n])
		clear(g[gap : 8-tail])
	}
	var b [16]byte
	for i, v := range g {
		b[2*i], b[2*i+1] = byte(v>>8), byte(v)
	}
	a := netip.AddrFrom16(b)
	if a.Is4In6() {
		return netip.Addr{}, syntaxf("an IPv4-mapped address; write %v", a.Unmap())
	}
	return a, nil
}

// lookup resolves a name with r.
func lookup(name string, f Family, r Resolver) (netip.Addr, error) {
	kind := "IPv4 or IPv6"
	switch f {
	case Family4:
		kind = "IPv4"
	case Family6:
		kind = "IPv6"
	}
	for i := 0; i < len(name); i++ {
		if !nameByte(name[i]) {
			return netip.Addr{}, syntaxf("neither an %s address nor a name: it has %s", kind, quoteByte(name, i))
		}
	}
	if r == nil {
		return netip.Addr{}, syntaxf("not a numeric %s address", kind)
	}
	a, err := r(name, f)
	if err != nil {
		return netip.Addr{}, &Error{
			Msg: "not a numeric " + kind + " address, and looking it up as a name failed: " + err.Error(),
			Err: err,
		}
	}
	a = a.Unmap().WithZone("")
	if !a.IsValid() || f != FamilyAny && FamilyOf(a) != f {
		return netip.Addr{}, syntaxf("the name has no %s address", kind)
	}
	return a, nil
}

func nameByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	case c == '-', c == '_', c == '.', c >= 0x80:
		return true
	}
	return false
}
