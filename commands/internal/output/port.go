package output

// A UDP port on which the kernel receives ESP.
type Port struct {
	// Its number.
	Port uint16 `json:"port"`
	// nonesp (RFC 3948) or nonike (the drafts before it).
	Form string `json:"form"`
	// Whether it is held for IPv6 as well as for IPv4.
	IPv6 bool `json:"ipv6"`
}
