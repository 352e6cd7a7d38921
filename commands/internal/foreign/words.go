package foreign

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/netdb"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/internal/render"
	"github.com/klips-go/ipsec/klips"
)

// A token is a word of a text. It is a part of the text, so that no copy of a key is made.
type token struct {
	text   []byte
	line   int
	quoted bool // it was in quotes, which are not part of it
}

// is reports whether the token is a word without quotes.
func (t token) is(word string) bool { return !t.quoted && string(t.text) == word }

// String returns the token for messages; a key is not shown.
func (t token) String() string { return quote.Value(string(t.text)) }

// A cursor reads tokens one after the other. After an error it has no more tokens.
type cursor struct {
	list []token
	line int // of the last token
	err  error
}

func (c *cursor) more() bool { return c.err == nil && len(c.list) > 0 }

// fail notes the first error.
func (c *cursor) fail(format string, args ...any) {
	if c.err == nil {
		c.err = errorf(c.line, format, args...)
	}
}

// next returns the next token. what names it for the error.
func (c *cursor) next(what string) token {
	if !c.more() {
		c.fail("%s is missing at the end", what)
		return token{line: c.line}
	}
	t := c.list[0]
	c.list, c.line = c.list[1:], t.line
	return t
}

// peek reports whether the next token is a word.
func (c *cursor) peek(word string) bool { return c.more() && c.list[0].is(word) }

// take reads the next token if it is a word.
func (c *cursor) take(word string) bool {
	if !c.peek(word) {
		return false
	}
	c.next(word)
	return true
}

// number reads a number in decimal or, after 0x, in hex.
func (c *cursor) number(what string, bits int) uint64 {
	t := c.next(what)
	return c.parseNumber(what, t, bits)
}

func (c *cursor) parseNumber(what string, t token, bits int) uint64 {
	if c.err != nil {
		return 0
	}
	text := string(t.text)
	base := 10
	if hex, ok := strings.CutPrefix(text, "0x"); ok {
		text, base = hex, 16
	}
	n, err := strconv.ParseUint(text, base, bits)
	if err != nil {
		c.fail("%s: %s is no number of %d bits", what, t, bits)
	}
	return n
}

// addr reads a numeric address.
func (c *cursor) addr(what string) netip.Addr { return c.parseAddr(what, c.next(what)) }

func (c *cursor) parseAddr(what string, t token) netip.Addr {
	if c.err != nil {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(string(t.text))
	if err != nil || a.Zone() != "" || a.Is4In6() {
		c.fail("%s: %s is no numeric address", what, t)
	}
	return a
}

// prefix reads an address with or without the length of a prefix.
func (c *cursor) prefix(what string) netip.Prefix { return c.parsePrefix(what, c.next(what)) }

func (c *cursor) parsePrefix(what string, t token) netip.Prefix {
	if c.err != nil {
		return netip.Prefix{}
	}
	text := string(t.text)
	if !strings.Contains(text, "/") {
		a := c.parseAddr(what, t)
		return netip.PrefixFrom(a, a.BitLen())
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4In6() {
		c.fail("%s: %s is no network; it is written like 10.1.0.0/16", what, t)
		return netip.Prefix{}
	}
	if p != p.Masked() {
		c.fail("%s: %s has bits behind its mask", what, t)
	}
	return p
}

// protocol reads a protocol, by name or number; any is 0.
func (c *cursor) protocol(what string) uint8 {
	t := c.next(what)
	if c.err != nil || t.is("any") {
		return 0
	}
	n, err := netdb.ParseProtocol(string(t.text))
	if err != nil {
		c.fail("%s: %s is no protocol", what, t)
	}
	return n
}

// spi reads the number of an SA.
func (c *cursor) spi() klips.SPI { return klips.SPI(c.number("the SPI", 32)) }

// hexKey returns the bytes of hex digits. Of an odd number of digits, the first one is a byte,
// as ip and setkey have it.
func (c *cursor) hexKey(what string, digits []byte) []byte {
	key := make([]byte, (len(digits)+1)/2)
	for i, d := range digits {
		var v byte
		switch {
		case '0' <= d && d <= '9':
			v = d - '0'
		case 'a' <= d && d <= 'f':
			v = d - 'a' + 10
		case 'A' <= d && d <= 'F':
			v = d - 'A' + 10
		default:
			clear(key)
			if string(digits) == render.NotShown {
				c.fail("%s is not shown in this text; export it with --show-keys", what)
			} else {
				c.fail("%s has a character that is no hex digit", what)
			}
			return nil
		}
		at := i + len(digits)%2
		key[at/2] |= v << (4 * (1 - at%2))
	}
	return key
}

// filled gives a selector the side that is not given, all of the other's family, and checks it.
func (c *cursor) filled(s klips.Selector) klips.Selector {
	all := func(of netip.Prefix) netip.Prefix {
		if of.Addr().Is6() {
			return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	if !s.Src.IsValid() {
		s.Src = all(s.Dst)
	}
	if !s.Dst.IsValid() {
		s.Dst = all(s.Src)
	}
	return c.flow(s)
}

// flow checks a selector.
func (c *cursor) flow(s klips.Selector) klips.Selector {
	switch {
	case c.err != nil:
	case !s.Src.IsValid() || !s.Dst.IsValid():
		c.fail("the source or the destination of the packets is missing")
	case s.Src.Addr().Is4() != s.Dst.Addr().Is4():
		c.fail("the packets are from %s to %s, which are of different families", s.Src, s.Dst)
	case (s.SrcPort != 0 || s.DstPort != 0) && s.Proto != 6 && s.Proto != 17:
		c.fail("ports are those of TCP or UDP in KLIPS")
	}
	return s
}
