package render

import (
	"fmt"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
)

func scapyEnc() []word[alg.Enc] {
	return []word[alg.Enc]{
		{alg.TripleDES, 0, "3DES"}, {alg.Null, 0, "NULL"}, {alg.AES, 0, "AES-CBC"},
		{alg.AESGCM, 0, "AES-GCM"}, {alg.ChaCha20Poly1305, 0, "CHACHA20-POLY1305"},
	}
}

func scapyAuth() []word[alg.Auth] {
	return []word[alg.Auth]{
		{alg.AuthNone, 0, "NULL"}, {alg.MD5, 0, "HMAC-MD5-96"}, {alg.SHA1, 0, "HMAC-SHA1-96"},
		{alg.SHA256, 0, "SHA2-256-128"}, {alg.SHA384, 0, "SHA2-384-192"}, {alg.SHA512, 0, "SHA2-512-256"},
	}
}

// scapy writes Python: the dictionary sas has a SecurityAssociation for each SAID, and groups
// has the SAIDs of each group from the innermost to the outermost.
func scapy(c *Config) Text {
	w := newWriter(c, "#", false)
	w.put("from scapy.all import AH, ESP, IP, IPv6, SecurityAssociation, UDP\n\n")
	var groups []Group
	w.put("sas = {\n")
	w.each(c, func(g Group, l []layer) {
		for i := range l {
			if l[i].ID.Proto == klips.ProtoComp {
				w.left(g, "scapy cannot decompress (%s)", l[i].ID)
				return
			}
			if nameOf(scapyEnc(), l[i].Enc, 0) == "" && l[i].ID.Proto == klips.ProtoESP || nameOf(scapyAuth(), l[i].Auth, 0) == "" {
				w.left(g, "scapy has no name for %s (%s)", lacking(l[i].SA), l[i].ID)
				return
			}
		}
		var members Group
		for i := range l {
			w.association(&l[i])
			members = append(members, l[i].SA)
		}
		groups = append(groups, members)
	})
	w.put("}\n\ngroups = [\n")
	for _, g := range groups {
		w.put("    [")
		for i, sa := range g {
			if i > 0 {
				w.put(", ")
			}
			w.put(quoted(sa.ID.String()))
		}
		w.put("],\n")
	}
	w.put("]\n")
	return w.text
}

// association writes an entry of the dictionary.
func (w *writer) association(m *layer) {
	sa := m.SA
	if sa.NATT.Type == klips.NATTNonIKE {
		w.lost(sa.ID, "scapy has the encapsulation of RFC 3948 alone, without the bytes of the drafts")
	}
	w.losses(sa, lossAlign, "scapy")
	proto := "ESP"
	if sa.ID.Proto == klips.ProtoAH {
		proto = "AH"
	}
	w.put("    ", quoted(sa.ID.String()), ": SecurityAssociation(\n        ", proto, ", spi=", spiText(sa.ID.SPI))
	if sa.Seq != nil {
		w.put(", seq_num=", *sa.Seq+1)
	}
	if sa.ESN {
		w.put(", esn_en=True")
		if sa.Seq != nil {
			w.put(", esn=", *sa.Seq>>32)
		}
	}
	argument := func(name string, bits int, k secret) {
		if bits > 0 {
			w.put(",\n        ", name, "=bytes.fromhex(\"", k, "\")")
		}
	}
	if sa.ID.Proto == klips.ProtoESP {
		w.put(",\n        crypt_algo=", quoted(nameOf(scapyEnc(), sa.Enc, 0)))
		argument("crypt_key", sa.EncKeyBits, sa.enc(""))
	}
	if sa.Auth != alg.AuthNone {
		w.put(",\n        auth_algo=", quoted(nameOf(scapyAuth(), sa.Auth, 0)))
		argument("auth_key", sa.AuthKeyBits, sa.auth(""))
	}
	if m.tun != nil {
		header := "IP"
		if m.dst.Is6() {
			header = "IPv6"
		}
		w.put(",\n        tunnel_header=", fmt.Sprintf("%s(src=%q, dst=%q)", header, anyOf(m.src, m.dst), m.dst))
	}
	if n := sa.NATT; n.Type != klips.NATTNone {
		w.put(",\n        nat_t_header=", fmt.Sprintf("UDP(sport=%d, dport=%d)", n.SPort, n.DPort))
	}
	w.put(",\n    ),\n")
}
