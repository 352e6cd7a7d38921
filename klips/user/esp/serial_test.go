package esp

import (
	"testing"

	"github.com/klips-go/ipsec/klips/user/internal/aescbc"
)

// Without the processor's instructions packets are the same.
func TestSerial(t *testing.T) {
	aescbc.Off = true
	defer func() { aescbc.Off = false }()
	for name, f := range map[string]func(*testing.T){
		"vectors, sealed": TestSealVectors, "vectors, opened": TestOpenVectors, "round trip": TestRoundTrip, "tampered": TestTampered,
		"padding": TestPadding, "lengths": TestLengths, "IVs": TestIVs, "allocations": TestAllocs,
	} {
		t.Run(name, f)
	}
}
