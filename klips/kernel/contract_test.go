package kernel_test

import (
	"net/netip"
	"testing"

	"github.com/klips-go/ipsec/klips/kernel"
	"github.com/klips-go/ipsec/klips/klipstest"
)

var local = netip.MustParseAddr("192.0.2.1")

// stack opens the stack of a machine that has KLIPS.
func stack(t *testing.T) *kernel.Stack {
	k := klipstest.NewKernel(t, local)
	s := kernel.New(k.Machine())
	t.Cleanup(func() { s.Close() })
	return s
}

func TestContract(t *testing.T) {
	klipstest.TestStack(t, func(t *testing.T) klipstest.Bench {
		return klipstest.Bench{Stack: stack(t), Local: local, Physical: "eth0"}
	})
}
