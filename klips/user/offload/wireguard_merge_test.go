package offload

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/klips-go/ipsec/klips/user/packet"
)

// The meant differences between a Merger and WireGuard. A Merger merges only what the
// kernel makes the same packets of again, and never changes the order of a flow; but it
// merges all such packets.
const (
	// WireGuard merges packets, and the kernel makes others of them:
	otherID       = "IPv4 identifications are numbered anew"
	otherLabel    = "an IPv6 flow label becomes that of the first packet"
	otherWindow   = "a TCP window becomes that of the first packet"
	otherUrgent   = "an urgent pointer becomes that of the first packet"
	otherReserved = "reserved bits of TCP become those of the first packet"
	otherEvil     = "packets with the reserved bit of IPv4 are merged"
	otherSum      = "a wrong checksum of the IPv4 header becomes right"
	otherForm     = "a checksum of 0 gets the other form, or UDP without checksum gets one"
	otherLength   = "a wrong UDP length becomes right"
	lostPush      = "PSH is lost if a packet is put before another"
	// WireGuard merges packets, and the Merger begins a new bundle:
	order     = "a packet of the same flow, or of an unknown one, was between them, or came before"
	ended     = "the Merger's bundle has ended with a shorter packet"
	full      = "the Merger's bundle has the length of an IP packet, or enough datagrams"
	tableFull = "the Merger's table of flows is full"
	// The Merger merges packets, and WireGuard does not:
	elsewhere = "WireGuard has merged one of them with another packet"
	wgEnded   = "WireGuard's bundle has ended with a shorter packet"
	wgFull    = "WireGuard's bundle has the length of an IP packet"
)

// A comparison compares what a Merger and WireGuard make of the same packets.
type comparison struct {
	t    testing.TB
	pkts [][]byte
	seen map[string]bool // meant differences
}

// found notes a meant difference if it is one, and reports that.
func (c *comparison) found(what string, is bool) bool {
	if is {
		c.seen[what] = true
	}
	return is
}

// resolve returns the numbers of the packets in each frame. same reports whether a packet
// that the kernel makes of a bundle stands for an original one.
func (c *comparison) resolve(frames [][]byte, same func(made, p []byte) bool) (bundles [][]int) {
	c.t.Helper()
	used := make([]bool, len(c.pkts))
	for _, b := range frames {
		single := b[1] == gsoNone
		var bundle []int
		for _, made := range splitByHand(c.t, b, len(c.pkts)+1) {
			i := 0
			for i < len(used) && (used[i] || !bytes.Equal(made, c.pkts[i]) && (single || !same(made, c.pkts[i]))) {
				i++
			}
			if i == len(used) {
				c.t.Fatalf("a packet comes out that did not go in:\n%.150x", made)
			}
			used[i] = true
			bundle = append(bundle, i)
		}
		bundles = append(bundles, bundle)
	}
	if i := slices.Index(used, false); i >= 0 {
		c.t.Fatalf("packet %d of %d is lost:\n%.150x", i, len(used), c.pkts[i])
	}
	return bundles
}

// similar reports whether made, which the kernel makes of WireGuard's bundle, stands for
// p: it is p except for the meant differences. It notes those.
func (c *comparison) similar(made, p []byte) bool {
	f, _ := readEvil(p)
	if f.header == 0 || len(made) != len(p) || packet.Fold(f.sum()) != 0xffff {
		return false
	}
	made, rest := bytes.Clone(made), bytes.Clone(p)
	var differ []string
	mend := func(what string, at, n int, mask byte) {
		for i := at; i < at+n; i++ {
			if (made[i]^rest[i])&mask != 0 {
				differ = append(differ, what)
			}
			made[i] = made[i]&^mask | rest[i]&mask
		}
	}
	t, at := f.ip, f.ip+udpChecksum
	if f.ip == 20 {
		mend(otherID, 4, 2, 0xff)
	} else {
		mend(otherLabel, 1, 1, 0x0f)
		mend(otherLabel, 2, 2, 0xff)
	}
	if f.udp {
		mend(otherLength, t+udpLen, 2, 0xff)
	} else {
		at = t + tcpChecksum
		mend(otherReserved, t+tcpLen, 1, 0x0f)
		mend(lostPush, t+tcpFlags, 1, flagPSH)
		mend(otherWindow, t+tcpWindow, 2, 0xff)
		mend(otherUrgent, t+tcpChecksum+2, 2, 0xff)
	}
	// The checksums follow from what differs.
	if f.ip == 20 {
		if packet.Fold(packet.Sum(p[:20], 0)) != 0xffff {
			differ = append(differ, otherSum)
		}
		copy(made[10:12], p[10:12])
	}
	if len(differ) == 0 && !bytes.Equal(made[at:at+2], p[at:at+2]) {
		differ = append(differ, otherForm)
	}
	copy(made[at:at+2], p[at:at+2])
	if !bytes.Equal(made, p) {
		return false
	}
	for _, what := range differ {
		c.seen[what] = true
	}
	return true
}

// readEvil is read for WireGuard, which ignores the reserved bit of IPv4.
func readEvil(p []byte) (f flow, evil bool) {
	q := p
	if len(p) >= 20 && p[0] == 0x45 && p[6]&0x80 != 0 {
		q, evil = bytes.Clone(p), true
		q[6] &^= 0x80
	}
	f, _ = read(q, 0)
	f.p, f.size = p, len(p)-f.header // which are not there if it is never merged
	return f, evil
}

// sum returns the sum of a packet that a right checksum makes 0xffff.
func (f *flow) sum() uint64 {
	proto := uint64(packet.ProtoTCP)
	if f.udp {
		proto = packet.ProtoUDP
	}
	t := f.p[f.ip:]
	return packet.Sum(t, packet.Sum(f.addrs(), proto+uint64(len(t))))
}

// A joint is two packets that follow each other in a bundle.
type joint struct{ x, y int }

// joints returns the joints of bundles, and the bundle of each packet.
func joints(bundles [][]int) (all map[joint]bool, of map[int][]int) {
	all, of = map[joint]bool{}, map[int][]int{}
	for _, b := range bundles {
		for i, n := range b {
			of[n] = b
			if i > 0 {
				all[joint{b[i-1], n}] = true
			}
		}
	}
	return all, of
}

// onlyWireGuard finds out why only WireGuard has merged two packets. ours is the Merger's
// bundle of the first one.
func (c *comparison) onlyWireGuard(j joint, ours []int) (meant bool) {
	x, y := c.pkts[j.x], c.pkts[j.y]
	f, evilX := readEvil(x)
	g, evilY := readEvil(y)
	first, _ := readEvil(c.pkts[ours[0]])
	t, total := f.ip, len(first.p)
	for _, i := range ours[1:] {
		total += len(c.pkts[i]) - f.header
	}
	either := func(is func(f *flow) bool) bool { return is(&f) || is(&g) }
	differ := func(at, n int) bool { return !bytes.Equal(x[at:at+n], y[at:at+n]) }
	wrongSum := func(f *flow) bool { return packet.Fold(packet.Sum(f.p[:20], 0)) != 0xffff }
	if f.ip == 20 {
		meant = c.found(otherID, g.id != f.id+1) || meant
		meant = c.found(otherEvil, evilX || evilY) || meant
		meant = c.found(otherSum, either(wrongSum)) || meant
	} else {
		meant = c.found(otherLabel, differ(1, 3)) || meant
	}
	if f.udp {
		cut := func(f *flow) bool { return int(binary.BigEndian.Uint16(f.p[t+udpLen:])) != len(f.p)-t }
		meant = c.found(otherLength, either(cut)) || meant
	} else {
		meant = c.found(otherWindow, differ(t+tcpWindow, 2)) || meant
		meant = c.found(otherUrgent, differ(t+tcpChecksum+2, 2)) || meant
		meant = c.found(otherReserved, either(func(f *flow) bool { return f.p[t+tcpLen]&15 != 0 })) || meant
	}
	if f.ip == 40 || !either(wrongSum) {
		meant = c.found(otherForm, either(func(f *flow) bool { return !checksumsRight(f) })) || meant
	}
	meant = c.found(order, j.y < j.x || slices.ContainsFunc(c.pkts[j.x+1:max(j.x+1, j.y)], func(p []byte) bool {
		z, k := read(p, 0)
		at, n := addresses(p)
		return k != other && z.same(&f) || k == other && (n == 0 || bytes.Equal(p[at:at+n], f.addrs()))
	})) || meant
	meant = c.found(ended, f.size < first.size) || meant
	meant = c.found(full, total+g.size > maxTotal || f.udp && len(ours) == maxDatagrams) || meant
	return c.found(tableFull, c.flows() > maxOpen) || meant
}

// onlyMerger finds out why only the Merger has merged two packets. bx and by are
// WireGuard's bundles of them.
func (c *comparison) onlyMerger(j joint, bx, by []int) (meant bool) {
	f, _ := read(c.pkts[j.x], 0)
	g, _ := read(c.pkts[j.y], 0)
	first, _ := readEvil(c.pkts[bx[0]])
	total := len(first.p)
	for _, i := range bx[1:] {
		total += len(c.pkts[i]) - f.header
	}
	meant = c.found(elsewhere, bx[len(bx)-1] != j.x || by[0] != j.y || len(by) > 1 && by[1] < j.y)
	meant = c.found(wgEnded, f.size < first.size) || meant
	return c.found(wgFull, total+g.size > maxTotal) || meant
}

// flows returns the number of flows.
func (c *comparison) flows() int {
	all := map[string]bool{}
	for _, p := range c.pkts {
		if f, k := read(p, 0); k == mergeable {
			all[fmt.Sprint(f.udp, f.addrs(), p[f.ip:f.ip+4])] = true
		}
	}
	return len(all)
}

// compareMerge lets a Merger and WireGuard merge the same packets, and the kernel's rules
// split the bundles again. The Merger's give the same packets, those of each flow in
// their order (merged checks that). WireGuard's give the same packets except for the
// meant differences. What only one of them merges is a meant difference, too. Those are
// noted in seen.
func compareMerge(t testing.TB, w *wireGuard, seen map[string]bool, bufs [][]byte) {
	t.Helper()
	c := &comparison{t: t, seen: seen}
	bufs = slices.DeleteFunc(bufs, func(b []byte) bool { return len(b) == offset }) // WireGuard refuses empty ones
	for _, b := range bufs {
		c.pkts = append(c.pkts, bytes.Clone(b[offset:]))
	}
	ours := c.resolve(merged(t, New(w.udp), bufs), bytes.Equal)
	theirs := c.resolve(w.merge(t, c.pkts), c.similar)
	joined, bundle := joints(ours)
	theirJoined, theirBundle := joints(theirs)
	for j := range theirJoined {
		if !joined[j] && !c.onlyWireGuard(j, bundle[j.x]) {
			t.Fatalf("only WireGuard merges packets %d and %d of %d:\n%.150x\n%.150x\nthe Merger's bundles are %v, WireGuard's %v", j.x, j.y, len(c.pkts), c.pkts[j.x], c.pkts[j.y], ours, theirs)
		}
	}
	for j := range joined {
		if !theirJoined[j] && !c.onlyMerger(j, theirBundle[j.x], theirBundle[j.y]) {
			t.Fatalf("only the Merger merges packets %d and %d of %d:\n%.150x\n%.150x\nthe Merger's bundles are %v, WireGuard's %v", j.x, j.y, len(c.pkts), c.pkts[j.x], c.pkts[j.y], ours, theirs)
		}
	}
}

// scripts are packets that show the meant differences.
var scripts = map[string][]byte{
	otherID:       {0, 0, 0, 0, 10, 3},
	otherLabel:    {2, 0, 0, 2, 9, 0, 3, 0, 0, 3, 9, 0},
	otherWindow:   {2, 0, 0, 2, 7, 0, 2, 0, 0},
	otherUrgent:   {2, 0, 0, 2, 18, 9},
	otherReserved: {2, 0, 0, 2, 19, 3},
	otherEvil:     {0, 20, 0, 0, 20, 0},
	otherSum:      {0, 0, 0, 0, 24, 0},
	otherForm:     {2, 0, 0, 2, 23, 0, 3, 0, 0, 3, 23, 0},
	otherLength:   {3, 0, 0, 3, 21, 0},
	lostPush:      {2, 16, 0, 2, 11, 0xb0},
	order:         {2, 0, 0, 2, 0, 0, 2, 2, 0},
	ended:         {2, 14, 100, 2, 7, 0, 2, 14, 20, 2, 14, 20},
	full:          {3, 1, 80},
	tableFull:     slices.Repeat(oneOfEach(), 2),
	elsewhere:     {2, 0, 0, 2, 11, 0xb0, 2, 0, 0},
	wgEnded:       {2, 14, 100, 2, 7, 0, 2, 14, 20},
	wgFull:        {2, 13, 100, 2, 0, 0, 2, 7, 0, 2, 1, 10},
}

// oneOfEach is a script with a packet of each of the 32 flows that are seldom met.
func oneOfEach() (script []byte) {
	for i := range 32 {
		script = append(script, byte(0xe0+i), 0, 0)
	}
	return script
}

// Each script shows the difference that it stands for.
func TestMergeWireGuard(t *testing.T) {
	w := openWireGuard(t)
	for what, script := range scripts {
		t.Run(what, func(t *testing.T) {
			seen := map[string]bool{}
			compareMerge(t, w, seen, play(script))
			if f, _ := read(play(script)[0][offset:], 0); !seen[what] && (w.udp || !f.udp) {
				t.Errorf("it shows %v", slices.Sorted(maps.Keys(seen)))
			}
		})
	}
}

// All other differences are meant, too.
func TestMergeWireGuardRandom(t *testing.T) {
	w := openWireGuard(t)
	rapid.Check(t, func(r *rapid.T) {
		compareMerge(t, w, map[string]bool{}, play(rapid.SliceOfN(rapid.Byte(), 0, 240).Draw(r, "script")))
	})
}

func FuzzMergeWireGuard(f *testing.F) {
	w := openWireGuard(f)
	for _, script := range scripts {
		f.Add(script)
	}
	f.Fuzz(func(t *testing.T, script []byte) { compareMerge(t, w, map[string]bool{}, play(script)) })
}
