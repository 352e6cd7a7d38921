package engine

import (
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// TestMain: LANES is the number of lanes of each engine, whose workers then work in step. With
// LEND the inbound worker is lent or given back after each batch of an outbound worker.
func TestMain(m *testing.M) {
	if os.Getenv("LEND") != "" {
		someBatches, toLend = 1, func(_, _ tally, lent bool) bool { return !lent }
	}
	if n, err := strconv.Atoi(os.Getenv("LANES")); err == nil {
		leastLanes, inStep = n, true
	}
	os.Exit(m.Run())
}

// All tests pass with several lanes, too: the packets are handled as by one worker.
func TestWithLanes(t *testing.T) {
	runAgain(t, "LANES=3")
}

// runAgain runs all tests that are not long, with a variable of TestMain.
func runAgain(t *testing.T, env string) {
	cmd := exec.Command(os.Args[0], "-test.skip", "^(TestWith(Lanes|Loans)|TestLoan.*|TestRandomOperations)$")
	cmd.Env = append(os.Environ(), env)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// All tests pass if the inbound worker is lent and given back all the time, too.
func TestWithLoans(t *testing.T) { runAgain(t, "LEND=yes") }

func TestLending(t *testing.T) {
	const lent = true
	few, some, lots := tally{10, 25}, tally{10, 100}, tally{10, 400}
	for _, tt := range []struct {
		in, out tally
		lent    bool
		want    bool
	}{
		{few, lots, !lent, lent}, {lots, few, !lent, lent}, {few, few, !lent, lent},
		{few, lots, lent, lent}, {lots, few, lent, lent}, {few, few, lent, lent},
		{lots, lots, !lent, !lent}, {lots, lots, lent, !lent},
		{some, lots, !lent, !lent}, {some, lots, lent, lent}, // as before
		{lots, some, !lent, !lent}, {lots, some, lent, lent},
		{tally{}, lots, !lent, !lent}, {tally{}, few, lent, !lent}, // only one direction
		{lots, tally{}, !lent, !lent}, {few, tally{}, lent, !lent},
	} {
		if got := lending(tt.in, tt.out, tt.lent); got != tt.want {
			t.Errorf("in %v, out %v, lent %v: %v, want %v", tt.in, tt.out, tt.lent, got, tt.want)
		}
	}
}

func TestLanesFor(t *testing.T) {
	for _, tt := range []struct {
		processors int
		memory     uint64
		want       int
	}{
		{1, 0, 1}, {2, 0, 1}, {3, 0, 1}, {4, 0, 2}, {9, 0, 4}, {64, 0, MaxLanes},
		{4, 64 << 20, 1}, {4, 512 << 20, 2}, {64, 512 << 20, 3}, {64, 4 << 30, MaxLanes},
	} {
		if got := LanesFor(tt.processors, tt.memory); got != tt.want {
			t.Errorf("%d processors, %d MiB: %d lanes, want %d", tt.processors, tt.memory>>20, got, tt.want)
		}
	}
}

// A counter is a helper that counts packets.
type counter struct{ seen *atomic.Int32 }

func (c counter) handle(p parcel) { c.seen.Add(int32(p.n)) }

// Nothing is allocated for packets in several lanes.
func TestLanesAllocate(t *testing.T) {
	bufs := packet.NewBuffers(batchSize)
	var seen atomic.Int32
	ls := newLanes(2, func(int) helper { return counter{&seen} })
	defer ls.end()
	n := 0
	if a := testing.AllocsPerRun(100, func() {
		for i := range bufs {
			bufs[i] = ls.give(i%2+1, bufs[i], 0, false)
			n++
		}
		ls.wait()
	}); a != 0 {
		t.Errorf("a batch in two lanes allocates %v times", a)
	}
	if int(seen.Load()) != n {
		t.Errorf("the helpers got %d packets, want %d", seen.Load(), n)
	}
}

// The lane of an inbound packet is that of the SA that its first header names.
func TestOutermost(t *testing.T) {
	local := netip.MustParseAddr("192.0.2.1")
	packet4 := func(proto byte, data ...byte) []byte {
		p := append([]byte{0x45, 0, 0, 0, 0, 1, 0, 0, 64, proto, 0, 0, 192, 0, 2, 2, 192, 0, 2, 1}, data...)
		packet.SetTotal(p, len(p))
		return p
	}
	udp := func(data ...byte) []byte {
		return packet4(packet.ProtoUDP, append([]byte{0x11, 0x94, 0x11, 0x94, 0, byte(8 + len(data)), 0, 0}, data...)...)
	}
	rest := make([]byte, 12)
	id := func(proto klips.Proto) klips.SAID { return klips.SAID{Dst: local, SPI: 0x1234, Proto: proto} }
	for _, tt := range []struct {
		name string
		p    []byte
		want klips.SAID
	}{
		{"ESP", packet4(packet.ProtoESP, append([]byte{0, 0, 0x12, 0x34}, rest...)...), id(klips.ProtoESP)},
		{"AH", packet4(packet.ProtoAH, append([]byte{50, 4, 0, 0, 0, 0, 0x12, 0x34}, rest...)...), id(klips.ProtoAH)},
		{"ESP in UDP", udp(append([]byte{0, 0, 0x12, 0x34}, rest...)...), id(klips.ProtoESP)},
		{"ESP in UDP after eight zeros", udp(append(append(make([]byte, 8), 0, 0, 0x12, 0x34), rest...)...), id(klips.ProtoESP)},
		{"IKE in UDP", udp(append([]byte{0, 0, 0, 0, 1}, rest...)...), klips.SAID{}},
		{"a keepalive", udp(0xff), klips.SAID{}},
		{"a short ESP packet", packet4(packet.ProtoESP, 0, 0, 0x12), klips.SAID{}},
		{"a short AH packet", packet4(packet.ProtoAH, 50, 4, 0, 0, 0, 0, 0x12), klips.SAID{}},
		{"a short UDP packet", packet4(packet.ProtoUDP, 0x11, 0x94, 0x11), klips.SAID{}},
		{"ICMP", packet4(packet.ProtoICMP, rest...), klips.SAID{}},
		{"no packet", []byte{0x45, 0}, klips.SAID{}},
	} {
		got, ok := outermost(tt.p)
		if ok != (tt.want != klips.SAID{}) || ok && got != tt.want {
			t.Errorf("%s: %v, %v, want %v", tt.name, got, ok, tt.want)
		}
	}
}
