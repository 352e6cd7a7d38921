package host

import (
	"os"

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

func writeSysctl(name, value string) error {
	return os.WriteFile("/proc/sys/"+name, []byte(value), 0)
}
