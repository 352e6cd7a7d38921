package klipstest_test

import (
	"net/netip"
	"testing"

	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/serial"
)

// The oracle itself keeps the contract.
func TestModel(t *testing.T) {
	klipstest.TestStack(t, func(*testing.T) klipstest.Bench {
		local := netip.MustParseAddr("192.0.2.1")
		return klipstest.Bench{
			Stack: serial.New(klipstest.NewModel(func(a netip.Addr) bool { return a == local }, func(name string) (int, bool) {
				return 1500, name == "eth0"
			})),
			Local: local, Physical: "eth0",
		}
	})
}
