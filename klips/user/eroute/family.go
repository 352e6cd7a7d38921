package eroute

import "github.com/klips-go/ipsec/klips/user/internal/hashtab"

// maxDirect is how many shapes a lookup tries for a source length without checking
// first which of them the packet's source prefix has. The check costs as much as two
// tries.
const maxDirect = 3

// A family holds the eroutes of one address family.
type family struct {
	seed    uint64
	entries hashtab.Table[Entry]
	sources hashtab.Table[source]
	lengths lengths             // of source prefixes
	byLen   [maxBits + 1]shapes // shapes of all eroutes with a source length
}

// A source is a source prefix that eroutes have.
type source struct {
	prefix addr
	bits   uint8
	shapes shapes
}

func (f *family) source(hash uint64, prefix addr, bits uint8) *source {
	return f.sources.Find(hash, func(s *source) bool { return s.prefix == prefix && s.bits == bits })
}

func (f *family) entry(hash uint64, k *key) *Entry {
	return f.entries.Find(hash, func(e *Entry) bool { return e.key == *k })
}

// get returns the entry with a key, nil if there is none.
func (f *family) get(k *key) *Entry {
	return f.entry(k.hash(hashPrefix(f.seed, k.src, k.srcBits)), k)
}

// lookup returns the winner of the eroutes that matched a packet at a version, nil if
// none did.
func (f *family) lookup(p *Packet, version uint64) *Entry {
	src, dst := toAddr(p.Src), toAddr(p.Dst)
	var best *Entry
	k := key{}
	for n := f.lengths.max(maxBits); n >= 0; n = f.lengths.max(n - 1) {
		k.srcBits = uint8(n)
		k.src = src.prefix(k.srcBits)
		if best != nil && k.src != best.key.src {
			break // it is smaller, like all that follow
		}
		hash := hashPrefix(f.seed, k.src, k.srcBits)
		list := &f.byLen[n]
		if list.len.Load() > maxDirect {
			s := f.source(hash, k.src, k.srcBits)
			if s == nil {
				continue
			}
			list = &s.shapes
		}
		for s := list.first.Load(); s != nil; s = s.next.Load() {
			k.dstBits = s.dstBits
			k.dst = dst.prefix(k.dstBits)
			if best != nil && k.dst.less(best.key.dst) {
				break // like all that follow
			}
			if !k.setPorts(p, s.kind) {
				continue
			}
			e := f.entry(k.hash(hash), &k).at(version)
			if e != nil && (best == nil || e.key.wins(&best.key, e.born < best.born)) {
				best = e
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
	f.entries.Insert(k.hash(hash), e)
	s := f.source(hash, k.src, k.srcBits)
	if s == nil {
		s = &source{prefix: k.src, bits: k.srcBits}
		s.shapes.add(k.dstBits, k.kind())
		f.sources.Insert(hash, s)
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
	if s := f.source(hash, k.src, k.srcBits); s != nil {
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
