package afpacket

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/testscripts/lab"
	"github.com/klips-go/ipsec/testscripts/skip"
)

// hosts returns two hosts that are joined by their devices eth0.
func hosts(t *testing.T) (a, b *lab.Host) {
	t.Helper()
	for i, h := range []**lab.Host{&a, &b} {
		var err error
		if *h, err = lab.NewHost("afpacket" + string(rune('a'+i))); err != nil {
			skip.Without(t, skip.Root, err)
		}
		t.Cleanup(func() { (*h).Close() })
	}
	for _, err := range []error{
		lab.Cable(a, "eth0", b, "eth0"),
		a.AddAddr("eth0", netip.MustParsePrefix("192.0.2.1/24")), b.AddAddr("eth0", netip.MustParsePrefix("192.0.2.2/24")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return a, b
}

// send sends a UDP packet.
func send(t *testing.T, h *lab.Host, to, text string) {
	t.Helper()
	err := h.Do(func() error {
		c, err := net.Dial("udp", to)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A socket receives what its filter selects, in both directions, and tells the device, the
// direction and the lengths.
func TestSocket(t *testing.T) {
	a, b := hosts(t)
	var s *Socket
	var eth0, lo *net.Interface
	var own net.PacketConn // so that nobody reports a port without a program
	err := a.Do(func() (err error) {
		if eth0, err = net.InterfaceByName("eth0"); err != nil {
			return err
		}
		if lo, err = net.InterfaceByName("lo"); err != nil {
			return err
		}
		if own, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			return err
		}
		s, err = Open()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	defer own.Close()
	s.now = func() time.Time {
		t.Error("the kernel has noted no time for a packet")
		return time.Time{}
	}
	ctx := t.Context()
	buf := make([]byte, 64)
	soon := func() time.Time { return time.Now().Add(time.Minute) }
	send(t, a, "192.0.2.2:4500", "before the filter")
	if err := s.SetFilter(Filter{Whole: []int{lo.Index, 9999}, Protected: []int{9998, eth0.Index}, Ports: []uint16{4500}}); err != nil {
		t.Fatal(err)
	}
	send(t, a, "192.0.2.2:7", "another port")
	send(t, a, "192.0.2.2:4500", "sent")
	send(t, b, "192.0.2.1:4500", strings.Repeat("received", 20))
	send(t, a, own.LocalAddr().String(), "to itself")
	var seen []string
	for range 4 { // the last one leaves lo and arrives there
		p, err := s.Receive(ctx, buf, soon())
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Data) != min(p.Length, len(buf)) || p.Data[0] != 0x45 || p.Time.IsZero() {
			t.Errorf("%d bytes of %d, %x, at %v", len(p.Data), p.Length, p.Data, p.Time)
		}
		text := map[int]string{eth0.Index: "eth0", lo.Index: "lo"}[p.Device]
		if p.Out {
			text += " out"
		}
		seen = append(seen, text+" "+string(bytes.Clone(p.Data[28:min(len(p.Data), 36)])))
	}
	want := "eth0 out sent,eth0 received,lo out to itsel,lo to itsel"
	if got := strings.Join(seen, ","); got != want {
		t.Errorf("received %s, want %s", got, want)
	}
	if received, lost, err := s.Counts(); received != 4 || lost != 0 || err != nil {
		t.Errorf("%d received, %d lost, %v; want 4", received, lost, err)
	}

	// Nothing comes: the wait ends in time, or with the context.
	if _, err := s.Receive(ctx, buf, time.Now()); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("at the deadline: %v", err)
	}
	ended, end := context.WithCancel(ctx)
	time.AfterFunc(time.Millisecond, end)
	if _, err := s.Receive(ended, buf, soon()); !errors.Is(err, context.Canceled) {
		t.Errorf("at the end of the context: %v", err)
	}
	send(t, a, "192.0.2.2:4500", "late")
	if p, err := s.Receive(ended, buf, soon()); err != nil || !p.Out {
		t.Errorf("a packet that waits: %+v, %v", p, err)
	}

	// More packets than the buffer holds are lost, and counted.
	err = s.conn.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1) })
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		send(t, a, "192.0.2.2:4500", strings.Repeat("many", 200))
	}
	if received, lost, err := s.Counts(); received != 55 || lost == 0 || lost >= 50 || err != nil {
		t.Errorf("%d received, %d lost, %v; want 55, and some lost", received, lost, err)
	}
}

// The time of a packet is that in the kernel's message, with 64 or 32 bits.
func TestStamp(t *testing.T) {
	for _, tt := range []struct {
		name string
		data []byte
	}{
		{"64 bits", binary.NativeEndian.AppendUint64(binary.NativeEndian.AppendUint64(nil, 1700000000), 123456789)},
		{"32 bits", binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, 1700000000), 123456789)},
	} {
		oob := make([]byte, unix.CmsgSpace(len(tt.data)))
		h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
		h.Level, h.Type = unix.SOL_SOCKET, unix.SCM_TIMESTAMPNS
		h.SetLen(unix.CmsgLen(len(tt.data)))
		copy(oob[unix.CmsgLen(0):], tt.data)
		if got, ok := stamp(oob); !ok || !got.Equal(time.Unix(1700000000, 123456789)) {
			t.Errorf("%s: %v, %v", tt.name, got, ok)
		}
		if got, ok := stamp(oob[:len(oob)-1]); ok {
			t.Errorf("%s: %v from a message that was cut", tt.name, got)
		}
	}
}
