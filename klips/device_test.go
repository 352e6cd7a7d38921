package klips_test

import (
	"testing"

	"github.com/klips-go/ipsec/klips"
)

func TestDeviceNumber(t *testing.T) {
	for name, want := range map[string]int{"ipsec0": 0, "ipsec7": 7, "ipsec63": 63, "ipsec64": 64, "ipsec65535": 65535} {
		if n, ok := klips.DeviceNumber(name); n != want || !ok {
			t.Errorf("DeviceNumber(%q) = %d, %v", name, n, ok)
		}
	}
	for _, name := range []string{"", "ipsec", "ipsec00", "ipsec01", "ipsec-1", "ipsec+1", "ipsec1 ", "ipsec1x", "ipsec65536", "ipsec99999999999999999999", "mast0", "eth0", "IPSEC0", "ipsec٣"} {
		if n, ok := klips.DeviceNumber(name); ok || n != 0 {
			t.Errorf("DeviceNumber(%q) = %d, %v", name, n, ok)
		}
	}
}
