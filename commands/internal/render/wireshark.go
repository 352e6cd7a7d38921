package render

import (
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
)

// wireshark writes the table esp_sa of Wireshark. Version 4.0 has eight columns. Newer
// versions have two more, for extended sequence numbers, and read lines without them.
func wireshark(c *Config) Text {
	w := newWriter(c, "#", false)
	w.remark("This is the file esp_sa of a profile of Wireshark or tshark. Opening packets also needs the\n" +
		"preferences esp.enable_encryption_decode and esp.enable_authentication_check.")
	for _, sa := range c.SAs() {
		if sa.ID.Proto == klips.ProtoAH {
			w.lost(sa.ID, "Wireshark shows AH without a key, and does not check its ICVs")
		}
		if sa.ID.Proto != klips.ProtoESP {
			continue // Wireshark reads tunnels and IPComp by themselves
		}
		encRow, _ := sa.Enc.Info()
		authRow, _ := sa.Auth.Info()
		enc, auth := encRow.Wireshark, authRow.Wireshark
		if sa.Auth == alg.AuthNone {
			auth = "NULL"
		}
		if enc == "" || auth == "" {
			w.left(sa.ID, "Wireshark has no name for %s", lacking(sa))
			continue
		}
		if sa.ESN {
			w.lost(sa.ID, `Wireshark 4.0 knows no extended sequence numbers, so it cannot check the ICVs; in newer versions add ,"64-bit","0" to the line`)
		}
		family, src := "IPv4", "*"
		if sa.ID.Dst.Is6() {
			family = "IPv6"
		}
		if specified(sa.Src) {
			src = sa.Src.String()
		}
		key := func(bits int, k secret) any {
			if bits == 0 {
				return ""
			}
			return k
		}
		w.put(quoted(family), ",", quoted(src), ",", quoted(sa.ID.Dst.String()), ",", quoted(spiText(sa.ID.SPI)), ",",
			quoted(enc), `,"`, key(sa.EncKeyBits, sa.enc("0x")), `",`, quoted(auth), `,"`, key(sa.AuthKeyBits, sa.auth("0x")), "\"\n")
	}
	return w.text
}
