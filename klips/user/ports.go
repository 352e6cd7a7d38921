package user

import (
	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/internal/udpport"
	"github.com/klips-go/ipsec/klips/user/rawip"
)

// ports opens the UDP ports on which an SA may receive, if the daemon may not: it has no
// right to open the lower ones, and a command of root has it. A port that is not opened
// here is no error: it may be in use, and the daemon receives on it all the same.
func ports(spec *klips.SASpec) (fds []int) {
	if spec.ID.Proto != klips.ProtoESP || spec.NATT.Type == klips.NATTNone {
		return nil
	}
	first := udpport.Unprivileged()
	// For an inbound SA it is the destination port, for an outbound SA the source port.
	// Only the daemon knows the direction; it closes the sockets that it does not need.
	for _, port := range [...]uint16{spec.NATT.DPort, spec.NATT.SPort} {
		if int(port) >= first || len(fds) > 0 && port == spec.NATT.DPort {
			continue
		}
		for _, family := range [...]int{unix.AF_INET, unix.AF_INET6} {
			if fd, err := rawip.TakePort(family, port); err == nil {
				fds = append(fds, fd)
			}
		}
	}
	return fds
}
