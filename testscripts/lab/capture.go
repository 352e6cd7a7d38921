package lab

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A LinkType is the kind of link header of a frame, in libpcap's numbers.
type LinkType uint32

// The link types of the devices in labs.
const (
	LinkEthernet LinkType = 1
	LinkRaw      LinkType = 101 // no link header: ipsecN
)

// A Frame is one packet that a device has sent or received.
type Frame struct {
	Time time.Time
	Out  bool // sent by the device, not received
	Data []byte
}

// A Capture records the packets that a device sends and receives.
type Capture struct {
	Link LinkType

	fd, wake int // packet socket; eventfd that ends the reader

	mu     sync.Mutex
	frames []Frame
	out    io.Writer
	err    error
	buf    []byte
	done   chan struct{}
}

// Capture starts to record. If w is not nil, each packet is written to it at once, in
// the pcap format.
func (h *Host) Capture(dev string, w io.Writer) (*Capture, error) {
	c := &Capture{fd: -1, wake: -1, out: w, buf: make([]byte, 1<<17), done: make(chan struct{})}
	err := h.Do(func() error { return c.open(dev) })
	if err != nil {
		return nil, fmt.Errorf("%s: capture on %s: %w", h.Name, dev, err)
	}
	if w != nil {
		c.err = writePcapHeader(w, c.Link)
	}
	go c.read()
	return c, nil
}

func (c *Capture) open(dev string) error {
	ifi, err := net.InterfaceByName(dev)
	if err != nil {
		return err
	}
	// Protocol 0: the socket receives nothing before it is bound to the device.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20) // without the right, the limit of the system applies
	all := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifi.Index}); err != nil {
		unix.Close(fd)
		return err
	}
	c.Link = LinkEthernet
	if sa, err := unix.Getsockname(fd); err == nil {
		if ll, ok := sa.(*unix.SockaddrLinklayer); ok && ll.Hatype == unix.ARPHRD_NONE {
			c.Link = LinkRaw
		}
	}
	if c.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
		unix.Close(fd)
		return err
	}
	c.fd = fd
	return nil
}

// read reads frames until Stop.
func (c *Capture) read() {
	defer close(c.done)
	fds := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}, {Fd: int32(c.wake), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			return
		}
		c.mu.Lock()
		c.drainLocked()
		c.mu.Unlock()
		if fds[1].Revents != 0 {
			return
		}
	}
}

// drainLocked reads all waiting frames. If the device is gone, the recorded frames are
// kept.
func (c *Capture) drainLocked() {
	for {
		n, from, err := unix.Recvfrom(c.fd, c.buf, 0)
		if err == unix.ENETDOWN {
			continue
		}
		if err != nil {
			return
		}
		f := Frame{Time: time.Now(), Data: append([]byte(nil), c.buf[:n]...)}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok {
			f.Out = ll.Pkttype == unix.PACKET_OUTGOING
		}
		c.frames = append(c.frames, f)
		if c.out != nil && c.err == nil {
			c.err = writePcapFrame(c.out, f)
		}
	}
}

// Frames returns the packets so far, in order, and the first error of writing the pcap
// file.
func (c *Capture) Frames() ([]Frame, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd >= 0 {
		c.drainLocked()
	}
	return c.frames[:len(c.frames):len(c.frames)], c.err
}

// Stop ends the recording. Frames still works.
func (c *Capture) Stop() {
	c.mu.Lock()
	stopped := c.fd < 0
	c.mu.Unlock()
	if stopped {
		return
	}
	unix.Write(c.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	<-c.done
	c.mu.Lock()
	defer c.mu.Unlock()
	unix.Close(c.fd)
	unix.Close(c.wake)
	c.fd = -1
}

// writePcapHeader writes the header of a pcap file of format 2.4, with times in
// microseconds.
func writePcapHeader(w io.Writer, link LinkType) error {
	b := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	b = binary.LittleEndian.AppendUint16(b, 2)
	b = binary.LittleEndian.AppendUint16(b, 4)
	b = append(b, make([]byte, 8)...)
	b = binary.LittleEndian.AppendUint32(b, 262144)
	b = binary.LittleEndian.AppendUint32(b, uint32(link))
	_, err := w.Write(b)
	return err
}

func writePcapFrame(w io.Writer, f Frame) error {
	b := binary.LittleEndian.AppendUint32(nil, uint32(f.Time.Unix()))
	b = binary.LittleEndian.AppendUint32(b, uint32(f.Time.Nanosecond()/1000))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(f.Data)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(f.Data)))
	_, err := w.Write(append(b, f.Data...))
	return err
}
