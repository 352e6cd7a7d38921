package mmsg

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// A run arrives as its datagrams, with the headers that it was sent with.
func TestRun(t *testing.T) {
	ifi, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []netip.Addr{lo4, lo6} {
		t.Run(addr.String(), func(t *testing.T) {
			from, own := udp(t, addr)
			to, port := udp(t, addr)
			asked := map[int][]int{unix.IPPROTO_IP: {unix.IP_PKTINFO, unix.IP_RECVTTL, unix.IP_RECVTOS}}
			if addr.Is6() {
				asked = map[int][]int{unix.IPPROTO_IPV6: {unix.IPV6_RECVPKTINFO, unix.IPV6_RECVHOPLIMIT, unix.IPV6_RECVTCLASS}}
			}
			for level, names := range asked {
				for _, name := range names {
					option(t, to, level, name, 1)
				}
			}
			h := Headers{Src: addr, Dst: netip.AddrPortFrom(addr, port), Class: 0x2a, HopLimit: 77, IfIndex: uint32(ifi.Index)}
			r := new(Run)
			for _, sizes := range [][]int{{1}, {1200}, {7, 7}, {500, 500, 500, 1}, {100, 100, 100}} {
				r.Reset()
				var want [][]byte
				for i, n := range sizes {
					want = append(want, bytes.Repeat([]byte{'a' + byte(i)}, n))
					r.Add(want[i])
				}
				if err := r.Send(from, &h, nil); err != nil {
					t.Fatalf("lengths %v: %v", sizes, err)
				}
				in := NewBatch(len(want))
				for i := range want {
					got := make([]byte, 2000)
					in.SetRecv(0, got)
					if n, err := in.Recv(to, 1); n != 1 || err != nil {
						t.Fatal(n, err)
					}
					n, src, _ := in.Received(0)
					if !bytes.Equal(got[:n], want[i]) || src != netip.AddrPortFrom(addr, own) {
						t.Errorf("lengths %v: datagram %d is %q from %v", sizes, i, got[:n], src)
					}
					if in := in.Info(0); in.Dst != addr || in.Class != h.Class || in.HopLimit != h.HopLimit || in.IfIndex != h.IfIndex {
						t.Errorf("lengths %v: datagram %d has %+v", sizes, i, in)
					}
				}
			}
			if n, err := NewBatch(1).Recv(to, 1); !errors.Is(err, unix.EAGAIN) {
				t.Errorf("%d messages more, %v", n, err)
			}
		})
	}
}

// A run arrives as one message, with the length of its datagrams, if the socket asks for
// that.
func TestRunMerged(t *testing.T) {
	from, _ := udp(t, lo4)
	to, port := udp(t, lo4)
	option(t, to, unix.IPPROTO_UDP, unix.UDP_GRO, 1)
	r, all := new(Run), bytes.Repeat([]byte("0123456789"), 250)
	for p := range slices.Chunk(all, 1000) {
		r.Add(p)
	}
	if r.Len() != 3 {
		t.Errorf("%d datagrams", r.Len())
	}
	ifi, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Send(from, &Headers{Src: lo4, Dst: netip.AddrPortFrom(lo4, port), HopLimit: 64, IfIndex: uint32(ifi.Index)}, nil); err != nil {
		t.Fatal(err)
	}
	in, got := NewBatch(1), make([]byte, 1<<16)
	in.SetRecv(0, got)
	if n, err := in.Recv(to, 1); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if n, _, _ := in.Received(0); !bytes.Equal(got[:n], all) || in.Info(0).Segment != 1000 {
		t.Errorf("%d bytes, %+v", n, in.Info(0))
	}
}

// A run that the kernel refuses is not sent in part.
func TestRunRefused(t *testing.T) {
	from, _ := udp(t, lo4)
	to, port := udp(t, lo4)
	r := new(Run)
	r.Add([]byte("one"))
	r.Add([]byte("two"))
	h := Headers{Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.AddrPortFrom(lo4, port), HopLimit: 64}
	if err := r.Send(from, &h, nil); err == nil {
		t.Error("it is sent from an address that the host does not have")
	}
	if n, err := NewBatch(1).Recv(to, 1); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("%d messages, %v", n, err)
	}
}

func TestRunAllocations(t *testing.T) {
	from, _ := udp(t, lo4)
	_, port := udp(t, lo4)
	r, p := new(Run), make([]byte, 100)
	h := Headers{Src: lo4, Dst: netip.AddrPortFrom(lo4, port), HopLimit: 64}
	if n := testing.AllocsPerRun(100, func() {
		r.Reset()
		r.Add(p)
		r.Add(p)
		if err := r.Send(from, &h, nil); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a run", n)
	}
}
