package render

import (
	"fmt"
	"net/netip"
	"strconv"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
)

func ciscoEnc() []word[alg.Enc] {
	return []word[alg.Enc]{
		{alg.TripleDES, 0, "esp-3des"}, {alg.Null, 0, "esp-null"},
		{alg.AES, 128, "esp-aes 128"}, {alg.AES, 192, "esp-aes 192"}, {alg.AES, 256, "esp-aes 256"},
	}
}

// ciscoAuth are the names without the protocol before and hmac behind them.
func ciscoAuth() []word[alg.Auth] {
	return []word[alg.Auth]{
		{alg.MD5, 0, "md5"}, {alg.SHA1, 0, "sha"}, {alg.SHA256, 0, "sha256"}, {alg.SHA384, 0, "sha384"}, {alg.SHA512, 0, "sha512"},
	}
}

// cisco writes a crypto map with manual keys for Cisco IOS. An entry of the map has one flow
// and the SAs of both directions.
func cisco(c *Config) Text {
	w := newWriter(c, "!", true)
	w.remark("Give the crypto map to the outer interface afterwards: crypto map KLIPS")
	receivers := map[klips.Selector][]Group{} // by the flow whose answers they receive
	for _, g := range c.Groups {
		for _, f := range c.admitted(g) {
			receivers[f.Reverse()] = append(receivers[f.Reverse()], g)
		}
	}
	entries := 0
	written := map[klips.SAID]bool{}
	w.flowsTo(c, "IOS", func(e klips.Eroute) {
		w.left(e.Selector, "a crypto map has no word for %s; packets without an entry pass", e.ID)
	}, func(e klips.Eroute, out []layer) {
		in, why := ciscoPair(&e, c.Group(e.ID), out, receivers[e.Selector])
		if why == "" && written[e.ID] {
			why = "an entry with manual keys takes one flow, and " + e.ID.String() + " has another"
		}
		if why != "" {
			w.left(e.Selector, "%s", why)
			return
		}
		entries++
		w.entry(10*entries, e.Selector, out, in)
		for _, l := range [][]layer{out, in} {
			for _, m := range l {
				written[m.ID] = true
				if m.tun != nil {
					written[m.tun.ID] = true
				}
			}
		}
	})
	for _, g := range c.Groups {
		for _, sa := range g {
			if !written[sa.ID] {
				w.left(sa.ID, "no entry of the crypto map uses it")
			}
		}
	}
	return w.text
}

// ciscoPair returns the transforms that receive the answers to an eroute's packets, or why an
// entry cannot have them. The eroute leads to a group with the transforms out; receivers are
// groups for such answers, of any peer.
func ciscoPair(e *klips.Eroute, g Group, out []layer, receivers []Group) (in []layer, why string) {
	for _, o := range receivers {
		if !o.answers(g) {
			continue
		}
		if in != nil {
			return nil, "several groups receive its answers"
		}
		in, why = o.layers()
	}
	switch {
	case why != "":
		return nil, why
	case in == nil:
		return nil, "an entry with manual keys has both directions, and no group receives the answers"
	case len(in) != len(out):
		return nil, "the transforms of both directions differ"
	case e.Is6() || !out[0].dst.Is4():
		return nil, "a crypto map of this form is for IPv4"
	case e.OfBoth():
		return nil, "an entry with manual keys takes one flow, and this is one of TCP and one of UDP"
	}
	order := []klips.Proto{klips.ProtoESP, klips.ProtoAH}
	for i := range out {
		o, n := out[i].SA, in[i].SA
		switch {
		case o.Transform != n.Transform || o.EncKeyBits != n.EncKeyBits:
			return nil, "the algorithms of both directions differ"
		case len(out) > 2 || len(out) == 2 && o.ID.Proto != order[i] || i > 0 && out[i].tun != nil:
			return nil, "a transform set is at most one esp inside one ah, with the tunnel innermost"
		case o.ID.Proto == klips.ProtoComp, o.ID.Proto == klips.ProtoESP && nameOf(ciscoEnc(), o.Enc, o.EncKeyBits) == "",
			o.Auth != alg.AuthNone && nameOf(ciscoAuth(), o.Auth, 0) == "":
			return nil, "IOS has no name for " + lacking(o) + " with manual keys"
		case o.ESN || n.ESN:
			return nil, "manual keys of IOS have no extended sequence numbers"
		case o.NATT.Type != klips.NATTNone || n.NATT.Type != klips.NATTNone:
			return nil, "manual keys of IOS have no encapsulation in UDP"
		}
	}
	return in, ""
}

// entry writes an entry of the crypto map, with its transform set and its access list.
func (w *writer) entry(number int, s klips.Selector, out, in []layer) {
	for i := range out {
		w.losses(out[i].SA, lossLimits|lossSequence|lossTOS|lossAlign|lossDevice, "IOS")
		w.losses(in[i].SA, lossWindow|lossLimits|lossAlign|lossDevice, "IOS")
	}
	name := fmt.Sprintf("KLIPS-%d", number)
	set := ""
	for i := len(out) - 1; i >= 0; i-- {
		if m := &out[i]; m.ID.Proto == klips.ProtoESP {
			set += " " + nameOf(ciscoEnc(), m.Enc, m.EncKeyBits)
			if m.Auth != alg.AuthNone {
				set += " esp-" + nameOf(ciscoAuth(), m.Auth, 0) + "-hmac"
			}
		} else {
			set += " ah-" + nameOf(ciscoAuth(), m.Auth, 0) + "-hmac"
		}
	}
	w.put("ip access-list extended ", name, "\n permit ", aclText(s), "\n")
	w.put("crypto ipsec transform-set ", name, set, "\n mode ", out[0].mode(), "\n")
	w.put("crypto map KLIPS ", number, " ipsec-manual\n set peer ", out[0].dst, "\n")
	for _, d := range [...]struct {
		word string
		l    []layer
	}{{"inbound", in}, {"outbound", out}} {
		for i := range d.l {
			sa := d.l[i].SA
			words := []any{" set session-key", d.word, sa.ID.Proto, uint32(sa.ID.SPI)}
			if sa.ID.Proto == klips.ProtoAH {
				words = append(words, sa.auth(""))
			} else {
				if sa.EncKeyBits > 0 {
					words = append(words, "cipher", sa.enc(""))
				}
				if sa.Auth != alg.AuthNone {
					words = append(words, "authenticator", sa.auth(""))
				}
			}
			w.line(words...)
		}
	}
	w.put(" set transform-set ", name, "\n match address ", name, "\n!\n")
}

// aclText returns a selector in the form of an extended access list, which has the bits that
// may differ.
func aclText(s klips.Selector) string {
	proto := "ip"
	switch s.Proto {
	case 0:
	case 6:
		proto = "tcp"
	case 17:
		proto = "udp"
	default:
		proto = strconv.Itoa(int(s.Proto))
	}
	end := func(p netip.Prefix, port uint16) (t string) {
		switch {
		case p.Bits() == 32:
			t = " host " + p.Addr().String()
		case p.Bits() == 0:
			t = " any"
		default:
			m := ^uint32(0) >> p.Bits()
			t = " " + p.Addr().String() + " " + netip.AddrFrom4([4]byte{byte(m >> 24), byte(m >> 16), byte(m >> 8), byte(m)}).String()
		}
		if port != 0 {
			t += " eq " + strconv.Itoa(int(port))
		}
		return t
	}
	return proto + end(s.Src, s.SrcPort) + end(s.Dst, s.DstPort)
}
