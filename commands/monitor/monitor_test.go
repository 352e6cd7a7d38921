package monitor

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/watch"
)

// every has an event of each kind, with all its fields.
func every() (l []watch.Event) {
	sel := klips.Selector{Src: netip.MustParsePrefix("10.1.0.0/16"), Dst: netip.MustParsePrefix("10.2.0.0/16"), Proto: 6, SrcPort: 1024, DstPort: 443}
	id := klips.SAID{Dst: netip.MustParseAddr("192.0.2.2"), SPI: 0x100, Proto: klips.ProtoESP}
	for i, k := range watch.Kinds() {
		e := watch.Event{Time: time.Unix(1700000000+int64(i), 0).UTC(), Kind: k, Polled: i%2 == 0}
		switch k {
		case watch.Attached, watch.Detached:
			e.Device, e.Physical = "ipsec0", "eth0"
		case watch.ErouteMade, watch.ErouteChanged, watch.ErouteRemoved:
			e.Eroute, e.Target = sel, id
		case watch.Acquire:
			e.Eroute = sel
		case watch.Gone, watch.Back:
		default:
			e.SA = id
		}
		switch k {
		case watch.Dropped:
			e.Reason, e.Count, e.Device = "bad-icv", 3, "ipsec0"
		case watch.SequenceHigh:
			e.Count = 3 << 30
		case watch.PeerMoved:
			e.From, e.To = netip.MustParseAddrPort("192.0.2.2:4500"), netip.MustParseAddrPort("192.0.2.3:1024")
		case watch.PolicyChanged:
			e.Eroute = sel
		}
		l = append(l, e)
	}
	return append(l, watch.Event{Time: time.Unix(1700000000, 0).UTC(), Kind: watch.PolicyChanged, SA: id})
}

func TestText(t *testing.T) {
	var text strings.Builder
	for _, e := range every() {
		text.WriteString(describe(e) + "\n")
	}
	clitest.Golden(t, "events.txt", text.String())
}

// Each event is one line of JSON.
func TestJSON(t *testing.T) {
	for _, e := range every() {
		var text strings.Builder
		if err := writeJSON(&text, "user", e); err != nil {
			t.Fatal(err)
		}
		if strings.Count(text.String(), "\n") != 1 {
			t.Errorf("%v: %q is not one line", e.Kind, &text)
		}
		name := e.Kind.String()
		if e.Kind == watch.PolicyChanged && e.Eroute == (klips.Selector{}) {
			name = "policy-gone"
		}
		clitest.GoldenJSON(t, "monitor", name, text.String())
	}
}

// A program does not take values of the caller's environment for those of the event.
func TestEnvironment(t *testing.T) {
	for _, e := range every() {
		env := environment("user", e)
		if len(env) != 8 || env[0] != "IPSEC_EVENT="+e.Kind.String() {
			t.Errorf("%v: %q, want 8 variables", e.Kind, env)
		}
	}
}
