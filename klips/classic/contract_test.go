package classic_test

import (
	"net/netip"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/classic"
	"github.com/klips-go/ipsec/klips/classic/classictest"
	"github.com/klips-go/ipsec/klips/classic/classictest/module"
	"github.com/klips-go/ipsec/klips/klipstest"
)

var local = netip.MustParseAddr("192.0.2.1")

// stack opens the stack of a machine that has KLIPS.
func stack(t *testing.T) (*classic.Stack, *classictest.Kernel) {
	k := classictest.NewKernel(t, local)
	s := classic.New(k.Machine())
	t.Cleanup(func() { s.Close() })
	return s, k
}

func TestContract(t *testing.T) {
	klipstest.TestStack(t, func(t *testing.T) klipstest.Bench {
		s, k := stack(t)
		return klipstest.Bench{Stack: s, Local: local, Physical: "eth0", Count: func(*testing.T) klips.DeviceStats {
			stats := klips.DeviceStats{RxBytes: 192, RxPackets: 3, RxErrors: 1, RxDropped: 2, TxBytes: 522, TxPackets: 4, TxErrors: 5, TxDropped: 6}
			k.Module(func(m *module.Module) {
				m.SetStats("eth0", klips.DeviceStats{RxBytes: 9, TxBytes: 9})
				m.SetStats("ipsec0", stats)
			})
			return stats
		}}
	})
}
