package aescbc

import (
	"bytes"
	"encoding/hex"

	"github.com/klips-go/ipsec/klips/user/internal/vector"
)

// A Vector is a message whose ciphertext is known from elsewhere. Texts are hexadecimal, with
// white space.
type Vector struct {
	Source                 string // the document and its case
	Key, IV, Plain, Cipher string
}

// Vectors returns vectors of RFC 3602 section 4, and of NIST SP 800-38A sections F.2.3 and
// F.2.5 for longer keys.
func Vectors() []Vector {
	const nist = "6bc1bee22e409f96e93d7e117393172a ae2d8a571e03ac9c9eb76fac45af8e51" +
		"30c81c46a35ce411e5fbc1191a0a52ef f69f2445df4f9b17ad2b417be66c3710"
	return []Vector{
		{"RFC 3602 case 1", "06a9214036b8a15b512e03d534120006", "3dafba429d9eb430b422da802c9fac41",
			hex.EncodeToString([]byte("Single block msg")), "e353779c1079aeb82708942dbe77181a"},
		{"RFC 3602 case 2", "c286696d887c9aa0611bbb3e2025a45a", "562e17996d093d28ddb3ba695a2e6f58",
			"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
			"d296cd94c2cccf8a3a863028b5e1dc0a7586602d253cfff91b8266bea6d61ab1"},
		{"RFC 3602 case 3", "6c3ea0477630ce21a2ce334aa746c2cd", "c782dc4c098c66cbd9cd27d825682c81",
			hex.EncodeToString([]byte("This is a 48-byte message (exactly 3 AES blocks)")),
			"d0a02b3836451753d493665d33f0e8862dea54cdb293abc7506939276772f8d5021c19216bad525c8579695d83ba2684"},
		{"RFC 3602 case 4", "56e47a38c5598974bc46903dba290349", "8ce82eefbea0da3c44699ed7db51b7d9",
			"a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedf",
			"c30e32ffedc0774e6aff6af0869f71aa0f3af07a9a31a9c684db207eb0ef8e4e35907aa632c3ffdf868bb7b29d3d46ad83ce9f9a102ee99d49a53e87f4c3da55"},
		{"NIST SP 800-38A F.2.3", "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b", "000102030405060708090a0b0c0d0e0f", nist,
			"4f021db243bc633d7178183a9fa071e8 b4d9ada9ad7dedf4e5e738763f69145a 571b242012fb7ae07fa9baac3df102e0 08b0e27988598881d920a9e64f5615cd"},
		{"NIST SP 800-38A F.2.5", "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4", "000102030405060708090a0b0c0d0e0f",
			nist[:65], "f58c4c04d6e5f1ba779eabfb5f7bfbd6 9cfc4e967edb808d679f777bc6702c7d"},
	}
}

// Check encrypts and decrypts the message with the code that all packets use. The error is
// the difference.
func (v *Vector) Check() error {
	key := vector.Hex(v.Key)
	e, err := NewEncrypter(key)
	if err != nil {
		return err
	}
	d, err := NewDecrypter(key)
	if err != nil {
		return err
	}
	plain, sealed := vector.Hex(v.IV+v.Plain), vector.Hex(v.IV+v.Cipher)
	got := bytes.Clone(plain)
	e.Encrypt([][]byte{got})
	if err := vector.Same("encrypted", got, sealed); err != nil {
		return err
	}
	d.Decrypt(got)
	return vector.Same("decrypted", got, plain)
}
