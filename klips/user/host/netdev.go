package host

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// withSocket calls f with a socket for interface ioctls.
func withSocket(f func(fd int) error) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return f(fd)
}

func mtu(name string) (int, error) {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	err = withSocket(func(fd int) error { return unix.IoctlIfreq(fd, unix.SIOCGIFMTU, ifr) })
	return int(ifr.Uint32()), err
}

func setMTU(name string, mtu int) error {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	ifr.SetUint32(uint32(mtu))
	return withSocket(func(fd int) error { return unix.IoctlIfreq(fd, unix.SIOCSIFMTU, ifr) })
}

// defaultHops is the TTL of packets if the kernel's own is unknown.
const defaultHops = 64

// hops reads the TTL of IPv4 packets, or the hop limit of IPv6 packets of a device,
// from a sysctl. A kernel without IPv6 has none for IPv6.
func hops(sysctl string) uint8 {
	b, err := os.ReadFile("/proc/sys/" + sysctl)
	if err != nil {
		return defaultHops
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 8)
	if err != nil || n == 0 {
		return defaultHops
	}
	return uint8(n)
}
