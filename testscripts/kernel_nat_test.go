package testscripts

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/testscripts/lab"
)

// The kernel's side of TestInteropNAT has the first address; its NAT translates it to
// the second one.
const natInside, natOutside = "10.9.0.2", "192.0.2.9"

// TestInteropNAT: TCP and UDP in UDP-encapsulated transport mode, opened by either
// side. Their checksums cover the addresses that the sender uses; with a NAT the
// receiver sees other addresses.
func TestInteropNAT(t *testing.T) {
	need(t, "root", "tun", "esp")
	ours, kernel := interopHosts(t)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(kernel.AddAddr("lo", hostPrefix(natInside)))
	check(kernel.AddAddr("lo", hostPrefix(natOutside))) // to be found by neighbours
	mustRun(t, ours.Host, "", "ip route add "+natOutside+" dev ipsec0 src "+ours.outer[0])
	// Only packets with these addresses are translated: the device's last step on
	// sending and its first on receiving.
	mustRun(t, kernel.Host, "", "tc qdisc add dev eth0 clsact",
		"tc filter add dev eth0 egress protocol ip matchall action nat egress "+natInside+"/32 "+natOutside,
		"tc filter add dev eth0 ingress protocol ip matchall action nat ingress "+natOutside+"/32 "+natInside)
	for _, tt := range []struct {
		name            string
		outer           int
		inside, outside string // the kernel's address before and after the NAT
	}{
		{"nat/4", 0, natInside, natOutside},
		{"direct/4", 0, kernel.outer[0], kernel.outer[0]},
		{"direct/6", 1, kernel.outer[1], kernel.outer[1]},
	} {
		for _, x := range []struct {
			name string
			xform
		}{{"esp", espXform(2, 1)}, {"esn", withESN(espXform(4, 3))}} {
			t.Run(tt.name+"/"+x.name, func(t *testing.T) {
				us, them := *ours, *kernel
				c := &interopCase{xforms: []xform{inUDP(x.xform, tt.outer)}, inner: tt.outer, outer: tt.outer}
				them.outer[tt.outer] = tt.outside
				for _, line := range append([]string{"ipsec eroute --clear", "ipsec spi --clear"}, c.ours(&us, &them)...) {
					check(ipsecHere(os.Getenv("IPSEC_RUNDIR"), strings.Fields(line)[1:]...))
				}
				them.outer[tt.outer] = tt.inside
				batch := append([]string{"xfrm policy flush", "xfrm state flush"}, c.kernel(&us, &them)...)
				// The source address of the kernel's packets.
				batch = append(batch, fmt.Sprintf("route replace %s dev eth0 src %s", hostPrefix(us.outer[tt.outer]), tt.inside))
				mustRun(t, kernel.Host, strings.Join(batch, "\n")+"\n", "ip -batch -")

				wire, err := ours.Capture("eth0", nil)
				check(err)
				defer wire.Stop()
				const port = 7007
				for _, to := range []struct {
					from, at *side
					listen   string // the server's address on the server
					addr     string // and on the client
				}{
					{ours, kernel, tt.inside, tt.outside},
					{kernel, ours, us.outer[tt.outer], us.outer[tt.outer]},
				} {
					for network, text := range map[string]string{"tcp": strings.Repeat("All good things. ", 2000), "udp": strings.Repeat("come to those who wait. ", 40)} {
						stop, err := serveEcho(to.at.Host, network, netip.AddrPortFrom(netip.MustParseAddr(to.listen), port).String())
						check(err)
						got, err := dial(to.from.Host, network, netip.AddrPortFrom(netip.MustParseAddr(to.addr), port).String(), text, nil)
						stop()
						if err != nil || got != text {
							t.Errorf("%s from %s: %d of %d bytes come back, %v", network, to.from.Name, len(got), len(text), err)
						}
					}
				}
				check(allClosed(port, ours.Host, kernel.Host))
				c.natWire(t, wire, us.outer[tt.outer], tt.outside)
				if t.Failed() {
					for _, cmd := range []string{"ip -s xfrm state", "ip xfrm policy", "cat /proc/thread-self/net/xfrm_stat", "tc -s filter show dev eth0 egress"} {
						out, _ := runOn(kernel.Host, "", cmd)
						t.Logf("kernel: %s\n%s", cmd, out)
					}
					out, _ := runOn(ours.Host, "", "ipsec look")
					t.Logf("ours:\n%s", out)
				}
			})
		}
	}
}

// allClosed waits until no host has a TCP connection of a port with unsent or
// unacknowledged data: its last segments are sent again until they are answered, and
// the next case may remove the SAs before that.
func allClosed(port int, hosts ...*lab.Host) error {
	of := fmt.Sprintf(":%04X", port)
	open := func(h *lab.Host) bool {
		out, err := runOn(h, "", "cat /proc/thread-self/net/tcp /proc/thread-self/net/tcp6")
		return err != nil || slices.ContainsFunc(strings.Split(out, "\n"), func(line string) bool {
			f := strings.Fields(line)
			// 06 is TIME_WAIT, 0A is LISTEN.
			return len(f) > 3 && (strings.HasSuffix(f[1], of) || strings.HasSuffix(f[2], of)) && f[3] != "06" && f[3] != "0A"
		})
	}
	return lab.Await(func() bool { return !slices.ContainsFunc(hosts, open) })
}

// natWire checks that only UDP from port 4500 to port 4500, between our address and the
// peer's, has passed our device.
func (c *interopCase) natWire(t *testing.T, wire *lab.Capture, us, them string) {
	t.Helper()
	frames, err := wire.Frames()
	if err != nil {
		t.Error(err)
	}
	ways := map[string]int{us + " > " + them: 0, them + " > " + us: 0}
	for _, f := range frames {
		if lab.IsHousekeeping(wire.Link, f.Data) {
			continue
		}
		ls := lab.Layers(wire.Link, f.Data)
		last := ls[len(ls)-1]
		if _, ok := ways[ls[0].Text]; !ok || last.Name != "frag" && last.Text != "UDP 4500 > 4500" {
			t.Errorf("on the wire: %s", lab.Summary(wire.Link, f.Data))
			continue
		}
		ways[ls[0].Text]++
	}
	for way, n := range ways {
		if n < 4 {
			t.Errorf("%d packets %s on the wire", n, way)
		}
	}
}
