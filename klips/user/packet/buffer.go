// Package packet gives views of IP packets: a buffer with room in front and
// behind for the headers and trailers that transforms add in place, typed
// access to IPv4 and IPv6 headers, and Internet checksums. It allocates nothing
// and never reads past what it is given.
package packet

// Headroom is the room that a reader of packets leaves in front of each, enough
// for eight layers of the largest headers (an IPv6 header, an ESP header with a
// 16-byte IV, an AH header with a 32-byte ICV).
const Headroom = 512

// Tailroom is the room behind: padding and ICVs of eight layers.
const Tailroom = 512

// MaxSize is the largest packet that KLIPS makes; a layer that would exceed it
// is an error.
const MaxSize = 65520

// A Buffer is one packet inside a larger array. Transforms move its ends and
// work in place. The zero value is empty; the owner of B is who made it.
type Buffer struct {
	B   []byte // the whole array
	Off int    // where the packet begins in B
	End int    // where it ends in B
}

// Bytes returns the packet. It is valid until the ends move.
func (b *Buffer) Bytes() []byte { return b.B[b.Off:b.End:b.End] }

// Len returns the length of the packet in bytes.
func (b *Buffer) Len() int { return b.End - b.Off }

// Push grows the packet by n bytes in front and reports whether there was room;
// the new bytes hold whatever the array held.
func (b *Buffer) Push(n int) bool {
	if n < 0 || n > b.Off {
		return false
	}
	b.Off -= n
	return true
}

// Pull drops n bytes in front and reports whether there were so many.
func (b *Buffer) Pull(n int) bool {
	if n < 0 || n > b.Len() {
		return false
	}
	b.Off += n
	return true
}

// Grow adds n bytes behind and reports whether there was room; the new bytes
// hold whatever the array held.
func (b *Buffer) Grow(n int) bool {
	if n < 0 || n > len(b.B)-b.End {
		return false
	}
	b.End += n
	return true
}

// Trim drops n bytes behind and reports whether there were so many.
func (b *Buffer) Trim(n int) bool {
	if n < 0 || n > b.Len() {
		return false
	}
	b.End -= n
	return true
}
