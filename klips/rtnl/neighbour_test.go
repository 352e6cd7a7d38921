package rtnl

import (
	"context"
	"encoding/binary"
	"net/netip"
	"os/exec"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/testscripts/lab"
	"github.com/klips-go/ipsec/testscripts/skip"
)

// neighbourMessage is the data of a message about the neighbour 192.0.2.2 of device 7.
func neighbourMessage(state uint16) []byte {
	b := []byte{unix.AF_INET, 0, 0, 0}
	b = binary.NativeEndian.AppendUint32(b, 7)
	b = append(binary.NativeEndian.AppendUint16(b, state), 0, unix.RTN_UNICAST)
	b = appendAttr(b, unix.NDA_DST, []byte{192, 0, 2, 2})
	b = appendAttr(b, unix.NDA_LLADDR, link[:])
	return b
}

// link is the address in neighbourMessage.
var link = [6]byte{2, 0, 0, 0, 0, 5}

// A neighbour is usable in the states in which the kernel sends to it.
func TestParseNeighbour(t *testing.T) {
	addr := netip.MustParseAddr("192.0.2.2")
	for state, want := range map[uint16]bool{
		unix.NUD_REACHABLE: true, unix.NUD_STALE: true, unix.NUD_DELAY: true, unix.NUD_PROBE: true,
		unix.NUD_PERMANENT: true, unix.NUD_NOARP: true, unix.NUD_INCOMPLETE: false, unix.NUD_FAILED: false, 0: false,
	} {
		n := parseNeighbour(neighbourMessage(state))
		if n.Device != 7 || n.Addr != addr || n.Usable != want || n.Usable != (n.Link == link) {
			t.Errorf("state %#x: %+v; want usable %v", state, n, want)
		}
	}
	whole := neighbourMessage(unix.NUD_STALE)
	without := append(whole[:unix.SizeofNdMsg+8:unix.SizeofNdMsg+8], 8, 0, unix.NDA_LLADDR, 0, 10, 0, 0, 1) // of GRE
	if n, want := parseNeighbour(without), (Neighbour{Device: 7, Addr: addr}); n != want {
		t.Errorf("without an Ethernet address: %+v, want %+v", n, want)
	}
	other, bridge := slices.Clone(whole), slices.Clone(whole)
	other[0], bridge[0] = unix.AF_INET6, unix.AF_BRIDGE
	for name, b := range map[string][]byte{
		"short": whole[:11], "an attribute cut off": whole[:len(whole)-4], "an address of the other family": other, "of a bridge": bridge,
	} {
		if n := parseNeighbour(b); n != (Neighbour{}) {
			t.Errorf("%s: %+v", name, n)
		}
	}
}

func FuzzParseNeighbour(f *testing.F) {
	f.Add(neighbourMessage(unix.NUD_STALE))
	f.Add(neighbourMessage(unix.NUD_STALE)[:14])
	f.Fuzz(func(t *testing.T, b []byte) {
		if n := parseNeighbour(b); !n.Usable && n.Link != [6]byte{} || n.Addr.IsValid() && familyOf(n.Addr) != b[0] {
			t.Errorf("%+v", n)
		}
	})
}

// The next hop is the gateway or the destination itself. The kernel's entry of it is
// found, and its changes are reported once they are asked for.
func TestNextHop(t *testing.T) {
	c := inNamespace(t)
	ctx := context.Background()
	w, err := Watch()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	path := skip.WithoutProgram(t, skip.IP)
	set := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v\n%s", args, err, out)
		}
	}
	set("link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
	for _, line := range [][]string{
		{"addr", "add", "192.0.2.1/24", "dev", "eth0"}, {"-6", "addr", "add", "2001:db8::1/64", "nodad", "dev", "eth0"},
		{"link", "set", "eth1", "up"}, {"link", "set", "eth0", "up"},
		{"route", "add", "10.2.0.0/16", "via", "192.0.2.254"}, {"-6", "route", "add", "fd02::/16", "via", "2001:db8::fe"},
		{"route", "add", "10.3.0.0/16", "via", "inet6", "2001:db8::fe"}, {"-6", "route", "add", "unreachable", "fd04::/16"},
	} {
		set(line...)
	}
	eth0, err := c.Link(ctx, "eth0")
	if err != nil {
		t.Fatal(err)
	}
	eth1, err := c.Link(ctx, "eth1")
	if err != nil {
		t.Fatal(err)
	}
	// The kernel adds the route of an IPv6 address in the background.
	err = lab.Await(func() bool {
		hop, err := c.NextHop(ctx, netip.MustParseAddr("2001:db8::1"), eth0.Index)
		return err != nil || !hop.IsValid()
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		to, want string
		device   int
	}{
		{"192.0.2.2", "192.0.2.2", eth0.Index}, {"2001:db8::2", "2001:db8::2", eth0.Index},
		{"10.2.3.4", "192.0.2.254", eth0.Index}, {"fd02::3", "2001:db8::fe", eth0.Index},
		{"10.3.3.4", "", eth0.Index}, {"fd04::3", "", eth0.Index},
		{"192.0.2.1", "", eth0.Index}, {"2001:db8::1", "", eth0.Index}, {"192.0.2.255", "", eth0.Index},
		{"224.0.0.5", "", eth0.Index}, {"ff02::1", "", eth0.Index}, {"255.255.255.255", "", eth0.Index},
		{"10.2.3.4", "", 99}, {"2001:db8:1::1", "", eth0.Index}, {"fd02::3", "", eth1.Index},
	} {
		hop, err := c.NextHop(ctx, netip.MustParseAddr(tt.to), tt.device)
		if want, _ := netip.ParseAddr(tt.want); hop != want || err != nil {
			t.Errorf("NextHop %s by %d = %v, %v; want %q", tt.to, tt.device, hop, err, tt.want)
		}
	}

	if err := w.Neighbours(); err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"192.0.2.2", "2001:db8::2"} {
		addr := netip.MustParseAddr(a)
		if n, err := c.Neighbour(ctx, eth0.Index, addr); err != nil || n.Usable {
			t.Errorf("a neighbour that there is not: %+v, %v", n, err)
		}
		set("neigh", "add", a, "lladdr", "02:00:00:00:00:05", "dev", "eth0")
		n, err := c.Neighbour(ctx, eth0.Index, addr)
		if err != nil || n.Addr != addr || n.Device != eth0.Index || n.Link != link || !n.Usable {
			t.Errorf("Neighbour %s = %+v, %v", a, n, err)
		}
		set("neigh", "del", a, "dev", "eth0")
		var seen []bool
		for !slices.Equal(seen, []bool{true, false}) {
			news, err := w.Wait()
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range news.Neighbours {
				if n.Addr == addr && (len(seen) == 0 || seen[len(seen)-1] != n.Usable) {
					seen = append(seen, n.Usable)
				}
			}
		}
	}
}
