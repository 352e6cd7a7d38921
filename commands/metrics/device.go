package metrics

import (
	"github.com/klips-go/ipsec/commands/internal/openmetrics"
	"github.com/klips-go/ipsec/klips"
)

// deviceFamilies returns the families of virtual devices.
func deviceFamilies() []family[klips.Device] {
	type device = klips.Device
	name := func(d *device) openmetrics.Label { return openmetrics.Label{Name: "device", Value: d.Name} }
	// traffic writes a counter of each direction.
	traffic := func(of func(*klips.DeviceStats) (out, in uint64)) func(*openmetrics.Writer, *device) {
		return func(w *openmetrics.Writer, d *device) {
			out, in := of(&d.Stats)
			w.Sample(out, name(d), direction(klips.Outbound))
			w.Sample(in, name(d), direction(klips.Inbound))
		}
	}
	return []family[device]{
		{openmetrics.Family{Name: "ipsec_device", Type: openmetrics.Info, Help: "A virtual device, and the physical one that it is attached to."},
			func(w *openmetrics.Writer, d *device) {
				w.Sample(1, name(d), openmetrics.Label{Name: "physical", Value: d.Physical})
			}},
		{openmetrics.Family{Name: "ipsec_device_attached", Type: openmetrics.Gauge, Help: "Whether the device is attached to a physical one."},
			func(w *openmetrics.Writer, d *device) { w.Sample(openmetrics.Bool(d.Physical != ""), name(d)) }},
		{openmetrics.Family{Name: "ipsec_device_mtu_bytes", Type: openmetrics.Gauge, Unit: "bytes", Help: "The MTU of the device, once it was attached."},
			func(w *openmetrics.Writer, d *device) {
				if d.MTU != 0 {
					w.Sample(uint64(d.MTU), name(d))
				}
			}},
		{openmetrics.Family{Name: "ipsec_device_packets", Type: openmetrics.Counter, Help: "Packets that were routed into the device (out), or came out of tunnels (in)."},
			traffic(func(s *klips.DeviceStats) (out, in uint64) { return s.TxPackets, s.RxPackets })},
		{openmetrics.Family{Name: "ipsec_device_bytes", Type: openmetrics.Counter, Unit: "bytes", Help: "The bytes of these packets."},
			traffic(func(s *klips.DeviceStats) (out, in uint64) { return s.TxBytes, s.RxBytes })},
		{openmetrics.Family{Name: "ipsec_device_errors", Type: openmetrics.Counter, Help: "Packets that were dropped because of an error, as KLIPS counts them."},
			traffic(func(s *klips.DeviceStats) (out, in uint64) { return s.TxErrors, s.RxErrors })},
		{openmetrics.Family{Name: "ipsec_device_rule_drops", Type: openmetrics.Counter, Help: "Packets that were dropped by a rule, as KLIPS counts them."},
			traffic(func(s *klips.DeviceStats) (out, in uint64) { return s.TxDropped, s.RxDropped })},
		{openmetrics.Family{Name: "ipsec_device_drops", Type: openmetrics.Counter, Help: "All dropped packets of the device, in both directions, by the words of ipsec_look(8). Stack user counts them."},
			func(w *openmetrics.Writer, d *device) { writeDrops(w, d.Drops, name(d)) }},
	}
}

// direction returns the label for a direction.
func direction(d klips.Direction) openmetrics.Label {
	return openmetrics.Label{Name: "direction", Value: d.String()}
}
