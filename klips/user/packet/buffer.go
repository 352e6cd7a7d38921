// Package packet has a buffer for IP packets with room before and after for the headers
// and trailers that transforms add in place, parsed IPv4 and IPv6 headers, and Internet
// checksums. It does not allocate, and never reads beyond its input.
package packet

import "math"

// Headroom is the room before a packet in a new buffer, in bytes. It is enough for
// eight layers of the largest headers (an IPv6 header, an ESP header with a 16-byte IV,
// an AH header with a 32-byte ICV).
const Headroom = 512

// Tailroom is the room after a packet, in bytes: padding and ICVs of eight layers.
const Tailroom = 512

// MaxSize is the length of the largest packet that KLIPS makes; a layer that would
// exceed it is an error.
const MaxSize = 65520

// A Buffer is one packet inside a larger array. Transforms move its ends and work in
// place. The zero value is empty. The maker of the Buffer owns B.
type Buffer struct {
	B   []byte // the whole array
	Off int    // where the packet begins in B
	End int    // where it ends in B
	Due Due    // what the packet still lacks
	// Sealed reports that an SA has made the packet that is to be sent. A packet in clear
	// may have the same protocol.
	Sealed bool
	// Cut reports that the host had fragmented the packet: it may be fragmented again.
	Cut bool
}

// Due is what a packet lacks whose headers are complete. A packet that lacks something
// must not be sent. The queue of the transform still holds it, and sets the rest to
// zero when it has done its part. Until then its bytes must stay where they are.
type Due uint8

const (
	DueESP Due = 1 << iota // encryption and ICV, see esp.Queue
	DueAH                  // the ICV of AH, see ah.Queue
)

// BufferSize is the length in bytes of a buffer for the largest packet.
const BufferSize = Headroom + math.MaxUint16 + Tailroom

// stride is the distance in bytes of two buffers in memory: an odd number of cache lines.
// At distances of whole pages the headers of all packets would compete for the same few
// places of the processor's caches.
const stride = (BufferSize/cacheLine + 1 | 1) * cacheLine

const cacheLine = 64

// NewBuffers makes n empty buffers of BufferSize, in one piece of memory. The memory that
// no packet has used costs nothing yet.
func NewBuffers(n int) []*Buffer {
	memory, bufs := make([]byte, n*stride), make([]*Buffer, n)
	headers := make([]Buffer, n)
	for i := range bufs {
		headers[i].B = memory[i*stride:][:BufferSize:BufferSize]
		bufs[i] = &headers[i]
	}
	return bufs
}

// NewBuffer makes a buffer with a copy of the packet p and the usual room around it.
func NewBuffer(p []byte) *Buffer {
	b := &Buffer{B: make([]byte, Headroom+len(p)+Tailroom)}
	b.Put(p)
	return b
}

// Put makes a copy of p the packet, at Headroom, cut off if there is too little room.
func (b *Buffer) Put(p []byte) {
	b.Off = Headroom
	b.End = b.Off + copy(b.B[b.Off:], p)
}

// Bytes returns the packet. It is valid until the ends move.
func (b *Buffer) Bytes() []byte { return b.B[b.Off:b.End:b.End] }

// Len returns the length of the packet in bytes.
func (b *Buffer) Len() int { return b.End - b.Off }

// Push grows the packet by n bytes at the front and reports whether there was room; the
// new bytes have the array's old content.
func (b *Buffer) Push(n int) bool {
	if n < 0 || n > b.Off {
		return false
	}
	b.Off -= n
	return true
}

// Pull drops n bytes at the front and reports whether the packet had so many.
func (b *Buffer) Pull(n int) bool {
	if n < 0 || n > b.Len() {
		return false
	}
	b.Off += n
	return true
}

// Grow adds n bytes at the end and reports whether there was room; the new bytes have
// the array's old content.
func (b *Buffer) Grow(n int) bool {
	if n < 0 || n > len(b.B)-b.End {
		return false
	}
	b.End += n
	return true
}

// Trim drops n bytes at the end and reports whether the packet had so many.
func (b *Buffer) Trim(n int) bool {
	if n < 0 || n > b.Len() {
		return false
	}
	b.End -= n
	return true
}
