package batch

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/serial"
)

// A dropping is a stack that accepts AH over IPv6 and drops its packets.
type dropping struct{ *clitest.Stack }

func (dropping) CarryFault(_ context.Context, s *klips.SASpec) klips.Fault {
	if s.ID.Proto == klips.ProtoAH && s.ID.Dst.Is6() {
		return klips.FaultAH6
	}
	return klips.FaultNone
}

// TestCarryFault: if the kernel accepts an SA and drops its packets, a file has one
// note about it, with the line.
func TestCarryFault(t *testing.T) {
	ah := func(said string) string {
		return "spi --ah hmac-sha1-96 --authkey " + authKey + " --src 2001:db8::1 --said " + said + "\n"
	}
	t.Chdir(t.TempDir())
	if err := os.WriteFile("f", []byte(espSA+ah("ah0x101@2001:db8::2")+ah("ah0x102@2001:db8::2")), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &clitest.Stack{}
	r := clitest.Run(app(), clitest.World{Wrap: func(*clitest.Stack) klips.Stack { return serial.New(dropping{s}) }}, "f")
	const want = "ipsec batch: f:2: ipsec spi: note: ah0x101@2001:db8::2: the kernel takes AH over IPv6 and drops its packets"
	if r.Status != 0 || len(s.Messages) != 3 || !strings.HasPrefix(r.Err, want) || strings.Count(r.Err, "\n") != 1 {
		t.Errorf("status %d, %d messages, %q, want %q", r.Status, len(s.Messages), r.Err, want)
	}
}
