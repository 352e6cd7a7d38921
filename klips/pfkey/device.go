package pfkey

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
)

// A virtual device travels as a 16-bit number: mastN is N, ipsecN is N + 49152.
// The numbers of mast devices from 40960 on say in an SA that packets leave
// mast(N-40960) in transport mode.
const (
	firstIPsec     = 49152
	firstTransport = 40960
)

// DeviceNumber returns the number of a virtual device, "ipsecN" or "mastN" with
// N in decimal. Whether a stack has so many devices is for it to say. The error
// wraps syscall.EINVAL: the name has another form, or N does not fit.
func DeviceNumber(name string) (uint16, error) {
	digits, base, limit := name, 0, 0
	if rest, ok := strings.CutPrefix(name, "ipsec"); ok {
		digits, base, limit = rest, firstIPsec, 1<<16
	} else if rest, ok := strings.CutPrefix(name, "mast"); ok {
		digits, base, limit = rest, 0, firstTransport
	} else {
		return 0, fmt.Errorf("device %q is neither ipsecN nor mastN: %w", name, syscall.EINVAL)
	}
	// ParseUint takes no sign, blank or underscore in base 10.
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || base+int(n) >= limit {
		return 0, fmt.Errorf("device %q has no number that can be sent: %w", name, syscall.EINVAL)
	}
	return uint16(base + int(n)), nil
}

// DeviceName returns the name of a virtual device by its number.
func DeviceName(n uint16) string {
	name, _ := OutIf(n)
	return name
}

// OutIf returns what the device number of an SA means: the device that its
// packets come out of, and whether they leave it in transport mode. The number
// 0 means none and gives "".
func OutIf(n uint16) (name string, transport bool) {
	switch {
	case n >= firstIPsec:
		return "ipsec" + strconv.Itoa(int(n)-firstIPsec), false
	case n >= firstTransport:
		return "mast" + strconv.Itoa(int(n)-firstTransport), true
	}
	return "mast" + strconv.Itoa(int(n)), false
}

// OutIfNumber is the reverse of [OutIf]. Only mast devices know transport mode.
func OutIfNumber(name string, transport bool) (uint16, error) {
	n, err := DeviceNumber(name)
	if err != nil || !transport {
		return n, err
	}
	if n >= firstIPsec-firstTransport {
		return 0, fmt.Errorf("device %q has no transport mode: %w", name, syscall.EINVAL)
	}
	return n + firstTransport, nil
}
