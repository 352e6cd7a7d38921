package guard

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/google/nftables"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/internal/arrange"
)

// A shape is the common properties of the flows in one set.
type shape struct {
	in, pass, byHand    bool
	is6                 bool
	srcBits, dstBits    int
	proto, sport, dport bool
}

func shapeOf(f Flow) shape {
	return shape{
		in: f.In, pass: f.Pass, byHand: f.ByHand,
		is6: f.Is6(), srcBits: f.Src.Bits(), dstBits: f.Dst.Bits(),
		proto: f.Proto != 0, sport: f.SrcPort != 0, dport: f.DstPort != 0,
	}
}

// fields are the parts of a shape besides the prefixes, with their names in a set's
// name.
func (s *shape) fields() [3]struct {
	name string
	is   *bool
} {
	return [3]struct {
		name string
		is   *bool
	}{{"proto", &s.proto}, {"sport", &s.sport}, {"dport", &s.dport}}
}

// String returns the name of the set, as in "out4-closed-24-16-proto-dport".
func (s shape) String() string {
	dir, what := "out", "closed"
	if s.in {
		dir = "in"
	}
	if s.pass {
		what = "pass"
	}
	name := fmt.Sprintf("%s%s-%s-%d-%d", dir, ipVersion(s.is6), what, s.srcBits, s.dstBits)
	for _, f := range s.fields() {
		if *f.is {
			name += "-" + f.name
		}
	}
	if s.byHand {
		name += "-byhand"
	}
	return name
}

// parseShape parses the name of a set; ok is false for other sets.
func parseShape(name string) (s shape, ok bool) {
	parts := strings.Split(name, "-")
	if len(parts) < 4 {
		return s, false
	}
	switch parts[0] {
	case "out4":
	case "out6":
		s.is6 = true
	case "in4":
		s.in = true
	case "in6":
		s.in, s.is6 = true, true
	default:
		return s, false
	}
	s.pass = parts[1] == "pass"
	var errs [2]error
	s.srcBits, errs[0] = strconv.Atoi(parts[2])
	s.dstBits, errs[1] = strconv.Atoi(parts[3])
	if errs != [2]error{} {
		return s, false
	}
	for _, part := range parts[4:] {
		for _, f := range s.fields() {
			if part == f.name {
				*f.is = true
			}
		}
		s.byHand = s.byHand || part == "byhand"
	}
	// A valid name is exactly the name of its shape.
	return s, s.String() == name && s.srcBits >= 0 && s.dstBits >= 0 && s.srcBits <= s.addrLen()*8 && s.dstBits <= s.addrLen()*8
}

// addrLen is the length of an address in bytes.
func (s shape) addrLen() int {
	if s.is6 {
		return net.IPv6len
	}
	return net.IPv4len
}

// keyType is the type of the set's keys. Each part takes a multiple of 4 bytes.
func (s shape) keyType() nftables.SetDatatype {
	addr := nftables.TypeIPAddr
	if s.is6 {
		addr = nftables.TypeIP6Addr
	}
	types := []nftables.SetDatatype{addr, addr}
	if s.proto {
		types = append(types, nftables.TypeInetProto)
	}
	if s.sport {
		types = append(types, nftables.TypeInetService)
	}
	if s.dport {
		types = append(types, nftables.TypeInetService)
	}
	return nftables.MustConcatSetType(types...)
}

// key returns the key of a flow of this shape.
func (s shape) key(f klips.Selector) []byte {
	b := append(f.Src.Addr().AsSlice(), f.Dst.Addr().AsSlice()...)
	if s.proto {
		b = append(b, f.Proto, 0, 0, 0)
	}
	if s.sport {
		b = append(binary.BigEndian.AppendUint16(b, f.SrcPort), 0, 0)
	}
	if s.dport {
		b = append(binary.BigEndian.AppendUint16(b, f.DstPort), 0, 0)
	}
	return b
}

// flow parses a key.
func (s shape) flow(key []byte) (f Flow, ok bool) {
	f.In, f.Pass, f.ByHand = s.in, s.pass, s.byHand
	if len(key) != len(s.key(klips.Selector{Src: zeroPrefix(s.is6), Dst: zeroPrefix(s.is6)})) {
		return f, false
	}
	prefix := func(bits int) netip.Prefix {
		a, _ := netip.AddrFromSlice(key[:s.addrLen()])
		key = key[s.addrLen():]
		return netip.PrefixFrom(a, bits)
	}
	f.Src, f.Dst = prefix(s.srcBits), prefix(s.dstBits)
	if s.proto {
		f.Proto, key = key[0], key[4:]
	}
	if s.sport {
		f.SrcPort, key = binary.BigEndian.Uint16(key), key[4:]
	}
	if s.dport {
		f.DstPort = binary.BigEndian.Uint16(key)
	}
	return f, f.Src == f.Src.Masked() && f.Dst == f.Dst.Masked() && shapeOf(f) == s
}

func zeroPrefix(is6 bool) netip.Prefix {
	if is6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

// before orders shapes like their rules: if one flow refines another, the narrower
// comes first; of two equal flows, the one that passes comes first.
func (s shape) before(o shape) int {
	count := func(s shape) (n int) {
		for _, f := range s.fields() {
			if *f.is {
				n++
			}
		}
		return n
	}
	return cmp.Or(
		cmp.Compare(o.srcBits, s.srcBits), cmp.Compare(o.dstBits, s.dstBits), cmp.Compare(count(o), count(s)),
		compareBool(o.pass, s.pass), cmp.Compare(s.String(), o.String()),
	)
}

// group returns the flows by shape, in the order of the rules.
func group(flows []Flow) (order []shape, sets map[shape][]Flow) {
	sets = map[shape][]Flow{}
	for _, f := range flows {
		s := shapeOf(f)
		if sets[s] == nil {
			order = append(order, s)
		}
		sets[s] = append(sets[s], f)
	}
	arrange.Sort(order, shape.before)
	return order, sets
}
