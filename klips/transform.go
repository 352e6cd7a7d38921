package klips

import "strconv"

// An AuthAlg is an authentication algorithm as the PF_KEY SA extension numbers
// it (SADB_AALG_*, SADB_X_AALG_*).
type AuthAlg uint8

// Authentication algorithms.
const (
	AuthNone        AuthAlg = 0
	AuthMD5         AuthAlg = 2   // HMAC-MD5-96, RFC 2403
	AuthSHA1        AuthAlg = 3   // HMAC-SHA-1-96, RFC 2404
	AuthSHA256      AuthAlg = 5   // HMAC-SHA-256-128, RFC 4868
	AuthSHA384      AuthAlg = 6   // HMAC-SHA-384-192, RFC 4868
	AuthSHA512      AuthAlg = 7   // HMAC-SHA-512-256, RFC 4868
	AuthSHA256Trunc AuthAlg = 252 // HMAC-SHA-256-96: Linux before 2.6.33, KLIPS before 3.x
)

// An EncAlg is an encryption algorithm as the PF_KEY SA extension numbers it
// (SADB_EALG_*, SADB_X_EALG_*).
type EncAlg uint8

// Encryption algorithms. The two last are combined modes: they authenticate
// too, take no AuthAlg, and their keys end in 4 bytes of salt.
const (
	EncNone             EncAlg = 0
	Enc3DES             EncAlg = 3  // 3DES-CBC, RFC 2451
	EncNull             EncAlg = 11 // RFC 2410
	EncAES              EncAlg = 12 // AES-CBC, RFC 3602
	EncAESGCM           EncAlg = 20 // AES-GCM with 16-byte ICV, RFC 4106
	EncChaCha20Poly1305 EncAlg = 28 // RFC 7634; the number is IKEv2's, KLIPS never had it
)

// A CompAlg is a compression algorithm as the PF_KEY SA extension numbers it.
type CompAlg uint8

// Compression algorithms. Only deflate carries packets.
const (
	CompNone    CompAlg = 0
	CompDeflate CompAlg = 2 // RFC 2394
	CompLZS     CompAlg = 3 // RFC 2395
)

// An AlgInfo describes an algorithm's sizes. The zero value stands for an
// unknown algorithm.
type AlgInfo struct {
	Name    string // suffix in listings, with its underscore: "_3DES", "_HMAC_MD5"
	KeyBits []int  // allowed key lengths, in bits, parity and salt included
	Block   int    // cipher block in bytes, 1 for stream modes; the plaintext is padded to it
	IV      int    // bytes of IV in each packet
	ICV     int    // bytes of ICV in each packet
	Hash    int    // bits of the full hash: what listings show as alen
	AEAD    bool   // a combined mode: no separate authentication algorithm
}

var (
	key128 = []int{128}
	key160 = []int{160}
	key192 = []int{192}
	key256 = []int{256}
	key384 = []int{384}
	key512 = []int{512}
	keyAES = []int{128, 192, 256}
	keyGCM = []int{160, 224, 288}
	keyCha = []int{288}
	keyNil = []int{0}
)

// Info returns the algorithm's sizes and whether it is known. Hash is what the
// alen field of the spi listing shows.
func (a AuthAlg) Info() (AlgInfo, bool) {
	switch a {
	case AuthNone:
		return AlgInfo{KeyBits: keyNil}, true
	case AuthMD5:
		return AlgInfo{Name: "_HMAC_MD5", KeyBits: key128, ICV: 12, Hash: 128}, true
	case AuthSHA1:
		return AlgInfo{Name: "_HMAC_SHA1", KeyBits: key160, ICV: 12, Hash: 160}, true
	case AuthSHA256:
		return AlgInfo{Name: "_HMAC_SHA2_256", KeyBits: key256, ICV: 16, Hash: 256}, true
	case AuthSHA384:
		return AlgInfo{Name: "_HMAC_SHA2_384", KeyBits: key384, ICV: 24, Hash: 384}, true
	case AuthSHA512:
		return AlgInfo{Name: "_HMAC_SHA2_512", KeyBits: key512, ICV: 32, Hash: 512}, true
	case AuthSHA256Trunc:
		return AlgInfo{Name: "_HMAC_SHA2_256_96", KeyBits: key256, ICV: 12, Hash: 256}, true
	}
	return AlgInfo{}, false
}

// Info returns the algorithm's sizes and whether it is known. EncNone is known:
// an ESP SA may not use it, other SAs have it.
func (e EncAlg) Info() (AlgInfo, bool) {
	switch e {
	case EncNone:
		return AlgInfo{KeyBits: keyNil, Block: 1}, true
	case Enc3DES:
		return AlgInfo{Name: "_3DES", KeyBits: key192, Block: 8, IV: 8}, true
	case EncNull:
		return AlgInfo{Name: "_NULL", KeyBits: keyNil, Block: 1}, true
	case EncAES:
		return AlgInfo{Name: "_AES", KeyBits: keyAES, Block: 16, IV: 16}, true
	case EncAESGCM:
		return AlgInfo{Name: "_AES_GCM", KeyBits: keyGCM, Block: 1, IV: 8, ICV: 16, AEAD: true}, true
	case EncChaCha20Poly1305:
		return AlgInfo{Name: "_CHACHA20_POLY1305", KeyBits: keyCha, Block: 1, IV: 8, ICV: 16, AEAD: true}, true
	}
	return AlgInfo{}, false
}

// A Transform is what an SA does to a packet.
type Transform struct {
	Auth AuthAlg `json:"auth,omitempty"`
	Enc  EncAlg  `json:"enc,omitempty"`
	Comp CompAlg `json:"comp,omitempty"`
}

// Name returns the transform as the spi listing names it for an SA of protocol
// p: "IPIP", "ESP_3DES_HMAC_MD5", "AH_HMAC_SHA1", "COMP_DEFLATE". An unknown
// algorithm prints as _ID and its number.
func (t Transform) Name(p Proto) string {
	switch p {
	case ProtoTun:
		return "IPIP" + t.encName() + t.authName()
	case ProtoESP:
		return "ESP" + t.encName() + t.authName()
	case ProtoAH:
		return "AH" + t.encName() + t.authName()
	case ProtoComp:
		switch t.Comp {
		case CompNone:
			return "COMP_NONE" + t.authName()
		case CompDeflate:
			return "COMP_DEFLATE" + t.authName()
		case CompLZS:
			return "COMP_LZS" + t.authName()
		}
		return "COMP_UNKNOWN_comp" + t.authName()
	}
	return "UNKNOWN_proto" + t.encName() + t.authName()
}

func (t Transform) encName() string {
	if i, ok := t.Enc.Info(); ok {
		return i.Name
	}
	// Ciphers that only KLIPS kernels have.
	switch t.Enc {
	case 252:
		return "_SERPENT"
	case 253:
		return "_TWOFISH"
	}
	return "_ID" + strconv.Itoa(int(t.Enc))
}

func (t Transform) authName() string {
	if i, ok := t.Auth.Info(); ok {
		return i.Name
	}
	return "_ID" + strconv.Itoa(int(t.Auth))
}
