package engine_test

import (
	"net/netip"
	"testing"

	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/serial"
	"github.com/klips-go/ipsec/klips/user/clock/clocktest"
	"github.com/klips-go/ipsec/klips/user/engine"
)

func TestContract(t *testing.T) {
	klipstest.TestStack(t, func(t *testing.T) klipstest.Bench {
		local := netip.MustParseAddr("192.0.2.1")
		h := klipstest.NewHost(new(klipstest.Network), []netip.Addr{local}, "eth0")
		return klipstest.Bench{Stack: serial.New(open(t, h)), Local: local, Physical: "eth0", Count: h.CountDrop}
	})
}

// After random commands, the engine and a simple model have the same tables.
func TestCommands(t *testing.T) {
	local := netip.MustParseAddr("192.0.2.1")
	h := klipstest.NewHost(new(klipstest.Network), []netip.Addr{local}, "eth0")
	klipstest.TestCommands(t, klipstest.Bench{Stack: serial.New(open(t, h)), Local: local, Physical: "eth0"})
}

// open starts an engine with two devices on a host. Its clock does not advance.
func open(t testing.TB, h engine.Host) *engine.Engine {
	return openWith(t, h, engine.Config{Version: "ipsec version: test", Clock: clocktest.New()})
}

func openWith(t testing.TB, h engine.Host, c engine.Config) *engine.Engine {
	e, err := engine.New(h, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	for _, d := range []string{"ipsec0", "ipsec1"} {
		if err := e.CreateDevice(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	return e
}
