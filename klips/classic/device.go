package classic

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/procfs"
)

// A Request is an ioctl of the virtual devices, in the range for each driver's private
// use (SIOCDEVPRIVATE).
type Request uint32

// The requests.
const (
	SetDev   Request = 0x89f0 // attach
	DelDev   Request = 0x89f1 // detach
	ClearDev Request = 0x89f2 // detach all
	Convert  Request = 0x89f3 // IPSEC_UDP_ENCAP_CONVERT, see [EncapIoctl]
)

// An Ioctl carries out a request on a virtual device; physical is for SetDev.
// The error is the errno.
type Ioctl func(r Request, virtual, physical string) error

// ifreqSize is the size of struct ifreq on 64-bit systems; 32-bit systems read less.
// KLIPS' own structure begins after the name: a 32-bit command in host byte order,
// which the kernel ignores, and a name of 12 bytes.
const ifreqSize = 40

// Names have at most this many characters: a longer name would be cut to another
// device's.
const (
	maxVirtual  = 15
	maxPhysical = 11
)

// ifreq builds the argument of an ioctl. ENAMETOOLONG: a name is too long.
func ifreq(r Request, virtual, physical string) (b [ifreqSize]byte, err error) {
	if len(virtual) > maxVirtual || len(physical) > maxPhysical {
		return b, unix.ENAMETOOLONG
	}
	copy(b[:16], virtual)
	binary.NativeEndian.PutUint32(b[16:], uint32(r))
	copy(b[20:32], physical)
	return b, nil
}

// DeviceIoctl sends a request to the kernel.
func DeviceIoctl(r Request, virtual, physical string) error {
	b, err := ifreq(r, virtual, physical)
	if err != nil {
		return err
	}
	return ioctl(r, &b)
}

// ioctl sends a request through a socket of any family. The error is the errno.
func ioctl(r Request, b *[ifreqSize]byte) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(r), uintptr(unsafe.Pointer(b)))
	runtime.KeepAlive(b)
	if errno != 0 {
		return errno
	}
	return nil
}

func (s *Stack) control(op, object string, r Request, virtual, physical string) error {
	err := error(syscall.EOPNOTSUPP)
	if s.machine.Ioctl != nil {
		err = s.machine.Ioctl(r, virtual, physical)
	}
	if err != nil {
		return &klips.OpError{Op: op, Object: object, Err: err}
	}
	return nil
}

// Attach binds ipsecN to a physical device.
func (s *Stack) Attach(_ context.Context, virtual, physical string) error {
	return s.control("attach", virtual+" to "+physical, SetDev, virtual, physical)
}

// Detach unbinds ipsecN.
func (s *Stack) Detach(_ context.Context, virtual string) error {
	return s.control("detach", virtual, DelDev, virtual, "")
}

// DetachAll unbinds all devices. The request may name any device; the classic tool
// always named ipsec0.
func (s *Stack) DetachAll(ctx context.Context) error {
	err := s.control("detach all", "", ClearDev, "ipsec0", "")
	if !errors.Is(err, syscall.ENODEV) {
		return err
	}
	devices, lerr := s.Devices(ctx)
	if lerr != nil {
		return err
	}
	i := slices.IndexFunc(devices, func(d klips.Device) bool { return d.Name != "ipsec0" })
	if i < 0 {
		return err
	}
	return s.control("detach all", "", ClearDev, devices[i].Name, "")
}

// CreateDevice makes ipsecN. FaultNoEffect: the kernel reported success, but the device
// existed before (EEXIST), as ipsec0 does, or does not exist now (EOPNOTSUPP).
func (s *Stack) CreateDevice(ctx context.Context, virtual string) error {
	before := s.listed(ctx, virtual)
	err := s.Asker.CreateDevice(ctx, virtual)
	switch {
	case err != nil:
	case before == yes:
		err = noEffect("create device", virtual, syscall.EEXIST)
	case s.listed(ctx, virtual) == no:
		err = noEffect("create device", virtual, syscall.EOPNOTSUPP)
	}
	return err
}

// DeleteDevice removes ipsecN. FaultNoEffect: the kernel reported success, but the
// device did not exist (ENOENT), or still exists (EOPNOTSUPP), as ipsec0 always does.
func (s *Stack) DeleteDevice(ctx context.Context, virtual string) error {
	before := s.listed(ctx, virtual)
	err := s.Asker.DeleteDevice(ctx, virtual)
	switch {
	case err != nil:
	case before == no:
		err = noEffect("delete device", virtual, syscall.ENOENT)
	case s.listed(ctx, virtual) == yes:
		err = noEffect("delete device", virtual, syscall.EOPNOTSUPP)
	}
	return err
}

func noEffect(op, virtual string, errno syscall.Errno) error {
	return &klips.OpError{Op: op, Object: virtual, Err: errno, Fault: klips.FaultNoEffect}
}

// A known is yes, no, or unknown.
type known uint8

const (
	unknown known = iota
	no
	yes
)

// listed reports whether a device is in ipsec_tncfg, which does not list mast devices.
func (s *Stack) listed(ctx context.Context, virtual string) known {
	b, err := s.Table(ctx, "ipsec_tncfg")
	if err != nil || !strings.HasPrefix(virtual, "ipsec") {
		return unknown
	}
	// A line that cannot be parsed may be that of the device.
	devices, err := procfs.ParseTncfg(bytes.NewReader(b))
	if err != nil {
		return unknown
	}
	if slices.ContainsFunc(devices, func(d klips.Device) bool { return d.Name == virtual }) {
		return yes
	}
	return no
}
