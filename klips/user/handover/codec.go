package handover

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// A codec walks through fields in their order and counts their length, writes them, or
// reads them. After an error it does nothing.
type codec struct {
	mode    mode
	version uint64 // of the state that is read or written
	size    int    // while counting: bytes so far
	b       []byte // the rest to write into, or to read
	err     error
}

type mode uint8

const (
	counting mode = iota
	writing
	reading
)

// ErrFormat is the error for bytes that are not a valid state.
var ErrFormat = errors.New("what was handed over is damaged")

func (c *codec) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("%w: "+format, append([]any{ErrFormat}, args...)...)
	}
}

// next returns the next n bytes to read or write; nil after an error, and while
// counting.
func (c *codec) next(n int) []byte {
	switch {
	case c.err != nil:
		return nil
	case c.mode == counting:
		c.size += n
		return nil
	case n < 0 || n > len(c.b):
		c.fail("%d bytes are missing", n-len(c.b))
		return nil
	}
	b := c.b[:n:n]
	c.b = c.b[n:]
	return b
}

func (c *codec) word(v *uint64) {
	b := c.next(8)
	switch {
	case b == nil:
	case c.mode == writing:
		binary.LittleEndian.PutUint64(b, *v)
	default:
		*v = binary.LittleEndian.Uint64(b)
	}
}

type integer interface {
	~int | ~int32 | ~int64 | ~uint8 | ~uint16 | ~uint32 | ~uint64
}

// num handles one number.
func num[T integer](c *codec, p *T) {
	v := uint64(*p)
	c.word(&v)
	if c.mode != reading || c.err != nil {
		return
	}
	if uint64(T(v)) != v {
		c.fail("the number %d is too large", v)
		return
	}
	*p = T(v)
}

// nums handles several numbers of one type.
func nums[T integer](c *codec, p ...*T) {
	for _, p := range p {
		num(c, p)
	}
}

func (c *codec) bool(p *bool) {
	var v uint8
	if *p {
		v = 1
	}
	num(c, &v)
	if v > 1 {
		c.fail("%d is neither true nor false", v)
	}
	*p = v == 1
}

// bytes handles a slice, which it copies; nil if it is empty.
func (c *codec) bytes(p *[]byte) {
	n := len(*p)
	num(c, &n)
	b := c.next(n)
	switch {
	case c.mode == writing:
		copy(b, *p)
	case c.mode == reading:
		*p = append([]byte(nil), b...)
	}
}

func (c *codec) text(p *string) {
	b := []byte(*p)
	c.bytes(&b)
	*p = string(b)
}

// addr handles an address, which may be invalid.
func (c *codec) addr(p *netip.Addr) {
	b := p.AsSlice()
	c.bytes(&b)
	if c.mode != reading || c.err != nil {
		return
	}
	a, ok := netip.AddrFromSlice(b)
	if !ok && len(b) > 0 {
		c.fail("an address has %d bytes", len(b))
	}
	*p = a
}

// prefix handles a prefix, which may be invalid.
func (c *codec) prefix(p *netip.Prefix) {
	a, bits := p.Addr(), uint8(p.Bits()+1)
	c.addr(&a)
	num(c, &bits)
	if c.mode != reading || c.err != nil {
		return
	}
	*p = netip.PrefixFrom(a, int(bits)-1)
	if p.IsValid() != (bits > 0) {
		c.fail("%v has no prefix of %d bits", a, int(bits)-1)
	}
}

// list handles a slice. Each element has at least one number, so that a wrong length
// cannot make it allocate much memory.
func list[T any](c *codec, p *[]T, element func(*T)) {
	n := len(*p)
	num(c, &n)
	if c.err != nil {
		return
	}
	if c.mode == reading {
		if n < 0 || n > len(c.b)/8 {
			c.fail("a list has %d elements in %d bytes", n, len(c.b))
			return
		}
		*p = nil
		if n > 0 {
			*p = make([]T, n)
		}
	}
	for i := range *p {
		element(&(*p)[i])
		if c.err != nil {
			return
		}
	}
}

// optional handles a value that may be nil.
func optional[T any](c *codec, p **T, value func(*T)) {
	is := *p != nil
	c.bool(&is)
	if c.err != nil || !is {
		return
	}
	if c.mode == reading {
		*p = new(T)
	}
	value(*p)
}
