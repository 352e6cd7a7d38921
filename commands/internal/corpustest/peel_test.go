package corpustest

import (
	"bytes"
	"compress/flate"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/syntax"
)

// Packets of the stack and of the original cannot be compared byte by byte, because IVs
// are random. So the tests remove layer by layer, with code that is independent of the
// stack, and compare the resulting lines.

// A secret holds the keys that open the packets of an SA.
type secret struct {
	enc     alg.Enc
	encKey  []byte
	newHash func() hash.Hash // nil: no authentication
	icv     int
	authKey []byte
	natt    bool
}

// secrets reads the keys of the SAs from command lines.
func secrets(t *testing.T, cmds [][]string) map[klips.SAID]secret {
	t.Helper()
	all := map[klips.SAID]secret{}
	for _, cmd := range cmds {
		if cmd[0] != "spi" {
			continue
		}
		value := func(name string) string {
			if i := slices.Index(cmd, name); i >= 0 {
				return cmd[i+1]
			}
			return ""
		}
		s := secret{natt: value("--natt") != ""}
		var auth alg.Auth
		if name := value("--esp"); name != "" {
			tr, _, err := syntax.ParseESP(name)
			if err != nil {
				t.Fatal(err)
			}
			s.enc, auth = tr.Enc, tr.Auth
		}
		switch value("--ah") {
		case "hmac-md5-96":
			auth = alg.MD5
		case "hmac-sha1-96":
			auth = alg.SHA1
		}
		switch auth {
		case alg.MD5:
			s.newHash, s.icv = md5.New, 12
		case alg.SHA1:
			s.newHash, s.icv = sha1.New, 12
		case alg.SHA256:
			s.newHash, s.icv = sha256.New, 16
		}
		s.encKey, s.authKey = hexKey(t, value("--enckey")), hexKey(t, value("--authkey"))
		all[saidOf(t, cmd)] = s
	}
	return all
}

func hexKey(t *testing.T, text string) []byte {
	t.Helper()
	k, err := hex.DecodeString(strings.TrimPrefix(text, "0x"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A peeled packet is a list of lines, one for each header; the last line is the
// payload.
type peeled struct {
	lines      []string
	compressed bool   // lengths depend on the compressor
	header     []byte // the innermost IP header, unchanged
}

// peel opens a whole packet. It stops at a layer without a key.
func peel(keys map[klips.SAID]secret, p []byte) (r peeled) {
	say := func(format string, args ...any) { r.lines = append(r.lines, fmt.Sprintf(format, args...)) }
	for {
		if len(p) < 20 || p[0] != 0x45 || int(binary.BigEndian.Uint16(p[2:])) != len(p) {
			say("data %x", p)
			return r
		}
		if sum16(p[:20]) != 0xffff {
			say("wrong header checksum")
		}
		h := slices.Clone(p[:20])
		r.header = p[:20]
		body := p[20:]
		dst := netip.AddrFrom4([4]byte(h[16:]))
		line := len(r.lines)
		say("")
		outer := false // has an inner IP header: the kernel has chosen the ID
		proto := h[9]
		first := proto
		comp := r.compressed
		for done := false; !done; {
			id := func(spi []byte) klips.SAID {
				return klips.SAID{Dst: dst, Proto: klips.Proto(proto), SPI: klips.SPI(binary.BigEndian.Uint32(spi))}
			}
			switch {
			case binary.BigEndian.Uint16(h[6:])&0x3fff != 0:
				done = true
			case proto == 50 && len(body) >= 8 && known(keys, id(body)):
				k := keys[id(body)]
				say("esp spi %x seq %d", body[:4], binary.BigEndian.Uint32(body[4:]))
				plain, good := k.openESP(body)
				if !good || len(plain) < 2 || int(plain[len(plain)-2]) > len(plain)-2 {
					say("wrong")
					return r
				}
				pad := int(plain[len(plain)-2])
				proto = plain[len(plain)-1]
				if proto != 108 && !r.compressed {
					say("padding %x next %d", plain[len(plain)-2-pad:len(plain)-1], proto)
				}
				body = plain[:len(plain)-2-pad]
			case proto == 51 && len(body) >= 24 && known(keys, id(body[4:])):
				k := keys[id(body[4:])]
				proto = body[0]
				say("ah spi %x seq %d length %d reserved %x next %d good %v", body[4:8], binary.BigEndian.Uint32(body[8:]), body[1], body[2:4], proto, k.checkAH(p[:20], body, len(body)))
				body = body[24:]
			case proto == 108 && len(body) >= 4:
				plain, err := io.ReadAll(flate.NewReader(bytes.NewReader(body[4:])))
				if err != nil {
					done = true
					break
				}
				say("comp %x", body[:4])
				r.compressed, comp = true, true
				proto, body = body[0], plain
			case proto == 17 && len(body) >= 12 && anyNATT(keys):
				u := body[8:]
				zeros := 0
				if [4]byte(u) == [4]byte{} {
					zeros = 8
				}
				if len(u) < zeros+8 || !known(keys, klips.SAID{Dst: dst, Proto: 50, SPI: klips.SPI(binary.BigEndian.Uint32(u[zeros:]))}) {
					done = true
					break
				}
				say("udp ports %x length %d sum %x zeros %d", body[:4], binary.BigEndian.Uint16(body[4:]), body[6:8], zeros)
				proto, body = 50, u[zeros:]
			case proto == 4 && len(body) >= 20 && body[0]>>4 == 4 && first != 4 || proto == 4 && first == 4 && knownTun(keys, dst):
				outer, done = true, true
			default:
				done = true
			}
		}
		if outer {
			h[4], h[5] = 0, 0
		}
		if comp {
			h[2], h[3] = 0, 0
		}
		h[10], h[11] = 0, 0
		r.lines[line] = fmt.Sprintf("ip tos %x total %d id %x frag %x ttl %d protocol %d %d.%d.%d.%d > %s", h[1],
			binary.BigEndian.Uint16(h[2:]), h[4:6], h[6:8], h[8], h[9], h[12], h[13], h[14], h[15], dst)
		if !outer {
			say("payload protocol %d: %x", proto, body)
			return r
		}
		p = body
	}
}

func known(keys map[klips.SAID]secret, id klips.SAID) bool {
	_, ok := keys[id]
	return ok
}

func knownTun(keys map[klips.SAID]secret, dst netip.Addr) bool {
	for id := range keys {
		if id.Proto == klips.ProtoTun && id.Dst == dst {
			return true
		}
	}
	return false
}

func anyNATT(keys map[klips.SAID]secret) bool {
	for _, k := range keys {
		if k.natt {
			return true
		}
	}
	return false
}

func sum16(p []byte) uint32 {
	var s uint32
	for i := 0; i+1 < len(p); i += 2 {
		s += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return s
}

func (k *secret) mac(parts ...[]byte) []byte {
	m := hmac.New(k.newHash, k.authKey)
	for _, p := range parts {
		m.Write(p)
	}
	return m.Sum(nil)[:k.icv]
}

// openESP checks the ICV and decrypts; good reports that both succeeded.
func (k *secret) openESP(p []byte) (plain []byte, good bool) {
	if k.newHash != nil {
		n := len(p) - k.icv
		if n < 8 || !hmac.Equal(k.mac(p[:n]), p[n:]) {
			return nil, false
		}
		p = p[:n]
	}
	var b cipher.Block
	var err error
	switch k.enc {
	case alg.Null:
		return p[8:], true
	case alg.TripleDES:
		b, err = des.NewTripleDESCipher(k.encKey)
	default:
		b, err = aes.NewCipher(k.encKey)
	}
	if err != nil || len(p) < 8+b.BlockSize() || (len(p)-8)%b.BlockSize() != 0 {
		return nil, false
	}
	iv, text := p[8:8+b.BlockSize()], p[8+b.BlockSize():]
	plain = make([]byte, len(text))
	cipher.NewCBCDecrypter(b, iv).CryptBlocks(plain, text)
	return plain, true
}

// checkAH checks the ICV of an AH packet, computed over the outer header with mutable
// fields and ICV set to zero.
func (k *secret) checkAH(h, body []byte, rest int) bool {
	h = slices.Clone(h[:20])
	h[1], h[6], h[7], h[8], h[10], h[11] = 0, 0, 0, 0, 0, 0
	h[9] = 51
	binary.BigEndian.PutUint16(h[2:], uint16(20+rest))
	a := slices.Clone(body)
	clear(a[12:24])
	return hmac.Equal(k.mac(h, a), body[12:24])
}

// A piece holds the header fields of one fragment.
type piece struct {
	Length, Offset int
	More, DF       bool
	TOS, TTL       byte
}

// assemble joins the fragments among packets, given in order, and describes every
// original packet.
func assemble(packets [][]byte) (whole [][]byte, pieces []piece) {
	var open []byte // a packet with missing fragments
	for _, p := range packets {
		f := int(binary.BigEndian.Uint16(p[6:]))
		x := piece{len(p), f & 0x1fff * 8, f&0x2000 != 0, f&0x4000 != 0, p[1], p[8]}
		pieces = append(pieces, x)
		switch {
		case x.Offset == 0 && !x.More:
			whole = append(whole, p)
		case x.Offset == 0:
			open = slices.Clone(p)
		case open == nil || [2]byte(open[4:]) != [2]byte(p[4:]) || len(open)-20 != x.Offset:
			whole = append(whole, p) // a fragment whose beginning is not here
		default:
			open = append(open, p[20:]...)
			if !x.More {
				open[6] &^= 0x20
				binary.BigEndian.PutUint16(open[2:], uint16(len(open)))
				open[10], open[11] = 0, 0
				binary.BigEndian.PutUint16(open[10:], ^uint16(sum16(open[:20])))
				whole, open = append(whole, open), nil
			}
		}
	}
	if open != nil {
		whole = append(whole, open)
	}
	return whole, pieces
}
