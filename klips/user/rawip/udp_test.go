package rawip

import (
	"errors"
	"slices"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/user/wait"
)

func TestPortFilter(t *testing.T) {
	many := make([]uint16, maxPorts+1)
	full := make([]uint16, maxPorts)
	for i := range full {
		full[i] = uint16(1000 + i)
	}
	udp := func(port uint16) []byte { return []byte{0x11, 0x94, byte(port >> 8), byte(port), 0, 8, 0, 0} }
	ip := func(options int, u []byte) []byte {
		p := make([]byte, 20+options)
		p[0] = 0x40 | byte(len(p)/4)
		return append(p, u...)
	}
	for _, c := range []struct {
		name  string
		v6    bool
		ports []uint16
		p     []byte
		want  bool
	}{
		{"nothing asked for", false, nil, ip(0, udp(4500)), false},
		{"one port", false, []uint16{4500}, ip(0, udp(4500)), true},
		{"another port", false, []uint16{4500}, ip(0, udp(4501)), false},
		{"IP options", false, []uint16{500, 4500}, ip(8, udp(4500)), true},
		{"first of two", false, []uint16{500, 4500}, ip(0, udp(500)), true},
		{"last of many", false, full, ip(0, udp(1000+maxPorts-1)), true},
		{"none of many", false, full, ip(0, udp(999)), false},
		{"too many", false, many, ip(0, udp(7)), true},
		{"cut short", false, []uint16{4500}, ip(0, nil), false},
		{"IPv6", true, []uint16{4500}, udp(4500), true},
		{"IPv6, another port", true, []uint16{4500}, udp(500), false},
	} {
		vm, err := bpf.NewVM(portFilter(c.v6, c.ports))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		n, err := vm.Run(c.p)
		if err != nil || (n > 0) != c.want {
			t.Errorf("%s: the filter takes %d bytes, %v; want any: %v", c.name, n, err, c.want)
		}
	}
}

// A socket that another process has bound is used for its port, and closed when it is of
// no use.
func TestOffer(t *testing.T) {
	r := NewPorts(nil)
	defer r.Close()
	socket := func(family, kind int, port uint16) (fd int) {
		t.Helper()
		fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
		if err == nil && port != 0 {
			err = unix.Bind(fd, &unix.SockaddrInet4{Port: int(port), Addr: [4]byte{127, 0, 0, 1}})
		}
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	// The kernel chooses a port that is free.
	wanted := socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err := unix.Bind(wanted, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	port, ok := boundPort(wanted)
	if !ok {
		t.Fatal("the socket has no port")
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	useless := []int{socket(unix.AF_INET, unix.SOCK_STREAM, 0), socket(unix.AF_INET, unix.SOCK_DGRAM, 0), socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0), pipe[0], pipe[1]}
	r.Offer(append([]int{wanted}, useless...))
	for _, fd := range useless {
		if open(fd) {
			t.Errorf("descriptor %d is left open", fd)
		}
	}
	r.set([]uint16{port})
	r.Offer(nil)
	if p := (*r.open.Load())[place{unix.AF_INET, port}]; p == nil || p.fd != wanted || !open(wanted) {
		t.Errorf("for port %d there is %+v, want descriptor %d", port, p, wanted)
	}
	again := socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err := unix.Bind(again, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	r.Offer([]int{again})
	if !open(again) {
		t.Error("an offered socket is closed too early")
	}
	r.Offer(nil)
	if open(again) {
		t.Error("a socket that was not used is left open")
	}
	r.set(nil)
	if open(wanted) {
		t.Error("the socket of a port that is no longer wanted is left open")
	}
}

// If new sockets cannot be watched, the receiver goes on with those that it has.
func TestRefresh(t *testing.T) {
	ps := NewPorts(nil)
	defer ps.Close()
	w, err := wait.New()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Free()
	r := &Receiver{ports: ps, wait: w}
	good, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(good, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	if err != nil {
		t.Fatal(err)
	}
	ps.adopt(place{unix.AF_INET, 1}, good)
	if err := r.refresh(); err != nil || len(r.udp) != 1 {
		t.Fatalf("refresh = %v, %d sockets", err, len(r.udp))
	}
	bad, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0) // epoll cannot watch it
	if err != nil {
		t.Fatal(err)
	}
	ps.adopt(place{unix.AF_INET, 2}, bad)
	if err := r.refresh(); !errors.Is(err, unix.EPERM) || len(r.udp) != 1 || r.udp[0].fd != good || r.seen == ps.open.Load() {
		t.Errorf("refresh = %v, then sockets %v", err, r.udp)
	}
	to, err := unix.Getsockname(good)
	if err == nil {
		err = unix.Sendto(good, []byte("x"), 0, to)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Wait(); err != nil || !slices.Equal(w.Ready(), []int{0}) {
		t.Errorf("Wait = %v, ready %v, want the socket of before", err, w.Ready())
	}
	ps.set([]uint16{1})
	if err := r.refresh(); err != nil || r.seen != ps.open.Load() || slices.ContainsFunc(r.udp, func(p *port) bool { return p.port == 2 }) {
		t.Errorf("refresh = %v, then sockets %v", err, r.udp)
	}
	for _, p := range r.udp {
		if n := p.uses.Load(); n != 2 {
			t.Errorf("port %d has %d users, want the ports and the receiver", p.port, n)
		}
		p.release()
	}
}

func open(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil
}
