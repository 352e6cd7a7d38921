package classic_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/classic"
	"github.com/klips-go/ipsec/klips/classic/classictest"
	"github.com/klips-go/ipsec/klips/classic/classictest/module"
)

// encap is a machine with devices; the test gives its answer to the NAT-T request.
func encap(t *testing.T, tncfg string, answer func(virtual string, socket int, form klips.NATTType) error) *classic.Stack {
	t.Helper()
	return withMachine(t, map[string]string{"ipsec_tncfg": tncfg}, classic.Machine{Encap: answer})
}

// freePort returns a UDP port that no program uses. It is outside the range of
// ephemeral ports, so it stays free.
func freePort(t *testing.T) uint16 {
	t.Helper()
	for n := range 20000 {
		port := 10000 + (os.Getpid()+n)%20000
		if c, err := net.ListenPacket("udp4", fmt.Sprint(":", port)); err == nil {
			c.Close()
			return uint16(port)
		}
	}
	t.Fatal("no UDP port is free")
	return 0
}

// bound returns the address family and port of a socket.
func bound(t *testing.T, fd int) (family string, port uint16) {
	t.Helper()
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return "IPv4", uint16(sa.Port)
	case *unix.SockaddrInet6:
		return "IPv6", uint16(sa.Port)
	}
	t.Fatalf("socket bound to %v", sa)
	return "", 0
}

const (
	twoDevices = "ipsec0 -> NULL mtu=0(0) -> 0\nipsec1 -> eth0 mtu=16260(1500) -> 1500\n"
	noDevice   = ""
	unattached = "ipsec0 -> NULL mtu=0(0) -> 0\n"
)

// The kernel gets one request for each family, for an attached device, with a socket
// that is bound to the port.
func TestHoldPort(t *testing.T) {
	for _, form := range []klips.NATTType{klips.NATTNonIKE, klips.NATTNonESP} {
		port := freePort(t)
		var asked []string
		s := encap(t, twoDevices, func(virtual string, socket int, f klips.NATTType) error {
			family, p := bound(t, socket)
			asked = append(asked, fmt.Sprintf("%s %s %v %v", virtual, family, p == port, f == form))
			return nil
		})
		onlyIPv4, err := s.HoldPort(t.Context(), port, form)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"ipsec1 IPv4 true true"}
		if !onlyIPv4 {
			want = append(want, "ipsec1 IPv6 true true")
		}
		if !slices.Equal(asked, want) {
			t.Errorf("asked %q, want %q", asked, want)
		}
		if c, err := net.ListenPacket("udp4", fmt.Sprint(":", port)); err == nil {
			c.Close()
			t.Error("the port is free while it is held")
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		c, err := net.ListenPacket("udp", fmt.Sprint(":", port))
		if err != nil {
			t.Errorf("the port is not given back: %v", err)
		} else {
			c.Close()
		}
	}
}

// KLIPS itself holds the sockets then.
func TestHoldPortModule(t *testing.T) {
	k := classictest.NewKernel(t, local)
	s := classic.New(k.Machine())
	if err := s.Attach(t.Context(), "ipsec1", "eth0"); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.HoldPort(t.Context(), freePort(t), klips.NATTNonESP); err != nil {
		t.Fatal(err)
	}
	var got []module.Encap
	k.Module(func(m *module.Module) { got = m.Encaps() })
	if len(got) == 0 || got[0].Device != "ipsec1" || got[0].Type != klips.NATTNonESP {
		t.Errorf("KLIPS has %+v", got)
	}
}

// A KLIPS that accepts only IPv4 sockets gets only these.
func TestHoldPortIPv4(t *testing.T) {
	s := encap(t, unattached, func(_ string, socket int, _ klips.NATTType) error {
		if family, _ := bound(t, socket); family == "IPv6" {
			return syscall.ESOCKTNOSUPPORT
		}
		return nil
	})
	defer s.Close()
	onlyIPv4, err := s.HoldPort(t.Context(), freePort(t), klips.NATTNonESP)
	if err != nil {
		t.Fatal(err)
	}
	if !onlyIPv4 {
		t.Error("held for IPv6, which KLIPS refused")
	}
}

func TestHoldPortRefused(t *testing.T) {
	c, err := net.ListenPacket("udp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	taken := uint16(c.LocalAddr().(*net.UDPAddr).Port)
	for _, tt := range []struct {
		tncfg  string
		port   uint16
		answer error
		want   error
		fault  klips.Fault
		reason string
	}{
		{noDevice, 0, nil, syscall.ENODEV, klips.FaultNoDevice, ""},
		{unattached, 0, syscall.ENODEV, syscall.ENODEV, klips.FaultDetached, ""},
		{twoDevices, 0, syscall.ENODEV, syscall.ENODEV, klips.FaultDeviceGone, ""},
		{twoDevices, 0, syscall.EOPNOTSUPP, syscall.EOPNOTSUPP, klips.FaultNone, "/proc/net/ipsec/natt"},
		{twoDevices, 0, syscall.EPERM, syscall.EPERM, klips.FaultNone, ""},
		{twoDevices, taken, nil, syscall.EADDRINUSE, klips.FaultNone, "another program has it"},
	} {
		port := tt.port
		if port == 0 {
			port = freePort(t)
		}
		s := encap(t, tt.tncfg, func(string, int, klips.NATTType) error { return tt.answer })
		_, err := s.HoldPort(t.Context(), port, klips.NATTNonESP)
		var oe *klips.OpError
		if !errors.Is(err, tt.want) || !errors.As(err, &oe) || oe.Fault != tt.fault || !strings.Contains(oe.Reason, tt.reason) || (tt.reason == "") != (oe.Reason == "") {
			t.Errorf("HoldPort with devices %q and answer %v = %v, want %v, %v, %q", tt.tncfg, tt.answer, err, tt.want, tt.fault, tt.reason)
		}
		if tt.port == 0 {
			c, err := net.ListenPacket("udp4", fmt.Sprint(":", port))
			if err != nil {
				t.Errorf("the port is not given back: %v", err)
				continue
			}
			c.Close()
		}
	}
	if _, err := withFiles(t, nil).HoldPort(t.Context(), freePort(t), klips.NATTNonESP); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("HoldPort without tables = %v", err)
	}
}

func TestPortTaken(t *testing.T) {
	s := withFiles(t, map[string]string{
		"udp": "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n" +
			"  113: 00000000:1194 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 20071 2 0000000000000000 0\n",
		"udp6": "  sl  local_address                         remote_address\n" +
			"  120: 00000000000000000000000000000000:01F4 00000000000000000000000000000000:0000 07\n"})
	for port, want := range map[uint16]bool{4500: true, 500: true, 4501: false, 0: false} {
		if got, err := s.PortTaken(t.Context(), port); got != want || err != nil {
			t.Errorf("PortTaken(%d) = %v, %v", port, got, err)
		}
	}
	if _, err := withFiles(t, nil).PortTaken(t.Context(), 4500); err == nil {
		t.Error("PortTaken without tables returns no error")
	}
}
