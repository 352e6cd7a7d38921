package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/user/mmsg"
)

// payload is the size of a packet, without UDP's header.
const payload = 64

// last is how long packets may still be on their way after the sender has ended.
const last = 100 * time.Millisecond

// receiveUDP counts packets until in has ended, and for the time last.
func receiveUDP(addr string, in io.Reader, out io.Writer) error {
	c, err := net.ListenPacket("udp", net.JoinHostPort(addr, "0"))
	if err != nil {
		return err
	}
	defer c.Close()
	raw, err := c.(*net.UDPConn).SyscallConn()
	if err != nil {
		return err
	}
	// Packets that wait are not lost ones. Without the right, the limit of the system applies.
	_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20) })
	fmt.Fprintln(out, c.LocalAddr())
	go func() {
		_, _ = io.Copy(io.Discard, in)
		_ = c.SetReadDeadline(time.Now().Add(last))
	}()
	b := mmsg.NewBatch(256)
	for i := range b.Len() {
		b.SetRecv(i, make([]byte, payload))
	}
	got, n := 0, 0
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		for ; failed == nil; got += n {
			n, failed = b.Recv(int(fd), b.Len())
		}
		if failed != unix.EAGAIN {
			return true
		}
		failed = nil
		return false // wait for more
	})
	if err = errors.Join(failed, err); !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	_, err = fmt.Fprintln(out, got)
	return err
}

// tick is the time between two bunches of packets.
const tick = 100 * time.Microsecond

// sendUDP sends a number of packets per second for the time d. Those that the kernel
// refuses for lack of room count as sent.
func sendUDP(addr string, rate float64, d time.Duration, out io.Writer) error {
	// A sleeping goroutine is woken late, by a millisecond. A sleeping thread is not.
	runtime.LockOSThread()
	c, err := net.Dial("udp4", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	bunch := make([]ipv4.Message, 256)
	for i := range bunch {
		bunch[i].Buffers = [][]byte{make([]byte, payload)}
	}
	batches := ipv4.NewPacketConn(c.(*net.UDPConn))
	sent := 0
	for begin := time.Now(); ; {
		t := time.Since(begin)
		for due := int(rate * min(t, d).Seconds()); sent < due; {
			n, err := batches.WriteBatch(bunch[:min(due-sent, len(bunch))], 0)
			switch {
			case err == nil:
				sent += n
			case errors.Is(err, unix.ENOBUFS):
				sent++
			default:
				return err
			}
			if time.Since(begin) > 2*d {
				break // the machine is too slow for the rate
			}
		}
		if t >= d {
			break
		}
		pause := unix.NsecToTimespec(tick.Nanoseconds())
		_ = unix.Nanosleep(&pause, nil)
	}
	_, err = fmt.Fprintln(out, sent)
	return err
}
