package rawip_test

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/rawip"
)

// to changes the destination and the TTL of a packet.
func to(p []byte, dst netip.Addr, ttl uint8) []byte {
	if dst.Is4() {
		p[8] = ttl
		copy(p[16:], dst.AsSlice())
	} else {
		p[7] = ttl
		copy(p[24:], dst.AsSlice())
	}
	packet.FixChecksum(p)
	return p
}

// Packets to a group arrive as long as the host is a member of it on the device, with
// their TTL. The host's own do not come back to it.
func TestGroups(t *testing.T) {
	for _, group := range []netip.Addr{netip.MustParseAddr("224.0.0.5"), netip.MustParseAddr("ff02::5")} {
		t.Run(group.String(), func(t *testing.T) {
			l := newLine(t)
			v6 := group.Is6()
			var member *rawip.Sender // of the host that receives
			l.must(l.there.Do(func() (err error) {
				member, err = rawip.NewSender(l.ports, "eth0", 4)
				return err
			}))
			// arrives reports whether a packet to the group arrives before a packet to the
			// host that is sent after it.
			hello := to(ip(v6, packet.ProtoESP, "to the group"), group, 1)
			arrives := func() bool {
				t.Helper()
				l.send(hello, ip(v6, packet.ProtoESP, "to the host"))
				got := l.receive(2, "to the host")
				if len(got) == 2 && !bytes.Equal(got[0], hello) {
					t.Errorf("received %x, want %x", got[0], hello)
				}
				return len(got) == 2
			}
			if arrives() {
				t.Error("it arrives although no host has joined")
			}
			l.must(l.there.Do(func() error { return member.Join(group) }))
			if !arrives() {
				t.Error("it does not arrive at a member")
			}
			if err := member.Join(group); !errors.Is(err, unix.EADDRINUSE) {
				t.Errorf("joined twice: %v, want EADDRINUSE", err)
			}
			own := &packet.Buffer{B: bytes.Clone(hello), End: len(hello)}
			member.Send([]*packet.Buffer{own}, func(_ *packet.Buffer, err error) { t.Errorf("its own packet: %v", err) }, nil)
			l.send(ip(v6, packet.ProtoESP, "to the host"))
			if got := l.receive(2, "to the host"); len(got) != 1 {
				t.Error("its own packet comes back")
			}
			l.must(member.Leave(group))
			if arrives() {
				t.Error("it arrives although the host has left")
			}
			if err := member.Leave(group); !errors.Is(err, unix.EADDRNOTAVAIL) {
				t.Errorf("left twice: %v, want EADDRNOTAVAIL", err)
			}
			l.must(member.Join(group))
			member.Close()
			if arrives() {
				t.Error("it arrives although the member is closed")
			}
		})
	}
}
