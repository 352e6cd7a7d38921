package esp

import (
	"testing"

	"github.com/klips-go/ipsec/klips/user/internal/aescbc"
	"github.com/klips-go/ipsec/klips/user/internal/hashpair"
)

// Without the processor's instructions packets are the same.
func TestSerial(t *testing.T) {
	aescbc.Off, hashpair.Off = true, true
	defer func() { aescbc.Off, hashpair.Off = false, false }()
	for name, f := range map[string]func(*testing.T){
		"vectors": TestVectors, "round trip": TestRoundTrip, "tampered": TestTampered,
		"padding": TestPadding, "lengths": TestLengths, "IVs": TestIVs, "queue": TestQueue,
		"allocations": TestAllocs, "allocations of a queue": TestQueueAllocs,
	} {
		t.Run(name, f)
	}
}
