package kernel

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
)

// An EncapIoctl lets KLIPS take ESP out of what arrives at a UDP socket, of the
// form NATTNonESP or NATTNonIKE, as long as the socket is open. Any virtual device
// takes the request (IPSEC_UDP_ENCAP_CONVERT). The error is the errno.
type EncapIoctl func(virtual string, socket int, form klips.NATTType) error

// encapIfreq builds the argument of an [EncapIoctl]: after the name, the file
// descriptor and the form, each a 32-bit number in the machine's byte order.
// ENAMETOOLONG: the name does not fit. EBADF: the descriptor is none.
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

// SocketIoctl asks the kernel.
func SocketIoctl(virtual string, socket int, form klips.NATTType) error {
	b, err := encapIfreq(virtual, socket, form)
	if err != nil {
		return err
	}
	return ioctl(Convert, &b)
}

// nattConvert is what the file natt holds where the kernel has an [EncapIoctl]; 1
// is a patch of the kernel's UDP instead, 0 is nothing.
const nattConvert = "2"

// noConvert is why there is none.
const noConvert = "this KLIPS has no request for it (/proc/net/ipsec/natt is not 2)"

// natt returns what the file natt holds; ok is false where there is no such file.
func (s *Stack) natt() (text string, ok bool) {
	b, err := os.ReadFile(filepath.Join(s.machine.ProcNet, "ipsec", "natt"))
	return strings.TrimSpace(string(b)), err == nil
}
