package rawip_test

import (
	"bytes"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/user/rawip"
)

// ICMP leaves from an address of the host, with a good checksum, and a Receiver gets that
// a packet was too long and nothing else of it.
func TestICMP(t *testing.T) {
	l := newLine(t)
	var s rawip.ICMPSender
	defer s.Close()
	for _, f := range []struct {
		from, to         netip.Addr
		proto            uint8
		tooBig, rejected []byte
	}{
		{here4, there4, packet.ProtoICMP, []byte{3, 4, 0, 0, 0, 0, 5, 120}, []byte{3, 13, 0, 0, 0, 0, 0, 0}},
		{here6, there6, packet.ProtoICMPv6, []byte{2, 0, 0, 0, 0, 0, 5, 120}, []byte{1, 1, 0, 0, 0, 0, 0, 0}},
	} {
		l.must(l.here.Do(func() error {
			for _, m := range [][]byte{f.rejected, f.tooBig} {
				if err := s.Send(f.to, 0xc0, append(bytes.Clone(m), "about"...)); err != nil {
					return err
				}
			}
			return nil
		}))
		p := l.receive(1, "")[0]
		h, ok := packet.ParseIP(p)
		if !ok || h.Src != f.from || h.Dst != f.to || h.Proto != f.proto || h.TOS != 0xc0 {
			t.Fatalf("received %x: %+v", p, h)
		}
		m := p[h.Len:]
		pseudo := uint64(0)
		if h.Version == 6 {
			pseudo = packet.Sum(p[8:40], uint64(len(m))+packet.ProtoICMPv6)
		}
		if packet.Fold(packet.Sum(m, pseudo)) != 0xffff {
			t.Errorf("the checksum of %x is wrong", m)
		}
		if m[2], m[3] = 0, 0; string(m) != string(f.tooBig)+"about" {
			t.Errorf("received %x, want %x and what it is about", m, f.tooBig)
		}
	}
	if err := s.Send(there4, 0, make([]byte, 7)); err != unix.EINVAL {
		t.Errorf("a message that is too short: %v, want EINVAL", err)
	}
	s.Close()
	if err := s.Send(there4, 0, make([]byte, 8)); err != unix.EBADF {
		t.Errorf("after Close: %v, want EBADF", err)
	}
}
