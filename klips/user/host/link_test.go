package host

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/rtnl"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/testscripts/skip"
)

// Removing a device from the system ends its reader, whether or not it is waiting for a
// packet. (After any error other than os.ErrClosed the reader goes on.)
func TestReadRemoved(t *testing.T) {
	runtime.LockOSThread() // never unlocked: the thread ends with the namespace
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		skip.Without(t, skip.Root, err)
	}
	links, err := rtnl.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer links.Close()
	for _, waiting := range []bool{false, true} {
		l, err := openLink("ipsec0")
		if err != nil {
			skip.Without(t, skip.TUN, err)
		}
		read := func() error {
			_, err := l.Read(packet.NewBuffers(1))
			return err
		}
		done := make(chan error, 1)
		if waiting {
			go func() { done <- read() }()
		}
		at, err := links.Link(t.Context(), "ipsec0")
		if err == nil {
			err = links.Delete(t.Context(), at.Index)
		}
		if err != nil {
			t.Fatal(err)
		}
		if !waiting {
			done <- read()
		}
		if err := <-done; !errors.Is(err, os.ErrClosed) {
			t.Errorf("waiting: %v: Read = %v, want os.ErrClosed", waiting, err)
		}
		l.Close()
	}
}

// What is merged on its way to the host arrives as it was, and is counted.
func TestWrite(t *testing.T) {
	runtime.LockOSThread() // never unlocked: the thread goes with the namespace
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		skip.Without(t, skip.Root, err)
	}
	links, err := rtnl.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer links.Close()
	l, err := openLink("ipsec0")
	if err != nil {
		skip.Without(t, skip.TUN, err)
	}
	defer l.Close()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	at, err := links.Link(t.Context(), "ipsec0")
	must(err)
	refused := 0
	b := &packet.Buffer{B: make([]byte, 100), Off: 16, End: 100}
	if l.Write([]*packet.Buffer{b}, func(*packet.Buffer, error) { refused++ }); refused != 1 {
		t.Errorf("a device that is down refuses %d packets, want 1", refused)
	}
	own := netip.MustParseAddr("10.9.0.1")
	must(links.AddAddr(t.Context(), rtnl.Addr{Index: at.Index, Prefix: netip.PrefixFrom(own, 24)}))
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	must(err)
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("ipsec0")
	must(err)
	ifr.SetUint16(unix.IFF_UP)
	must(unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr))
	must(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20))
	must(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 60}))
	must(unix.Bind(fd, &unix.SockaddrInet4{Port: 7, Addr: own.As4()}))
	const offset = 16
	for _, size := range []int{1, 1372, 1400, 1472} {
		var pkts []*packet.Buffer
		var want [][]byte
		for i := range 128 {
			p := make([]byte, offset+28+size)
			q := p[offset:]
			q[0], q[8], q[9] = 0x45, 64, packet.ProtoUDP
			binary.BigEndian.PutUint16(q[4:], uint16(i))
			copy(q[12:], []byte{10, 9, 0, 2, 10, 9, 0, 1, 4, 0, 0, 7})
			binary.BigEndian.PutUint16(q[24:], uint16(8+size))
			for k := range size {
				q[28+k] = byte(i + k)
			}
			packet.SetTotal(q, len(q))
			packet.FixChecksum(q)
			sum := packet.Sum(q[20:], packet.Sum(q[12:20], packet.ProtoUDP+uint64(8+size)))
			binary.BigEndian.PutUint16(q[26:], ^packet.Fold(sum))
			pkts = append(pkts, &packet.Buffer{B: p, Off: offset, End: len(p)})
			want = append(want, bytes.Clone(q[28:]))
		}
		l.Write(pkts, func(_ *packet.Buffer, err error) { t.Error(err) })
		got := make([]byte, 2000)
		for i := range want {
			n, err := unix.Read(fd, got)
			if err != nil || !bytes.Equal(got[:n], want[i]) {
				t.Fatalf("datagram %d of %d bytes: %x, %v", i, size, got[:max(n, 0)], err)
			}
		}
	}
}
