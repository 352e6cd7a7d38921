package foreign

import (
	"bytes"
	"net/netip"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/render"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
)

// readSetkey reads a file of setkey. Of the policies, the first one that selects a packet
// counts.
func readSetkey(r *reader) error {
	r.ordered = true
	words, err := setkeyWords(r.text)
	if err != nil {
		return err
	}
	for len(words) > 0 {
		end := 0
		for end < len(words) && !words[end].is(";") {
			end++
		}
		if end == len(words) {
			return errorf(words[end-1].line, "the semicolon at the end of the command is missing")
		}
		c := &setkeyReader{&cursor{list: words[:end], line: words[0].line}, r}
		if end > 0 {
			c.command()
		}
		if c.err != nil {
			return c.err
		}
		words = words[end+1:]
	}
	return nil
}

// setkeyWords splits a text. A semicolon is a word.
func setkeyWords(text []byte) (words []token, err error) {
	number := 0
	for line := range bytes.Lines(text) {
		number++
		for {
			line = bytes.TrimLeft(line, " \t\r\n")
			if len(line) == 0 || line[0] == '#' {
				break
			}
			switch line[0] {
			case ';':
				words = append(words, token{line[:1], number, false})
				line = line[1:]
			case '"':
				end := bytes.IndexByte(line[1:], '"')
				if end < 0 {
					return nil, errorf(number, "the closing quote is missing")
				}
				words = append(words, token{line[1 : 1+end], number, true})
				line = line[end+2:]
			default:
				end := bytes.IndexAny(line, " \t\r\n;\"#")
				if end < 0 {
					end = len(line)
				}
				words = append(words, token{line[:end], number, false})
				line = line[end:]
			}
		}
	}
	return words, nil
}

// A setkeyReader reads one command.
type setkeyReader struct {
	*cursor
	r *reader
}

func (x *setkeyReader) command() {
	t := x.next("the command")
	switch {
	case t.is("flush"), t.is("spdflush"):
		x.list = nil // this program makes what follows and removes nothing
	case t.is("add"):
		x.add(t.line)
	case t.is("spdadd"):
		x.spdadd(t.line)
	case t.is("delete"), t.is("deleteall"), t.is("update"), t.is("get"), t.is("dump"), t.is("spddelete"), t.is("spddump"), t.is("spdupdate"):
		x.fail("%s cannot be read; there are add, spdadd, flush and spdflush", t)
	default:
		x.fail("%s is no command of setkey", t)
	}
}

// family reads the options about names, which have no effect on numeric addresses.
func (x *setkeyReader) family() {
	for x.take("-4") || x.take("-6") || x.take("-n") || x.take("-46") || x.take("-4n") || x.take("-6n") {
	}
}

// end reads an address with a port in brackets; 0: there is none.
func (x *setkeyReader) end(what string) (netip.Addr, uint16) {
	t, port := x.port(what)
	return x.parseAddr(what, t), port
}

// port splits a port in brackets from the next token.
func (x *setkeyReader) port(what string) (token, uint16) {
	t := x.next(what)
	i := bytes.IndexByte(t.text, '[')
	if i < 0 {
		return t, 0
	}
	inside, ok := bytes.CutSuffix(t.text[i+1:], []byte("]"))
	t.text = t.text[:i]
	if !ok {
		x.fail("%s: the bracket after the port is missing", what)
	}
	if string(inside) == "any" {
		return t, 0
	}
	return t, uint16(x.parseNumber("the port", token{text: inside, line: t.line}, 16))
}

func (x *setkeyReader) add(line int) {
	s := &state{line: line, sa: &render.SA{}, copyTOS: false}
	sa := s.sa
	x.family()
	var sport, dport uint16
	sa.Src, sport = x.end("the source")
	sa.ID.Dst, dport = x.end("the destination")
	switch p := x.next("the protocol"); string(p.text) {
	case "esp":
		sa.ID.Proto = klips.ProtoESP
	case "ah":
		sa.ID.Proto = klips.ProtoAH
	case "ipcomp":
		sa.ID.Proto = klips.ProtoComp
	case "esp-udp":
		sa.ID.Proto = klips.ProtoESP
		sa.NATT = klips.NATT{Type: klips.NATTNonESP, SPort: sport, DPort: dport}.WithPorts()
		if x.more() && (bytes.IndexByte(x.list[0].text, '.') >= 0 || bytes.IndexByte(x.list[0].text, ':') >= 0) {
			sa.NATT.OA = x.addr("the original address")
		}
	default:
		x.fail("protocol %s has no equivalent; there are esp, esp-udp, ah and ipcomp", p)
	}
	sa.ID.SPI = x.spi()
	for x.more() {
		t := x.next("an option")
		switch string(t.text) {
		case "-m":
			if !x.take("any") {
				s.mode = x.mode()
			}
		case "-r":
			if n := x.number("the size of the window", 32); n > 0 {
				sa.Window = uint32(min(8*n, klips.MaxWindow+1)) // bytes; the check refuses more
			}
		case "-u":
			s.id = uint32(x.number("the identifier", 32))
		case "-f":
			x.next("the padding")
		case "-ls":
			sa.Soft.AddTime = x.number("the lifetime", 64)
		case "-lh":
			sa.Hard.AddTime = x.number("the lifetime", 64)
		case "-bs":
			sa.Soft.Bytes = x.number("the lifetime", 64)
		case "-bh":
			sa.Hard.Bytes = x.number("the lifetime", 64)
		case "-E":
			x.cipher(sa)
		case "-A":
			x.authentication(sa)
		case "-C":
			name := x.next("the compression")
			if sa.Comp = alg.CompOfSetkey(string(name.text)); sa.Comp == alg.CompNone {
				x.fail("compression %s is not known", name)
			}
			if !x.take("-R") {
				x.fail("without -R, setkey takes a CPI of its own; add -R")
			}
		default:
			x.fail("option %s has no equivalent", t)
		}
	}
	if x.err != nil {
		sa.ClearKeys()
		return
	}
	x.err = x.r.addState(s)
}

func (x *setkeyReader) cipher(sa *render.SA) {
	name := x.next("the cipher")
	word := string(name.text)
	if word == "rijndael-cbc" { // the older name
		word = "aes-cbc"
	}
	sa.Enc = alg.EncOfSetkey(word)
	switch {
	case sa.Enc == alg.EncNone:
		x.fail("cipher %s has no equivalent", name)
	case sa.Enc != alg.Null:
		clear(sa.EncKey)
		sa.EncKey = x.key()
	case x.more() && x.list[0].quoted && len(x.list[0].text) == 0:
		x.next("the key") // of no characters
	}
}

// authentication reads an algorithm. One name is for ICVs of 96 and of 128 bits; it has the
// length of RFC 4868 here.
func (x *setkeyReader) authentication(sa *render.SA) {
	name := x.next("the authentication")
	word := strings.Replace(string(name.text), "hmac-sha2-", "hmac-sha", 1) // one of two names
	if word == "null" {
		return
	}
	sa.Auth = alg.AuthNone
	for _, a := range alg.Auths() {
		if row, _ := a.Info(); a != alg.SHA256Trunc && row.Setkey != "" && strings.Replace(row.Setkey, "hmac-sha2-", "hmac-sha", 1) == word {
			sa.Auth = a
		}
	}
	if sa.Auth == alg.AuthNone {
		x.fail("authentication %s has no equivalent", name)
		return
	}
	if sa.Auth == alg.SHA256 {
		x.r.config.Notes = append(x.r.config.Notes, render.Note{Object: sa.ID.String(),
			Why: "hmac-sha2-256 is taken with an ICV of 128 bits, as NetBSD and FreeBSD have it; if the text was for Linux, write sha2_256-96"})
	}
	clear(sa.AuthKey)
	sa.AuthKey = x.key()
}

// key reads a key: hex digits after 0x, or a text in quotes.
func (x *setkeyReader) key() []byte {
	t := x.next("the key")
	if t.quoted {
		return bytes.Clone(t.text)
	}
	digits, ok := bytes.CutPrefix(t.text, []byte("0x"))
	if !ok {
		digits, ok = bytes.CutPrefix(t.text, []byte("0X"))
	}
	if !ok || len(digits) == 0 {
		x.fail("a key is 0x and hex digits, or a text in quotes")
		return nil
	}
	return x.hexKey("the key", digits)
}

func (x *setkeyReader) spdadd(line int) {
	p := &policy{line: line, priority: uint32(len(x.r.policies))}
	x.family()
	if x.peek("tagged") {
		x.fail("tagged policies have no equivalent")
		return
	}
	var t token
	t, p.flow.SrcPort = x.port("the source")
	p.flow.Src = x.parsePrefix("the source", t)
	t, p.flow.DstPort = x.port("the destination")
	p.flow.Dst = x.parsePrefix("the destination", t)
	p.flow.Proto = x.setkeyProtocol()
	p.flow = x.flow(p.flow)
	if !x.take("-P") {
		x.fail("-P and the direction are missing")
		return
	}
	p.dir = x.direction()
	switch a := x.next("ipsec, none or discard"); {
	case a.is("ipsec"):
		for x.more() {
			p.rules = append(p.rules, x.rule(len(p.rules)+1))
		}
	case a.is("none"):
		p.shunt = klips.SPIPass
	case a.is("discard"):
		p.shunt = klips.SPIDrop
	default:
		x.fail("%s is none of ipsec, none and discard", a)
	}
	if x.more() {
		x.fail("%s after the end of the policy", x.next("the end"))
	}
	if x.err == nil {
		x.err = x.r.addPolicy(p)
	}
}

func (x *setkeyReader) setkeyProtocol() uint8 {
	switch {
	case x.take("icmp6"):
		return 58
	case x.take("ip4"):
		return 4
	}
	return x.protocol("the protocol")
}

// rule reads rule n of a policy: protocol/mode/src-dst/level.
func (x *setkeyReader) rule(n int) (ru rule) {
	t := x.next("a rule")
	parts := strings.Split(string(t.text), "/")
	if len(parts) != 4 {
		x.fail("rule %d: it is written protocol/mode/src-dst/level", n)
		return ru
	}
	switch parts[0] {
	case "esp":
		ru.proto = klips.ProtoESP
	case "ah":
		ru.proto = klips.ProtoAH
	case "ipcomp":
		ru.proto = klips.ProtoComp
	default:
		x.fail("rule %d: the protocol is none of esp, ah and ipcomp", n)
	}
	switch parts[1] {
	case "transport":
		ru.mode = transport
	case "tunnel":
		ru.mode = tunnel
	default:
		x.fail("rule %d: the mode is neither transport nor tunnel", n)
	}
	if src, dst, ok := strings.Cut(parts[2], "-"); ok {
		ru.src = x.parseAddr("the source of the rule", token{text: []byte(src), line: t.line})
		ru.dst = x.parseAddr("the destination of the rule", token{text: []byte(dst), line: t.line})
	} else if parts[2] != "" || ru.mode == tunnel {
		x.fail("rule %d: the ends of a tunnel are written src-dst", n)
	}
	level, id, bound := strings.Cut(parts[3], ":")
	switch {
	case level == "unique" && bound:
		ru.id = uint32(x.parseNumber("the identifier", token{text: []byte(id), line: t.line}, 32))
	case bound:
		x.fail("rule %d: only the level unique has an identifier", n)
	case level == "require", level == "unique", level == "use" && ru.proto == klips.ProtoComp:
	default:
		x.fail("rule %d: level %s lets packets pass without protection, and has no equivalent; there are require and unique", n, token{text: []byte(level)})
	}
	return ru
}
