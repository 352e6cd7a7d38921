package spi_test

import (
	"context"
	"strings"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/commands/spi"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/serial"
)

// A carrier is a stack that accepts AH over IPv6 and LZS, and drops their packets.
type carrier struct{ *clitest.Stack }

func (carrier) CarryFault(_ context.Context, s *klips.SASpec) klips.Fault {
	switch {
	case s.ID.Proto == klips.ProtoAH && s.ID.Dst.Is6():
		return klips.FaultAH6
	case s.Comp == alg.LZS:
		return klips.FaultAlgorithm
	}
	return klips.FaultNone
}

// TestCarryFault: an SA whose packets will be dropped is still made, with a note.
func TestCarryFault(t *testing.T) {
	const ah = "--ah hmac-md5-96 --authkey 0x0123456789abcdef0123456789abcdef --said "
	for _, tt := range []struct{ line, want string }{
		{ah + "ah0x125@2001:db8::2 --src 2001:db8::1", "ipsec spi: note: ah0x125@2001:db8::2: the kernel takes AH over IPv6 and drops its packets; "},
		{ah + "ah0x125@192.0.2.2 --src 192.0.2.1", ""},
		{"--comp lzs --said comp0x125@192.0.2.2 --src 192.0.2.1", "ipsec spi: note: comp0x125@192.0.2.2: the kernel takes it and drops its packets"},
		{"--comp deflate --said comp0x125@192.0.2.2 --src 192.0.2.1", ""},
	} {
		s := &clitest.Stack{}
		r := clitest.Run(spi.App(), clitest.World{Wrap: func(*clitest.Stack) klips.Stack { return serial.New(carrier{s}) }}, strings.Fields(tt.line)...)
		if r.Status != 0 || len(s.Messages) != 1 || !strings.HasPrefix(r.Err, tt.want) || (tt.want == "") != (r.Err == "") || strings.Count(r.Err, "\n") > 1 {
			t.Errorf("spi %s: status %d, %d messages, %q, want %q", tt.line, r.Status, len(s.Messages), r.Err, tt.want)
		}
		// An SA that the kernel refuses has no such note.
		s.SendErr = syscall.EPROTO
		r = clitest.Run(spi.App(), clitest.World{Wrap: func(*clitest.Stack) klips.Stack { return serial.New(carrier{s}) }}, strings.Fields(tt.line)...)
		if r.Status != 1 || strings.Contains(r.Err, "note:") {
			t.Errorf("spi %s, refused: status %d, %q", tt.line, r.Status, r.Err)
		}
	}
}
