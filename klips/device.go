package klips

import (
	"strconv"
	"strings"

	"github.com/klips-go/ipsec/klips/drop"
)

// A Device is a virtual device ipsecN and its physical device.
type Device struct {
	Name     string `json:"name"`
	Physical string `json:"physical,omitempty"` // "" when not attached
	// Awaits is the physical device that a device without one is attached to when that is up
	// again; "" for none. Only the embedded stack has it.
	Awaits  string `json:"awaits,omitempty"`
	MTU     int    `json:"mtu"`          // of the virtual device; 0 until it was first attached
	AttMTU  int    `json:"attach_mtu"`   // of the physical device when attached, 0 when not
	PhysMTU int    `json:"physical_mtu"` // of the physical device now, 0 when not attached
	// Direct: packets leave past the kernel's IP output ([Attach].Direct).
	Direct bool        `json:"direct,omitempty"`
	Stats  DeviceStats `json:"stats"`
	// Drops counts the dropped packets, in both directions, by reason. It has some that
	// KLIPS, and so Stats, does not count. Only stacks that know the reasons have it.
	Drops drop.Counts `json:"drops,omitempty"`
}

// DeviceStats counts a device's packets as KLIPS does: Tx is packets routed
// into it, Rx is packets that came out of tunnels.
type DeviceStats struct {
	TxPackets uint64 `json:"tx_packets"`
	TxBytes   uint64 `json:"tx_bytes"`
	TxErrors  uint64 `json:"tx_errors"`
	TxDropped uint64 `json:"tx_dropped"`
	RxPackets uint64 `json:"rx_packets"`
	RxBytes   uint64 `json:"rx_bytes"`
	RxErrors  uint64 `json:"rx_errors"`
	RxDropped uint64 `json:"rx_dropped"`
}

// DeviceMTU is the MTU that is listed for a virtual device which was attached, unless it was
// set otherwise. With the stacks of a kernel the device has it: it is larger than any
// link's on purpose, so that nothing is fragmented before it is protected.
const DeviceMTU = 16260

// MaxDevices is the maximum number of virtual devices: ipsec0 to ipsec63.
const MaxDevices = 64

// DeviceNumber returns the N of the name ipsecN, which is decimal without leading
// zeros. ok is false for any other name. The caller must check that N is below
// [MaxDevices].
func DeviceNumber(name string) (n int, ok bool) {
	digits, ok := strings.CutPrefix(name, "ipsec")
	u, err := strconv.ParseUint(digits, 10, 16)
	if !ok || err != nil || digits != strconv.FormatUint(u, 10) {
		return 0, false
	}
	return int(u), true
}
