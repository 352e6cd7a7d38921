package output

import "net/netip"

// How long packets may be that a group protects. All lengths are of whole IP packets.
type MTU struct {
	// The family of the packets: IPv4 or IPv6.
	Family string `json:"family"`
	// The destination of the packets. Left out if a group was asked for.
	Destination netip.Addr `json:"destination,omitzero"`
	// Their source. Left out if they are those of other hosts.
	Source netip.Addr `json:"source,omitzero"`
	// The eroute that selects the group. Left out if none does.
	Eroute string `json:"eroute,omitempty"`
	// The SAIDs of the group, in the order of processing.
	Group []string `json:"group"`
	// The device that the route to the destination names.
	Device string `json:"device,omitempty"`
	// Its MTU.
	DeviceMTUBytes int `json:"device_mtu_bytes,omitempty"`
	// The device that the protected packets leave by.
	PhysicalDevice string `json:"physical_device"`
	// Its MTU.
	PhysicalMTUBytes int `json:"physical_mtu_bytes"`
	// The MTU of the route to the other end, if the route has one.
	RouteMTUBytes int `json:"route_mtu_bytes,omitempty"`
	// The MTU that a router on the path has reported. Only on stack user.
	PathMTUBytes int `json:"path_mtu_bytes,omitempty"`
	// How long protected packets may be: the least of these.
	LimitBytes int `json:"limit_bytes"`
	// The parts of a protected packet, in the order on the wire. The packet inside has the
	// length that was asked for, or the greatest.
	Parts []MTUPart `json:"parts"`
	// The length of that packet inside.
	PacketBytes int `json:"packet_bytes"`
	// The length of the protected packet.
	WireBytes int `json:"wire_bytes"`
	// The length of the longest packet that is sent without fragments.
	LongestPacketBytes int `json:"longest_packet_bytes"`
	// The size of TCP segments in such packets, the MSS.
	SegmentBytes int `json:"segment_bytes"`
	// What does not fit together, and how to mend it.
	Advice []string `json:"advice,omitempty"`
	// With --probe: what the path carries.
	Probe *MTUProbe `json:"probe,omitempty"`
}

// A part of a protected packet.
type MTUPart struct {
	// ip, udp, ah, esp, iv, packet, payload (what follows the IP header of the packet in
	// transport mode), padding, trailer (pad length and next header) or icv.
	Part string `json:"part"`
	// Its length. That of ah is with its ICV.
	Bytes int `json:"bytes"`
	// The security association that adds it. Left out for the packet inside.
	SAID string `json:"said,omitempty"`
}

// What echo requests have shown that may not be fragmented.
type MTUProbe struct {
	// The length of the longest packet that was answered. Left out if none was.
	LargestAnsweredBytes int `json:"largest_answered_bytes,omitempty"`
	// The length of the shortest packet that was not. Left out if all were answered.
	SmallestLostBytes int `json:"smallest_lost_bytes,omitempty"`
	// The reason for that, in words.
	Reason string `json:"reason,omitempty"`
}
