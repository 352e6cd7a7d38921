package offload

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/tun"

	"github.com/klips-go/ipsec/testscripts/skip"
)

// A wireGuard is a device of package tun of WireGuard. Instead of the kernel, the test is
// at its other end: it sends and receives what the TUN driver would.
type wireGuard struct {
	dev  tun.Device
	fd   int      // the device's file
	peer *os.File // the other end
	udp  bool     // datagrams are merged too
}

// openWireGuard opens a device with a real TUN device, because package tun asks the
// driver for its abilities. Then a socket takes the place of the file, and the TUN device
// goes.
func openWireGuard(t testing.TB) *wireGuard {
	t.Helper()
	w := &wireGuard{fd: -1}
	var word skip.Word
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread goes with the namespace
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			word = skip.Root
			done <- err
			return
		}
		err := w.open()
		if err != nil {
			word = skip.TUN
		}
		done <- err
	}()
	if err := <-done; err != nil {
		unix.Close(w.fd)
		skip.Without(t, word, err)
	}
	t.Cleanup(func() {
		_ = w.dev.Close()
		if w.peer != nil {
			w.peer.Close()
		}
	})
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	w.peer = os.NewFile(uintptr(ends[1]), "kernel")
	err = unix.Dup3(ends[0], w.fd, unix.O_CLOEXEC)
	unix.Close(ends[0])
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *wireGuard) open() (err error) {
	if w.fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	ifr, err := unix.NewIfreq("tun0")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(w.fd, unix.TUNSETIFF, ifr); err != nil {
		return err
	}
	const all = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_USO4 | unix.TUN_F_USO6
	w.udp = unix.IoctlSetInt(w.fd, unix.TUNSETOFFLOAD, all) == nil
	w.dev, _, err = tun.CreateUnmonitoredTUNFromFD(w.fd)
	return err
}

// split gives the device a frame to read, and returns the packets that it makes of it. A
// panic is an error, too.
func (w *wireGuard) split(t testing.TB, frame []byte) (packets [][]byte, err error) {
	t.Helper()
	if _, err := w.peer.Write(frame); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if r := recover(); r != nil {
			packets, err = nil, fmt.Errorf("panic: %v", r)
		}
	}()
	most, length := 1, len(frame) // of the packets
	if frame[1] != gsoNone {
		size, start := int(binary.NativeEndian.Uint16(frame[4:])), int(binary.NativeEndian.Uint16(frame[6:]))
		most, length = len(frame)/size+1, min(length, start+60+size)
	}
	bufs := make([][]byte, most)
	for i := range bufs {
		bufs[i] = make([]byte, length)
	}
	sizes := make([]int, len(bufs))
	n, err := w.dev.Read(bufs, sizes, 0)
	if err != nil {
		return nil, err
	}
	for i := range n {
		packets = append(packets, bufs[i][:sizes[i]])
	}
	return packets, nil
}

// merge writes packets to the device, and returns the frames that the kernel would get.
func (w *wireGuard) merge(t testing.TB, pkts [][]byte) (frames [][]byte) {
	t.Helper()
	done := make(chan error)
	go func() {
		b := make([]byte, HeaderLen+maxTotal+1)
		for {
			n, err := w.peer.Read(b)
			if err != nil || n == 1 { // the end
				done <- err
				return
			}
			frames = append(frames, bytes.Clone(b[:n]))
		}
	}()
	bufs := make([][]byte, len(pkts))
	for i, p := range pkts {
		bufs[i] = append(make([]byte, offset, maxTotal+2*offset), p...) // no bundle is longer than maxTotal
	}
	_, err := w.dev.Write(bufs, offset)
	_, end := unix.Write(w.fd, []byte{0})
	if err := errors.Join(err, end, <-done); err != nil {
		t.Fatal(err)
	}
	return frames
}
