package pfkey

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
)

// A message has a virtual device as a 16-bit number: mastN is N, ipsecN is N + 49152.
// From 40960 on, the number of a mast device in an SA means that packets leave
// mast(N-40960) in transport mode.
const (
	firstIPsec     = 49152
	firstTransport = 40960
)

// DeviceNumber returns the number of a virtual device, "ipsecN" or "mastN" with N in
// decimal. The device need not exist in a stack. The error wraps syscall.EINVAL: the
// name has another form, or N is too large.
func DeviceNumber(name string) (uint16, error) {
	digits, base, limit := name, 0, 0
	if rest, ok := strings.CutPrefix(name, "ipsec"); ok {
		digits, base, limit = rest, firstIPsec, 1<<16
	} else if rest, ok := strings.CutPrefix(name, "mast"); ok {
		digits, base, limit = rest, 0, firstTransport
	} else {
		return 0, fmt.Errorf("device %q is neither ipsecN nor mastN: %w", name, syscall.EINVAL)
	}
	// ParseUint accepts no sign, blank or underscore in base 10.
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || base+int(n) >= limit {
		return 0, fmt.Errorf("device %q has no number that can be sent: %w", name, syscall.EINVAL)
	}
	return uint16(base + int(n)), nil
}

// DeviceName returns the name of a virtual device with a number.
func DeviceName(n uint16) string {
	name, _ := OutIf(n)
	return name
}

// OutIf returns the meaning of an SA's device number: the device of its packets, and
// whether they leave it in transport mode. The number 0 means none and gives "".
func OutIf(n uint16) (name string, transport bool) {
	switch {
	case n >= firstIPsec:
		return "ipsec" + strconv.Itoa(int(n)-firstIPsec), false
	case n >= firstTransport:
		return "mast" + strconv.Itoa(int(n)-firstTransport), true
	}
	return "mast" + strconv.Itoa(int(n)), false
}

// OutIfNumber is the reverse of [OutIf]. Only mast devices have transport mode.
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
