package foreign

import (
	"bytes"
	"net/netip"

	"github.com/klips-go/ipsec/commands/internal/render"
	"github.com/klips-go/ipsec/klips"
)

// readIpsecctl reads a file of OpenBSD's ipsecctl. A flow finds its SAs by their protocol and
// their ends, so flows are resolved when all SAs are known.
func readIpsecctl(r *reader) error {
	x := &ipsecctlReader{r: r, bundles: map[string][]*state{}, bundleOf: map[*state][]*state{}}
	number := 0
	var words []token
	for line := range bytes.Lines(r.text) {
		number++
		line = bytes.TrimRight(line, "\r\n")
		goesOn := bytes.HasSuffix(line, []byte{'\\'})
		if goesOn {
			line = line[:len(line)-1]
		}
		more, err := ipWords(line, number)
		if err != nil {
			return err
		}
		words = append(words, more...)
		if goesOn || len(words) == 0 {
			continue
		}
		x.cursor = &cursor{list: words, line: words[0].line}
		x.rule()
		if x.err == nil && x.more() {
			x.fail("%s is not expected here", x.next("the end"))
		}
		if x.err != nil {
			return x.err
		}
		words = nil
	}
	if len(words) > 0 {
		return errorf(number, "the last line ends with a backslash")
	}
	for _, b := range x.bundles {
		for _, s := range b {
			x.bundleOf[s] = b
		}
	}
	for _, f := range x.flows {
		if err := x.resolve(f); err != nil {
			return err
		}
	}
	return nil
}

type ipsecctlReader struct {
	*cursor
	r        *reader
	bundles  map[string][]*state // by name, from the innermost to the outermost
	bundleOf map[*state][]*state // of its states; made when all are known
	flows    []*ipsecctlFlow
}

// An ipsecctlFlow is a policy before its SAs are found.
type ipsecctlFlow struct {
	*policy
	proto       klips.Proto
	local, peer netip.Addr // not valid: any
}

func (x *ipsecctlReader) rule() {
	t := x.next("a rule")
	switch {
	case t.is("esp"):
		x.sa(t.line, klips.ProtoESP)
	case t.is("ah"):
		x.sa(t.line, klips.ProtoAH)
	case t.is("flow"):
		x.readFlow(t.line)
	case t.is("ike"), t.is("tcpmd5"), t.is("ipcomp"), t.is("ipip"), t.is("include"):
		x.fail("a rule %s has no equivalent; there are esp and ah with manual keys, and flow", t)
	case x.peek("="):
		x.fail("macros cannot be read; write the value where the macro is")
	default:
		x.fail("%s is no rule; there are esp, ah and flow", t)
	}
}

// hosts reads from SRC to DST.
func (x *ipsecctlReader) host(word string) netip.Addr {
	if !x.take(word) {
		x.fail("the word %s is missing", word)
	}
	return x.addr(word)
}

// A pair is the values of both directions, with a colon between them.
type pair struct{ out, in []byte }

func (x *ipsecctlReader) pair(what string) (p pair) {
	t := x.next(what)
	if t.is("file") {
		x.fail("%s in a file cannot be read; write it into the rule", what)
	}
	p.out, p.in, _ = bytes.Cut(t.text, []byte(":"))
	return p
}

func (x *ipsecctlReader) sa(line int, proto klips.Proto) {
	mode := tunnel
	if x.peek("tunnel") || x.peek("transport") {
		mode = x.mode()
	}
	src, dst := x.host("from"), x.host("to")
	if !x.take("spi") {
		x.fail("the word spi is missing")
	}
	spis := x.pair("the SPI")
	var natt klips.NATT
	if x.take("udpencap") {
		natt = klips.NATT{Type: klips.NATTNonESP}.WithPorts()
		if x.take("port") {
			natt.DPort = uint16(x.number("the port", 16))
		}
	}
	auth, enc := "hmac-sha2-256", "aes"
	for {
		if x.take("auth") {
			auth = string(x.next("the authentication").text)
		} else if x.take("enc") {
			enc = string(x.next("the cipher").text)
		} else {
			break
		}
	}
	var authKeys, encKeys pair
	if x.take("authkey") {
		authKeys = x.pair("the authentication key")
	}
	if x.take("enckey") {
		encKeys = x.pair("the encryption key")
	}
	bundle := ""
	if x.take("bundle") {
		bundle = string(x.next("the name of the bundle").text)
	}
	define := func(src, dst netip.Addr, spi, authKey, encKey []byte, natt klips.NATT) *state {
		s := &state{line: line, mode: mode, sa: &render.SA{}}
		sa := s.sa
		sa.Src, sa.NATT, sa.Window = src, natt, render.IpsecctlWindow
		sa.ID = klips.SAID{Dst: dst, Proto: proto, SPI: klips.SPI(x.parseNumber("the SPI", token{text: spi, line: line}, 32))}
		if authKey != nil {
			sa.AuthKey = x.hexKey("the authentication key", bytes.TrimPrefix(authKey, []byte("0x")))
		}
		if encKey != nil {
			sa.EncKey = x.hexKey("the encryption key", bytes.TrimPrefix(encKey, []byte("0x")))
		}
		var ok bool
		if sa.Auth, ok = render.IpsecctlAuth(auth); !ok && x.err == nil {
			x.fail("authentication %s has no equivalent", token{text: []byte(auth)})
		}
		if proto == klips.ProtoESP {
			bits := 0
			if sa.Enc, bits, ok = render.IpsecctlEnc(enc); !ok && x.err == nil {
				x.fail("cipher %s has no equivalent with manual keys", token{text: []byte(enc)})
			}
			if bits != 0 && bits != 8*len(sa.EncKey) && x.err == nil {
				x.fail("cipher %s needs a key of %d bits, and this one has %d", enc, bits, 8*len(sa.EncKey))
			}
		}
		if x.err != nil {
			sa.ClearKeys()
			return s
		}
		x.err = x.r.addState(s)
		return s
	}
	s := define(src, dst, spis.out, authKeys.out, encKeys.out, natt)
	if bundle != "" {
		x.bundles[bundle] = append(x.bundles[bundle], s)
	}
	if x.err != nil || spis.in == nil && authKeys.in == nil && encKeys.in == nil {
		return
	}
	if spis.in == nil {
		x.fail("there are keys for both directions, and one SPI; write spi OUT:IN")
		return
	}
	// A key without a second value is for both directions.
	both := func(p pair) []byte {
		if p.in != nil {
			return p.in
		}
		return p.out
	}
	natt.SPort, natt.DPort = natt.DPort, natt.SPort
	back := define(dst, src, spis.in, both(authKeys), both(encKeys), natt)
	if bundle != "" {
		const reverse = "\x00reverse" // no name has it
		x.bundles[bundle+reverse] = append(x.bundles[bundle+reverse], back)
	}
}

func (x *ipsecctlReader) readFlow(line int) {
	f := &ipsecctlFlow{policy: &policy{line: line}, proto: klips.ProtoESP}
	switch {
	case x.take("esp"):
	case x.take("ah"):
		f.proto = klips.ProtoAH
	case x.peek("ipip"), x.peek("ipcomp"):
		x.fail("a flow of %s has no equivalent", x.next("esp or ah"))
		return
	}
	both := false
	switch {
	case x.take("in"):
		f.dir = in
	case x.take("out"):
	default:
		both = true
	}
	if x.take("proto") {
		f.flow.Proto = x.protocol("the protocol")
	}
	f.flow.Src, f.flow.SrcPort = x.side("from")
	f.flow.Dst, f.flow.DstPort = x.side("to")
	f.flow = x.filled(f.flow)
	if x.take("local") {
		f.local = x.addr("local")
	}
	far := f.flow.Dst
	if f.dir == in {
		far = f.flow.Src
	}
	if x.take("peer") {
		f.peer = x.addr("peer")
	} else if far.IsSingleIP() {
		f.peer = far.Addr()
	}
	if x.take("type") {
		switch t := x.next("the type"); {
		case t.is("require"):
		case t.is("bypass"):
			f.shunt = klips.SPIPass
		case t.is("deny"):
			f.shunt = klips.SPIDrop
		default:
			x.fail("type %s lets packets pass without protection, or asks a key daemon; there are require, bypass and deny", t)
		}
	}
	if x.err != nil {
		return
	}
	x.flows = append(x.flows, f)
	if both {
		back := *f
		back.policy = &policy{line: line, dir: in, shunt: f.shunt, flow: f.flow.Reverse()}
		x.flows = append(x.flows, &back)
	}
}

// side reads one side of a flow; the prefix is not valid for any.
func (x *ipsecctlReader) side(word string) (p netip.Prefix, port uint16) {
	if !x.take(word) {
		x.fail("the word %s is missing", word)
	}
	if !x.take("any") {
		p = x.prefix(word)
	}
	if x.take("port") {
		port = uint16(x.number("the port", 16))
	}
	return p, port
}

// resolve finds the SAs of a flow: the one with its protocol and its ends, which is the first of
// its bundle if it has one, and the others of the bundle.
func (x *ipsecctlReader) resolve(f *ipsecctlFlow) error {
	if err := x.r.addPolicy(f.policy); err != nil || f.shunt != 0 {
		return err
	}
	var fits []*state
	for _, s := range x.r.states {
		local, peer := s.sa.Src, s.sa.ID.Dst
		if f.dir == in {
			local, peer = peer, local
		}
		if s.sa.ID.Proto != f.proto || f.local.IsValid() && f.local != local || f.peer != peer {
			continue
		}
		if b := x.bundleOf[s]; b == nil || b[0] == s {
			fits = append(fits, s)
		}
	}
	switch len(fits) {
	case 0:
		return errorf(f.line, "the flow %s has no SA of its ends in the text", f.flow)
	case 1:
	default:
		return errorf(f.line, "the flow %s fits %s and %s, and OpenBSD may take either", f.flow, fits[0].sa.ID, fits[1].sa.ID)
	}
	f.states = fits
	if b := x.bundleOf[fits[0]]; b != nil {
		f.states = b
	}
	return nil
}
