package mtu

import (
	"fmt"
	"slices"

	"github.com/klips-go/ipsec/commands/internal/hints"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/mss"
	"github.com/klips-go/ipsec/klips/user/overhead"
)

// The parts of a packet in output.MTUPart.
const (
	partIP      = "ip"
	partUDP     = "udp"
	partAH      = "ah"
	partESP     = "esp"
	partIV      = "iv"
	partPacket  = "packet"
	partPayload = "payload"
	partPadding = "padding"
	partTrailer = "trailer"
	partICV     = "icv"
)

// minMTU6 is the MTU that every IPv6 link has at least (RFC 8200 section 5).
const minMTU6 = 1280

// lengths computes how long packets may be, and what becomes of one of a length in bytes; 0:
// the longest.
func (p *path) lengths(n network, stack string, length int) (m output.MTU, err error) {
	m.Destination, m.Source = p.dst, p.src
	if p.eroute != nil {
		m.Eroute = p.eroute.Selector.String()
	}
	growths := make([]overhead.Growth, len(p.group))
	for i := range p.group {
		m.Group = append(m.Group, p.group[i].ID.String())
		growths[i] = overhead.OfSA(&p.group[i])
	}
	if err := p.limits(n, &m); err != nil {
		return m, err
	}
	packet := overhead.Plain(p.version(), 0)
	m.Family = fmt.Sprintf("IPv%d", packet.Version)
	m.LongestPacketBytes = overhead.LongestIn(packet, m.LimitBytes, growths)
	m.SegmentBytes = max(m.LongestPacketBytes-packet.Header-mss.HeaderLen, 0)
	if length != 0 && length < packet.Header {
		return m, fmt.Errorf("--len %d: a packet of %s has %d bytes at least", length, m.Family, packet.Header)
	}
	if packet.Total = length; length == 0 {
		packet.Total = m.LongestPacketBytes
	}
	layers, total := overhead.Layers(packet, growths)
	m.PacketBytes, m.WireBytes, m.Parts = packet.Total, total, p.parts(packet, layers)
	m.Advice = p.advice(&m, stack)
	return m, nil
}

// version returns the IP version of the packets.
func (p *path) version() uint8 {
	is6 := p.group[0].ID.Dst.Is6()
	switch {
	case p.dst.IsValid():
		is6 = p.dst.Is6()
	case p.eroute != nil:
		is6 = p.eroute.Is6()
	}
	if is6 {
		return 6
	}
	return 4
}

// limits finds how long protected packets may be.
func (p *path) limits(n network, m *output.MTU) error {
	outermost := p.group[len(p.group)-1]
	m.Device = p.way.Device
	if m.Device != "" {
		mtu, err := n.mtu(m.Device)
		if err != nil {
			return fmt.Errorf("the MTU of %s: %w", m.Device, err)
		}
		m.DeviceMTUBytes = mtu
	}
	m.PhysicalDevice, m.PhysicalMTUBytes = p.device.Physical, p.device.PhysMTU
	if p.device.Name != "" && p.device.Physical == "" {
		why, mend := hints.Detached(p.device)
		return fmt.Errorf("%s, so its packets do not leave; type: %s", why, mend)
	}
	if m.PhysicalDevice != "" {
		var err error
		if m.RouteMTUBytes, err = n.routeMTU(outermost.ID.Dst, m.PhysicalDevice); err != nil {
			return err
		}
	} else if w, ok, err := n.way(outermost.ID.Dst); err != nil {
		return err
	} else if ok { // there is no virtual device on the way
		m.RouteMTUBytes, m.PhysicalDevice = w.MTU, w.Device
		if m.PhysicalMTUBytes, err = n.mtu(w.Device); err != nil {
			return fmt.Errorf("the MTU of %s: %w", w.Device, err)
		}
	}
	if m.PhysicalDevice == "" {
		return fmt.Errorf("there is no route to %v, the other end; ip route get %v shows the reason", outermost.ID.Dst, outermost.ID.Dst)
	}
	m.PathMTUBytes = outermost.PathMTU
	m.LimitBytes = m.PhysicalMTUBytes
	for _, mtu := range []int{m.RouteMTUBytes, m.PathMTUBytes} {
		if mtu != 0 {
			m.LimitBytes = min(m.LimitBytes, mtu)
		}
	}
	return nil
}

// parts returns the parts of a protected packet in the order on the wire. Those of ESP and
// AH come after the IP header that is outermost then; in transport mode that is the header
// of the packet, so that the packet stands in two parts.
func (p *path) parts(packet overhead.Packet, layers []overhead.Layer) []output.MTUPart {
	l := []output.MTUPart{{Part: partIP, Bytes: packet.Header}, {Part: partPayload, Bytes: packet.Total - packet.Header}}
	whole := false // the packet is in a tunnel, with its header
	for i, layer := range layers {
		said := p.group[i].ID.String()
		add := func(at int, part string, bytes int) {
			if bytes > 0 {
				l = slices.Insert(l, at, output.MTUPart{Part: part, Bytes: bytes, SAID: said})
			}
		}
		switch p.group[i].ID.Proto {
		case klips.ProtoTun:
			if !whole {
				// Everything so far is in the tunnel. If nothing else was added, it is one packet.
				if whole = true; len(l) == 2 {
					l = []output.MTUPart{{Part: partPacket, Bytes: packet.Total}}
				}
			}
			add(0, partIP, layer.Header)
		case klips.ProtoESP:
			add(1, partIV, layer.IV)
			add(1, partESP, layer.Header)
			add(1, partUDP, layer.UDP)
			add(len(l), partPadding, layer.Padding)
			add(len(l), partTrailer, layer.Trailer)
			add(len(l), partICV, layer.ICV)
		case klips.ProtoAH:
			add(1, partAH, layer.Header)
		}
	}
	return l
}

// advice returns what does not fit together, and how to mend it.
func (p *path) advice(m *output.MTU, stack string) (l []string) {
	// With less the kernel takes IPv6 from a device, and the packets leave by another one.
	longest := max(m.LongestPacketBytes, minMTU6)
	add := func(format string, args ...any) { l = append(l, fmt.Sprintf(format, args...)) }
	switch virtual := m.Device != "" && m.Device == p.device.Name; {
	case p.eroute == nil:
		add("no eroute leads to this group, so no packet goes through it; ipsec eroute --add makes one")
	case p.device.Name == "" && m.Device != "" && stack == "user":
		add("these packets do not go through the group: their route leads to %s; ipsec trace shows more", m.Device)
	case !virtual:
		// On a kernel's stack policies take packets in transport mode from any device.
	case m.DeviceMTUBytes > longest && stack == "user":
		add("longer packets through %s are reported to their sender, or fragmented after they are protected; so that programs of this host send none, type: ip link set %s mtu %d (mtu=%d in the file of a connection)", m.Device, m.Device, longest, longest)
	case m.DeviceMTUBytes > longest:
		add("%s has an MTU for packets before they are protected, which is larger on purpose; so that TCP sends none that are too long, write mss=auto into the file of the connection, or type: ip link set %s mtu %d", m.Device, m.Device, longest)
	case m.DeviceMTUBytes < longest:
		add("%s takes %d bytes less than fit here: it was set so, or another group of the device needs it", m.Device, longest-m.DeviceMTUBytes)
	}
	if m.PathMTUBytes != 0 && m.PathMTUBytes < m.PhysicalMTUBytes {
		add("the path carries less than %s; if connections of hosts behind this one stop, no ICMP errors reach them: write mss=auto into the file of the connection, on both ends", m.PhysicalDevice)
	}
	if m.Family == "IPv6" && m.LongestPacketBytes < minMTU6 {
		add("IPv6 needs packets of %d bytes: longer ones are fragmented after they are protected", minMTU6)
	}
	return l
}
