package ah

import (
	"bytes"
	"fmt"

	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/user/internal/vector"
)

// A Vector is a packet whose form with AH is known from elsewhere. Texts are hexadecimal,
// with white space.
type Vector struct {
	Source      string // the program that has made it
	Auth        alg.Auth
	ESN         bool
	Key         string
	SPI         uint32
	Seq         uint64
	Clear, Wire string // from the IP header on
}

// Vectors returns the vectors of all algorithms. The RFCs have none for AH; a KLIPS kernel
// and scapy, a program in Python, have made these.
func Vectors() []Vector {
	return []Vector{
		{
			Source: "KLIPS, recorded", Auth: alg.MD5,
			Key: "f2655e93a14fa7a36c1146da0d733e22",
			SPI: 0x1101, Seq: 1,
			Clear: `45000054122d0000400154680a0900010a090002
			0800c79c0077000154686520717569636b2062726f776e20666f78206a756d7073206f76657220746865206c617a7920
			646f672e2054686520717569636b2062`,
			Wire: `4500006c122d00004033541e0a0900010a0900020104000000001101000000016395b3c82295f2fc88cfdf48
			0800c79c0077000154686520717569636b2062726f776e20666f78206a756d7073206f76657220746865206c617a7920
			646f672e2054686520717569636b2062`,
		},
		{
			Source: "KLIPS, recorded", Auth: alg.SHA1,
			Key: "fcdc6ecc66aa96a4402c2288d1689dc15dfbdfad",
			SPI: 0x1101, Seq: 1,
			Clear: `45000054123700004001545e0a0900010a090002
			0800c79c0077000154686520717569636b2062726f776e20666f78206a756d7073206f76657220746865206c617a7920
			646f672e2054686520717569636b2062`,
			Wire: `4500006c12370000403354140a0900010a090002010400000000110100000001347fc753bf63233ea3e60672
			0800c79c0077000154686520717569636b2062726f776e20666f78206a756d7073206f76657220746865206c617a7920
			646f672e2054686520717569636b2062`,
		},
		{
			Source: "scapy 2.5.0 sha2_256", Auth: alg.SHA256,
			Key: `05357bd7 49d16f23 edcdc3cf f12977db 55e58b47 1901ff13 3d7dd33f c15907cb`,
			SPI: 0x1003, Seq: 9,
			Clear: `45000030 12344000 40113c52 c0000201 c6336402 0fa01b58 001c0000 00010203
				04050607 08090a0b 0c0d0e0f 10111213`,
			Wire: `4500004c 12344000 40333c14 c0000201 c6336402 11050000 00001003 00000009
				37fc180b 28c60f93 dfb293e6 7fd727ad 0fa01b58 001c0000 00010203 04050607
				08090a0b 0c0d0e0f 10111213`,
		},
		{
			Source: "scapy 2.5.0 sha2_256 IPv6", Auth: alg.SHA256,
			Key: `05357bd7 49d16f23 edcdc3cf f12977db 55e58b47 1901ff13 3d7dd33f c15907cb`,
			SPI: 0x1003, Seq: 9,
			Clear: `60000000 001c113f 20010db8 00000000 00000000 00000001 20010db8 00010000
				00000000 00000002 0fa01b58 001c0000 00010203 04050607 08090a0b 0c0d0e0f
				10111213`,
			Wire: `60000000 003c333f 20010db8 00000000 00000000 00000001 20010db8 00010000
				00000000 00000002 11060000 00001003 00000009 4d3ea8d0 024974ce b881e963
				ec8a2396 00000000 0fa01b58 001c0000 00010203 04050607 08090a0b 0c0d0e0f
				10111213`,
		},
		{
			Source: "scapy 2.5.0 sha2_256-96", Auth: alg.SHA256Trunc,
			Key: `05357bd7 49d16f23 edcdc3cf f12977db 55e58b47 1901ff13 3d7dd33f c15907cb`,
			SPI: 0x1003, Seq: 9,
			Clear: `60000000 001c113f 20010db8 00000000 00000000 00000001 20010db8 00010000
				00000000 00000002 0fa01b58 001c0000 00010203 04050607 08090a0b 0c0d0e0f
				10111213`,
			Wire: `60000000 0034333f 20010db8 00000000 00000000 00000001 20010db8 00010000
				00000000 00000002 11040000 00001003 00000009 83d84437 542ccf80 9faa3c0a
				0fa01b58 001c0000 00010203 04050607 08090a0b 0c0d0e0f 10111213`,
		},
		{
			Source: "scapy 2.5.0 sha2_384", Auth: alg.SHA384, ESN: true,
			Key: `05357bd7 49d16f23 edcdc3cf f12977db 55e58b47 1901ff13 3d7dd33f c15907cb
				a5959bb7 e9318f03 8d2de3af 918997bb`,
			SPI: 0x1003, Seq: 5<<32 | 9,
			Clear: `45000030 12344000 40113c52 c0000201 c6336402 0fa01b58 001c0000 00010203
				04050607 08090a0b 0c0d0e0f 10111213`,
			Wire: `45000054 12344000 40333c0c c0000201 c6336402 11070000 00001003 00000009
				a5479412 0e1db60f bf419a58 1f630c36 889305f6 de548232 0fa01b58 001c0000
				00010203 04050607 08090a0b 0c0d0e0f 10111213`,
		},
		{
			Source: "scapy 2.5.0 sha2_512", Auth: alg.SHA512,
			Key: `05357bd7 49d16f23 edcdc3cf f12977db 55e58b47 1901ff13 3d7dd33f c15907cb
				a5959bb7 e9318f03 8d2de3af 918997bb f545ab27 b9611ff3 ddddf31f 61b927ab`,
			SPI: 0x1003, Seq: 9,
			Clear: `60000000 001c113f 20010db8 00000000 00000000 00000001 20010db8 00010000
				00000000 00000002 0fa01b58 001c0000 00010203 04050607 08090a0b 0c0d0e0f
				10111213`,
			Wire: `60000000 004c333f 20010db8 00000000 00000000 00000001 20010db8 00010000
				00000000 00000002 110a0000 00001003 00000009 b4d71fee 0a3572a7 93aa97ba
				32f502c5 48e505a6 45dd75e7 fe087979 b7645ee3 00000000 0fa01b58 001c0000
				00010203 04050607 08090a0b 0c0d0e0f 10111213`,
		},
	}
}

// Check seals and opens the packet with the code that all packets use. The error is the
// difference.
func (v *Vector) Check() error {
	c := Config{SPI: v.SPI, Auth: v.Auth, Key: vector.Hex(v.Key), ESN: v.ESN}
	clear, wire := vector.Hex(v.Clear), vector.Hex(v.Wire)
	o, err := NewOpener(c)
	if err != nil {
		return err
	}
	s, err := NewSealer(c)
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
	if !bytes.Equal(b.Bytes(), wire) {
		return fmt.Errorf("verifying it has changed it to %x", b.Bytes())
	}
	if err := o.Open(b, &h); err != nil {
		return err
	}
	if err := vector.Same("opened", b.Bytes(), clear); err != nil {
		return err
	}
	if b, h, err = vector.Packet(clear); err != nil {
		return err
	}
	if err := s.Seal(b, &h, v.Seq); err != nil {
		return err
	}
	return vector.Same("sealed", b.Bytes(), wire)
}
