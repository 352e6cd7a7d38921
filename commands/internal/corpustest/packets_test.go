package corpustest

import (
	"bytes"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/klipstest/recorded"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user/clock"
	"github.com/klips-go/ipsec/klips/user/engine"
)

// TestPackets replays all recorded exchanges of packets.
func TestPackets(t *testing.T) {
	for x := range recorded.Exchanges(t) {
		t.Run(x.ID, func(t *testing.T) {
			t.Parallel()
			p := newPlayer(t, x)
			for i := range x.Events {
				if !p.event(i) {
					return
				}
			}
			p.checkTables("the end", x.Tables)
			p.checkStats("the end", x.Stats)
		})
	}
}

// A player replays one exchange.
type player struct {
	*world
	v     *recorded.Exchange
	link  *klipstest.Link
	keys  map[klips.SAID]secret
	seen  int // packets on the wire so far
	mode  treatment
	quirk bool // this event depends on a defect

	pieces [][]byte // received fragments, without the last
	events listener
}

func newPlayer(t *testing.T, v *recorded.Exchange) *player {
	p := &player{world: newWorld(t), v: v, mode: treatmentOf(v)}
	p.host.AddDevice("eth0", v.Setup.Eth0MTU)
	for _, a := range []string{v.Setup.Eth0, v.Setup.Lan0, v.Setup.Ipsec0} {
		p.setAddr(a)
	}
	for name, value := range v.Setup.Sysctl {
		if err := p.eng.SetKnob(strings.TrimPrefix(name, "net.ipsec."), value); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.eng.SetKnobs(map[string]int{"mtu_rule": 1, "expire_unused": 0}); err != nil {
		t.Fatal(err)
	}
	if p.mode.knob != "" {
		if err := p.eng.SetKnob(p.mode.knob, 1); err != nil {
			t.Fatal(err)
		}
	}
	p.events.clock = p.clock
	p.eng.SetEvents(&p.events)
	p.link = p.host.Link("ipsec0")
	p.command([]string{"tncfg", "--attach", "--virtual", "ipsec0", "--physical", "eth0"}, 0)
	for _, c := range v.Commands {
		p.command(c.Cmd, c.Exit)
	}
	p.keys = secrets(t, v.Cmds())
	return p
}

func (p *player) command(cmd []string, exit int) {
	p.t.Helper()
	if cmd[0] == "ip" {
		return // routes: the host of these tests sends everything by eth0
	}
	if r := p.run(cmd); (r.Status == 0) != (exit == 0) {
		p.t.Fatalf("%q: status %d, want %d: %s", cmd, r.Status, exit, r.Err)
	}
}

// event replays one event and reports whether the following events are still
// meaningful.
func (p *player) event(i int) bool {
	p.t.Helper()
	e := &p.v.Events[i]
	what := fmt.Sprintf("event %d", i)
	p.quirk = e.Quirk
	switch {
	case e.Listen != nil:
		p.events.hear(slices.Contains(*e.Listen, int(pfkey.SATypeESP)))
		return true
	case e.Sleep > 0:
		p.clock.Advance(time.Duration(e.Sleep * float64(time.Second)))
		return true
	case e.Cmd != nil:
		p.command(e.Cmd, e.Exit)
		p.host.Settle()
	case p.v.Direction == "in":
		p.in(what, e)
	default:
		for _, c := range append(slices.Clone(e.Clear), e.Sent) {
			if c != nil {
				p.link.Send(c)
				p.host.Settle()
			}
		}
	}
	if p.v.Direction == "out" {
		p.out(what, e)
	}
	p.checkHeard(what, e.PFKey)
	p.checkTables(what, e.Tables)
	p.checkStats(what, e.Stats)
	return !p.t.Failed()
}

// out compares the packets that were sent, and those that went back to the sender.
func (p *player) out(what string, e *recorded.Event) {
	p.t.Helper()
	all := p.net.Sent()
	sent := all[p.seen:]
	p.seen = len(all)
	var back [][]byte
	for len(p.host.ICMP()) > 0 {
		back = append(back, <-p.host.ICMP())
	}
	if p.mode.out != nil && p.mode.out(p, what, e, sent) {
		return
	}
	wantWhole, wantPieces := assemble(plain(e.Wire))
	gotWhole, gotPieces := assemble(sent)
	if len(wantWhole) != len(gotWhole) {
		p.t.Fatalf("%s (%x): %d packets sent, want %d: %x", what, e.Clear, len(gotWhole), len(wantWhole), sent)
	}
	compressed := false
	for j := range wantWhole {
		w, g := peel(p.keys, wantWhole[j]), peel(p.keys, gotWhole[j])
		compressed = compressed || w.compressed
		if d := cmp.Diff(w.lines, g.lines); d != "" {
			p.t.Errorf("%s: packet %d (-want +got):\n%s", what, j, d)
		}
	}
	if d := cmp.Diff(wantPieces, gotPieces); d != "" && !compressed {
		p.t.Errorf("%s: fragments (-want +got):\n%s", what, d)
	}
	wantBack := plain(e.ToSender)
	if len(back) != len(wantBack) {
		p.t.Fatalf("%s: %d packets to the sender, want %d: %x", what, len(back), len(wantBack), back)
	}
	for j := range back {
		if d := cmp.Diff(icmpLine(wantBack[j]), icmpLine(back[j])); d != "" {
			p.t.Errorf("%s: to the sender (-want +got):\n%s", what, d)
		}
	}
}

func plain(l []recorded.Bytes) (out [][]byte) {
	for _, p := range l {
		out = append(out, p)
	}
	return out
}

// icmpLine describes an ICMP error but for its ID and its checksums, which must
// be right, and its source: KLIPS takes the address of the device that the
// packet came from, the stack leaves the choice to the host's routes.
func icmpLine(p []byte) string {
	if len(p) < 28 || sum16(p[:20]) != 0xffff || sum16(append(slices.Clone(p[20:]), make([]byte, len(p)%2)...)) != 0xffff {
		return fmt.Sprintf("checksums of %x", p)
	}
	about := p[28:]
	if len(about) >= 32 && (about[9] == 50 || about[9] == 51) {
		about = about[:map[byte]int{50: 28, 51: 32}[about[9]]] // the rest is random
	}
	return fmt.Sprintf("tos %x frag %x ttl %d to %x: %d/%d %x, %d bytes about %x", p[1], p[6:8], p[8], p[16:20], p[20], p[21], p[24:28], len(p), about)
}

// in delivers packets and compares those that leave ipsec0.
func (p *player) in(what string, e *recorded.Event) {
	p.t.Helper()
	whole, _ := assemble(append(p.pieces, plain(e.Wire)...))
	p.pieces = nil
	for _, w := range whole {
		if isFragment(w) {
			p.pieces = append(p.pieces, w) // the host waits for the other fragments
			continue
		}
		if proto := w[9]; proto != 50 && proto != 51 {
			continue // not for the stack
		}
		p.host.Arrive(w)
	}
	p.host.Settle()
	var got [][]byte
	for len(p.link.Arrived()) > 0 {
		got = append(got, <-p.link.Arrived())
	}
	want := plain(e.Clear)
	if p.mode.in != nil {
		want = p.mode.in(p, e, want)
	}
	if len(got) != len(want) {
		p.t.Fatalf("%s (%s): %d packets delivered, want %d: %x\nof %x", what, e.Result, len(got), len(want), got, e.Wire)
	}
	for j := range want {
		if !bytes.Equal(got[j], want[j]) {
			p.t.Errorf("%s delivered\n%x, want\n%x", what, got[j], want[j])
		}
	}
}

func isFragment(p []byte) bool { return p[6]&0x3f != 0 || p[7] != 0 }

func (p *player) checkTables(what string, tables recorded.Tables) {
	p.t.Helper()
	got := p.tables()
	for _, name := range []string{"spi", "spigrp", "eroute"} {
		lines, ok := tables[name]
		if !ok {
			continue
		}
		want, have := normal(lines), got[name]
		for _, l := range [][]string{want, have} {
			for i := range l {
				l[i] = p.mode.line(p.v, l[i])
			}
		}
		if p.mode.table != nil {
			want = p.mode.table(p, name, want)
		}
		if d := cmp.Diff(want, have); d != "" {
			p.t.Errorf("%s after %s (-want +got):\n%s", name, what, d)
		}
	}
}

// etherHeader is the length of the link-layer header of eth0, which KLIPS counts in
// tx_bytes. A raw socket has none.
const etherHeader = 14

func (p *player) checkStats(what string, want *recorded.DeviceStats) {
	p.t.Helper()
	if want == nil || p.mode.noStats {
		return
	}
	l, err := p.stack.Devices(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	got := recorded.DeviceStats(l[0].Stats)
	w := *want
	if p.mode.stats != nil {
		p.mode.stats(&w)
	}
	// KLIPS also counted packets that could not be sent.
	for n := w.TxPackets; n <= w.TxPackets+w.TxErrors; n++ {
		if got.TxBytes+n*etherHeader == w.TxBytes {
			w.TxBytes = got.TxBytes
			break
		}
	}
	if compresses(p.v) {
		w.TxBytes, got.TxBytes = 0, 0
	}
	if p.v.Direction == "in" {
		// Packets of the recording machine itself, such as ICMP errors.
		w.TxBytes, w.TxPackets, w.TxErrors, w.TxDropped = 0, 0, 0, 0
	}
	if d := cmp.Diff(w, got); d != "" {
		p.t.Errorf("device counters after %s (-want +got):\n%s", what, d)
	}
}

// compresses reports whether lengths depend on the compressor.
func compresses(v *recorded.Exchange) bool {
	return v.Direction == "out" && strings.Contains(v.ID, "comp")
}

var (
	lengths = regexp.MustCompile(`(bytes\(|:)\d+`)
	ratio   = regexp.MustCompile(`ratio=(\d+):\d+`)
	ahBytes = regexp.MustCompile(`bytes\(\d+`)
)

// line returns a line of a table without the parts that may differ.
func (m *treatment) line(v *recorded.Exchange, l string) string {
	out := strings.Contains(l, ": dir=out")
	if compresses(v) && out {
		l = ratio.ReplaceAllString(l, "ratio=$1:-")
		if !strings.Contains(l, " IPIP: ") && !strings.Contains(l, " COMP_") {
			l = lengths.ReplaceAllString(l, "$1-")
		}
	}
	if strings.Contains(l, " AH_") && out {
		l = ahBytes.ReplaceAllString(l, "bytes(-") // the original is off by 244
	}
	for _, b := range m.blank {
		l = b.ReplaceAllString(l, "")
	}
	return l
}

// A listener records the messages that key daemons would receive.
type listener struct {
	clock    clock.Clock
	mu       sync.Mutex
	listens  bool
	esp      bool // a client is registered for ESP
	messages []*pfkey.Message
}

var _ engine.Events = (*listener)(nil)

func (l *listener) hear(esp bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listens, l.esp = true, l.esp || esp
}

func (l *listener) Expire(sa *klips.SA, hard bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.listens {
		l.messages = append(l.messages, pfkey.Expire(sa, hard, l.clock.Now()))
	}
}

func (l *listener) Acquire(a *engine.Acquisition) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.esp {
		l.messages = append(l.messages, pfkey.Acquire(pfkey.Acquisition{Src: a.Src, Dst: a.Dst, Proto: a.Proto}))
	}
	return l.esp
}

func (l *listener) BelowMark(klips.SAID, uint64) {}

func (l *listener) NewMapping(id klips.SAID, from, to netip.AddrPort) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.esp {
		l.messages = append(l.messages, pfkey.NewMapping(id, from, to))
	}
	return l.esp
}

// checkHeard compares the ACQUIRE and EXPIRE messages.
func (p *player) checkHeard(what string, heard []recorded.Bytes) {
	p.t.Helper()
	var want []*pfkey.Message
	for _, b := range heard {
		m, err := pfkey.Parse(b)
		if err != nil {
			p.t.Fatalf("%s: recorded message %x: %v", what, b, err)
		}
		if m.Type == pfkey.TypeAcquire || m.Type == pfkey.TypeExpire {
			want = append(want, m)
		}
	}
	p.events.mu.Lock()
	got := p.events.messages
	p.events.messages = nil
	p.events.mu.Unlock()
	for i, m := range got { // in the form that a socket delivers
		b, err := m.Marshal()
		if err != nil {
			p.t.Fatal(err)
		}
		if got[i], err = pfkey.Parse(b); err != nil {
			p.t.Fatal(err)
		}
	}
	if p.mode.heard != nil {
		want = p.mode.heard(want)
	}
	for _, l := range [][]*pfkey.Message{want, got} {
		for _, m := range l {
			m.Seq, m.PID = 0, 0
			if m.LifeCurrent != nil {
				m.LifeCurrent.AddTime, m.LifeCurrent.UseTime = 0, 0
			}
			if m.SA != nil {
				m.SA.Ref = 0
			}
		}
	}
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{})); d != "" {
		p.t.Errorf("%s: heard (-want +got):\n%s", what, d)
	}
}
