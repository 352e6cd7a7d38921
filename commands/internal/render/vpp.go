package render

import (
	"fmt"
	"net/netip"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
)

func vppEnc() []word[alg.Enc] {
	const salt = alg.SaltBits
	return []word[alg.Enc]{
		{alg.TripleDES, 0, "3des-cbc"}, {alg.Null, 0, "none"},
		{alg.AES, 128, "aes-cbc-128"}, {alg.AES, 192, "aes-cbc-192"}, {alg.AES, 256, "aes-cbc-256"},
		{alg.AESGCM, 128 + salt, "aes-gcm-128"}, {alg.AESGCM, 192 + salt, "aes-gcm-192"}, {alg.AESGCM, 256 + salt, "aes-gcm-256"},
		{alg.ChaCha20Poly1305, 0, "chacha20-poly1305"},
	}
}

func vppAuth() []word[alg.Auth] {
	return []word[alg.Auth]{
		{alg.AuthNone, 0, "none"}, {alg.MD5, 0, "md5-96"}, {alg.SHA1, 0, "sha1-96"}, {alg.SHA256Trunc, 0, "sha-256-96"},
		{alg.SHA256, 0, "sha-256-128"}, {alg.SHA384, 0, "sha-384-192"}, {alg.SHA512, 0, "sha-512-256"},
	}
}

// vpp writes commands for the CLI of VPP. Its policies choose one SA, so groups with several
// transforms are left out.
func vpp(c *Config) Text {
	w := newWriter(c, "#", true)
	w.remark("Bind the policies to the outer interface afterwards: set interface ipsec spd INTERFACE 1\n" +
		"With policies, VPP drops packets that none selects: add policies with action bypass for\n" +
		"those that shall pass in clear.")
	ids := map[klips.SAID]int{}
	w.put("ipsec spd add 1\n")
	w.each(c, func(g Group, l []layer) {
		switch enc, auth := nameOf(vppEnc(), l[0].Enc, l[0].EncKeyBits), nameOf(vppAuth(), l[0].Auth, 0); {
		case len(l) > 1:
			w.left(g, "a policy of VPP leads to one SA, and this group has %d transforms", len(l))
			return
		case l[0].ID.Proto == klips.ProtoComp, enc == "" && l[0].ID.Proto == klips.ProtoESP, auth == "":
			w.left(g, "VPP has no name for %s", lacking(l[0].SA))
			return
		case l[0].NATT.Type == klips.NATTNonIKE:
			w.left(g, "VPP has the encapsulation of RFC 3948 alone")
			return
		case l[0].tun != nil && !specified(l[0].src):
			w.left(g, "VPP needs both ends of a tunnel, and the source is not known")
			return
		}
		id := len(ids) + 1
		ids[l[0].ID] = id
		w.vppSA(&l[0], id)
		flows := c.admitted(g)
		if flows == nil && g.outer().Dir.Receives() {
			w.lost(g, "it has no inbound policy, and no eroute fits, so that no policy of VPP takes its packets")
		}
		for _, f := range flows {
			for _, s := range ofEach(f) {
				w.vppPolicy("inbound", "protect sa "+fmt.Sprint(id), s.Rank(), s.Reverse())
			}
		}
	})
	w.flowsTo(c, "VPP", func(e klips.Eroute) {
		w.shunt(e, "VPP drops such packets without an ICMP error", func(s klips.Selector, pass bool) {
			action := "discard"
			if pass {
				action = "bypass"
			}
			w.vppPolicy("outbound", action, s.Rank(), s)
		})
	}, func(e klips.Eroute, l []layer) {
		id := ids[l[0].ID]
		if id == 0 || len(l) > 1 {
			w.left(e.Selector, "%s is left out", l[0].ID)
			return
		}
		for _, s := range ofEach(e.Selector) {
			w.vppPolicy("outbound", "protect sa "+fmt.Sprint(id), s.Rank(), s)
		}
	})
	return w.text
}

// vppSA writes the command that makes an SA. VPP has the salt of a combined mode as a number.
func (w *writer) vppSA(m *layer, id int) {
	sa := m.SA
	w.losses(sa, lossLimits|lossSequence|lossAlign|lossDevice|lossOA, "VPP")
	if m.tun != nil {
		w.losses(m.tun, lossTOS|lossAllocations, "VPP")
	}
	words := []any{"ipsec sa add", id, "spi", uint32(sa.ID.SPI), sa.ID.Proto}
	if sa.ID.Proto == klips.ProtoESP {
		words = append(words, "crypto-alg", nameOf(vppEnc(), sa.Enc, sa.EncKeyBits))
		key, info := sa.enc(""), sa.Enc
		if row, _ := info.Info(); row.AEAD {
			salt := secret{prefix: "0x"}
			if n := len(key.key) - alg.SaltBits/8; n >= 0 {
				key.key, salt.key = key.key[:n], key.key[n:]
			}
			words = append(words, "salt", salt)
		}
		if sa.EncKeyBits > 0 {
			words = append(words, "crypto-key", key)
		}
	}
	if sa.Auth != alg.AuthNone {
		words = append(words, "integ-alg", nameOf(vppAuth(), sa.Auth, 0), "integ-key", sa.auth(""))
	}
	if m.tun != nil {
		words = append(words, "tunnel src", m.src, "dst", m.dst)
	}
	if sa.Dir.Receives() {
		words = append(words, "inbound")
	}
	switch {
	case sa.Window == 0:
	case sa.Window <= 64:
		words = append(words, "use-anti-replay")
	default:
		words = append(words, "anti-replay-size", sa.Window)
	}
	if sa.ESN {
		words = append(words, "use-esn")
	}
	if n := sa.NATT; n.Type != klips.NATTNone {
		words = append(words, "udp-encap udp-src-port", n.SPort, "udp-dst-port", n.DPort)
	}
	w.line(words...)
}

// vppPolicy writes a policy. Of the selector, the source is the local side. VPP takes the
// greatest priority first.
func (w *writer) vppPolicy(dir, action string, priority uint32, s klips.Selector) {
	words := []any{"ipsec policy add spd 1 priority", priority, dir, "action", action}
	if s.Is6() {
		words = append(words, "ip6")
	}
	if s.Proto != 0 {
		words = append(words, "protocol", int(s.Proto))
	}
	span := func(p netip.Prefix) string { return fmt.Sprintf("%s - %s", p.Addr(), last(p)) }
	words = append(words, "local-ip-range", span(s.Src), "remote-ip-range", span(s.Dst))
	if s.SrcPort != 0 {
		words = append(words, "local-port-range", s.SrcPort, "-", s.SrcPort)
	}
	if s.DstPort != 0 {
		words = append(words, "remote-port-range", s.DstPort, "-", s.DstPort)
	}
	w.line(words...)
}

// last returns the last address of a network.
func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
