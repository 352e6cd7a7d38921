package classictest_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/classic"
	"github.com/klips-go/ipsec/klips/classic/classictest"
	"github.com/klips-go/ipsec/klips/classic/classictest/module"
	"github.com/klips-go/ipsec/klips/pfkey"
)

var far = netip.MustParseAddr("192.0.2.77")

func newKernel(t *testing.T) (*classictest.Kernel, *classic.Stack) {
	k := classictest.NewKernel(t, netip.MustParseAddr("192.0.2.1"))
	s := classic.New(k.Machine())
	t.Cleanup(func() { s.Close() })
	return k, s
}

func tunnel(spi klips.SPI) *klips.SASpec {
	return &klips.SASpec{ID: klips.SAID{Dst: far, SPI: spi, Proto: klips.ProtoTun}, Src: netip.MustParseAddr("192.0.2.1")}
}

// The tables show a change when its answer comes; time passes only when a test advances
// it.
func TestKernelTables(t *testing.T) {
	k, s := newKernel(t)
	for spi := klips.SPI(0x1000); spi < 0x1020; spi++ {
		if err := s.AddSA(t.Context(), tunnel(spi)); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(k.ProcNet, "ipsec_spi"))
		if err != nil || !strings.Contains(string(b), tunnel(spi).ID.String()+" IPIP") {
			t.Fatalf("ipsec_spi after AddSA: %v\n%s", err, b)
		}
	}
	k.Advance(90 * time.Second)
	sas, err := s.SAs(t.Context())
	if err != nil || len(sas) != 32 || sas[0].Life.AddTime.Count != 90 {
		t.Errorf("SAs after 90 s: %v, %v", sas, err)
	}
	for name, want := range map[string]string{"icmp": "0\n", "inbound_policy_check": "1\n", "tos": "1\n"} {
		if b, err := os.ReadFile(filepath.Join(k.ProcSys, name)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	if err := k.Encap("ipsec0", 9, klips.NATTNonIKE); err != nil {
		t.Error(err)
	}
	k.Module(func(m *module.Module) {
		if l := m.Encaps(); len(l) != 1 || l[0].Socket != 9 {
			t.Errorf("UDP sockets: %v", l)
		}
	})
}

// A test sees each message before it is carried out, and can make a change first.
func TestKernelHook(t *testing.T) {
	k, s := newKernel(t)
	var seen []string
	k.Hook(func(n int, msg *pfkey.Message, m *module.Module) {
		seen = append(seen, msg.Type.String())
		if n == 2 { // another program
			b, err := pfkey.AddSA(tunnel(0x1002)).Marshal()
			if errno := m.Open(0).Write(b); err != nil || errno != 0 {
				t.Error(err, errno)
			}
		}
	})
	if err := s.AddSA(t.Context(), tunnel(0x1001)); err != nil {
		t.Error(err)
	}
	if err := s.AddSA(t.Context(), tunnel(0x1002)); !errors.Is(err, syscall.EEXIST) {
		t.Errorf("AddSA of what another program made = %v", err)
	}
	k.Hook(nil)
	if err := s.ClearSAs(t.Context()); err != nil || strings.Join(seen, " ") != "ADD ADD" {
		t.Errorf("ClearSAs = %v; the hook saw %q", err, seen)
	}
}

// A client that does not read delays no other, and can read all messages later.
func TestKernelDeafClient(t *testing.T) {
	k, s := newKernel(t)
	deaf, err := pfkey.Dial(k.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	if _, err := deaf.Call(t.Context(), pfkey.Flush()); err != nil { // it is connected by now
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const many = 2000 // more than a unix socket's buffer holds
	for range many {
		if err := s.ClearSAs(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for i := range many {
		if m, err := deaf.Receive(ctx); err != nil || m.Type != pfkey.TypeFlush {
			t.Fatalf("message %d: %v, %v", i, m, err)
		}
	}
}
