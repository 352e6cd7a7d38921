package syntax

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/klips-go/ipsec/klips"
)

// ParseSAID parses a SAID: a protocol (ah, esp, tun, comp or int, in either case), an
// SPI, @ and a destination. The SPI is a dot and hex digits for an IPv4 destination, or
// a colon and hex digits for an IPv6 one. It can also be a number for [ParseNumber];
// then the destination is IPv6 if it contains a colon. The shunts %pass, %drop,
// %reject, %hold, %trap, %trapsubnet, %passthrough, %passthrough4 and %passthrough6 are
// complete SAIDs.
//
// A nil r refuses destinations that are not numeric; otherwise r looks them up. The SPI
// has no lower bound here; callers check [klips.MinSPI]. Errors are *[Error].
func ParseSAID(text string, r Resolver) (klips.SAID, error) {
	if text == "" {
		return klips.SAID{}, errEmpty()
	}
	if text[0] == '%' {
		return parseMagic(text)
	}
	head, dst, found := strings.Cut(text, "@")
	if !found {
		return klips.SAID{}, syntaxf("no @ in SAID; it is written like esp0x1234@192.0.2.1")
	}
	proto, spiText, ok := cutProto(head)
	if !ok {
		return klips.SAID{}, syntaxf("a SAID begins with ah, esp, tun, comp or int")
	}
	if spiText == "" {
		return klips.SAID{}, syntaxf("no SPI between %s and @ in SAID", proto)
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
		return klips.SAID{}, syntaxf("no SPI between %s and @ in SAID", proto)
	}
	spi, err := ParseNumber(spiText, base, 0xffffffff)
	if err != nil {
		return klips.SAID{}, &Error{Kind: SPI, Msg: "SPI: " + err.Error(), Err: err}
	}
	addr, err := ParseAddr(dst, f, r)
	if err != nil {
		e := &Error{Msg: "destination: " + err.Error(), Err: err}
		switch {
		case base == 16 && f == Family4 && strings.Contains(dst, ":"):
			e.Msg = "a dot before the SPI says IPv4, but the destination is IPv6; write " +
				proto.String() + ":" + spiText + "@…"
		case r != nil && f == Family4 && isName(dst):
			// A name has no family, so the SPI must show it.
			e.Msg += "; for an IPv6 host write " + proto.String() + ":" + strconv.FormatUint(spi, 16) + "@…"
		}
		return klips.SAID{}, e
	}
	return klips.SAID{Dst: addr, SPI: klips.SPI(spi), Proto: proto}, nil
}

func parseMagic(text string) (klips.SAID, error) {
	var names []string
	for spi := klips.SPIPass; spi <= klips.SPITrapSubnet; spi++ {
		id := klips.Magic(spi)
		if text == id.String() {
			return id, nil
		}
		names = append(names, id.String())
	}
	switch text {
	case "%passthrough", "%passthrough4":
		return klips.SAID{Dst: netip.IPv4Unspecified(), Proto: klips.ProtoTun}, nil
	case "%passthrough6":
		return klips.SAID{Dst: netip.IPv6Unspecified(), Proto: klips.ProtoTun}, nil
	}
	return klips.SAID{}, kindf(Word, "unknown %% name; there are %s and %%passthrough", strings.Join(names, ", "))
}

// cutProto splits the protocol from a SAID. There is no separator after it, so the
// first name that fits counts.
func cutProto(s string) (klips.Proto, string, bool) {
	for _, p := range [...]klips.Proto{klips.ProtoAH, klips.ProtoESP, klips.ProtoTun, klips.ProtoComp, klips.ProtoInt} {
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

// ParseProto parses the protocol of an SA, in lower case: ah, esp, tun or comp. Errors
// are *[Error].
func ParseProto(text string) (klips.Proto, error) {
	for _, p := range [...]klips.Proto{klips.ProtoAH, klips.ProtoESP, klips.ProtoTun, klips.ProtoComp} {
		if text == p.String() {
			return p, nil
		}
	}
	return 0, kindf(Word, "not one of ah, esp, tun, comp")
}

// ParseFamily parses inet or inet6. Errors are *[Error].
func ParseFamily(text string) (Family, error) {
	switch text {
	case "inet":
		return Family4, nil
	case "inet6":
		return Family6, nil
	}
	return FamilyAny, kindf(Word, "not one of inet, inet6")
}
