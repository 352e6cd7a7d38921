package esp

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"slices"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/user/internal/vector"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// A Vector is a packet whose ESP form is known from elsewhere. Texts are hexadecimal, with
// white space.
type Vector struct {
	Source          string // the RFC and its case, or the program that has made it
	Transform       klips.Transform
	ESN             bool
	EncKey, AuthKey string
	SPI             uint32
	Seq             uint64
	IV              string
	Clear, Wire     string // from the IP header on
}

// Vectors returns the vectors of all algorithms. Those of the RFCs have no separate
// authentication; scapy, a program in Python, has made the others.
func Vectors() []Vector { return append(vectors(), gcmVectors()...) }

func vectors() []Vector {
	return []Vector{
		{
			Source: "RFC 3602 case 5", Transform: klips.Transform{Enc: alg.AES},
			EncKey: "90d382b4 10eeba7a d938c46c ec1a82bf", SPI: 0x4321, Seq: 1,
			IV: "e96e8c08 ab465763 fd098d45 dd3ff893",
			Clear: `45000054 08f20000 4001f9fe c0a87b03 c0a87b64
			08000ebd a70a0000 8e9c083d b95b0700 08090a0b 0c0d0e0f 10111213 14151617
			18191a1b 1c1d1e1f 20212223 24252627 28292a2b 2c2d2e2f 30313233 34353637`,
			Wire: `4500007c 08f20000 4032f9a5 c0a87b03 c0a87b64 00004321 00000001
			e96e8c08 ab465763 fd098d45 dd3ff893
			f663c25d 325c18c6 a9453e19 4e120849 a4870b66 cc6b9965 330013b4 898dc856
			a4699e52 3a55db08 0b59ec3a 8e4b7e52 775b07d1 db34ed9c 538ab50c 551b874a
			a269add0 47ad2d59 13ac19b7 cfbad4a6`,
		},
		{
			Source: "RFC 3602 case 6", Transform: klips.Transform{Enc: alg.AES},
			EncKey: "90d382b4 10eeba7a d938c46c ec1a82bf", SPI: 0x4321, Seq: 8,
			IV: "69d08df7 d203329d b093fc49 24e5bd80",
			Clear: `45000030 08fe0000 4001fa16 c0a87b03 c0a87b64
			0800b5e8 a80a0500 a69c083d 0b660e00 77777777 77777777 77777777`,
			Wire: `4500004c 08fe0000 4032f9c9 c0a87b03 c0a87b64 00004321 00000008
			69d08df7 d203329d b093fc49 24e5bd80
			f5199588 1ec4e0c4 488987ce 742e8109 689bb379 d2d750c0 d915dca3 46a89f75`,
		},
		{
			// The clear packet is the outer header of the RFC's tunnel packet, with
			// protocol 4, around its inner packet.
			Source: "RFC 3602 case 7", Transform: klips.Transform{Enc: alg.AES},
			EncKey: "01234567 89abcdef 01234567 89abcdef", SPI: 0x8765, Seq: 2,
			IV: "f4e76524 4f6407ad f13dc138 0f673f37",
			Clear: `45000068 09050000 40040000 c0a87b03 c0a87bc8
			45000054 09040000 4001f988 c0a87b03 c0a87bc8
			08009f76 a90a0100 b49c083d 02a20400 08090a0b 0c0d0e0f 10111213 14151617
			18191a1b 1c1d1e1f 20212223 24252627 28292a2b 2c2d2e2f 30313233 34353637`,
			Wire: `4500008c 09050000 4032f91e c0a87b03 c0a87bc8 00008765 00000002
			f4e76524 4f6407ad f13dc138 0f673f37
			773b5241 a4c44922 5e4f3ce5 ed611b0c 237ca96c f74a9301 3c1b0ea1 a0cf70f8
			e4ecaec7 8ac53aad 7a0f022b 859243c6 47752e94 a859352b 8a4d4d2d ecd136e5
			c177f132 ad3fbfb2 201ac990 4c74ee0a 109e0ca1 e4dfe9d5 a100b842 f1c22f0d`,
		},
		{
			Source: "RFC 3602 case 8", Transform: klips.Transform{Enc: alg.AES},
			EncKey: "01234567 89abcdef 01234567 89abcdef", SPI: 0x8765, Seq: 5,
			IV: "85d47224 b5f3dd5d 2101d4ea 8dffab22",
			Clear: `45000058 090d0000 40040000 c0a87b03 c0a87bc8
			45000044 090c0000 4001f990 c0a87b03 c0a87bc8
			0800d63c aa0a0200 c69c083d a3de0300 ffffffff ffffffff ffffffff ffffffff
			ffffffff ffffffff ffffffff ffffffff`,
			Wire: `4500007c 090d0000 4032f926 c0a87b03 c0a87bc8 00008765 00000005
			85d47224 b5f3dd5d 2101d4ea 8dffab22
			15b92683 819596a8 047232cc 00f7048f e45318e1 1f8a0f62 ede3c3fc 61203bb5
			0f980a08 c9843fd3 a1b06d5c 07ff9639 b7eb7dfb 3512e5de 435e7207 ed971ef3
			d2726d9b 5ef6affc 6d17a0de cbb13892`,
		},
		{
			Source: "RFC 7634 appendix A", Transform: klips.Transform{Enc: alg.ChaCha20Poly1305},
			EncKey: `80818283 84858687 88898a8b 8c8d8e8f 90919293 94959697 98999a9b 9c9d9e9f
			a0a1a2a3`, SPI: 0x01020304, Seq: 5,
			IV: "10111213 14151617",
			Clear: `45000068 23450000 40040000 cb007199 cb007105
			45000054 a6f20000 4001e778 c6336405 c0000205
			08005b7a 3a080000 553bec10 00073627 08090a0b 0c0d0e0f 10111213 14151617
			18191a1b 1c1d1e1f 20212223 24252627 28292a2b 2c2d2e2f 30313233 34353637`,
			Wire: `4500008c 23450000 4032de5b cb007199 cb007105 01020304 00000005
			10111213 14151617
			24039428 b97f417e 3c13753a 4f05087b 67c352e6 a7fab1b9 82d466ef 407ae5c6
			14ee8099 d52844eb 61aa95df ab4c02f7 2aa71e7c 4c4f64c9 befe2fac c638e8f3
			cbec163f ac469b50 2773f6fb 94e664da 9165b828 29f641e0
			76aaa826 6b7fb0f7 b11b3699 07e1ad43`,
		},
		{
			Source: "scapy 2.5.0 3des-md5", Transform: klips.Transform{Enc: alg.TripleDES, Auth: alg.MD5},
			EncKey:  `033379d5 47cf6d21 ebcbc1cd ef2775d9 53e38945 17fffd11`,
			AuthKey: `05357bd7 49d16f23 edcdc3cf f12977db`,
			SPI:     0x1002, Seq: 9,
			IV: "cc2f770a 80ea7c02",
			Clear: `45000030 12344000 40113c52 c0000201 c6336402 0fa01b58 001c0000 00010203
			04050607 08090a0b 0c0d0e0f 10111213`,
			Wire: `45000050 12344000 40323c11 c0000201 c6336402 00001002 00000009 cc2f770a
			80ea7c02 af1aebae 650d7191 978c6f5e 5466587b 7405413c f26671a7 6dc245b8
			60503c41 67cf0e55 fe472443 c00a0593`,
		},
		{
			Source: "scapy 2.5.0 aes192-sha1", Transform: klips.Transform{Enc: alg.AES, Auth: alg.SHA1},
			EncKey:  `033379d5 47cf6d21 ebcbc1cd ef2775d9 53e38945 17fffd11`,
			AuthKey: `05357bd7 49d16f23 edcdc3cf f12977db 55e58b47`,
			SPI:     0x1002, Seq: 9,
			IV: "b8e82160 2963f8dc 1fa366f6 99521bc2",
			Clear: `60000000 001c113f 20010db8 00000000 00000000 00000001 20010db8 00010000
			00000000 00000002 0fa01b58 001c0000 00010203 04050607 08090a0b 0c0d0e0f
			10111213`,
			Wire: `60000000 0044323f 20010db8 00000000 00000000 00000001 20010db8 00010000
			00000000 00000002 00001002 00000009 b8e82160 2963f8dc 1fa366f6 99521bc2
			f7bbdb83 fedf0ff1 6d108812 2207483f 0daeae9f 892354da 723af28d 0bc0efe5
			75a15634 a12363bd aca83556`,
		},
		{
			Source: "scapy 2.5.0 aes256-sha2_256", Transform: klips.Transform{Enc: alg.AES, Auth: alg.SHA256},
			EncKey:  `033379d5 47cf6d21 ebcbc1cd ef2775d9 53e38945 17fffd11 3b7bd13d bf5705c9`,
			AuthKey: `05357bd7 49d16f23 edcdc3cf f12977db 55e58b47 1901ff13 3d7dd33f c15907cb`,
			SPI:     0x1002, Seq: 9,
			IV: "d81c35e3 c02928af 9d4f3b15 4fb4ceed",
			Clear: `45000030 12344000 40113c52 c0000201 c6336402 0fa01b58 001c0000 00010203
			04050607 08090a0b 0c0d0e0f 10111213`,
			Wire: `4500005c 12344000 40323c05 c0000201 c6336402 00001002 00000009 d81c35e3
			c02928af 9d4f3b15 4fb4ceed b2111c4f 984730e0 dbaa1f20 22a6472d 944ca91d
			9e43d195 6a7cc82f 36a683bb 15e39372 b7486a5c 53982f0e 44a3776b`,
		},
		{
			Source: "scapy 2.5.0 null-sha2_256-96", Transform: klips.Transform{Enc: alg.Null, Auth: alg.SHA256Trunc},
			AuthKey: `05357bd7 49d16f23 edcdc3cf f12977db 55e58b47 1901ff13 3d7dd33f c15907cb`,
			SPI:     0x1002, Seq: 9,
			Clear: `45000030 12344000 40113c52 c0000201 c6336402 0fa01b58 001c0000 00010203
			04050607 08090a0b 0c0d0e0f 10111213`,
			Wire: `45000048 12344000 40323c19 c0000201 c6336402 00001002 00000009 0fa01b58
			001c0000 00010203 04050607 08090a0b 0c0d0e0f 10111213 01020211 6d4e3cc7
			4c98fb33 1bae367a`,
		},
		{
			Source: "scapy 2.5.0 aes128-sha2_384", Transform: klips.Transform{Enc: alg.AES, Auth: alg.SHA384}, ESN: true,
			EncKey: `033379d5 47cf6d21 ebcbc1cd ef2775d9`,
			AuthKey: `05357bd7 49d16f23 edcdc3cf f12977db 55e58b47 1901ff13 3d7dd33f c15907cb
			a5959bb7 e9318f03 8d2de3af 918997bb`,
			SPI: 0x1002, Seq: 5<<32 | 9,
			IV: "d4db0172 023ad998 26ac3ebc aca81162",
			Clear: `60000000 001c113f 20010db8 00000000 00000000 00000001 20010db8 00010000
			00000000 00000002 0fa01b58 001c0000 00010203 04050607 08090a0b 0c0d0e0f
			10111213`,
			Wire: `60000000 0050323f 20010db8 00000000 00000000 00000001 20010db8 00010000
			00000000 00000002 00001002 00000009 d4db0172 023ad998 26ac3ebc aca81162
			de20cdd6 5f58ca31 8b5f438c 771a170b 508ddca8 c16e3687 0cd31806 055be761
			dbd0063e 2556373c 0949a87f 43c6686d d4efc56a 57672894`,
		},
		{
			Source: "scapy 2.5.0 aes256-sha2_512", Transform: klips.Transform{Enc: alg.AES, Auth: alg.SHA512}, ESN: true,
			EncKey: `033379d5 47cf6d21 ebcbc1cd ef2775d9 53e38945 17fffd11 3b7bd13d bf5705c9`,
			AuthKey: `05357bd7 49d16f23 edcdc3cf f12977db 55e58b47 1901ff13 3d7dd33f c15907cb
			a5959bb7 e9318f03 8d2de3af 918997bb f545ab27 b9611ff3 ddddf31f 61b927ab`,
			SPI: 0x1002, Seq: 5<<32 | 9,
			IV: "ff9325dc 2b00c3ef 6a2cc855 77b3373f",
			Clear: `45000030 12344000 40113c52 c0000201 c6336402 0fa01b58 001c0000 00010203
			04050607 08090a0b 0c0d0e0f 10111213`,
			Wire: `4500006c 12344000 40323bf5 c0000201 c6336402 00001002 00000009 ff9325dc
			2b00c3ef 6a2cc855 77b3373f 606ba477 2b865cdb 1e0300ee e8b6e151 07cb5f1b
			75d87290 37980c00 5c811681 8a599de9 91a3fc46 fb42761a c7cd0b61 bcbb3d38
			abc83795 2d63631b dc149346`,
		},
		{
			Source: "scapy 2.5.0 aes192-gcm", Transform: klips.Transform{Enc: alg.AESGCM},
			EncKey: `033379d5 47cf6d21 ebcbc1cd ef2775d9 53e38945 17fffd11 3b7bd13d`,
			SPI:    0x1002, Seq: 9,
			IV: "f7c30d7e 1882fa1c",
			Clear: `60000000 001c113f 20010db8 00000000 00000000 00000001 20010db8 00010000
			00000000 00000002 0fa01b58 001c0000 00010203 04050607 08090a0b 0c0d0e0f
			10111213`,
			Wire: `60000000 0040323f 20010db8 00000000 00000000 00000001 20010db8 00010000
			00000000 00000002 00001002 00000009 f7c30d7e 1882fa1c 855dc9d4 93fac5e1
			140c45e8 44a65acf 448e2ea9 a21f3d5d dd089f84 7f2e9173 427a19ef f4826cc1
			b597df38 adf4cd84`,
		},
	}
}

// gcmVectors returns the packets of draft-mcgrew-gcm-test. The draft has the plaintext, with
// the trailer, and the ciphertext with ICV, and additional data; that of 12 bytes contains an
// extended sequence number. An IP header is added to them.
func gcmVectors() (l []Vector) {
	for _, v := range [...]struct {
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
	} {
		aad, plain := vector.Hex(v.aad), vector.Hex(v.plain)
		pad, next := int(plain[len(plain)-2]), plain[len(plain)-1]
		vec := Vector{
			Source: "draft-mcgrew-gcm-test " + v.name, Transform: klips.Transform{Enc: alg.AESGCM}, EncKey: v.key,
			SPI: binary.BigEndian.Uint32(aad), Seq: uint64(binary.BigEndian.Uint32(aad[4:])), IV: v.iv,
			Clear: hex.EncodeToString(vector.IP(next, plain[:len(plain)-TrailerLen-pad])),
			Wire:  hex.EncodeToString(vector.IP(packet.ProtoESP, slices.Concat(aad[:4], aad[len(aad)-4:], vector.Hex(v.iv), vector.Hex(v.sealed)))),
		}
		if vec.ESN = len(aad) == 12; vec.ESN {
			vec.Seq = binary.BigEndian.Uint64(aad[4:])
		}
		l = append(l, vec)
	}
	return l
}

// Check seals and opens the packet with the code that all packets use. The error is the
// difference.
func (v *Vector) Check() error {
	c := Config{SPI: v.SPI, Transform: v.Transform, EncKey: vector.Hex(v.EncKey), AuthKey: vector.Hex(v.AuthKey), ESN: v.ESN}
	clear, wire := vector.Hex(v.Clear), vector.Hex(v.Wire)
	if err := v.seal(c, clear, wire); err != nil {
		return err
	}
	return v.open(c, clear, wire)
}

func (v *Vector) seal(c Config, clear, wire []byte) error {
	s, err := NewSealer(c)
	if err != nil {
		return err
	}
	s.setIV(vector.Hex(v.IV))
	b, h, err := vector.Packet(clear)
	if err != nil {
		return err
	}
	if err := s.Seal(b, &h, v.Seq); err != nil {
		return err
	}
	return vector.Same("sealed", b.Bytes(), wire)
}

func (v *Vector) open(c Config, clear, wire []byte) error {
	o, err := NewOpener(c)
	if err != nil {
		return err
	}
	b, h, err := vector.Packet(wire)
	if err != nil {
		return err
	}
	spi, seq, err := ParseHeader(b, &h)
	if err := vector.Header(spi, seq, err, v.SPI, v.Seq); err != nil {
		return err
	}
	if err := o.Verify(b, &h, v.Seq); err != nil {
		return err
	}
	if _, err := o.Open(b, &h); err != nil {
		return err
	}
	want := bytes.Clone(clear)
	packet.FixChecksum(want) // some RFCs leave it out
	return vector.Same("opened", b.Bytes(), want)
}

// setIV makes the next packet carry iv.
func (s *Sealer) setIV(iv []byte) {
	switch {
	case s.aead != nil:
		s.count = binary.BigEndian.Uint64(iv)
	case s.cbc():
		s.off = 0
		copy(s.ivs[:], iv)
	}
}
