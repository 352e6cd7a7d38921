package module

import (
	"cmp"
	"encoding/binary"
	"slices"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// Eroutes are in a radix tree. A key is struct sockaddr_encap: a type, then source,
// destination, protocol and ports. For IPv6 their offsets differ from those for IPv4.
const (
	keyLen  = 1 + 38
	keyIPv4 = 1 // the type
	keyIPv6 = 2
)

// A layout has the offsets of the parts of a key.
type layout struct{ src, dst, proto, sport, dport int }

var (
	layout4 = layout{1, 5, 9, 11, 13}
	layout6 = layout{1, 17, 33, 35, 37}
)

// An eroute is an entry of the tree. Key and mask have keyLen bytes.
type eroute struct {
	key, mask string
	said      klips.SAID
	packets   uint64
}

// A chain is the eroutes with one key, in the order in which they are found.
type chain []*eroute

// A subnet is an address with its mask, which need not be a prefix, as bytes.
type subnet struct{ addr, mask string }

// keyOf returns the key and mask in a message. The kernel always puts the protocol at
// its IPv4 offset, which for IPv6 is in the source address.
func keyOf(msg *pfkey.Message) (key, mask string) {
	k, m := make([]byte, keyLen), make([]byte, keyLen)
	l := layout4
	k[0], m[0] = keyIPv4, 0xff
	if msg.SrcFlow.Addr.Is6() {
		k[0], l = keyIPv6, layout6
	}
	for _, f := range []struct {
		b        []byte
		src, dst *pfkey.Address
	}{{k, msg.SrcFlow, msg.DstFlow}, {m, msg.SrcMask, msg.DstMask}} {
		copy(f.b[l.src:l.dst], f.src.Addr.AsSlice())
		copy(f.b[l.dst:l.proto], f.dst.Addr.AsSlice())
		binary.BigEndian.PutUint16(f.b[l.sport:], f.src.Port)
		binary.BigEndian.PutUint16(f.b[l.dport:], f.dst.Port)
	}
	if msg.Protocol != nil && msg.Protocol.Proto != 0 {
		k[layout4.proto], m[layout4.proto] = msg.Protocol.Proto, 0xff
	}
	return string(k), string(m)
}

// addFlow carries out X_ADDFLOW.
func (m *Module) addFlow(msg *pfkey.Message) syscall.Errno {
	id, err := msg.SAID()
	if err != nil {
		return pfkey.Errno(err)
	}
	if msg.SA.Flags&(klips.FlagInFlow|klips.FlagPolicyOnly) != 0 {
		if errno := m.setPolicy(id, msg); errno != 0 {
			return errno
		}
	} else {
		key, mask := keyOf(msg)
		if msg.SA.Flags&klips.FlagReplaceFlow != 0 {
			if errno := m.deleteEroute(key, mask); errno != 0 {
				return errno
			}
		}
		if errno := m.addEroute(&eroute{key: key, mask: mask, said: id}); errno != 0 {
			return errno
		}
	}
	r := withoutPorts(msg)
	r.SA, r.Src, r.Dst = msg.SA, msg.Src, msg.Dst
	m.tellAll(r)
	return 0
}

// delFlow carries out X_DELFLOW.
func (m *Module) delFlow(msg *pfkey.Message) syscall.Errno {
	if msg.SA != nil && msg.SA.Flags&klips.FlagClearFlow != 0 {
		m.eroutes = nil
		r := pfkey.Ack(msg.Header)
		r.SA = msg.SA
		m.tellAll(r)
		return 0
	}
	if msg.SA == nil || msg.SA.Flags&klips.FlagPolicyOnly == 0 {
		if errno := m.deleteEroute(keyOf(msg)); errno != 0 {
			return errno
		}
	}
	r := withoutPorts(msg)
	r.SA = msg.SA
	m.tellAll(r)
	return 0
}

// withoutPorts starts the answer to a message with flows, which lacks ports and
// protocol.
func withoutPorts(msg *pfkey.Message) *pfkey.Message {
	r := pfkey.Ack(msg.Header)
	for _, a := range []struct{ to, from **pfkey.Address }{
		{&r.SrcFlow, &msg.SrcFlow}, {&r.DstFlow, &msg.DstFlow}, {&r.SrcMask, &msg.SrcMask}, {&r.DstMask, &msg.DstMask},
	} {
		*a.to = &pfkey.Address{Addr: (*a.from).Addr}
	}
	return r
}

// setPolicy sets the inbound policy of the first tun SA from an SA on.
func (m *Module) setPolicy(id klips.SAID, msg *pfkey.Message) syscall.Errno {
	p := m.find(id)
	if p == nil {
		return syscall.ENOENT
	}
	stray := false
	for _, q := range m.from(p) {
		if q.id.Proto == klips.ProtoTun {
			if stray {
				m.fault("use after free: the policy of %v was set in %v", id, q.id)
			}
			q.policy = [2]subnet{subnetOf(msg.SrcFlow, msg.SrcMask), subnetOf(msg.DstFlow, msg.DstMask)}
			q.flags |= msg.SA.Flags & (klips.FlagInFlow | klips.FlagPolicyOnly)
			return 0
		}
		stray = stray || q.next.dangles()
	}
	return syscall.ENOENT
}

func subnetOf(addr, mask *pfkey.Address) subnet {
	return subnet{string(addr.Addr.AsSlice()), string(mask.Addr.AsSlice())}
}

// chainOf returns the position of a key among the chains, and whether it exists.
func (m *Module) chainOf(key string) (int, bool) {
	return slices.BinarySearchFunc(m.eroutes, key, func(c chain, key string) int { return cmp.Compare(c[0].key, key) })
}

// addEroute is rj_addroute. In a chain the new eroute is inserted before the first one
// that it refines if that is the head, and otherwise, by a fault of KLIPS, behind it.
// One that refines none becomes the last.
func (m *Module) addEroute(e *eroute) syscall.Errno {
	if !slices.Contains(m.masks, e.mask) {
		m.masks = append(m.masks, e.mask)
	}
	i, found := m.chainOf(e.key)
	if !found {
		m.eroutes = slices.Insert(m.eroutes, i, chain{e})
		return 0
	}
	c := m.eroutes[i]
	if slices.ContainsFunc(c, func(o *eroute) bool { return o.mask == e.mask }) {
		return syscall.EEXIST
	}
	at := slices.IndexFunc(c, func(o *eroute) bool { return refines(e.mask, o.mask) })
	switch {
	case at < 0:
		at = len(c)
	case at > 0:
		at++
	}
	m.eroutes[i] = slices.Insert(c, at, e)
	return 0
}

// refines reports whether mask a has all bits of b, and more.
func refines(a, b string) bool {
	for i := range len(a) {
		if b[i]&^a[i] != 0 {
			return false
		}
	}
	return a != b
}

// deleteEroute is rj_delete: it compares the mask only if several eroutes have the key.
func (m *Module) deleteEroute(key, mask string) syscall.Errno {
	i, found := m.chainOf(key)
	if !found {
		return syscall.EFAULT
	}
	c, at := m.eroutes[i], 0
	if len(c) > 1 {
		mask = m.searchMask(mask)
		if at = slices.IndexFunc(c, func(e *eroute) bool { return e.mask == mask }); at < 0 {
			return syscall.ENOENT
		}
	}
	if c = slices.Delete(c, at, at+1); len(c) > 0 {
		m.eroutes[i] = c
	} else {
		m.eroutes = slices.Delete(m.eroutes, i, i+1)
	}
	return 0
}

// searchMask returns the mask at which a search in the tree of masks ends. KLIPS takes
// it for the wanted one, because a radix tree compares only the bits in which its masks
// differ.
func (m *Module) searchMask(mask string) string {
	set := m.masks
	for bit := 0; len(set) > 1; bit++ {
		has := func(mask string) bool { return mask[bit/8]&(0x80>>(bit%8)) != 0 }
		var side []string
		for _, o := range set {
			if has(o) == has(mask) {
				side = append(side, o)
			}
		}
		if len(side) > 0 {
			set = side
		}
	}
	return set[0]
}

// Count adds packets to the counters of an SA's eroutes.
func (m *Module) Count(id klips.SAID, packets uint64) {
	for _, c := range m.eroutes {
		for _, e := range c {
			if e.said == id {
				e.packets += packets
			}
		}
	}
}
