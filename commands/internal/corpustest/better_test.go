package corpustest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/klipstest/recorded"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// A treatment describes how to judge a recording that depends on a known defect of the
// original. Nil functions and zero fields mean: as recorded.
type treatment struct {
	knob    string // name of a knob that is set to 1
	noStats bool
	blank   []*regexp.Regexp // parts of SA lines that are not compared
	// out judges an outbound event and reports whether the judgement is complete.
	out func(p *player, what string, e *recorded.Event, sent [][]byte) bool
	// in, table, stats and heard return the expected values instead of the recorded
	// ones.
	in    func(p *player, e *recorded.Event, want [][]byte) [][]byte
	table func(p *player, name string, want []string) []string
	stats func(*recorded.DeviceStats)
	heard func([]*pfkey.Message) []*pfkey.Message
}

var (
	seqFields = regexp.MustCompile(` (seq=\d+|bit=0x[0-9a-f]+|max_seq_diff=\d+|ooo_errs=\d+)`)
	bitmap    = regexp.MustCompile(` bit=0x[0-9a-f]+`)
	counters  = regexp.MustCompile(`(bytes|packets)\(\d+,0,0\)|usetime\(-,0,0\)| idle=-| ratio=\S+`)
)

// treatmentOf selects the treatment of a recording. Section 10 of KLIPS' data path
// describes the better behaviour in each case.
func treatmentOf(v *recorded.Exchange) (m treatment) {
	name := strings.TrimSuffix(strings.TrimSuffix(v.ID, ".in"), ".out")
	in := v.Direction == "in"
	if in && strings.Contains(name, "ah") && strings.Contains(name, "esp") {
		// D1: the original neither checks an ESP header inside AH nor counts its
		// sequence numbers.
		m.blank = append(m.blank, seqFields)
	}
	switch {
	case name == "shunt-detached":
		m.noStats = true // counted by the kernel's own queue, not by KLIPS
	case strings.HasPrefix(name, "replay-32") && in:
		wholeWindow(&m, 32)
	case strings.HasPrefix(name, "replay-64") && in:
		wholeWindow(&m, 64)
	case name == "replay-esp+ah-32" && in:
		m.blank = append(m.blank, bitmap)
	case name == "no-addin" && in:
		m.knob = "inbound_policy_required"
	case name == "ah-missing" && in:
		headFirst(&m)
	case strings.HasPrefix(name, "double-") && in:
		bothLayers(&m)
	case name == "nested-eroutes":
		encapsulatedTwice(&m)
	case name == "ungrouped":
		sentAll(&m)
	case strings.HasPrefix(name, "life-") && strings.Contains(name, "-hard-") && !in:
		expiredTogether(&m)
	case name == "acquire-proto":
		narrowHold(&m)
	case strings.HasPrefix(name, "ike-"):
		m.knob = "ike_bypass" // the behaviour of KLIPS
		rawBypass(&m)
	case strings.HasPrefix(name, "lookup-"):
		treeShape(&m)
	case name == "crafted-esp-3des-md5-tunnel":
		trimmed(&m)
	case in && !v.Quirk && hasQuirks(v) || name == "crafted-esp-3des-md5-transport":
		shortPackets(&m)
	}
	return m
}

func hasQuirks(v *recorded.Exchange) bool {
	for _, e := range v.Events {
		if e.Quirk {
			return true
		}
	}
	return false
}

// shortPackets: the original drops short AH packets, and short compressed packets in
// transport mode, as errors. The stack delivers those that are valid and drops only
// invalid ones.
func shortPackets(m *treatment) {
	var more recorded.DeviceStats
	delivered := map[int]bool{}
	m.in = func(p *player, e *recorded.Event, want [][]byte) [][]byte {
		switch {
		case e.Quirk && e.Result == "dropped" && p.v.Config != "esp-src":
			clear := p.open(e.Wire[0])
			delivered[*e.CopyOf] = true
			more.RxErrors--
			more.RxBytes += uint64(len(clear) - 20)
			return [][]byte{clear}
		case e.CopyOf != nil && delivered[*e.CopyOf] && e.Wire[0][9] == 51, p.v.Config == "crafted-esp-3des-md5-transport" && p.reveals(e.Wire[0], 108):
			more.RxErrors-- // a replay, or compressed for a missing SA
			more.RxDropped++
		case p.v.Config == "crafted-esp-3des-md5-transport" && p.reveals(e.Wire[0], packet.ProtoNoNext):
			// A dummy packet, which the original gives to the host (RFC 4303 section 2.6).
			more.RxBytes -= uint64(len(want[0]) - 20)
			return nil
		}
		return want
	}
	m.stats = func(s *recorded.DeviceStats) { add(s, more) }
	m.blank = append(m.blank, seqFields, counters)
}

// trimmed: bytes after the inner packet of a tunnel (padding against traffic analysis,
// RFC 4303 section 2.7) are removed. The original leaves that to the kernel, and counts
// the bytes. An inner packet that is not IP counts as an error; the original counts
// nothing. A dummy packet counts for its SA alone (RFC 4303
// section 2.6); the original counts it as dropped.
func trimmed(m *treatment) {
	var more recorded.DeviceStats
	m.in = func(p *player, e *recorded.Event, want [][]byte) [][]byte {
		for i, w := range want {
			total := binary.BigEndian.Uint16(w[2:])
			more.RxBytes -= uint64(len(w)) - uint64(total)
			want[i] = w[:total]
		}
		if p.reveals(e.Wire[0], packet.ProtoIPIP) {
			if _, ok := packet.ParseIP(p.open(e.Wire[0])[20:]); !ok {
				more.RxErrors++
			}
		}
		if p.reveals(e.Wire[0], packet.ProtoNoNext) {
			more.RxDropped--
		}
		return want
	}
	m.stats = func(s *recorded.DeviceStats) { add(s, more) }
	m.blank = append(m.blank, counters)
}

// add adds the counters of o to s.
func add(s *recorded.DeviceStats, o recorded.DeviceStats) {
	s.TxPackets += o.TxPackets
	s.TxBytes += o.TxBytes
	s.TxErrors += o.TxErrors
	s.TxDropped += o.TxDropped
	s.RxBytes += o.RxBytes
	s.RxErrors += o.RxErrors
	s.RxDropped += o.RxDropped
}

// reveals reports whether the payload of a packet has the given protocol.
func (p *player) reveals(w []byte, proto int) bool {
	r := peel(p.keys, w)
	return strings.HasPrefix(r.lines[len(r.lines)-1], fmt.Sprintf("payload protocol %d:", proto))
}

// open returns the inner packet of a valid packet.
func (p *player) open(w []byte) []byte {
	r := peel(p.keys, w)
	var payload []byte
	var proto int
	last := r.lines[len(r.lines)-1]
	if n, err := fmt.Sscanf(last, "payload protocol %d: %x", &proto, &payload); n < 1 || n < 2 && !strings.HasSuffix(last, ": ") {
		p.t.Fatalf("%x has inside: %q, %v", w, r.lines, err)
	}
	h := bytes.Clone(r.header)
	binary.BigEndian.PutUint16(h[2:], uint16(20+len(payload)))
	h[9], h[10], h[11] = byte(proto), 0, 0
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum16(h)))
	return append(h, payload...)
}

// wholeWindow: D4, the original shifts 32-bit numbers in a bitmap of 64 bits, so it
// refuses packets that are 31 or more numbers old.
func wholeWindow(m *treatment, size uint32) {
	var more recorded.DeviceStats
	var last uint32
	seen := map[uint32]bool{}
	m.in = func(p *player, e *recorded.Event, want [][]byte) [][]byte {
		w := e.Wire[0]
		seq := binary.BigEndian.Uint32(w[24:])
		good := !seen[seq] && (seq > last || last-seq < size)
		last, seen[seq] = max(last, seq), true
		if good == (len(want) > 0) {
			return want
		}
		if !good || last-seq < 30 {
			p.t.Errorf("sequence number %d (last %d): %s, which has nothing to do with the defect", seq, last, e.Result)
		}
		clear := p.open(w)
		more.RxDropped--
		more.RxBytes += uint64(len(clear) - 20)
		return [][]byte{clear}
	}
	m.stats = func(s *recorded.DeviceStats) { add(s, more) }
	m.blank = append(m.blank, bitmap, counters, regexp.MustCompile(` ooo_errs=\d+`))
}

// headFirst: D2, a packet without the outer layer of its group is dropped.
func headFirst(m *treatment) {
	m.in = func(*player, *recorded.Event, [][]byte) [][]byte { return nil }
	m.stats = func(s *recorded.DeviceStats) { s.RxBytes, s.RxDropped = 0, s.RxPackets }
	m.blank = append(m.blank, seqFields, counters)
}

// bothLayers: a chain with two tun SAs works for receiving as well as for sending.
func bothLayers(m *treatment) {
	seen := map[int]bool{}
	m.in = func(p *player, e *recorded.Event, _ [][]byte) [][]byte {
		if seen[*e.CopyOf] {
			return nil
		}
		seen[*e.CopyOf] = true
		whole, _ := assemble(plain(e.Wire))
		return [][]byte{p.open(whole[0])}
	}
	m.blank = append(m.blank, seqFields, counters)
	m.noStats = true
}

// encapsulatedTwice: D5, a protected packet that matches another eroute also passes the
// group of that eroute.
func encapsulatedTwice(m *treatment) {
	m.out = func(p *player, what string, e *recorded.Event, sent [][]byte) bool {
		if len(sent) != 1 {
			p.t.Fatalf("%s: %d packets sent, want 1", what, len(sent))
		}
		lines := strings.Join(peel(p.keys, sent[0]).lines, "\n")
		for _, layer := range []string{"10.9.0.1 > 10.9.0.3\nesp spi 00001302 ", "10.9.0.1 > 10.9.0.2\nesp spi 00001102 "} {
			if strings.Count(lines, layer) != 1 {
				p.t.Errorf("%s sent\n%s, want a layer %q", what, lines, layer)
			}
		}
		p.wantInside(what, sent[0], e.Clear[0])
		return true
	}
	m.noStats = true
	m.blank = append(m.blank, seqFields, counters)
}

// wantInside compares the inner packet of a packet.
func (p *player) wantInside(what string, w, want []byte) {
	p.t.Helper()
	if got := p.open(w); !bytes.Equal(got, want) {
		p.t.Errorf("%s: inside is\n%x, want\n%x", what, got, want)
	}
}

// sentAll: a packet of another host can also be sent in transport mode.
func sentAll(m *treatment) {
	var more recorded.DeviceStats
	m.out = func(p *player, what string, e *recorded.Event, sent [][]byte) bool {
		if len(sent) != 1 {
			p.t.Fatalf("%s: %d packets sent, want 1", what, len(sent))
		}
		more.TxBytes += uint64(len(sent[0]) + etherHeader)
		dst := netip.AddrFrom4([4]byte(sent[0][16:])) // not the destination of the SA
		for id, k := range maps.Clone(p.keys) {
			p.keys[klips.SAID{Dst: dst, SPI: id.SPI, Proto: id.Proto}] = k
		}
		p.wantInside(what, sent[0], e.Clear[0])
		return true
	}
	m.stats = func(s *recorded.DeviceStats) {
		s.TxPackets, s.TxErrors = s.TxErrors, 0
		s.TxBytes = more.TxBytes
	}
}

// expiredTogether: D7, a hard limit removes the whole group and is reported once. No
// packet that needs the group leaves afterwards.
func expiredTogether(m *treatment) {
	expired := false
	var dropped uint64
	m.heard = func(l []*pfkey.Message) []*pfkey.Message {
		if expired || len(l) == 0 {
			return nil
		}
		expired = true
		return l
	}
	m.out = func(p *player, what string, e *recorded.Event, sent [][]byte) bool {
		if !expired {
			return false // heard is compared later
		}
		dropped++
		if len(sent) != 0 {
			p.t.Errorf("%s: sent %x, want nothing: the group is gone", what, sent)
		}
		return true
	}
	m.table = func(p *player, name string, want []string) []string {
		if name == "eroute" || !expired {
			return want
		}
		return slices.DeleteFunc(want, func(l string) bool {
			return strings.HasPrefix(l, "tun0x1101@") || strings.HasPrefix(l, "esp0x1102@")
		})
	}
	m.stats = func(s *recorded.DeviceStats) {
		if expired {
			*s = recorded.DeviceStats{TxPackets: 3, TxBytes: 3 * (136 + etherHeader), TxErrors: 1, TxDropped: dropped}
		}
	}
}

// narrowHold: the hold of a %trap with a protocol matches only that protocol.
func narrowHold(m *treatment) {
	const traps = "1          10.1.0.0/16        -> 10.2.0.0/16        => %trap:6"
	want := [][]string{ // after each packet
		{"0 tcp", "", ""},
		{"0 tcp", "1 udp trap", "0 udp"},
		{"0 tcp", "1 udp trap", "0 udp"}, // ICMP matches neither
		{"0 tcp", "1 udp trap", "1 udp"}, // another source port
		{"0 tcp", "1 udp trap", "1 udp"}, // another destination port: no eroute
		{"1 tcp", "1 udp trap", "1 udp"},
	}
	n := -1
	m.out = func(p *player, what string, e *recorded.Event, sent [][]byte) bool {
		if e.Send == nil {
			return false
		}
		n = *e.Send
		return len(sent) == 0
	}
	m.heard = func(l []*pfkey.Message) []*pfkey.Message {
		if n == 1 {
			l = append(l, pfkey.Acquire(pfkey.Acquisition{Proto: 17,
				Src: netip.MustParseAddrPort("10.1.0.5:0"), Dst: netip.MustParseAddrPort("10.2.0.5:7000")}))
		}
		return l
	}
	m.table = func(p *player, name string, recorded []string) []string {
		if name != "eroute" || n < 0 {
			return recorded
		}
		w := want[n]
		udpTrap, udp := "0", ""
		if w[1] != "" {
			udpTrap, udp = w[1][:1], w[2][:1]
		}
		lines := []string{
			traps,
			udpTrap + "          10.1.0.0/16        -> 10.2.0.0/16:7000   => %trap:17",
			w[0][:1] + "          10.1.0.5/32        -> 10.2.0.5/32        => %hold:6",
		}
		if udp != "" {
			lines = append(lines, udp+"          10.1.0.5/32        -> 10.2.0.5/32:7000   => %hold:17")
		}
		return lines
	}
	m.noStats = true
}

// rawBypass: IKE packets are those from port 500, from any kind of socket. The packet
// that the original did not let pass is sent again from another port, so that both stay
// in step.
func rawBypass(m *treatment) {
	var more recorded.DeviceStats
	m.out = func(p *player, what string, e *recorded.Event, sent [][]byte) bool {
		if !e.Quirk {
			return false
		}
		if len(sent) != 1 || !bytes.Equal(sent[0], e.Clear[0]) {
			p.t.Errorf("%s sent %x, want the packet as it is: %x", what, sent, e.Clear[0])
		}
		more.TxPackets++
		more.TxBytes += uint64(len(e.Clear[0]) + etherHeader)
		other := bytes.Clone(e.Clear[0])
		binary.BigEndian.PutUint16(other[20:], 501)
		p.link.Send(other)
		p.host.Settle()
		p.seen = len(p.net.Sent())
		for len(p.host.ICMP()) > 0 {
			<-p.host.ICMP()
		}
		return true
	}
	m.stats = func(s *recorded.DeviceStats) { add(s, more) }
}

// treeShape: if no eroute is more specific than all others, the choice of the original
// depends on the shape of its tree; those packets are left out.
func treeShape(m *treatment) {
	moved := map[string]int{} // counters with another value in the original
	m.table = func(p *player, name string, want []string) []string {
		if name != "eroute" {
			return want
		}
		got := p.tables()["eroute"]
		for i, l := range want {
			var w, g int
			var rest string
			if _, err := fmt.Sscan(l, &w); err != nil || i >= len(got) {
				p.t.Fatal(l, err)
			}
			rest = l[10:]
			if _, err := fmt.Sscan(got[i], &g); err != nil {
				p.t.Fatal(err)
			}
			if p.quirk {
				moved[rest] = g - w
			}
			want[i] = fmt.Sprintf("%-10d", w+moved[rest]) + rest
		}
		if p.quirk {
			sum := 0
			for _, d := range moved {
				sum += d
			}
			if sum != 0 {
				p.t.Errorf("counters moved by %v: some packet was not counted once", moved)
			}
		}
		return want
	}
}
