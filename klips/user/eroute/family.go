package eroute

import (
	"math"

	"github.com/klips-go/ipsec/klips/user/internal/hashtab"
)

// maxDirect is how many shapes a lookup tries for a source length without checking
// first which of them the packet's source prefix has. The check costs as much as two
// tries.
const maxDirect = 3

// A family holds the eroutes of one address family.
type family struct {
	seed    uint64
	entries hashtab.Table[key, Entry]
	sources hashtab.Table[prefix, source]
	lengths lengths             // of source prefixes
	byLen   [maxBits + 1]shapes // shapes of all eroutes with a source length
}

// A prefix is a source prefix that eroutes have.
type prefix struct {
	addr addr
	bits uint8
}

// A source has the shapes of the eroutes with one source prefix.
type source struct{ shapes shapes }

func (f *family) source(hash uint64, k *key) *source {
	return f.sources.Find(hash, &prefix{k.src, k.srcBits})
}

// get returns the entry with a key, nil if there is none.
func (f *family) get(k *key) *Entry {
	return f.entries.Find(k.hash(hashPrefix(f.seed, k.src, k.srcBits)), k)
}

// unchanging instead of a version is for lookups while the table does not change.
const unchanging = math.MaxUint64

// lookup returns the winner of the eroutes that matched a packet at a version, nil if
// none did.
func (f *family) lookup(p *Packet, version uint64) *Entry {
	src, dst := toAddr(p.Src), toAddr(p.Dst)
	var best *Entry
	var won key // of best
	k := key{six: p.Src.Is6()}
	for n := f.lengths.max(maxBits); n >= 0; n = f.lengths.max(n - 1) {
		k.srcBits = uint8(n)
		k.src = src.prefix(k.srcBits)
		if best != nil && k.src != won.src {
			break // it is smaller, like all that follow
		}
		hash := hashPrefix(f.seed, k.src, k.srcBits)
		list := &f.byLen[n]
		if list.len.Load() > maxDirect {
			s := f.source(hash, &k)
			if s == nil {
				continue
			}
			list = &s.shapes
		}
		for s := list.first.Load(); s != nil; s = s.next.Load() {
			k.dstBits = s.dstBits
			k.dst = dst.prefix(k.dstBits)
			if best != nil && k.dst.less(won.dst) {
				break // like all that follow
			}
			if !k.setPorts(p, s.kind) {
				continue
			}
			e := f.entries.Find(k.hash(hash), &k)
			if version != unchanging { // otherwise nothing of e need be read, for which it would wait
				e = e.at(version)
			}
			if e != nil && (best == nil || k.wins(&won, e, best)) {
				best, won = e, k
			}
		}
	}
	return best
}

// setPorts sets protocol and ports of the key to the packet's, if the kind covers them.
// It returns false if no eroute of that kind matches the packet: zero in a selector means
// any.
func (k *key) setPorts(p *Packet, m kind) bool {
	k.proto, k.sport, k.dport = 0, 0, 0
	if m&hasProto != 0 {
		k.proto = p.Proto
	}
	if m&hasSrcPort != 0 {
		k.sport = p.SrcPort
	}
	if m&hasDstPort != 0 {
		k.dport = p.DstPort
	}
	return k.kind() == m
}

// insert adds an entry whose key is not in the table.
func (f *family) insert(e *Entry) {
	k := &e.key
	hash := hashPrefix(f.seed, k.src, k.srcBits)
	f.entries.Insert(k.hash(hash), *k, e)
	s := f.source(hash, k)
	if s == nil {
		s = new(source)
		s.shapes.add(k.dstBits, k.kind())
		f.sources.Insert(hash, prefix{k.src, k.srcBits}, s)
	} else {
		s.shapes.add(k.dstBits, k.kind())
	}
	f.byLen[k.srcBits].add(k.dstBits, k.kind())
	f.lengths.add(k.srcBits)
}

// replace replaces an entry by another with the same key.
func (f *family) replace(old, e *Entry) {
	f.entries.Replace(e.key.hash(hashPrefix(f.seed, e.key.src, e.key.srcBits)), old, e)
}

// remove removes an entry that is in the table.
func (f *family) remove(e *Entry) {
	k := &e.key
	hash := hashPrefix(f.seed, k.src, k.srcBits)
	f.entries.Remove(k.hash(hash), e)
	if s := f.source(hash, k); s != nil {
		s.shapes.remove(k.dstBits, k.kind())
		if s.shapes.first.Load() == nil {
			f.sources.Remove(hash, s)
		}
	}
	l := &f.byLen[k.srcBits]
	l.remove(k.dstBits, k.kind())
	if l.first.Load() == nil {
		f.lengths.remove(k.srcBits)
	}
}
