package esp

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/internal/wipe"
	"github.com/klips-go/ipsec/klips/user/internal/aescbc"
	"github.com/klips-go/ipsec/klips/user/internal/icv"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// ivChunk is how many bytes of random IVs are read at once: one system call for 32
// packets of AES, 64 of 3DES.
const ivChunk = 512

// A Sealer encrypts for one SA.
//
// The 8-byte IVs of combined modes count up from a random 64-bit number of each Sealer.
// If n Sealers use one key, over all workers and restarts, and each seals up to m
// packets, an IV repeats with a probability below n²·m/2⁶⁴: 2⁻¹² for a thousand Sealers
// that all use up 2³² sequence numbers, 2⁻²⁴ for a thousand that each seal a million
// packets. With extended sequence numbers only the key's lifetime limits m.
type Sealer struct {
	*suite
	spi   uint32
	aes   *aescbc.Encrypter // of AES-CBC
	des   cbcMode           // of 3DES
	nonce [nonceLen]byte    // salt and IV
	count uint64            // next IV of a combined mode

	ivs  [ivChunk]byte // random; bytes before off are used
	off  int
	next [2]atomic.Uint64 // the IV at off, for NextIV
}

// NewSealer makes a Sealer. Errors are ErrAlgorithm and ErrKey.
func NewSealer(c Config) (*Sealer, error) {
	defer wipe.Registers()
	var keys wipe.Parts
	su, err := newSuite(&c, &keys)
	if err != nil {
		return nil, err
	}
	s := &Sealer{suite: su, spi: c.SPI}
	switch {
	case c.Transform.Enc == alg.AES:
		if s.aes, err = aescbc.NewEncrypter(c.EncKey); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrAlgorithm, err)
		}
		keys.WhenGone(s.aes)
	case c.Transform.Enc == alg.TripleDES:
		if s.des, err = newTripleDES(c.EncKey, &keys, cipher.NewCBCEncrypter); err != nil {
			return nil, err
		}
	case su.aead != nil:
		copy(s.nonce[:], su.salt[:])
		var b [8]byte
		rand.Read(b[:]) // never fails: an error ends the program
		s.count = binary.BigEndian.Uint64(b[:])
	}
	if s.cbc() {
		s.off = ivChunk
		s.nextIV()
	}
	return s, nil
}

// cbc reports whether the cipher is a CBC mode, which has random IVs.
func (s *Sealer) cbc() bool { return s.aes != nil || s.des != nil }

// Seal encapsulates the payload of the packet in b: the part after the IP header and,
// in IPv6, after the extension headers that [packet.ParseIP] skips. h is the parsed
// header, which Seal updates. Bytes after the packet's total length are dropped. A
// fragment is sealed like any packet, as in KLIPS; the caller decides whether to do
// that.
//
// The packet gets the low 32 bits of seq. If the SA has extended sequence numbers, the
// high ones are authenticated. Otherwise they are ignored, and the caller must stop
// before they change (RFC 4303 section 3.3.3).
//
// Errors are ErrRoom and ErrTooLong, and ErrDue for a packet that lacks something; the
// packet and h are then unchanged.
func (s *Sealer) Seal(b *packet.Buffer, h *packet.Header, seq uint64) error {
	e, err := s.lay(b, h, seq)
	if err != nil || s.aead != nil {
		return err
	}
	one := [1]laid{{e: e, seq: seq}}
	var blocks [1][]byte
	var messages [1]icv.Message
	s.complete(one[:], blocks[:0], messages[:0])
	return nil
}

// lay makes of a packet an ESP packet with its header, IV, padding and trailer, and
// returns what follows the IP header. In a combined mode it seals the packet; otherwise
// it lacks encryption and ICV.
func (s *Sealer) lay(b *packet.Buffer, h *packet.Header, seq uint64) ([]byte, error) {
	if b.Due != 0 {
		return nil, ErrDue
	}
	payload := h.Total - h.Len
	front, behind := s.Overhead(payload)
	total := h.Total + front + behind
	if total > packet.MaxSize {
		return nil, ErrTooLong
	}
	if front > b.Off || b.Off-front+total > len(b.B) {
		return nil, ErrRoom
	}
	b.Off -= front
	b.End = b.Off + total
	p := b.Bytes()
	copy(p[:h.Len], p[front:front+h.Len])
	p[h.ProtoOff] = packet.ProtoESP
	packet.SetTotal(p, total)
	packet.FixChecksum(p)

	e := p[h.Len:]
	binary.BigEndian.PutUint32(e, s.spi)
	binary.BigEndian.PutUint32(e[4:], uint32(seq))
	end := front + payload + behind - s.icv // of the ciphertext
	t := e[front+payload : end]
	pad := len(t) - TrailerLen
	for i := range pad {
		t[i] = byte(i + 1)
	}
	t[pad], t[pad+1] = byte(pad), h.Proto
	h.Proto, h.Total = packet.ProtoESP, total

	switch {
	case s.aead != nil:
		binary.BigEndian.PutUint64(e[HeaderLen:], s.count)
		binary.BigEndian.PutUint64(s.nonce[saltLen:], s.count)
		s.count++
		if s.onStack {
			wipe.Reserve()
		}
		s.aead.Seal(e[front:front], s.nonce[:], e[front:end], s.aad(e, seq))
		if s.onStack {
			wipe.Stack()
		} else {
			wipe.Registers()
		}
	case s.cbc():
		copy(e[HeaderLen:front], s.ivs[s.off:])
		s.nextIV()
	}
	return e, nil
}

// nextIV steps to the next random IV, which must not be predictable from earlier
// packets (RFC 3602 section 2.1).
func (s *Sealer) nextIV() {
	s.off += s.iv
	if s.off+s.iv > ivChunk {
		rand.Read(s.ivs[:])
		s.off = 0
	}
	s.next[0].Store(binary.BigEndian.Uint64(s.ivs[s.off:]))
	if s.iv == 16 {
		s.next[1].Store(binary.BigEndian.Uint64(s.ivs[s.off+8:]))
	}
}

// NextIV returns a copy of the next packet's IV if the cipher is a CBC mode, nil
// otherwise. It may be called from any goroutine; while another one seals, its halves
// may belong to two packets.
func (s *Sealer) NextIV() []byte {
	if !s.cbc() {
		return nil
	}
	iv := binary.BigEndian.AppendUint64(make([]byte, 0, 16), s.next[0].Load())
	if s.iv == 16 {
		iv = binary.BigEndian.AppendUint64(iv, s.next[1].Load())
	}
	return iv
}
