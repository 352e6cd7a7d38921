package xfrm

import (
	"context"
	"errors"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/internal/udpport"
	"github.com/klips-go/ipsec/klips/serial"
)

var _ serial.PortHolder = (*Stack)(nil)

// An ESPPort is a UDP port on which the kernel accepts UDP-encapsulated ESP while the
// port is held.
type ESPPort = udpport.Port

// HoldPort is [HoldESPPort]; the stack holds the port until it is closed.
func (s *Stack) HoldPort(_ context.Context, port uint16, form klips.NATTType) (onlyIPv4 bool, err error) {
	p, err := HoldESPPort(port, form)
	if err != nil {
		return false, err
	}
	s.held.Add(p)
	return !p.IPv6(), nil
}

// PortTaken reports whether a program uses the UDP port in the network namespace of the
// calling thread.
func (s *Stack) PortTaken(_ context.Context, port uint16) (bool, error) {
	return udpport.Taken("/proc/thread-self/net", port)
}

// HoldESPPort opens a UDP port for ESP of the given form, klips.NATTNonESP or
// klips.NATTNonIKE, in the network namespace of the calling thread, for IPv4 and, if
// the host has it, IPv6. Other packets to the port are dropped. EADDRINUSE: another
// program has the port.
func HoldESPPort(port uint16, form klips.NATTType) (*ESPPort, error) {
	p, err := udpport.Open(port, func(socket, _ int, bind func() error) error {
		// Before the port is bound, so that no packet arrives as plain UDP.
		if err := unix.SetsockoptInt(socket, unix.IPPROTO_UDP, unix.UDP_ENCAP, int(form)); err != nil {
			return err
		}
		return bind()
	})
	if err != nil {
		reason := udpport.Reason(err)
		if errors.Is(err, syscall.ENOPROTOOPT) {
			reason = "this kernel takes no ESP out of UDP of this form"
		}
		return nil, &klips.OpError{Op: "open UDP port", Object: strconv.Itoa(int(port)), Err: err, Reason: reason}
	}
	return p, nil
}
