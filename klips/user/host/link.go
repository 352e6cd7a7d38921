package host

import (
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/tun"
)

// link is a TUN device with virtio headers, so that the kernel hands over and
// takes packets of one flow by the 64 KiB (GSO, GRO).
type link struct {
	tun.Device
	name string
}

func openLink(name string) (*link, error) {
	fd, err := openTUN(tunPath)
	if err != nil {
		return nil, err
	}
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	// TUN_EXCL: never take over a device that somebody else left there.
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_TUN_EXCL)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		unix.Close(fd)
		return nil, createError(tunPath, name, err)
	}
	dev, got, err := tun.CreateUnmonitoredTUNFromFD(fd)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	// An address that the kernel makes up (fe80::…) would send router
	// solicitations into the tunnel.
	_ = writeSysctl("net/ipv6/conf/"+got+"/addr_gen_mode", "1")
	return &link{dev, got}, nil
}

func (l *link) Name() string         { return l.name }
func (l *link) MTU() (int, error)    { return mtu(l.name) }
func (l *link) SetMTU(mtu int) error { return setMTU(l.name, mtu) }
