package foreign

import (
	"bytes"

	"github.com/klips-go/ipsec/commands/internal/render"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
)

// readIPXfrm reads commands and listings of ip xfrm, also mixed. A listing has a line for the
// ends of each state or policy, and indented lines for the rest.
func readIPXfrm(r *reader) error {
	r.ordered = true
	records, err := ipRecords(r.text)
	if err != nil {
		return err
	}
	for _, rec := range records {
		c := &cursor{list: rec.words, line: rec.words[0].line}
		x := &ipReader{cursor: c, r: r, listing: rec.listing}
		x.record()
		if c.err != nil {
			return c.err
		}
	}
	return nil
}

// An ipRecord is one command, or one state or policy of a listing.
type ipRecord struct {
	words   []token
	listing bool
}

// ipRecords splits a text. Words are in quotes or not, as ip -batch reads them; a backslash at
// the end of a line joins it with the next.
func ipRecords(text []byte) (records []ipRecord, err error) {
	number := 0
	joined := false
	for line := range bytes.Lines(text) {
		number++
		indented := len(line) > 0 && (line[0] == ' ' || line[0] == '\t')
		line = bytes.TrimRight(line, "\r\n")
		goesOn := bytes.HasSuffix(line, []byte{'\\'})
		if goesOn {
			line = line[:len(line)-1]
		}
		words, err := ipWords(line, number)
		if err != nil {
			return nil, err
		}
		begins := len(words) > 0 && !joined && (words[0].is("ip") || words[0].is("xfrm") || !indented)
		switch {
		case len(words) == 0:
		case begins:
			records = append(records, ipRecord{words, words[0].is("src")})
		case len(records) == 0:
			return nil, errorf(number, "the first line is indented, so it belongs to a line that is missing")
		default:
			last := &records[len(records)-1]
			last.words = append(last.words, words...)
		}
		joined = goesOn
	}
	return records, nil
}

func ipWords(line []byte, number int) (words []token, err error) {
	for {
		line = bytes.TrimLeft(line, " \t")
		if len(line) == 0 || line[0] == '#' {
			return words, nil
		}
		if q := line[0]; q == '"' || q == '\'' {
			end := bytes.IndexByte(line[1:], q)
			if end < 0 {
				return nil, errorf(number, "the closing quote is missing")
			}
			words = append(words, token{line[1 : 1+end], number, true})
			line = line[end+2:]
			continue
		}
		end := bytes.IndexAny(line, " \t")
		if end < 0 {
			end = len(line)
		}
		words = append(words, token{line[:end], number, false})
		line = line[end:]
	}
}

// An ipReader reads one record.
type ipReader struct {
	*cursor
	r       *reader
	listing bool
}

func (x *ipReader) record() {
	if x.listing {
		x.listed()
		return
	}
	for x.take("ip") || x.take("-4") || x.take("-6") {
	}
	if !x.take("xfrm") {
		x.fail("%s is no command of ip xfrm", x.next("the command"))
		return
	}
	object := x.next("state or policy")
	verb := x.next("add")
	switch {
	case x.err != nil:
	case verb.is("flush"), verb.is("deleteall"):
		x.list = nil // this program makes what follows and removes nothing
	case !verb.is("add") && !verb.is("update"):
		x.fail("ip xfrm … %s cannot be read; there are add and update", verb)
	case object.is("state"), object.is("sa"):
		x.state()
	case object.is("policy"):
		x.policy()
	default:
		x.fail("ip xfrm %s cannot be read; there are state and policy", object)
	}
}

// listed reads a record of a listing: after the ends, a state has its protocol and SPI, and a
// policy its direction. Policies of sockets are left out, and so are states of IP in IP: the
// kernel makes them itself for compressed tunnels.
func (x *ipReader) listed() {
	for i := 4; i < len(x.list); i++ {
		t := x.list[i]
		switch {
		case t.is("socket"), t.is("proto") && i+2 < len(x.list) && x.list[i+2].is("spi") && (x.list[i+1].is("4") || x.list[i+1].is("41")):
			x.list = nil
			return
		case t.is("spi"):
			x.state()
			return
		case t.is("dir"):
			x.policy()
			return
		}
	}
	x.fail("it is neither a state nor a policy of ip xfrm")
}

// ipNumber reads a number. In listings a comma can follow; with -s they repeat it in the other
// base.
func (x *ipReader) ipNumber(what string, bits int) uint64 {
	t := x.next(what)
	t.text = bytes.TrimSuffix(t.text, []byte(","))
	if i := bytes.IndexByte(t.text, '('); i > 0 {
		t.text = t.text[:i]
	}
	return x.parseNumber(what, t, bits)
}

func (x *ipReader) state() {
	s := &state{line: x.line, sa: &render.SA{}, mode: transport, copyTOS: true}
	sa := s.sa
	sa.Align8 = true
	if len(x.list) > 0 {
		s.line = x.list[0].line
	}
	var seq, oseq uint64
	for x.more() {
		t := x.next("an option")
		switch word := string(t.text); word {
		case "src":
			sa.Src = x.addr(word)
		case "dst":
			sa.ID.Dst = x.addr(word)
		case "proto":
			sa.ID.Proto = x.ipProto()
		case "spi":
			sa.ID.SPI = klips.SPI(x.ipNumber(word, 32))
		case "reqid":
			s.id = uint32(x.ipNumber(word, 32))
		case "mode":
			s.mode = x.mode()
		case "replay-window":
			if n := uint32(x.ipNumber(word, 32)); n > 0 {
				sa.Window = n
			}
		case "replay-seq":
			seq |= x.ipNumber(word, 32)
		case "replay-seq-hi":
			seq |= x.ipNumber(word, 32) << 32
		case "replay-oseq":
			oseq |= x.ipNumber(word, 32)
		case "replay-oseq-hi":
			oseq |= x.ipNumber(word, 32) << 32
		case "flag":
			x.flags(s)
		case "extra-flag", "extra_flag":
			x.extraFlags(s)
		case "auth", "auth-trunc", "enc", "aead", "comp":
			x.algorithm(sa, word)
		case "encap":
			x.encap(sa)
		case "limit":
			x.limit(sa)
		case "seq": // of an acquire
			x.ipNumber(word, 32)
		case "dir": // newer kernels know the direction
			x.next("the direction")
		case "lastused":
			if day := x.next("a date"); !day.is("-") {
				x.next("a time")
			}
		case "sel":
			x.stateSelector(sa)
		case "mark", "output-mark", "if_id":
			if v := x.next(word); !v.is("0") && !v.is("0x0") && !v.is("0/0") && !v.is("0x0/0x0") {
				x.fail("%s %s has no equivalent", word, v)
			}
		case "anti-replay":
			x.antiReplay(&sa.Window, &seq, &oseq)
		case "lifetime", "stats:":
			x.skipStatistics()
		default:
			if t.quoted || !knownByIP(word) {
				x.fail("option %s of a state is not known", t)
			} else {
				x.fail("option %s of a state has no equivalent", t)
			}
		}
	}
	if x.err != nil {
		sa.ClearKeys()
		return
	}
	if sa.ID.Proto != klips.ProtoAH || !sa.ID.Dst.Is4() {
		sa.Align8 = false
	}
	if s.mode != tunnel {
		s.copyTOS = false
	}
	if oseq != 0 {
		sa.Seq = &oseq
	}
	if seq != 0 && sa.Window > 0 {
		sa.ReplaySeq = &seq
	}
	x.err = x.r.addState(s)
}

// knownByIP reports whether a word is an option that this program has no equivalent for.
func knownByIP(word string) bool {
	switch word {
	case "coa", "ctx", "offload", "tfcpad", "security", "crypto", "mapping_maxage", "nat-keepalive-interval", "pcpu-num", "iptfs-opts":
		return true
	}
	return false
}

func (x *ipReader) ipProto() klips.Proto {
	t := x.next("the protocol")
	switch string(t.text) {
	case "esp", "50":
		return klips.ProtoESP
	case "ah", "51":
		return klips.ProtoAH
	case "comp", "ipcomp", "108":
		return klips.ProtoComp
	}
	x.fail("protocol %s is none of esp, ah and comp", t)
	return 0
}

func (c *cursor) mode() mode {
	switch t := c.next("the mode"); {
	case t.is("transport"):
		return transport
	case t.is("tunnel"):
		return tunnel
	default:
		c.fail("mode %s has no equivalent; there are transport and tunnel", t)
		return transport
	}
}

func (c *cursor) direction() direction {
	switch t := c.next("the direction"); {
	case t.is("out"):
		return out
	case t.is("in"):
		return in
	case t.is("fwd"):
		return forward
	default:
		c.fail("direction %s is none of out, in and fwd", t)
		return out
	}
}

// flags reads the flags that follow.
func (x *ipReader) flags(s *state) {
	for x.more() {
		switch string(x.list[0].text) {
		case "align4":
			s.sa.Align8 = false
		case "esn":
			s.sa.ESN = true
		case "noecn":
			if x.listing { // which does not show the flag about the rest of the TOS
				s.copyTOS = false
			}
		case "nopmtudisc", "af-unspec":
		case "decap-dscp", "wildrecv", "icmp":
			x.fail("flag %s has no equivalent", x.next("a flag"))
		default:
			return
		}
		x.next("a flag")
	}
}

func (x *ipReader) extraFlags(s *state) {
	for x.more() {
		switch string(x.list[0].text) {
		case "dont-encap-dscp":
			s.copyTOS = false
		case "oseq-may-wrap":
		default:
			return
		}
		x.next("a flag")
	}
}

// algorithm reads an algorithm with its key. Without auth-trunc the kernel has an ICV of its
// own choice, which for HMAC-SHA-256 is not that of RFC 4868.
func (x *ipReader) algorithm(sa *render.SA, kind string) {
	name := x.next("the algorithm")
	if x.err != nil {
		return
	}
	kernel := string(name.text)
	switch kernel { // the short names that the kernel takes, too
	case "md5", "sha1", "sha256", "sha384", "sha512":
		kernel = "hmac(" + kernel + ")"
	case "aes", "des3_ede":
		kernel = "cbc(" + kernel + ")"
	case "cipher_null":
		kernel = "ecb(cipher_null)"
	}
	if kind == "comp" {
		if sa.Comp = alg.CompOfKernel(kernel); sa.Comp == alg.CompNone {
			x.fail("compression %s has no equivalent", name)
		}
		return
	}
	var key []byte
	if null := kernel == "ecb(cipher_null)"; !null || x.more() && (x.list[0].quoted && len(x.list[0].text) == 0) {
		key = x.ipKey()
	}
	icv := 0
	switch kind {
	case "auth-trunc", "aead":
		icv = int(x.ipNumber("the length of the ICV", 16))
	case "auth":
		icv = 96
		switch kernel {
		case "hmac(sha384)":
			icv = 192
		case "hmac(sha512)":
			icv = 256
		}
	}
	switch kind {
	case "auth", "auth-trunc":
		clear(sa.AuthKey)
		sa.AuthKey = key
		if sa.Auth = alg.AuthOfKernel(kernel, uint32(icv)); sa.Auth == alg.AuthNone {
			x.fail("authentication %s with an ICV of %d bits has no equivalent", name, icv)
		}
	default:
		clear(sa.EncKey)
		sa.EncKey = key
		sa.Enc = alg.EncOfKernel(kernel)
		if row, _ := sa.Enc.Info(); sa.Enc == alg.EncNone || row.AEAD != (kind == "aead") || row.AEAD && 8*row.ICV != icv {
			x.fail("%s %s has no equivalent", kind, name)
		}
	}
}

// ipKey reads a key: hex digits after 0x, else the characters themselves.
func (x *ipReader) ipKey() []byte {
	t := x.next("the key")
	if digits, ok := bytes.CutPrefix(t.text, []byte("0x")); ok && len(digits) > 0 {
		return x.hexKey("the key", digits)
	}
	if bytes.HasPrefix(t.text, []byte("<<")) {
		x.fail("the keys are hidden; list them without nokeys")
		return nil
	}
	return bytes.Clone(t.text)
}

func (x *ipReader) encap(sa *render.SA) {
	x.take("type")
	switch form := x.next("the form of the encapsulation"); {
	case form.is("espinudp"):
		sa.NATT.Type = klips.NATTNonESP
	case form.is("espinudp-nonike"):
		sa.NATT.Type = klips.NATTNonIKE
	default:
		x.fail("encapsulation %s has no equivalent", form)
	}
	x.take("sport")
	sa.NATT.SPort = uint16(x.ipNumber("the source port", 16))
	x.take("dport")
	sa.NATT.DPort = uint16(x.ipNumber("the destination port", 16))
	x.take("addr")
	if a := x.addr("the original address"); a.IsValid() && !a.IsUnspecified() {
		sa.NATT.OA = a
	}
	if sa.NATT.SPort == 0 || sa.NATT.DPort == 0 {
		x.fail("the encapsulation needs both ports")
	}
}

func (x *ipReader) limit(sa *render.SA) {
	t := x.next("the limit")
	n := x.ipNumber("the limit", 64)
	switch string(t.text) {
	case "time-soft":
		sa.Soft.AddTime = n
	case "time-hard":
		sa.Hard.AddTime = n
	case "time-use-soft":
		sa.Soft.UseTime = n
	case "time-use-hard":
		sa.Hard.UseTime = n
	case "byte-soft":
		sa.Soft.Bytes = n
	case "byte-hard":
		sa.Hard.Bytes = n
	case "packet-soft":
		sa.Soft.Packets = n
	case "packet-hard":
		sa.Hard.Packets = n
	default:
		x.fail("limit %s is not known", t)
	}
}

// stateSelector reads the selector of a state. One that selects less than all is noted.
func (x *ipReader) stateSelector(sa *render.SA) {
	if s := x.selector(); x.err == nil && (s.Src.Bits()+s.Dst.Bits() != 0 || s.Proto != 0) {
		x.r.config.Notes = append(x.r.config.Notes, render.Note{Object: sa.ID.String(), Why: "its own selector is not taken over; inbound policies are"})
	}
}

// selector reads the words that select packets.
func (x *ipReader) selector() (s klips.Selector) {
	for {
		switch {
		case x.take("src"):
			s.Src = x.prefix("the source")
		case x.take("dst"):
			s.Dst = x.prefix("the destination")
		case x.take("proto"):
			s.Proto = x.protocol("the protocol")
		case x.take("sport"):
			s.SrcPort = uint16(x.ipNumber("the source port", 16))
		case x.take("dport"):
			s.DstPort = uint16(x.ipNumber("the destination port", 16))
		case x.peek("type"), x.peek("code"), x.peek("key"), x.peek("dev"):
			x.fail("the selector has %s, which has no equivalent", x.list[0])
		default:
			return x.filled(s)
		}
	}
}

// antiReplay reads the numbers in a listing.
func (x *ipReader) antiReplay(window *uint32, seq, oseq *uint64) {
	for x.more() && !bytes.HasSuffix(x.list[0].text, []byte(":")) {
		x.next("context")
	}
	x.next("context:")
	for x.more() {
		name := string(x.list[0].text)
		var to *uint64
		shift := 0
		switch name {
		case "seq":
			to = seq
		case "seq-hi":
			to, shift = seq, 32
		case "oseq":
			to = oseq
		case "oseq-hi":
			to, shift = oseq, 32
		case "bitmap", "bitmap-length":
		case "replay_window":
			x.next(name)
			*window = uint32(x.ipNumber(name, 32))
			continue
		default:
			if len(name) == 8 && isHexWord(name) { // a part of the bitmap
				x.next("bitmap")
				continue
			}
			return
		}
		x.next(name)
		if n := x.ipNumber(name, 32); to != nil {
			*to |= n << shift
		}
	}
}

func isHexWord(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// skipStatistics skips what ip -s lists at the end of a record.
func (x *ipReader) skipStatistics() { x.list = nil }

func (x *ipReader) policy() {
	p := &policy{line: x.line}
	if len(x.list) > 0 {
		p.line = x.list[0].line
	}
	selected, seen := false, false
	for x.more() {
		if x.peek("src") || x.peek("dst") || x.peek("proto") {
			if selected {
				x.fail("the packets are selected twice")
			}
			p.flow, selected = x.selector(), true
			continue
		}
		t := x.next("an option")
		switch word := string(t.text); word {
		case "dir":
			seen = true
			p.dir = x.direction()
		case "priority":
			p.priority = uint32(x.ipNumber(word, 32))
		case "action":
			switch a := x.next("the action"); {
			case a.is("allow"):
			case a.is("block"):
				p.shunt = klips.SPIDrop
			default:
				x.fail("action %s is none of allow and block", a)
			}
		case "tmpl":
			p.rules = append(p.rules, x.template())
		case "ptype":
			if v := x.next(word); !v.is("main") {
				x.fail("ptype %s has no equivalent", v)
			}
		case "index":
			x.ipNumber(word, 32)
		case "share":
			x.next(word)
		case "uid":
			x.next(word)
		case "flag", "mark", "if_id", "ctx", "dev", "security":
			if v := x.next(word); !v.is("0") && !v.is("0x0") && !v.is("0/0") && !v.is("(0x00000000)") {
				x.fail("%s %s of a policy has no equivalent", word, v)
			}
		case "limit":
			x.limit(&render.SA{})
		case "lifetime":
			x.skipToTemplates()
		default:
			x.fail("option %s of a policy is not known", t)
		}
	}
	switch {
	case x.err != nil:
		return
	case !selected:
		x.fail("the source and the destination of the packets are missing")
	case !seen:
		x.fail("the direction of the policy (dir) is missing")
	}
	if p.shunt == 0 && len(p.rules) == 0 {
		p.shunt = klips.SPIPass
	}
	if x.err == nil {
		x.err = x.r.addPolicy(p)
	}
}

// skipToTemplates skips the lifetimes that ip -s lists before the templates.
func (x *ipReader) skipToTemplates() {
	for x.more() && !x.peek("tmpl") {
		x.next("lifetime")
	}
}

// template reads the state that a policy asks for.
func (x *ipReader) template() (ru rule) {
	ru.mode = transport
	for {
		switch {
		case x.take("src"):
			ru.src = x.addr("the source")
		case x.take("dst"):
			ru.dst = x.addr("the destination")
		case x.take("proto"):
			ru.proto = x.ipProto()
		case x.take("spi"):
			ru.spi = klips.SPI(x.ipNumber("spi", 32))
		case x.take("reqid"):
			ru.id = uint32(x.ipNumber("reqid", 32))
		case x.take("mode"):
			ru.mode = x.mode()
		case x.take("level"):
			if l := x.next("the level"); !l.is("required") && !(l.is("use") && ru.proto == klips.ProtoComp) {
				x.fail("level %s lets packets pass without protection, and has no equivalent", l)
			}
		case x.take("share"):
			x.next("share")
		case x.more() && bytes.HasSuffix(x.list[0].text, []byte("-mask")): // enc-mask and the like, of ip -s
			x.next("mask")
			x.next("mask")
		default:
			if ru.proto == 0 {
				x.fail("the template names no protocol")
			}
			return ru
		}
	}
}
