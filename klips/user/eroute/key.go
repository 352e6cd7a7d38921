package eroute

import (
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

// A kind is the set of fields that a mask covers: protocol and ports.
type kind uint8

const (
	hasProto kind = 1 << iota
	hasSrcPort
	hasDstPort
)

// A key is the key and mask of an eroute in one family. If protocol and ports are not
// zero, they are in the mask. Keys of eroutes are unique.
type key struct {
	src, dst         addr
	sport, dport     uint16
	srcBits, dstBits uint8
	proto            uint8
}

func toKey(s *klips.Selector) key {
	return key{
		src: toAddr(s.Src.Addr()), dst: toAddr(s.Dst.Addr()),
		sport: s.SrcPort, dport: s.DstPort,
		srcBits: uint8(s.Src.Bits()), dstBits: uint8(s.Dst.Bits()),
		proto: s.Proto,
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

// wins reports whether k wins over o if both match. before: k is older; this decides
// between keys that differ only in masks.
func (k *key) wins(o *key, before bool) bool {
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
	return before
}
