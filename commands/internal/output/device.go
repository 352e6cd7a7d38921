package output

import "github.com/klips-go/ipsec/klips"

// A virtual device.
type Device struct {
	// Its name: ipsec0.
	Name string `json:"name"`
	// The physical device that it is attached to. Left out if it is not attached.
	Physical string `json:"physical,omitempty"`
	// The physical device that is down or gone, and that it is attached to again when it is
	// up. Left out if there is none.
	Awaits string `json:"awaits,omitempty"`
	// Its MTU in bytes. Left out until it was attached for the first time.
	MTU int `json:"mtu,omitempty"`
	// The MTU that the physical device had when it was attached.
	AttachedMTU int `json:"attached_mtu,omitempty"`
	// The MTU that the physical device has now.
	PhysicalMTU int `json:"physical_mtu,omitempty"`
	// Whether packets leave past the IP output of the kernel (--direct). Left out if not.
	Direct bool `json:"direct,omitempty"`
	// Packets that were routed into it.
	Sent Traffic `json:"sent"`
	// Packets that came out of tunnels.
	Received Traffic `json:"received"`
	// Dropped packets of both directions, by reason. See ipsec_look(8) for the reasons.
	// Not all of them are counted in sent and received.
	Drops map[string]uint64 `json:"drops,omitempty"`
}

// Devices returns devices as records.
func Devices(l []klips.Device) []Device { return each(l, newDevice) }

func newDevice(d *klips.Device) Device {
	s := &d.Stats
	return Device{d.Name, d.Physical, d.Awaits, d.MTU, d.AttMTU, d.PhysMTU, d.Direct,
		Traffic{s.TxPackets, s.TxBytes, s.TxErrors, s.TxDropped},
		Traffic{s.RxPackets, s.RxBytes, s.RxErrors, s.RxDropped}, d.Drops}
}

// Packets of a device in one direction.
type Traffic struct {
	// Packets that passed.
	Packets uint64 `json:"packets"`
	// Their bytes.
	Bytes uint64 `json:"bytes"`
	// Packets that were dropped because of an error.
	Errors uint64 `json:"errors"`
	// Packets that were dropped by a rule.
	Dropped uint64 `json:"dropped"`
}
