package module

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/klips-go/ipsec/klips"
)

// Version is the line of ipsec_version.
const Version = "Libreswan version: 3.32"

// Tables returns KLIPS' files below /proc/net, and the kernel's table dev of network
// devices, by name.
func (m *Module) Tables() map[string]string {
	return map[string]string{
		"ipsec_spi":         m.spi(),
		"ipsec_spigrp":      m.spigrp(),
		"ipsec_eroute":      m.eroute(),
		"ipsec_tncfg":       m.tncfg(),
		"ipsec_klipsdebug":  m.klipsdebug(),
		"ipsec_version":     Version + "\n",
		"ipsec/natt":        "2\n", // IPSEC_UDP_ENCAP_CONVERT is there
		"pf_key":            m.pfKey(),
		"pf_key_registered": m.pfKeyRegistered(),
		"pf_key_supported":  supported,
		"dev":               m.dev(),
	}
}

// A text is the output of a table.
type text struct{ strings.Builder }

func (t *text) add(format string, args ...any) { fmt.Fprintf(t, format, args...) }

// some adds a field unless it is 0.
func (t *text) some(name string, v int) {
	if v != 0 {
		t.add(" %s=%d", name, v)
	}
}

func (m *Module) spi() string {
	var t text
	for _, p := range m.all() {
		m.sa(&t, p)
	}
	return t.String()
}

func (m *Module) sa(t *text, p *sa) {
	dir := "out"
	if p.inbound {
		dir = "in " // the blank belongs to it
	}
	t.add("%v %s: dir=%s", p.id, p.transform(), dir)
	if p.src.IsValid() {
		t.add(" src=%s", klips.FormatAddr(p.src))
	}
	if p.id.Proto == klips.ProtoTun && p.flags&(klips.FlagInFlow|klips.FlagPolicyOnly) != 0 {
		t.add(" policy=%v->%v", p.policy[0], p.policy[1])
	}
	if len(p.iv) > 0 {
		t.add(" iv_bits=%dbits iv=0x%x", 8*len(p.iv), p.iv)
	}
	if p.auth != 0 || p.enc != 0 {
		t.some("ooowin", int(p.window))
	}
	if f := p.flags &^ inboundFlag; f != 0 {
		t.add(" flags=0x%x<>", f)
	}
	t.some("alen", auths[p.auth].out)
	t.some("aklen", p.authBits)
	t.some("eklen", p.encBits)
	t.add(" jiffies=%d life(c,s,h)=", m.jiffies())
	for _, l := range []struct {
		name string
		counter
		time bool // the count is a time, not an amount
	}{
		{"alloc", p.life.alloc, false}, {"bytes", p.life.bytes, false}, {"addtime", p.life.add, true},
		{"usetime", p.life.use, true}, {"packets", p.life.packets, false},
	} {
		if l.count <= 1 && l.soft == 0 && l.hard == 0 {
			continue
		}
		if l.time { // for an unused SA it is an absurd age
			l.count = m.seconds() - l.count
		}
		t.add("%s(%d,%d,%d)", l.name, l.count, l.soft, l.hard)
	}
	if p.life.use.count != 0 {
		t.add(" idle=%d", m.seconds()-p.used)
	}
	encap := [...]string{"none", "nonike", "nonesp"}[p.natt.Type]
	t.add(" natencap=%s natsport=%d natdport=%d", encap, p.natt.SPort, p.natt.DPort)
	t.add(" refcount=%d ref=%d refhim=%d", p.refs, p.ref, p.refHim)
	if p.outIf != "" {
		direct := 0
		if p.transport {
			direct = 1
		}
		t.add(" outif=%s:%d", p.outIf, direct)
	}
	t.add("\n")
}

// spigrp has a line for each SA: the SA and its followers. For a freed one it shows the
// memory.
func (m *Module) spigrp() string {
	var t text
	for _, p := range m.all() {
		for _, q := range m.from(p) {
			t.add("%v ", q.id)
		}
		t.add("\n")
	}
	return t.String()
}

func (m *Module) eroute() string {
	var t text
	for _, c := range m.eroutes {
		for _, e := range c {
			src, dst := e.ends()
			t.add("%-10d %-18s -> %-18s => %v", e.packets, src, dst, e.said)
			if proto := e.key[layout4.proto]; proto != 0 { // for IPv6 this is a byte of the source
				t.add(":%d", proto)
			}
			t.add("\n")
		}
	}
	return t.String()
}

// ends returns source and destination of an eroute as printed. Brackets around an IPv6
// destination with a port overwrite the source, and the destination is lost.
func (e *eroute) ends() (src, dst string) {
	l := layout4
	if e.key[0] == keyIPv6 {
		l = layout6
	}
	src = subnet{e.key[l.src:l.dst], e.mask[l.src:l.dst]}.String()
	dst = subnet{e.key[l.dst:l.proto], e.mask[l.dst:l.proto]}.String()
	sport := binary.BigEndian.Uint16([]byte(e.key[l.sport:]))
	dport := binary.BigEndian.Uint16([]byte(e.key[l.dport:]))
	if e.key[0] == keyIPv4 {
		return src + port(sport), dst + port(dport)
	}
	if sport != 0 {
		src = "[" + src + "]" + port(sport)
	}
	if dport != 0 {
		b := []byte(src)
		b[0] = '['
		if len(dst) < len(b) {
			b[len(dst)] = ']'
		}
		src, dst = string(b), ""
	}
	return src, dst
}

func port(n uint16) string {
	if n == 0 {
		return ""
	}
	return ":" + strconv.Itoa(int(n))
}

// String returns addr/bits; a mask that is not a prefix is printed instead of bits.
func (s subnet) String() string {
	a, _ := netip.AddrFromSlice([]byte(s.addr))
	mask, _ := netip.AddrFromSlice([]byte(s.mask))
	n := 0
	for n < 8*len(s.mask) && s.mask[n/8]&(0x80>>(n%8)) != 0 {
		n++
	}
	if p, err := mask.Prefix(n); err != nil || p.Addr() != mask {
		return klips.FormatAddr(a) + "/" + klips.FormatAddr(mask)
	}
	return klips.FormatAddr(a) + "/" + strconv.Itoa(n)
}

func (m *Module) tncfg() string {
	var t text
	for _, d := range m.devices {
		switch {
		case d == nil:
		case d.physical == "":
			t.add("%s -> NULL mtu=%d(0) -> 0\n", d.name, d.mtu)
		default:
			t.add("%s -> %s mtu=%d(%d) -> %d\n", d.name, d.physical, d.mtu, d.attached, m.physical[d.physical])
		}
	}
	return t.String()
}

// klipsdebug has nine of the twelve areas.
func (m *Module) klipsdebug() string {
	var t text
	for _, a := range []struct {
		name string
		area klips.DebugArea
	}{
		{"tunnel", klips.DebugTunnel}, {"xform", klips.DebugXform}, {"eroute", klips.DebugEroute}, {"spi", klips.DebugSPI},
		{"radij", klips.DebugRadij}, {"esp", klips.DebugESP}, {"ah", klips.DebugAH}, {"rcv", klips.DebugRcv}, {"pfkey", klips.DebugPFKey},
	} {
		t.add("debug_%s=%08x.\n", a.name, m.debug[a.area])
	}
	return t.String()
}

// pfKey has a line for each open socket, the newest first; their addresses are
// hidden, and the column pid has the user.
func (m *Module) pfKey() string {
	var t text
	t.add("    sock   pid   socket     next     prev e n p sndbf    Flags     Type St\n")
	for _, s := range slices.Backward(m.sockets) {
		t.add("%8s %5d %8s %d %d %5d %08X %8X %2X\n", "0", s.uid, "0", 0, 2, 212992, 0, 3, 1)
	}
	return t.String()
}

func (m *Module) pfKeyRegistered() string {
	var t text
	t.add("satype   socket   pid       sk\n")
	for satype := range 12 {
		for _, s := range slices.Backward(m.sockets) {
			for _, r := range s.registered {
				if int(r) == satype {
					t.add("    %2d %8s %5d %8s\n", satype, "0", s.uid, "0")
				}
			}
		}
	}
	return t.String()
}

// dev is /proc/net/dev: the counters of all network devices.
func (m *Module) dev() string {
	var t text
	t.add("Inter-|   Receive                                                |  Transmit\n")
	t.add(" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n")
	names := slices.Sorted(maps.Keys(m.physical))
	for _, d := range m.devices {
		if d != nil {
			names = append(names, d.name)
		}
	}
	for _, name := range names {
		s := m.stats[name]
		t.add("%6s: %7d %7d %4d %4d %4d %5d %10d %9d %8d %7d %4d %4d %4d %5d %7d %10d\n", name,
			s.RxBytes, s.RxPackets, s.RxErrors, s.RxDropped, 0, 0, 0, 0,
			s.TxBytes, s.TxPackets, s.TxErrors, s.TxDropped, 0, 0, 0, 0)
	}
	return t.String()
}
