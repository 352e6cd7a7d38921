package icv

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"

	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/user/internal/hashpair"
)

// A pair computes the HMACs (RFC 2104) of two messages at once. Its states and blocks are
// in its own memory, not on the stack, because the keyed states are as good as the key.
type pair struct {
	inner, outer hashpair.State // after the block with the key
	sha256       bool
	size         int // of the hash, in bytes
	n            int // of the ICV, in bytes
	lanes        [2]lane
}

// A lane is one message in work.
type lane struct {
	h     hashpair.State
	block [2 * hashpair.BlockSize]byte // the end of the message with its padding
}

// newPair returns nil if the processor has no instructions for the algorithm. The key is
// not longer than a block.
func newPair(a alg.Auth, key []byte) *pair {
	if !hashpair.Supported() {
		return nil
	}
	info, _ := a.Info()
	p := &pair{n: info.ICV}
	switch a {
	case alg.SHA1:
		p.size, p.inner, p.outer = sha1.Size, hashpair.Initial1(), hashpair.Initial1()
	case alg.SHA256, alg.SHA256Trunc:
		p.size, p.inner, p.outer, p.sha256 = sha256.Size, hashpair.Initial256(), hashpair.Initial256(), true
	default:
		return nil
	}
	for i := range p.lanes {
		b := p.lanes[i].block[:hashpair.BlockSize]
		copy(b, key)
		for j := range b {
			b[j] ^= [2]byte{0x36, 0x5c}[i]
		}
	}
	p.blocks(&p.inner, &p.outer, p.lanes[0].block[:hashpair.BlockSize], p.lanes[1].block[:hashpair.BlockSize])
	clear(p.lanes[:]) // of the key
	return p
}

func (p *pair) sums(messages []Message) {
	for len(messages) > 1 {
		p.hmac(&messages[0], &messages[1], &p.lanes[0], &p.lanes[1])
		messages = messages[2:]
	}
	if len(messages) == 1 {
		p.hmac(&messages[0], &messages[0], &p.lanes[0], &p.lanes[0])
	}
}

// hmac computes the ICVs of x and y in the lanes a and b. These are one for one message.
func (p *pair) hmac(x, y *Message, a, b *lane) {
	a.h = p.inner
	b.h = p.inner
	p.add(a, b, x.Data, y.Data)
	endX := a.end(x)
	endY := endX
	if a != b {
		endY = b.end(y)
	}
	p.add(a, b, endX, endY)
	p.enclose(a)
	if a != b {
		p.enclose(b)
	}
	a.h = p.outer
	b.h = p.outer
	p.add(a, b, a.block[:hashpair.BlockSize], b.block[:hashpair.BlockSize])
	a.put(x.ICV[:p.n])
	if a != b {
		b.put(y.ICV[:p.n])
	}
}

// add adds the whole blocks of d to lane a, and those of e to lane b.
func (p *pair) add(a, b *lane, d, e []byte) {
	n := p.blocks(&a.h, &b.h, d, e)
	if a != b { // the rest of the longer one
		p.blocks(&a.h, &a.h, d[n:], d[n:])
		p.blocks(&b.h, &b.h, e[n:], e[n:])
	}
}

func (p *pair) blocks(a, b *hashpair.State, d, e []byte) int {
	if p.sha256 {
		return hashpair.SHA256(a, b, d, e)
	}
	return hashpair.SHA1(a, b, d, e)
}

// end returns the last blocks of the inner hash: what Data has beside whole blocks, High,
// and the padding. It is one block or two.
func (a *lane) end(x *Message) []byte {
	n := copy(a.block[:], x.Data[len(x.Data)/hashpair.BlockSize*hashpair.BlockSize:])
	length := len(x.Data)
	if x.ESN {
		binary.BigEndian.PutUint32(a.block[n:], x.High)
		n += 4
		length += 4
	}
	return a.pad(n, length)
}

// pad adds the padding of FIPS 180-4 section 5.1.1 to the n bytes in the block. Before
// them the key and length-n bytes of the message have been added.
func (a *lane) pad(n, length int) []byte {
	size := (n + 1 + 8 + hashpair.BlockSize - 1) / hashpair.BlockSize * hashpair.BlockSize
	a.block[n] = 0x80
	clear(a.block[n+1 : size-8])
	binary.BigEndian.PutUint64(a.block[size-8:], uint64(hashpair.BlockSize+length)*8)
	return a.block[:size]
}

// enclose makes the block of the outer hash from the inner one.
func (p *pair) enclose(a *lane) {
	for i := range p.size / 4 {
		binary.BigEndian.PutUint32(a.block[4*i:], a.h[i])
	}
	a.pad(p.size, p.size)
}

// put writes as much of the hash as fits. All ICVs have whole words.
func (a *lane) put(icv []byte) {
	for i := range len(icv) / 4 {
		binary.BigEndian.PutUint32(icv[4*i:], a.h[i])
	}
}
