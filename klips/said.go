package klips

import (
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// A Proto is the IP protocol number of a transform; it is the first part of a
// SAID.
type Proto uint8

// The protocols of SAIDs.
const (
	ProtoTun  Proto = 4   // IP-in-IP (IPPROTO_IPIP), an SA of its own in KLIPS
	ProtoESP  Proto = 50  // RFC 4303
	ProtoAH   Proto = 51  // RFC 4302
	ProtoInt  Proto = 61  // internal: the shunts below, never in the SADB
	ProtoComp Proto = 108 // IPComp, RFC 3173
)

// String returns the name used in SAIDs: tun, esp, ah, int or comp; another
// number prints as unk and the number.
func (p Proto) String() string {
	switch p {
	case ProtoTun:
		return "tun"
	case ProtoESP:
		return "esp"
	case ProtoAH:
		return "ah"
	case ProtoInt:
		return "int"
	case ProtoComp:
		return "comp"
	}
	return "unk" + strconv.Itoa(int(p))
}

// An SPI is a security parameters index in host byte order. For comp SAs it is
// the CPI, which must fit 16 bits to be found on inbound packets.
type SPI uint32

// MinSPI is the lowest SPI that an SA may have; RFC 4303 section 2.1 reserves
// those below.
const MinSPI SPI = 0x100

// SPIs of shunts: protocol int, destination 0.0.0.0.
const (
	SPIPass       SPI = 0x100 // send in clear
	SPIDrop       SPI = 0x101 // drop silently
	SPIReject     SPI = 0x102 // drop with an ICMP error
	SPIHold       SPI = 0x103 // keep the latest packet until the eroute is replaced
	SPITrap       SPI = 0x104 // ask key daemons, hold the host pair
	SPITrapSubnet SPI = 0x105 // ask key daemons, hold the whole eroute
)

// A SAID names one SA: its destination, its SPI and its protocol. It is
// comparable; Dst must be unmapped (an IPv4 address is never held as
// ::ffff:a.b.c.d).
type SAID struct {
	Dst   netip.Addr
	SPI   SPI
	Proto Proto
}

// Magic returns the shunt with the given SPI (SPIPass … SPITrapSubnet).
func Magic(spi SPI) SAID {
	return SAID{Dst: netip.IPv4Unspecified(), SPI: spi, Proto: ProtoInt}
}

// IsMagic reports whether the SAID is a shunt and not an SA.
func (id SAID) IsMagic() bool { return id.Proto == ProtoInt }

// magicNames are the names of shunts, in SPI order from SPIPass.
var magicNames = [...]string{"%pass", "%drop", "%reject", "%hold", "%trap", "%trapsubnet"}

// String returns the form in listings: protocol, SPI as 0x and hex without leading
// zeros, @, destination: "esp0x12345678@192.1.2.45". Shunts print as their % names,
// whatever their destination.
func (id SAID) String() string {
	b, _ := id.AppendText(nil) // it returns no error
	return string(b)
}

// Dotted returns the form in the logs of key daemons, with a separator that shows the
// IP version: "tun.113@10.0.0.1", "tun:113@2001:db8::1".
func (id SAID) Dotted() string {
	if s, ok := id.magicString(); ok {
		return s
	}
	sep := "."
	if id.Dst.Is6() {
		sep = ":"
	}
	return id.Proto.String() + sep + strconv.FormatUint(uint64(id.SPI), 16) + "@" + FormatAddr(id.Dst)
}

func (id SAID) magicString() (string, bool) {
	switch {
	case id.Proto == ProtoTun && id.SPI == 0 && id.Dst.IsValid() && id.Dst.IsUnspecified():
		if id.Dst.Is6() {
			return "%passthrough6", true
		}
		return "%passthrough4", true
	case id.Proto == ProtoInt && id.SPI >= SPIPass && int(id.SPI-SPIPass) < len(magicNames):
		return magicNames[id.SPI-SPIPass], true
	}
	return "", false
}

// invalidAddr is what KLIPS prints as the destination of a freed SA.
const invalidAddr = "<invalid>"

// FormatPrefix returns a prefix in the form of command lines: its address as from
// [FormatAddr], which differs from package netip in "::", and its length in bits.
func FormatPrefix(p netip.Prefix) string {
	return FormatAddr(p.Addr()) + p.String()[len(p.Addr().String()):]
}

// FormatAddr returns an address as KLIPS prints it in its tables. In IPv6 "::" replaces
// the *first* run of two or more zero groups (in RFC 5952 the longest), and there is
// never an embedded dotted quad. The invalid address prints as "<invalid>".
func FormatAddr(a netip.Addr) string {
	return string(AppendAddr(nil, a))
}

// AppendAddr appends [FormatAddr] to b, without an intermediate string.
func AppendAddr(b []byte, a netip.Addr) []byte {
	if a.Is4() {
		return a.AppendTo(b)
	}
	if !a.IsValid() {
		return append(b, invalidAddr...)
	}
	raw := a.As16()
	squeezed := false
	for i := 0; i < 16; i += 2 {
		if !squeezed && i < 14 && raw[i]|raw[i+1]|raw[i+2]|raw[i+3] == 0 {
			for i < 14 && raw[i+2]|raw[i+3] == 0 {
				i += 2
			}
			b, squeezed = append(b, "::"...), true
			continue
		}
		if i > 0 && b[len(b)-1] != ':' {
			b = append(b, ':')
		}
		b = strconv.AppendUint(b, uint64(raw[i])<<8|uint64(raw[i+1]), 16)
	}
	return b
}

// AppendText appends the text of [SAID.String] to b, without an intermediate string. It
// returns no error.
func (id SAID) AppendText(b []byte) ([]byte, error) {
	if s, ok := id.magicString(); ok {
		return append(b, s...), nil
	}
	b = append(b, id.Proto.String()...)
	b = append(b, "0x"...)
	b = strconv.AppendUint(b, uint64(id.SPI), 16)
	return AppendAddr(append(b, '@'), id.Dst), nil
}

// MarshalText returns the text of [SAID.String], also for JSON.
func (id SAID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText parses the text of MarshalText. The empty text is the zero SAID.
// (Package syntax parses SAIDs of command lines, which have more forms.)
func (id *SAID) UnmarshalText(text []byte) error {
	s := string(text)
	if s == "" {
		*id = SAID{}
		return nil
	}
	if v, ok := magicNamed(s); ok {
		*id = v
		return nil
	}
	head, dst, _ := strings.Cut(s, "@")
	x := strings.LastIndex(head, "0x")
	if x < 0 {
		return errors.New("no SAID: it is written like esp0x1234@192.0.2.1")
	}
	var v SAID
	if err := v.Proto.UnmarshalText([]byte(head[:x])); err != nil {
		return err
	}
	spi, err := strconv.ParseUint(head[x+len("0x"):], 16, 32)
	if err != nil {
		return errors.New("the SPI of a SAID is 0x and up to eight hex digits")
	}
	v.SPI = SPI(spi)
	if dst != invalidAddr {
		v.Dst, err = netip.ParseAddr(dst)
		if err != nil || v.Dst.Is4In6() || v.Dst.Zone() != "" {
			return errors.New("the destination of a SAID is a numeric address")
		}
	}
	*id = v
	return nil
}

// magicNamed returns the shunt with a % name.
func magicNamed(name string) (SAID, bool) {
	switch name {
	case "%passthrough4":
		return SAID{Dst: netip.IPv4Unspecified(), Proto: ProtoTun}, true
	case "%passthrough6":
		return SAID{Dst: netip.IPv6Unspecified(), Proto: ProtoTun}, true
	}
	i := slices.Index(magicNames[:], name)
	return Magic(SPIPass + SPI(max(i, 0))), i >= 0
}

// MarshalText returns the protocol's name in SAIDs.
func (p Proto) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText parses the text of MarshalText.
func (p *Proto) UnmarshalText(text []byte) error {
	for _, v := range [...]Proto{ProtoAH, ProtoESP, ProtoTun, ProtoComp, ProtoInt} {
		if string(text) == v.String() {
			*p = v
			return nil
		}
	}
	if number, ok := strings.CutPrefix(string(text), "unk"); ok {
		if v, err := strconv.ParseUint(number, 10, 8); err == nil {
			*p = Proto(v)
			return nil
		}
	}
	return errors.New("not a protocol of SAIDs")
}
