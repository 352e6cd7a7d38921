package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/serial"
	"github.com/klips-go/ipsec/testscripts/lab"
)

// replays is how many packets are recorded and replayed.
const replays = 200

// replayPause is the pause between two rounds of replayed packets.
const replayPause = 5 * time.Millisecond

// crash kills the daemon of a host, starts it again and adds the current groups again,
// with the same keys. All the time, even before any other packet, packets that the host
// has received earlier are replayed. It returns their number; the daemon must have
// refused each of them. Packets that were sent while the daemon was dead may be lost.
func (k *keys) crash(ctx context.Context, at int) (replayed int, err error) {
	recorded, err := k.record(at)
	if err != nil {
		return 0, err
	}
	if err := k.marked(at); err != nil {
		return 0, err
	}
	pid, err := k.b.PID(at)
	if err != nil {
		return 0, err
	}
	for _, g := range k.exempt {
		g.open()
		defer g.close()
	}
	// Packets that were sent before the gates were opened must arrive.
	if err := k.pass(ctx); err != nil {
		return 0, err
	}
	again, err := k.sendAgain(1-at, recorded)
	if err != nil {
		return 0, err
	}
	defer again()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return 0, fmt.Errorf("kill daemon %d: %w", at+1, err)
	}
	time.Sleep(time.Duration(k.rand.IntN(200)) * time.Millisecond)
	if err := k.b.Run(at, "setup start"); err != nil {
		return 0, err
	}
	time.Sleep(time.Duration(k.rand.IntN(50)) * time.Millisecond)
	k.olds = slices.DeleteFunc(k.olds, func(o old) bool {
		// The other host still has these SAs.
		err = errors.Join(err, k.ask(1-at, func(c serial.Calls) error { return ignoreMissing(c.DeleteSA(ctx, o.head)) }))
		return true
	})
	if err != nil {
		return 0, err
	}
	if err := k.installAgain(ctx, at, len(recorded)); err != nil {
		return 0, err
	}
	if err := k.pass(ctx); err != nil {
		return 0, fmt.Errorf("daemon %d was killed: %w", at+1, err)
	}
	return len(recorded), nil
}

// installAgain adds the groups again on a host, and waits until the given number of
// packets have been refused. Until then nothing new is sent: it would advance the
// windows.
func (k *keys) installAgain(ctx context.Context, at, refused int) error {
	sending.Lock()
	defer sending.Unlock()
	for way := range k.current {
		if err := k.install(ctx, way, at, &k.current[way]); err != nil {
			return err
		}
	}
	n := 0
	if err := lab.Await(func() bool {
		var err error
		n, err = k.refused(ctx, at)
		return err != nil || n >= refused
	}); err != nil {
		return fmt.Errorf("daemon %d refused %d of the %d packets that were sent again: %w", at+1, n, refused, err)
	}
	return nil
}

// pass waits until the packets sent so far have arrived, in both directions.
func (k *keys) pass(ctx context.Context) error {
	for way, g := range k.exempt {
		mark := g.sent.Load()
		if err := lab.Await(func() bool { return ctx.Err() != nil || g.passed(mark) }); err != nil {
			return fmt.Errorf("way %d: nothing passes any more: %w", way, err)
		}
	}
	return nil
}

// refused returns how many packets the SAs of a host have refused as replayed.
func (k *keys) refused(ctx context.Context, at int) (n int, err error) {
	err = k.ask(at, func(c serial.Calls) error {
		sas, err := c.SAs(ctx)
		for _, s := range sas {
			n += int(s.ReplayErrs)
		}
		return err
	})
	return n, err
}

// record returns packets of the current group that arrive at a host, as they are on the
// wire. All are whole, because a single fragment cannot be replayed.
func (k *keys) record(at int) (frames [][]byte, err error) {
	g := &k.current[1-at]
	outer := g.specs[at][len(g.specs[at])-1].ID
	err = k.b.Hosts[at].Do(func() error {
		fd, err := packetSocket("eth0")
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		buf := make([]byte, 1<<16)
		for end := time.Now().Add(expiryTime); len(frames) < replays; {
			if time.Now().After(end) {
				return fmt.Errorf("only %d packets of %v came within %v", len(frames), outer, expiryTime)
			}
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			if _, err := unix.Poll(fds, 1000); err != nil && err != unix.EINTR {
				return err
			}
			n, from, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
			if err != nil {
				continue
			}
			if ll, ok := from.(*unix.SockaddrLinklayer); !ok || ll.Pkttype == unix.PACKET_OUTGOING {
				continue
			}
			if f := buf[:n]; whole(f) && int(f[23]) == int(outer.Proto) && spi(f) == uint32(outer.SPI) {
				frames = append(frames, slices.Clone(f))
			}
		}
		return nil
	})
	return frames, err
}

// whole reports whether a frame is an unfragmented IPv4 packet with an SPI.
func whole(f []byte) bool {
	const moreOrOffset = 0x3fff
	return len(f) >= 14+20+8 && binary.BigEndian.Uint16(f[12:]) == unix.ETH_P_IP && f[14] == 0x45 &&
		binary.BigEndian.Uint16(f[20:])&moreOrOffset == 0
}

// spi returns the SPI of the ESP or AH header after an IPv4 header without options.
func spi(f []byte) uint32 {
	if f[23] == unix.IPPROTO_AH {
		return binary.BigEndian.Uint32(f[14+20+4:])
	}
	return binary.BigEndian.Uint32(f[14+20:])
}

// marked waits until the daemon of a host has stored the sequence numbers received so
// far: it waits until the marks have been written several times.
func (k *keys) marked(at int) error {
	path := filepath.Join(k.b.Statedir(at), "marks")
	var last time.Time
	changes := -1
	err := lab.Await(func() bool {
		st, err := os.Stat(path)
		if err == nil && !st.ModTime().Equal(last) {
			last = st.ModTime()
			changes++
		}
		return changes >= 4
	})
	if err != nil {
		return fmt.Errorf("daemon %d does not write down its marks: %w", at+1, err)
	}
	return nil
}

// packetSocket opens a socket for the frames of a device.
func packetSocket(dev string) (int, error) {
	ifi, err := net.InterfaceByName(dev)
	if err != nil {
		return -1, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	all := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifi.Index}); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// sendAgain sends frames unchanged from a host, repeatedly until stop.
func (k *keys) sendAgain(from int, frames [][]byte) (stop func(), err error) {
	var fd int
	if err := k.b.Hosts[from].Do(func() (err error) { fd, err = packetSocket("eth0"); return err }); err != nil {
		return nil, err
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		defer unix.Close(fd)
		for {
			for _, f := range frames {
				_, _ = unix.Write(fd, f)
			}
			select {
			case <-quit:
				return
			case <-time.After(replayPause):
			}
		}
	}()
	return func() { close(quit); <-done }, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}
