package eroute

import (
	"cmp"
	"encoding/binary"
	"net/netip"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/internal/hashtab"
)

// An addr is an address or prefix as a number: IPv6 in both words, IPv4 in the
// upper half of hi, so that prefix lengths count from the same end.
type addr struct{ hi, lo uint64 }

// maxBits is the length of the longest prefix.
const maxBits = 128

func toAddr(a netip.Addr) addr {
	if a.Is4() {
		b := a.As4()
		return addr{hi: uint64(binary.BigEndian.Uint32(b[:])) << 32}
	}
	b := a.As16()
	return addr{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// addr is the inverse of toAddr.
func (a addr) addr(six bool) netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], a.hi)
	if !six {
		return netip.AddrFrom4([4]byte(b[:4]))
	}
	binary.BigEndian.PutUint64(b[8:], a.lo)
	return netip.AddrFrom16(b)
}

// prefix returns the first n bits; the others are zero.
func (a addr) prefix(n uint8) addr {
	if n <= 64 {
		return addr{hi: a.hi & (^uint64(0) << (64 - n))}
	}
	return addr{a.hi, a.lo & (^uint64(0) << (128 - n))}
}

func (a addr) less(b addr) bool {
	return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo
}

func (a addr) compare(b addr) int { return cmp.Or(cmp.Compare(a.hi, b.hi), cmp.Compare(a.lo, b.lo)) }

// A kind is the set of fields that a mask covers: protocol and ports.
type kind uint8

const (
	hasProto kind = 1 << iota
	hasSrcPort
	hasDstPort
)

// A key is the key and mask of an eroute. If protocol and ports are not zero, they are in
// the mask. Keys of eroutes are unique.
type key struct {
	src, dst         addr
	sport, dport     uint16
	srcBits, dstBits uint8
	proto            uint8
	six              bool
}

func toKey(s *klips.Selector) key {
	return key{
		src: toAddr(s.Src.Addr()), dst: toAddr(s.Dst.Addr()),
		sport: s.SrcPort, dport: s.DstPort,
		srcBits: uint8(s.Src.Bits()), dstBits: uint8(s.Dst.Bits()),
		proto: s.Proto, six: s.Is6(),
	}
}

// selector is the inverse of toKey.
func (k *key) selector() klips.Selector {
	return klips.Selector{
		Src: netip.PrefixFrom(k.src.addr(k.six), int(k.srcBits)), Dst: netip.PrefixFrom(k.dst.addr(k.six), int(k.dstBits)),
		Proto: k.proto, SrcPort: k.sport, DstPort: k.dport,
	}
}

func (k *key) kind() (m kind) {
	if k.proto != 0 {
		m |= hasProto
	}
	if k.sport != 0 {
		m |= hasSrcPort
	}
	if k.dport != 0 {
		m |= hasDstPort
	}
	return m
}

// maskBits returns how many bits the mask has.
func (k *key) maskBits() int {
	n := int(k.srcBits) + int(k.dstBits)
	if k.proto != 0 {
		n += 8
	}
	if k.sport != 0 {
		n += 16
	}
	if k.dport != 0 {
		n += 16
	}
	return n
}

func hashPrefix(seed uint64, a addr, bits uint8) uint64 {
	return hashtab.Mix(hashtab.Mix(a.hi^seed, a.lo), uint64(bits))
}

// hash continues the source prefix's hash with the rest of the key.
func (k *key) hash(src uint64) uint64 {
	rest := uint64(k.dstBits)<<40 | uint64(k.proto)<<32 | uint64(k.sport)<<16 | uint64(k.dport)
	return hashtab.Mix(hashtab.Mix(src^k.dst.lo, rest), k.dst.hi)
}

// wins reports whether the eroute e with key k wins over f with key o if both match. Their
// age decides between keys that differ only in masks.
func (k *key) wins(o *key, e, f *Entry) bool {
	switch {
	case k.src != o.src:
		return o.src.less(k.src)
	case k.dst != o.dst:
		return o.dst.less(k.dst)
	case k.proto != o.proto:
		return k.proto > o.proto
	case k.sport != o.sport:
		return k.sport > o.sport
	case k.dport != o.dport:
		return k.dport > o.dport
	}
	if n, m := k.maskBits(), o.maskBits(); n != m {
		return n > m
	}
	return e.born < f.born
}

// compare is [klips.CompareSelectors] of the two selectors.
func (k *key) compare(o *key) int {
	switch {
	case k.six != o.six:
		if o.six {
			return -1
		}
		return 1
	case k.src != o.src:
		return k.src.compare(o.src)
	case k.dst != o.dst:
		return k.dst.compare(o.dst)
	}
	return cmp.Or(
		cmp.Compare(k.proto, o.proto), cmp.Compare(k.sport, o.sport), cmp.Compare(k.dport, o.dport),
		cmp.Compare(o.srcBits, k.srcBits), cmp.Compare(o.dstBits, k.dstBits),
	)
}
