package render

import (
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
)

func tcpdumpEnc() []word[alg.Enc] {
	return []word[alg.Enc]{
		{alg.TripleDES, 192, "des3"},
		{alg.AES, 128, "aes128"}, {alg.AES, 192, "aes192"}, {alg.AES, 256, "aes256"},
	}
}

// tcpdump writes a file for tcpdump -E. Its names of ciphers are those of OpenSSL; it knows
// ICVs of 12 bytes, or none.
func tcpdump(c *Config) Text {
	w := newWriter(c, "#", false)
	for _, sa := range c.SAs() {
		auth, _ := sa.Auth.Info()
		name := nameOf(tcpdumpEnc(), sa.Enc, sa.EncKeyBits)
		switch {
		case sa.ID.Proto != klips.ProtoESP:
			continue // nothing is encrypted
		case name == "":
			w.left(sa.ID, "tcpdump cannot decrypt %s", lacking(sa))
			continue
		case auth.ICV == 12:
			name += "-hmac96"
		case auth.ICV != 0:
			w.left(sa.ID, "tcpdump reads ICVs of 12 bytes, and those of %s have %d", lacking(sa), auth.ICV)
			continue
		}
		w.put(spiText(sa.ID.SPI), "@", sa.ID.Dst, " ", name, ":", sa.enc("0x"), "\n")
	}
	return w.text
}
