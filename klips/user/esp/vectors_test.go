package esp

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/user/internal/pkttest"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// A vector is a packet of an RFC. clear and wire begin with the IP header.
type vector struct {
	name     string
	enc      alg.Enc
	key      string
	spi, seq uint32
	iv       string
	clear    string
	wire     string
}

var vectors = []vector{
	{
		name: "RFC 3602 case 5", enc: alg.AES,
		key: "90d382b4 10eeba7a d938c46c ec1a82bf", spi: 0x4321, seq: 1,
		iv: "e96e8c08 ab465763 fd098d45 dd3ff893",
		clear: `45000054 08f20000 4001f9fe c0a87b03 c0a87b64
			08000ebd a70a0000 8e9c083d b95b0700 08090a0b 0c0d0e0f 10111213 14151617
			18191a1b 1c1d1e1f 20212223 24252627 28292a2b 2c2d2e2f 30313233 34353637`,
		wire: `4500007c 08f20000 4032f9a5 c0a87b03 c0a87b64 00004321 00000001
			e96e8c08 ab465763 fd098d45 dd3ff893
			f663c25d 325c18c6 a9453e19 4e120849 a4870b66 cc6b9965 330013b4 898dc856
			a4699e52 3a55db08 0b59ec3a 8e4b7e52 775b07d1 db34ed9c 538ab50c 551b874a
			a269add0 47ad2d59 13ac19b7 cfbad4a6`,
	},
	{
		name: "RFC 3602 case 6", enc: alg.AES,
		key: "90d382b4 10eeba7a d938c46c ec1a82bf", spi: 0x4321, seq: 8,
		iv: "69d08df7 d203329d b093fc49 24e5bd80",
		clear: `45000030 08fe0000 4001fa16 c0a87b03 c0a87b64
			0800b5e8 a80a0500 a69c083d 0b660e00 77777777 77777777 77777777`,
		wire: `4500004c 08fe0000 4032f9c9 c0a87b03 c0a87b64 00004321 00000008
			69d08df7 d203329d b093fc49 24e5bd80
			f5199588 1ec4e0c4 488987ce 742e8109 689bb379 d2d750c0 d915dca3 46a89f75`,
	},
	{
		// The clear packet is the outer header of the RFC's tunnel packet, with
		// protocol 4, around its inner packet.
		name: "RFC 3602 case 7", enc: alg.AES,
		key: "01234567 89abcdef 01234567 89abcdef", spi: 0x8765, seq: 2,
		iv: "f4e76524 4f6407ad f13dc138 0f673f37",
		clear: `45000068 09050000 40040000 c0a87b03 c0a87bc8
			45000054 09040000 4001f988 c0a87b03 c0a87bc8
			08009f76 a90a0100 b49c083d 02a20400 08090a0b 0c0d0e0f 10111213 14151617
			18191a1b 1c1d1e1f 20212223 24252627 28292a2b 2c2d2e2f 30313233 34353637`,
		wire: `4500008c 09050000 4032f91e c0a87b03 c0a87bc8 00008765 00000002
			f4e76524 4f6407ad f13dc138 0f673f37
			773b5241 a4c44922 5e4f3ce5 ed611b0c 237ca96c f74a9301 3c1b0ea1 a0cf70f8
			e4ecaec7 8ac53aad 7a0f022b 859243c6 47752e94 a859352b 8a4d4d2d ecd136e5
			c177f132 ad3fbfb2 201ac990 4c74ee0a 109e0ca1 e4dfe9d5 a100b842 f1c22f0d`,
	},
	{
		name: "RFC 3602 case 8", enc: alg.AES,
		key: "01234567 89abcdef 01234567 89abcdef", spi: 0x8765, seq: 5,
		iv: "85d47224 b5f3dd5d 2101d4ea 8dffab22",
		clear: `45000058 090d0000 40040000 c0a87b03 c0a87bc8
			45000044 090c0000 4001f990 c0a87b03 c0a87bc8
			0800d63c aa0a0200 c69c083d a3de0300 ffffffff ffffffff ffffffff ffffffff
			ffffffff ffffffff ffffffff ffffffff`,
		wire: `4500007c 090d0000 4032f926 c0a87b03 c0a87bc8 00008765 00000005
			85d47224 b5f3dd5d 2101d4ea 8dffab22
			15b92683 819596a8 047232cc 00f7048f e45318e1 1f8a0f62 ede3c3fc 61203bb5
			0f980a08 c9843fd3 a1b06d5c 07ff9639 b7eb7dfb 3512e5de 435e7207 ed971ef3
			d2726d9b 5ef6affc 6d17a0de cbb13892`,
	},
	{
		name: "RFC 7634 appendix A", enc: alg.ChaCha20Poly1305,
		key: `80818283 84858687 88898a8b 8c8d8e8f 90919293 94959697 98999a9b 9c9d9e9f
			a0a1a2a3`, spi: 0x01020304, seq: 5,
		iv: "10111213 14151617",
		clear: `45000068 23450000 40040000 cb007199 cb007105
			45000054 a6f20000 4001e778 c6336405 c0000205
			08005b7a 3a080000 553bec10 00073627 08090a0b 0c0d0e0f 10111213 14151617
			18191a1b 1c1d1e1f 20212223 24252627 28292a2b 2c2d2e2f 30313233 34353637`,
		wire: `4500008c 23450000 4032de5b cb007199 cb007105 01020304 00000005
			10111213 14151617
			24039428 b97f417e 3c13753a 4f05087b 67c352e6 a7fab1b9 82d466ef 407ae5c6
			14ee8099 d52844eb 61aa95df ab4c02f7 2aa71e7c 4c4f64c9 befe2fac c638e8f3
			cbec163f ac469b50 2773f6fb 94e664da 9165b828 29f641e0
			76aaa826 6b7fb0f7 b11b3699 07e1ad43`,
	},
}

// Packets of draft-mcgrew-gcm-test: the plaintext, including the trailer, and the
// ciphertext with ICV. Additional data of 12 bytes contains an extended sequence
// number.
var gcmVectors = []struct {
	name          string
	key           string // with salt
	aad, iv       string
	plain, sealed string
}{
	{
		name: "GCM-128", key: "feffe9928665731c6d6a8f9467308308 cafebabe",
		aad: "0000a5f8 0000000a", iv: "facedbaddecaf888",
		plain: `4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d0010000010000
			00000000037369700963796265726369747902646b0000010001 0001`,
		sealed: `deb22cd9b07c72c16e3a65beeb8df304a5a5897d33ae530f1ba76d5d114d2a5c3de81827
			c10e9a4f51330d0eec416642cfbb85a5b47e48a4ec3b9ba95d918bd183b70d3aa8bc6ee4c309e9d85a41ad4a`,
	},
	{
		name: "GCM-256", key: "abbccddef00112233445566778899aababbccddef00112233445566778899aab 11223344",
		aad: "4a2cbfe3 00000002", iv: "0102030405060708",
		plain: `4500003069a64000800626 90c0a801029389155e0a9e008b2dc57ee0000000007002400020bf0000
			020405b401010402 01020201`,
		sealed: `ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763748a637985771d34
			7f0545659f14e99def842d8eb335f4eecfdbf831824b4c4915956c96`,
	},
	{
		name: "GCM-128 ESN", key: "4c80cdefbb5d10da906ac73c3613a634 2e443b68",
		aad: "00004321 87654321 00000000", iv: "4956ed7e3b244cfe",
		plain: `45000048699a000080114db7c0a80102c0a801010a9bf15638d3010000010000
			00000000045f736970045f756470037369700963796265726369747902646b0000210001 01020201`,
		sealed: `fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34cfa2436f14a3f3cf
			65925bf1f4a13c5d15b21e1884f5ff6247aeabb786b93bce61bc17d768fd9732
			459018148f6cbe722fd04796562dfdb4`,
	},
	{
		name: "GCM-128 ESN, both halves", key: "3de09874b388e6491988d0c3607eae1f 57690e43",
		aad: "42f67e3f 10101010 10101010", iv: "4e280000a2fca1a3",
		plain: `4500003c99c300008001cb7c40679318010101010800085c02004300
			6162636465666768696a6b6c6d6e6f7071727374757677616263646566676869 01020201`,
		sealed: `fba2caa4853cf9f0f22cb10d86dd83b0fec75691cf1a04b00d1138ec9c35791765acbd8701ad7984
			5bf9fe3fba487bc91755e6662b4c8d0d1f5e22739530320a e0d731cc978ecafaeae88f00e80d6e48`,
	},
}

func (v *vector) config(t *testing.T) Config {
	return Config{SPI: v.spi, Transform: klips.Transform{Enc: v.enc}, EncKey: pkttest.Hex(t, v.key)}
}

// setIV makes the next packet carry iv.
func setIV(s *Sealer, iv []byte) {
	if s.aead != nil {
		s.count = binary.BigEndian.Uint64(iv)
		return
	}
	s.off = 0
	copy(s.ivs[:], iv)
}

func TestSealVectors(t *testing.T) {
	for _, v := range vectors {
		s, err := NewSealer(v.config(t))
		if err != nil {
			t.Fatal(err)
		}
		setIV(s, pkttest.Hex(t, v.iv))
		b := pkttest.Buffer(pkttest.Hex(t, v.clear))
		if err := seal(s, b, uint64(v.seq)); err != nil {
			t.Fatalf("%s: Seal = %v", v.name, err)
		}
		if want := pkttest.Hex(t, v.wire); !bytes.Equal(b.Bytes(), want) {
			t.Errorf("%s: Seal made\n%x, want\n%x", v.name, b.Bytes(), want)
		}
	}
}

func TestOpenVectors(t *testing.T) {
	for _, v := range vectors {
		o, err := NewOpener(v.config(t))
		if err != nil {
			t.Fatal(err)
		}
		b := pkttest.Buffer(pkttest.Hex(t, v.wire))
		h := pkttest.Parse(t, b)
		spi, seq, err := ParseHeader(b, &h)
		if spi != v.spi || seq != v.seq || err != nil {
			t.Errorf("%s: ParseHeader = %#x, %d, %v, want %#x, %d", v.name, spi, seq, err, v.spi, v.seq)
		}
		bad, err := open(o, b, &h)
		if bad || err != nil {
			t.Fatalf("%s: Open = %v, %v", v.name, bad, err)
		}
		want := pkttest.Hex(t, v.clear)
		packet.FixChecksum(want)
		if !bytes.Equal(b.Bytes(), want) {
			t.Errorf("%s: Open made\n%x, want\n%x", v.name, b.Bytes(), want)
		}
	}
}

func TestGCMVectors(t *testing.T) {
	for _, v := range gcmVectors {
		aad := pkttest.Hex(t, v.aad)
		plain, sealed := pkttest.Hex(t, v.plain), pkttest.Hex(t, v.sealed)
		pad, next := int(plain[len(plain)-2]), plain[len(plain)-1]
		clear := pkttest.IP(4, next, nil, plain[:len(plain)-2-pad])
		c := Config{SPI: binary.BigEndian.Uint32(aad), Transform: klips.Transform{Enc: alg.AESGCM},
			EncKey: pkttest.Hex(t, v.key), ESN: len(aad) == 12}
		seq := uint64(binary.BigEndian.Uint32(aad[4:]))
		if c.ESN {
			seq = binary.BigEndian.Uint64(aad[4:])
		}
		s, err := NewSealer(c)
		if err != nil {
			t.Fatal(err)
		}
		setIV(s, pkttest.Hex(t, v.iv))
		b := pkttest.Buffer(clear)
		if err := seal(s, b, seq); err != nil {
			t.Fatalf("%s: Seal = %v", v.name, err)
		}
		want := slices.Concat(aad[:4], aad[len(aad)-4:], pkttest.Hex(t, v.iv), sealed)
		if got := b.Bytes()[20:]; !bytes.Equal(got, want) {
			t.Errorf("%s: Seal made\n%x, want\n%x", v.name, got, want)
		}
		o, err := NewOpener(c)
		if err != nil {
			t.Fatal(err)
		}
		h := pkttest.Parse(t, b)
		if bad, err := openAs(o, b, &h, seq); bad || err != nil || !bytes.Equal(b.Bytes(), clear) {
			t.Errorf("%s: Open = %v, %v, made\n%x, want\n%x", v.name, bad, err, b.Bytes(), clear)
		}
	}
}

func open(o *Opener, b *packet.Buffer, h *packet.Header) (bool, error) { return openAs(o, b, h, 0) }

func openAs(o *Opener, b *packet.Buffer, h *packet.Header, seq uint64) (bool, error) {
	if err := o.Verify(b, h, seq); err != nil {
		return false, err
	}
	return o.Open(b, h)
}
