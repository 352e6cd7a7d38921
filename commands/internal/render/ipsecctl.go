package render

import (
	"fmt"
	"net/netip"
	"strconv"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
)

// ipsecctlEnc are the ciphers that OpenBSD takes with manual keys; the combined modes are for
// key daemons alone.
func ipsecctlEnc() []word[alg.Enc] {
	return []word[alg.Enc]{
		{alg.TripleDES, 0, "3des-cbc"}, {alg.Null, 0, "null"},
		{alg.AES, 128, "aes-128"}, {alg.AES, 192, "aes-192"}, {alg.AES, 256, "aes-256"},
	}
}

func ipsecctlAuth() []word[alg.Auth] {
	return []word[alg.Auth]{
		{alg.AuthNone, 0, "none"}, {alg.MD5, 0, "hmac-md5"}, {alg.SHA1, 0, "hmac-sha1"},
		{alg.SHA256, 0, "hmac-sha2-256"}, {alg.SHA384, 0, "hmac-sha2-384"}, {alg.SHA512, 0, "hmac-sha2-512"},
	}
}

// IpsecctlWindow is the replay window of OpenBSD's SAs with manual keys, in packets.
const IpsecctlWindow = 64

// ipsecctl writes a file for ipsecctl -f, in the form of ipsec.conf of OpenBSD.
func ipsecctl(c *Config) Text {
	w := newWriter(c, "#", true)
	w.remark("ipsecctl -f FILE makes these. OpenBSD has a replay window of %d packets for each SA.", IpsecctlWindow)
	written := map[klips.SAID]bool{}
	bundles := 0
	used := map[string]klips.SAID{}
	w.each(c, func(g Group, l []layer) {
		for i := range l {
			if why := ipsecctlLacks(&l[i]); why != "" {
				w.left(g, "%s: %s", l[i].ID, why)
				return
			}
		}
		bundle := ""
		if len(l) > 1 {
			bundles++
			bundle = fmt.Sprintf("group%d", bundles)
		}
		// OpenBSD finds the SA of a flow by its protocol and its ends.
		ends := fmt.Sprint(l[0].ID.Proto, l[0].src, l[0].dst)
		if other, ok := used[ends]; ok {
			w.lost(g, "OpenBSD finds an SA by its ends, which are those of %s, too; it may take either", other)
		}
		used[ends] = l[0].ID
		for i := range l {
			w.sa(&l[i], bundle)
			written[l[i].ID] = true
		}
		flows := c.admitted(g)
		if flows == nil && g.outer().Dir.Receives() {
			w.lost(g, "it has no inbound policy, and no eroute fits, so that no flow requires it")
		}
		for _, f := range flows {
			for _, s := range ofEach(f) {
				w.flow(s, &l[0], "in", l[0].dst, l[0].src)
			}
		}
	})
	w.flowsTo(c, "ipsecctl", func(e klips.Eroute) {
		w.shunt(e, "OpenBSD drops such packets without an ICMP error", func(s klips.Selector, pass bool) {
			word := "deny"
			if pass {
				word = "bypass"
			}
			w.line("flow out"+flowWords(s), "type", word)
		})
	}, func(e klips.Eroute, l []layer) {
		for _, m := range l {
			if !written[m.ID] {
				w.left(e.Selector, "%s is left out", m.ID)
				return
			}
		}
		if g := c.Group(e.ID); g[0].ID != e.ID {
			w.left(e.Selector, "it leads to %s, which is inside a bundle; OpenBSD begins with the first", e.ID)
			return
		}
		for _, s := range ofEach(e.Selector) {
			w.flow(s, &l[0], "out", l[0].src, l[0].dst)
		}
	})
	return w.text
}

// IpsecctlEnc returns the cipher with a name of OpenBSD, and the length of its key in bits; 0:
// any that the cipher allows.
func IpsecctlEnc(name string) (e alg.Enc, bits int, ok bool) {
	switch name {
	case "aes":
		return alg.AES, 0, true
	case "3des":
		name = "3des-cbc"
	}
	w, ok := named(ipsecctlEnc(), name)
	return w.id, w.bits, ok
}

// IpsecctlAuth returns the authentication with a name of OpenBSD.
func IpsecctlAuth(name string) (alg.Auth, bool) {
	w, ok := named(ipsecctlAuth(), name)
	return w.id, ok
}

// ipsecctlLacks returns why OpenBSD cannot have an SA with manual keys; empty: it can.
func ipsecctlLacks(m *layer) string {
	enc, _ := m.Enc.Info()
	encOK := m.ID.Proto == klips.ProtoAH || nameOf(ipsecctlEnc(), m.Enc, m.EncKeyBits) != ""
	switch {
	case m.ID.Proto == klips.ProtoComp:
		return "a bundle of OpenBSD's ipsec.conf does not compress"
	case enc.AEAD:
		return "OpenBSD takes " + enc.Word + " from key daemons alone"
	case m.ESN:
		return "ipsecctl has no extended sequence numbers"
	case !encOK || nameOf(ipsecctlAuth(), m.Auth, 0) == "":
		return "ipsecctl has no name for " + lacking(m.SA)
	case !specified(m.src):
		return "ipsecctl needs the source of each SA, and it has none"
	case m.NATT.Type == klips.NATTNonIKE:
		return "OpenBSD has the encapsulation of RFC 3948 alone"
	case m.NATT.Type == klips.NATTNonESP && m.NATT.SPort != 4500:
		return fmt.Sprintf("OpenBSD sends UDP from port 4500 alone, and the source port is %d", m.NATT.SPort)
	}
	return ""
}

// sa writes the rule that makes an SA.
func (w *writer) sa(m *layer, bundle string) {
	sa := m.SA
	if sa.Dir.Receives() && sa.Window != IpsecctlWindow {
		w.lost(sa.ID, "its replay window is %d packets here, and %d on OpenBSD", sa.Window, IpsecctlWindow)
	}
	w.losses(sa, lossLimits|lossSequence|lossTOS|lossAlign|lossDevice|lossOA, "ipsecctl")
	if m.tun != nil {
		w.losses(m.tun, lossTOS|lossAllocations, "ipsecctl")
	}
	words := []any{sa.ID.Proto, m.mode(), "from", m.src, "to", m.dst, "spi", spiText(sa.ID.SPI)}
	if n := sa.NATT; n.Type == klips.NATTNonESP {
		words = append(words, "udpencap")
		if n.DPort != 4500 {
			words = append(words, "port", n.DPort)
		}
	}
	words = append(words, "auth", nameOf(ipsecctlAuth(), sa.Auth, 0))
	if sa.ID.Proto == klips.ProtoESP {
		words = append(words, "enc", nameOf(ipsecctlEnc(), sa.Enc, sa.EncKeyBits))
	}
	if sa.AuthKeyBits > 0 {
		words = append(words, "authkey", sa.auth("0x"))
	}
	if sa.EncKeyBits > 0 {
		words = append(words, "enckey", sa.enc("0x"))
	}
	if bundle != "" {
		words = append(words, "bundle", quoted(bundle))
	}
	w.line(words...)
}

// flow writes the rule for packets whose outer header has two ends.
func (w *writer) flow(s klips.Selector, first *layer, dir string, local, peer netip.Addr) {
	w.line("flow", first.ID.Proto, dir+flowWords(s), "local", local, "peer", peer, "type require")
}

func flowWords(s klips.Selector) string {
	t := ""
	if s.Proto != 0 {
		t += " proto " + strconv.Itoa(int(s.Proto))
	}
	end := func(word string, p netip.Prefix, port uint16) {
		t += " " + word + " " + p.String()
		if port != 0 {
			t += " port " + strconv.Itoa(int(port))
		}
	}
	end("from", s.Src, s.SrcPort)
	end("to", s.Dst, s.DstPort)
	return t
}
