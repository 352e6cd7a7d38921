package host_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/rtnl"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/testscripts/skip"
)

// A tap reads the frames of a device.
type tap struct {
	n  *namespace
	fd int
}

func (n *namespace) tap(name string) *tap {
	n.t.Helper()
	all := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	n.must(err)
	n.t.Cleanup(func() { unix.Close(fd) })
	n.must(unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: n.index(name)}))
	return &tap{n, fd}
}

// find returns the destination of the frame that ends with text, "" if there is none, and
// whether one came that ends with last; it reads no further.
func (p *tap) find(text, last string) (to string, ended bool) {
	p.n.t.Helper()
	buf := make([]byte, 2000)
	for {
		size, _, err := unix.Recvfrom(p.fd, buf, 0)
		if err == unix.EAGAIN {
			return to, false
		}
		p.n.must(err)
		switch f := string(buf[:size]); {
		case strings.HasSuffix(f, last):
			return to, true
		case strings.HasSuffix(f, text):
			to = net.HardwareAddr(buf[:6]).String()
		}
	}
}

func (n *namespace) ip(line string) {
	n.t.Helper()
	if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
		n.t.Fatalf("ip %s: %v\n%s", line, err, out)
	}
}

// espTo makes an ESP packet that an SA has made.
func espTo(dst netip.Addr, text string) *packet.Buffer {
	var p []byte
	if dst.Is4() {
		p = make([]byte, 20)
		p[0], p[8], p[9] = 0x45, 64, packet.ProtoESP
		copy(p[12:], []byte{192, 0, 2, 1})
		copy(p[16:], dst.AsSlice())
	} else {
		p = make([]byte, 40)
		p[0], p[6], p[7] = 0x60, packet.ProtoESP, 64
		copy(p[8:], netip.MustParseAddr("2001:db8::1").AsSlice())
		copy(p[24:], dst.AsSlice())
	}
	p = append(p, text...)
	packet.SetTotal(p, len(p))
	packet.FixChecksum(p)
	return &packet.Buffer{B: p, End: len(p), Sealed: true}
}

// A wire that sends directly follows the kernel's routes and neighbours: to another
// address of the neighbour and by another gateway, and by the raw socket while there is
// no neighbour, also on a device above another one. The taps tell the ways apart: what
// goes directly is not seen on the host that sends it.
func TestDirect(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	needIP(t)
	n := newNamespace(t)
	links, err := n.conn.Links(context.Background())
	n.must(err)
	peer := ""
	for _, l := range links {
		if l.Kind == "veth" && l.Name != "eth0" {
			peer = l.Name
		}
	}
	n.ip("link set " + peer + " up")
	for _, dev := range []string{"eth0", "br0"} {
		t.Run(dev, func(t *testing.T) {
			n := &namespace{t: t, conn: n.conn, host: n.host}
			if dev == "br0" {
				if err := n.conn.Add(context.Background(), rtnl.Spec{Name: dev, Kind: "bridge", Up: true}); err != nil {
					skip.Without(t, skip.Bridge, err)
				}
				n.ip("link set eth0 master br0")
			}
			n.ip("addr add 192.0.2.1/24 dev " + dev)
			n.ip("-6 addr add 2001:db8::1/64 nodad dev " + dev)
			defer n.ip("addr flush dev " + dev)
			w := n.open(dev)
			n.must(w.Direct())
			sent, arrived := n.tap(dev), n.tap(peer)
			count := 0
			// sends sends packets until one goes directly to an Ethernet address, or by the
			// raw socket (""). A packet to a neighbour that is always there marks the end.
			sends := func(what, dst, direct string) {
				t.Helper()
				to, mark := netip.MustParseAddr(dst), netip.MustParseAddr("192.0.2.99")
				if to.Is6() {
					mark = netip.MustParseAddr("2001:db8::99")
				}
				n.wait(what, func() bool {
					count++
					text := fmt.Sprintf("packet %d.", count)
					last := "mark of " + text
					w.Send([]*packet.Buffer{espTo(to, text), espTo(mark, last)}, func(*packet.Buffer, error) {}, nil) // a neighbour that has failed is an error
					got := ""
					n.wait("the mark arrives", func() bool {
						found, ended := arrived.find(text, last)
						got += found
						return ended
					})
					if raw, _ := sent.find(text, last); raw != "" {
						got = ""
					}
					return got == direct
				})
			}
			for _, f := range []struct{ ip, peer, gw, far, net string }{
				{"ip", "192.0.2.2", "192.0.2.254", "10.2.0.1", "10.2.0.0/16"},
				{"ip -6", "2001:db8::2", "2001:db8::fe", "fd02::1", "fd02::/16"},
			} {
				six := strings.TrimPrefix(f.ip, "ip")
				neigh := func(addr, link string) {
					t.Helper()
					n.ip(six + " neigh replace " + addr + " lladdr " + link + " dev " + dev + " nud stale")
				}
				neigh(f.peer, "02:00:00:00:00:05")
				mark := strings.TrimSuffix(f.peer, "2") + "99"
				n.ip(six + " neigh replace " + mark + " lladdr 02:00:00:00:00:99 dev " + dev + " nud permanent")
				sends("directly to the mark", mark, "02:00:00:00:00:99")
				sends("directly to the peer", f.peer, "02:00:00:00:00:05")
				neigh(f.peer, "02:00:00:00:00:06")
				sends("to its other address", f.peer, "02:00:00:00:00:06")
				n.ip(six + " neigh del " + f.peer + " dev " + dev)
				sends("by the kernel without a neighbour", f.peer, "")
				neigh(f.peer, "02:00:00:00:00:07")
				sends("directly again", f.peer, "02:00:00:00:00:07")

				neigh(f.gw, "02:00:00:00:00:fe")
				n.ip(six + " route add " + f.net + " via " + f.gw + " dev " + dev)
				sends("through the gateway", f.far, "02:00:00:00:00:fe")
				n.ip(six + " route replace " + f.net + " via " + f.peer + " dev " + dev)
				sends("through another one", f.far, "02:00:00:00:00:07")
				n.ip(six + " route del " + f.net)
				sends("by the kernel without a route", f.far, "")
			}
			n.must(w.Close())
		})
	}
}
