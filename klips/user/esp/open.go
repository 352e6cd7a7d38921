package esp

import (
	"crypto/cipher"
	"fmt"

	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/internal/wipe"
	"github.com/klips-go/ipsec/klips/user/internal/aescbc"
	"github.com/klips-go/ipsec/klips/user/internal/icv"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// An Opener checks and decrypts for one SA. For each packet the order is [ParseHeader],
// the pre-check of the replay window, Verify, the update of the window, Open. Between
// Verify and Open of a packet no other packet may be verified, but the packet may be
// dropped.
type Opener struct {
	*suite
	aes      *aescbc.Decrypter // of AES-CBC
	des      cbcMode           // of 3DES
	nonce    [nonceLen]byte
	verified bool // Verify succeeded, and Open was not called since
}

// NewOpener makes an Opener. Errors are ErrAlgorithm and ErrKey.
func NewOpener(c Config) (*Opener, error) {
	defer wipe.Registers()
	var keys wipe.Parts
	su, err := newSuite(&c, &keys)
	if err != nil {
		return nil, err
	}
	o := &Opener{suite: su}
	switch c.Transform.Enc {
	case alg.AES:
		if o.aes, err = aescbc.NewDecrypter(c.EncKey); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrAlgorithm, err)
		}
		keys.WhenGone(o.aes)
	case alg.TripleDES:
		if o.des, err = newTripleDES(c.EncKey, &keys, cipher.NewCBCDecrypter); err != nil {
			return nil, err
		}
	}
	copy(o.nonce[:], su.salt[:])
	return o, nil
}

// Authenticated reports whether the SA authenticates packets. KLIPS checks the
// replay window only then.
func (o *Opener) Authenticated() bool { return o.icv > 0 }

// Verify checks the ICV of the ESP packet in b with the IP header h and the sequence
// number seq. Of seq only the high 32 bits are used, and only with extended sequence
// numbers: [ParseHeader] returns the low ones, and the replay window infers the rest
// (see the method Extend of replay.Window). In a combined mode it also decrypts, in
// place; if that fails, the ciphertext is lost. Without authentication it does nothing.
// Errors are ErrRunt, if the packet is too short for the ICV, and ErrAuth.
func (o *Opener) Verify(b *packet.Buffer, h *packet.Header, seq uint64) error {
	return o.VerifyAhead(b, h, seq, nil, nil)
}

// Foresees reports whether VerifyAhead computes a second ICV.
func (o *Opener) Foresees() bool { return o.mac != nil && o.mac.Foresees() }

// VerifyAhead is Verify, and may compute a second ICV for a, as [icv.MAC.EqualAhead] does.
// next is what follows the IP header of a later packet, which probably is of this SA and
// has the same high half of the sequence number; the result does not depend on that.
func (o *Opener) VerifyAhead(b *packet.Buffer, h *packet.Header, seq uint64, a *icv.Ahead, next []byte) error {
	o.verified = false
	if o.icv == 0 {
		return nil
	}
	e, err := body(b, h)
	if err != nil {
		return err
	}
	if o.aead != nil {
		front := HeaderLen + aeadIVLen
		if len(e) < front+TrailerLen+o.icv {
			return ErrRunt
		}
		copy(o.nonce[saltLen:], e[HeaderLen:front])
		if o.onStack {
			wipe.Reserve()
		}
		_, err := o.aead.Open(e[front:front], o.nonce[:], e[front:], o.aad(e, seq))
		if o.onStack {
			wipe.Stack()
		} else {
			wipe.Registers()
		}
		if err != nil {
			return ErrAuth
		}
	} else {
		if len(e) <= o.icv {
			return ErrRunt
		}
		var later icv.Message
		if len(next) > o.icv {
			later = o.message(next, seq)
		}
		if !o.mac.EqualAhead(o.message(e, seq), a, later) {
			return ErrAuth
		}
	}
	o.verified = true
	return nil
}

// Open decrypts the ESP packet in b with the IP header h, unless Verify did so, and
// removes header, padding and ICV. h is invalid afterwards. padBad means that the pad
// bytes are not 1, 2, 3, …, which is not an error: KLIPS counts and accepts such
// packets.
//
// Errors are ErrShort, if the ciphertext is not one or more whole blocks, ErrPadding
// (with padBad), and ErrAuth, if the SA authenticates and Verify did not accept the
// packet just before.
func (o *Opener) Open(b *packet.Buffer, h *packet.Header) (padBad bool, err error) {
	ok := o.verified || o.icv == 0
	o.verified = false
	if !ok {
		return false, ErrAuth
	}
	e, err := body(b, h)
	if err != nil {
		return false, err
	}
	front, end := HeaderLen+o.iv, len(e)-o.icv
	if end-front < TrailerLen {
		return false, ErrShort
	}
	switch {
	case o.aes == nil && o.des == nil:
	case (end-front)%o.align != 0:
		return false, ErrShort
	case o.aes != nil:
		o.aes.Decrypt(e[HeaderLen:end])
	case o.des != nil:
		o.des.SetIV(e[HeaderLen:front])
		o.des.CryptBlocks(e[front:end], e[front:end])
	}
	pad, proto := int(e[end-2]), e[end-1]
	end -= TrailerLen + pad
	if end < front {
		return true, ErrPadding
	}
	for i, v := range e[end : end+pad] {
		if int(v) != i+1 {
			padBad = true
			break
		}
	}
	// Move the header to the payload: it is nearly always the shorter of the two.
	p := b.B[b.Off:]
	copy(p[front:front+h.Len], p[:h.Len])
	b.Off += front
	b.End = b.Off + h.Len + end - front
	p = b.Bytes()
	p[h.ProtoOff] = proto
	packet.SetTotal(p, len(p))
	packet.FixChecksum(p)
	return padBad, nil
}
