package klips

import (
	"net/netip"
	"strconv"
	"strings"
)

// ParseSAID reads a SAID: a protocol (ah, esp, tun, comp or int, in either
// case), an SPI, @ and a destination. The SPI is a dot and hex digits for an
// IPv4 destination, a colon and hex digits for an IPv6 one, or a number as
// [ParseNumber] reads it, where a colon in the destination makes that IPv6. The
// magic names %pass, %drop, %reject, %hold, %trap, %trapsubnet, %passthrough,
// %passthrough4 and %passthrough6 are whole SAIDs.
//
// Destinations that are not numeric are looked up with r; a nil r refuses them.
// The SPI has no lower bound here ([MinSPI] is the callers'). Errors are
// *[SyntaxError].
func ParseSAID(text string, r Resolver) (SAID, error) {
	if text == "" {
		return SAID{}, errEmpty()
	}
	if text[0] == '%' {
		return parseMagic(text)
	}
	head, dst, found := strings.Cut(text, "@")
	if !found {
		return SAID{}, syntaxf("no @ in SAID; it is written like esp0x1234@192.0.2.1")
	}
	proto, spiText, ok := cutProto(head)
	if !ok {
		return SAID{}, syntaxf("a SAID begins with ah, esp, tun, comp or int")
	}
	if spiText == "" {
		return SAID{}, syntaxf("no SPI between %s and @ in SAID", proto)
	}
	base, f := 0, Family4
	switch {
	case spiText[0] == '.':
		base, spiText = 16, spiText[1:]
	case spiText[0] == ':':
		base, f, spiText = 16, Family6, spiText[1:]
	case strings.Contains(dst, ":"):
		f = Family6
	}
	if spiText == "" {
		return SAID{}, syntaxf("no SPI between %s and @ in SAID", proto)
	}
	spi, err := ParseNumber(spiText, base, 0xffffffff)
	if err != nil {
		return SAID{}, &SyntaxError{Msg: "SPI: " + err.Error(), Err: err}
	}
	addr, err := ParseAddr(dst, f, r)
	if err != nil {
		e := &SyntaxError{Msg: "destination: " + err.Error(), Err: err}
		switch {
		case base == 16 && f == Family4 && strings.Contains(dst, ":"):
			e.Msg = "a dot before the SPI says IPv4, but the destination is IPv6; write " +
				proto.String() + ":" + spiText + "@…"
		case r != nil && f == Family4 && isName(dst):
			// A name says nothing of its family, the SPI must.
			e.Msg += "; for an IPv6 host write " + proto.String() + ":" + strconv.FormatUint(spi, 16) + "@…"
		}
		return SAID{}, e
	}
	return SAID{Dst: addr, SPI: SPI(spi), Proto: proto}, nil
}

func parseMagic(text string) (SAID, error) {
	for i, name := range magicNames {
		if text == name {
			return Magic(SPIPass + SPI(i)), nil
		}
	}
	switch text {
	case "%passthrough", "%passthrough4":
		return SAID{Dst: netip.IPv4Unspecified(), Proto: ProtoTun}, nil
	case "%passthrough6":
		return SAID{Dst: netip.IPv6Unspecified(), Proto: ProtoTun}, nil
	}
	return SAID{}, syntaxf("unknown %% name; there are %s and %%passthrough", strings.Join(magicNames[:], ", "))
}

// cutProto takes the protocol off the front of a SAID. Nothing separates it
// from what follows, so the first name that fits counts.
func cutProto(s string) (Proto, string, bool) {
	for _, p := range [...]Proto{ProtoAH, ProtoESP, ProtoTun, ProtoComp, ProtoInt} {
		name := p.String()
		if len(s) >= len(name) && strings.EqualFold(s[:len(name)], name) {
			return p, s[len(name):], true
		}
	}
	return 0, "", false
}

// isName reports whether s can only be a host name.
func isName(s string) bool {
	if s == "" || strings.Contains(s, ":") {
		return false
	}
	for i := 0; i < len(s); i++ {
		if !nameByte(s[i]) {
			return false
		}
	}
	_, err := parse4(s)
	return err == errNotNumeric
}

// ParseProto reads the name of a protocol that SAs have, in lower case: ah,
// esp, tun or comp. Errors are *[SyntaxError].
func ParseProto(text string) (Proto, error) {
	for _, p := range [...]Proto{ProtoAH, ProtoESP, ProtoTun, ProtoComp} {
		if text == p.String() {
			return p, nil
		}
	}
	return 0, syntaxf("not one of ah, esp, tun, comp")
}

// ParseFamily reads inet or inet6. Errors are *[SyntaxError].
func ParseFamily(text string) (Family, error) {
	switch text {
	case "inet":
		return Family4, nil
	case "inet6":
		return Family6, nil
	}
	return FamilyAny, syntaxf("not one of inet, inet6")
}

// MarshalText returns the text of [SAID.String]. It gives SAIDs their form in
// JSON.
func (id SAID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText wrote, and every numeric form that
// [ParseSAID] knows. The empty text is the zero SAID.
func (id *SAID) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*id = SAID{}
		return nil
	}
	if head, ok := strings.CutSuffix(string(text), "@"+invalidAddr); ok {
		return id.unmarshalFreed(head)
	}
	v, err := ParseSAID(string(text), nil)
	if err == nil {
		*id = v
	}
	return err
}

// unmarshalFreed reads the protocol and SPI of a SAID without a destination:
// "unk00x0".
func (id *SAID) unmarshalFreed(head string) error {
	var v SAID
	i := strings.LastIndex(head, "0x")
	if i < 0 {
		return syntaxf("no 0x in SAID")
	}
	if err := v.Proto.UnmarshalText([]byte(head[:i])); err != nil {
		return err
	}
	spi, err := ParseNumber(head[i+2:], 16, 0xffffffff)
	if err != nil {
		return err
	}
	v.SPI = SPI(spi)
	*id = v
	return nil
}

// MarshalText returns the protocol's name as SAIDs have it.
func (p Proto) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (p *Proto) UnmarshalText(text []byte) error {
	s := string(text)
	if v, rest, ok := cutProto(s); ok && rest == "" {
		*p = v
		return nil
	}
	if n, ok := strings.CutPrefix(s, "unk"); ok {
		if v, err := ParseNumber(n, 10, 255); err == nil {
			*p = Proto(v)
			return nil
		}
	}
	return syntaxf("not a protocol of SAIDs")
}
