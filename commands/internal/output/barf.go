package output

import (
	"net/netip"
	"time"
)

// Everything about one end that can be compared with the other end.
type Barf struct {
	// The name of the host.
	Host string `json:"host"`
	// The time, in the form of RFC 3339.
	Time time.Time `json:"time"`
	// The version of the program.
	Program string `json:"program"`
	// The name and the release of the kernel.
	Kernel string `json:"kernel"`
	// The addresses of the host, without those of the loopback device.
	Addresses []netip.Addr `json:"addresses"`
	// The security associations.
	SAs []SA `json:"sas"`
	// Their groups.
	Groups []Group `json:"groups"`
	// The eroutes.
	Eroutes []Eroute `json:"eroutes"`
	// The virtual devices.
	Devices []Device `json:"devices"`
	// Dropped packets that belong to no device, by reason.
	Drops map[string]uint64 `json:"drops,omitempty"`
	// Objects that other programs have made in the kernel, in words.
	Foreign []string `json:"foreign,omitempty"`
	// The connections of configuration files, and those that were made of others.
	Connections []Connection `json:"connections"`
	// Checks of the keys of security associations, which both ends can compare.
	KeyFingerprints []KeyFingerprint `json:"key_fingerprints"`
	// What is left out, and why.
	LeftOut []string `json:"left_out,omitempty"`
}

// A check of a key, from which nobody can find the key. It is the same on both ends. See
// ipsec_fingerprint(8).
type KeyFingerprint struct {
	// The security association, which is also in the check: the same key of another one has
	// another check.
	SAID string `json:"said"`
	// encryption or authentication.
	Use string `json:"use"`
	// Eight groups of four hexadecimal digits.
	Fingerprint string `json:"fingerprint"`
}
