package classic

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/internal/arrange"
	"github.com/klips-go/ipsec/klips/internal/udpport"
	"github.com/klips-go/ipsec/klips/serial"
)

var _ serial.PortHolder = (*Stack)(nil)

// An EncapIoctl makes KLIPS accept UDP-encapsulated ESP, of the form NATTNonESP or
// NATTNonIKE, on a UDP socket while the socket is open. The request may name any
// virtual device (IPSEC_UDP_ENCAP_CONVERT). The error is the errno.
type EncapIoctl func(virtual string, socket int, form klips.NATTType) error

// encapIfreq builds the argument of an [EncapIoctl]: after the name, the file
// descriptor and the form, each a 32-bit number in host byte order. ENAMETOOLONG: the
// name is too long. EBADF: the descriptor is invalid.
func encapIfreq(virtual string, socket int, form klips.NATTType) (b [ifreqSize]byte, err error) {
	switch {
	case len(virtual) > maxVirtual:
		return b, unix.ENAMETOOLONG
	case socket < 0 || socket > math.MaxInt32:
		return b, unix.EBADF
	}
	copy(b[:16], virtual)
	binary.NativeEndian.PutUint32(b[16:], uint32(socket))
	binary.NativeEndian.PutUint32(b[20:], uint32(form))
	return b, nil
}

// SocketIoctl sends the request to the kernel.
func SocketIoctl(virtual string, socket int, form klips.NATTType) error {
	b, err := encapIfreq(virtual, socket, form)
	if err != nil {
		return err
	}
	return ioctl(Convert, &b)
}

// nattConvert is the content of the file natt if the kernel has an [EncapIoctl]; 1
// means a patch of the kernel's UDP instead, 0 means no NAT-T.
const nattConvert = "2"

// noConvert is the reason if there is none.
const noConvert = "this KLIPS cannot be asked for it (/proc/net/ipsec/natt of one that can holds 2)"

// natt returns the content of the file natt; ok is false if there is no such file.
func (s *Stack) natt() (text string, ok bool) {
	b, err := os.ReadFile(filepath.Join(s.machine.ProcNet, "ipsec", "natt"))
	return strings.TrimSpace(string(b)), err == nil
}

// HoldPort opens a UDP port for ESP until the stack is closed: a socket for IPv4, and
// one for IPv6 if the host has it and KLIPS accepts it. ENODEV: there is no virtual
// device for the request, or none is attached. EOPNOTSUPP: this KLIPS has no such
// request.
func (s *Stack) HoldPort(ctx context.Context, port uint16, form klips.NATTType) (onlyIPv4 bool, err error) {
	refuse := func(err error, f klips.Fault, reason string) (bool, error) {
		return false, &klips.OpError{Op: "open UDP port", Object: strconv.Itoa(int(port)), Err: err, Fault: f, Reason: reason}
	}
	devices, err := s.Devices(ctx)
	if err != nil {
		return refuse(err, klips.FaultNone, "")
	}
	arrange.Stable(devices, func(a, b klips.Device) int { return cmp.Compare(unattached(a), unattached(b)) })
	asked := false // of the kernel, so that the error is its answer
	p, err := udpport.Open(port, func(socket, family int, bind func() error) error {
		if err := bind(); err != nil {
			return err
		}
		asked = true
		err := error(syscall.ENODEV)
		for _, d := range devices {
			if err = s.convert(d.Name, socket, form); !errors.Is(err, syscall.ENODEV) {
				break
			}
		}
		if err != nil && family == unix.AF_INET6 {
			return syscall.EAFNOSUPPORT // the request for IPv4 succeeded
		}
		return err
	})
	switch {
	case err == nil:
		s.held.Add(p)
		return !p.IPv6(), nil
	case !asked:
		return refuse(err, klips.FaultNone, udpport.Reason(err))
	case errors.Is(err, syscall.ENODEV) && len(devices) == 0:
		return refuse(err, klips.FaultNoDevice, "")
	case errors.Is(err, syscall.ENODEV) && devices[0].Physical != "":
		return refuse(err, klips.FaultDeviceGone, "")
	case errors.Is(err, syscall.ENODEV):
		return refuse(err, klips.FaultDetached, "")
	case errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.ENOTTY), errors.Is(err, syscall.EINVAL):
		return refuse(err, klips.FaultNone, noConvert)
	}
	return refuse(err, klips.FaultNone, "")
}

// PortTaken reports whether a program uses the UDP port.
func (s *Stack) PortTaken(_ context.Context, port uint16) (bool, error) {
	return udpport.Taken(s.machine.ProcNet, port)
}

// convert sends the request for one device.
func (s *Stack) convert(virtual string, socket int, form klips.NATTType) error {
	if s.machine.Encap == nil {
		return syscall.EOPNOTSUPP
	}
	return s.machine.Encap(virtual, socket, form)
}

// unattached returns 0 for an attached device, and 1 for any other.
func unattached(d klips.Device) int {
	if d.Physical == "" {
		return 1
	}
	return 0
}
