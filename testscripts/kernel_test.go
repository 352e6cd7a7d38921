package testscripts

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/commands"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/klips/xfrm"
	"github.com/klips-go/ipsec/testscripts/lab"
)

// haveESP reports why the running kernel has no IPsec of its own, or nil.
func haveESP() error {
	h, err := lab.NewHost("probe")
	if err != nil {
		return err
	}
	defer h.Close()
	_, err = runOn(h, "", "ip xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x100 mode transport "+espXform(2, 1).kernel)
	return err
}

// A side is one of the two hosts of the interoperation test.
type side struct {
	*lab.Host
	outer, inner [2]string // addresses on the cable and of the protected network, IPv4 and IPv6
}

// An xform is one SA's transform in three notations: of our command line, of ip xfrm
// and of the decoders' key files.
type xform struct {
	proto, ours, kernel        string
	enc, encKey, auth, authKey string
	flags                      string // flags of the kernel's state
	towardsUs                  string // more options of the kernel's state that sends to us
	udp                        bool   // inside UDP, port 4500 to port 4500
}

// An interopCase is a group of SAs, inner to outer, and the families of the inner and
// of the outer packets: 0 is IPv4, 1 is IPv6.
type interopCase struct {
	name         string
	xforms       []xform
	inner, outer int
	sizes        []int
}

// TestInterop: packets pass in both directions between the embedded stack and the
// kernel's own IPsec, which shares no code with it.
func TestInterop(t *testing.T) {
	need(t, "root", "tun", "esp")
	ours, kernel := interopHosts(t)
	for _, c := range interopCases() {
		t.Run(c.name, func(t *testing.T) { c.run(t, ours, kernel) })
	}
}

func interopHosts(t *testing.T) (ours, kernel *side) {
	t.Setenv("IPSEC_RUNDIR", t.TempDir())
	var s [2]*side
	for i, name := range []string{"ours", "kernel"} {
		h, err := lab.NewHost(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { h.Close() })
		n := i + 1
		s[i] = &side{h, [2]string{fmt.Sprintf("192.0.2.%d", n), fmt.Sprintf("2001:db8::%d", n)},
			[2]string{fmt.Sprintf("10.%d.0.1", n), fmt.Sprintf("fd0%d::1", n)}}
	}
	ours, kernel = s[0], s[1]
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(lab.Cable(ours.Host, "eth0", kernel.Host, "eth0"))
	var port *xfrm.ESPPort
	check(kernel.Do(func() (err error) { port, err = xfrm.HoldESPPort(4500, klips.NATTNonESP); return err }))
	t.Cleanup(func() { port.Close() })
	for _, h := range s {
		for f, bits := range []string{"/24", "/64"} {
			check(h.AddAddr("eth0", netip.MustParsePrefix(h.outer[f]+bits)))
			check(h.AddAddr("lo", hostPrefix(h.inner[f])))
		}
	}
	mustRun(t, ours.Host, "", "ipsec setup start", "ipsec tncfg --attach --virtual ipsec0 --physical eth0")
	t.Cleanup(func() { mustRun(t, ours.Host, "", "ipsec setup stop") })
	check(ours.Up("ipsec0"))
	for f := range ours.outer {
		check(ours.AddRoute(lab.Route{Dst: hostPrefix(kernel.inner[f]), Dev: "ipsec0", Src: netip.MustParseAddr(ours.inner[f])}))
		check(ours.AddRoute(lab.Route{Dst: hostPrefix(kernel.outer[f]), Dev: "ipsec0", Src: netip.MustParseAddr(ours.outer[f])}))
		check(kernel.AddRoute(lab.Route{Dst: hostPrefix(ours.inner[f]), Via: netip.MustParseAddr(ours.outer[f]), Src: netip.MustParseAddr(kernel.inner[f])}))
	}
	return ours, kernel
}

func (c *interopCase) run(t *testing.T, ours, kernel *side) {
	c.runWith(t, ours, kernel, func() {
		batch := append([]string{"xfrm policy flush", "xfrm state flush"}, c.kernel(ours, kernel)...)
		mustRun(t, kernel.Host, strings.Join(batch, "\n")+"\n", "ip -batch -")
	})
}

// runWith runs the case with a kernel that tell has configured.
func (c *interopCase) runWith(t *testing.T, ours, kernel *side, tell func()) {
	for _, line := range append([]string{"ipsec eroute --clear", "ipsec spi --clear"}, c.ours(ours, kernel)...) {
		if err := ipsecHere(os.Getenv("IPSEC_RUNDIR"), strings.Fields(line)[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	tell()
	// Capture on our side: on the kernel's side a capture shows a received packet again
	// after the kernel has opened it.
	wire, err := ours.Capture("eth0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer wire.Stop()
	count := 0
	for _, size := range c.sizes {
		for _, way := range [2][2]*side{{ours, kernel}, {kernel, ours}} {
			src, dst := c.ends(way[0], way[1])
			p := lab.Ping{Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst), Size: size}
			p.GiveUp = func() bool { return lab.Idle(ours.Host, kernel.Host) }
			_, err := way[0].Ping(p)
			// The first large packets are used for path MTU discovery.
			for try := 0; err != nil && size > 1400 && try < 3; try++ {
				_, err = way[0].Ping(p)
			}
			if err != nil {
				t.Errorf("%s sends %d bytes: %v", way[0].Name, size, err)
			}
			count += 2
		}
	}
	frames, _ := wire.Frames()
	want := c.wireLayers()
	for _, f := range frames {
		if lab.IsHousekeeping(wire.Link, f.Data) {
			continue
		}
		var names []string
		for _, l := range lab.Layers(wire.Link, f.Data) {
			names = append(names, l.Name)
		}
		if slices.Contains(names, "frag") {
			continue
		}
		count--
		if got := strings.Join(names, " "); got != want {
			t.Errorf("on the wire: %s, want %s: %s", got, want, lab.Summary(wire.Link, f.Data))
		}
	}
	if c.sizes[len(c.sizes)-1] < 1400 && count != 0 {
		t.Errorf("%d packets are missing on the wire", count)
	}
	if c.xforms[len(c.xforms)-1].towardsUs != "" {
		c.checkCrossed(t, ours, frames)
	}
	if t.Failed() {
		for _, f := range frames {
			t.Log(lab.Summary(wire.Link, f.Data))
		}
		for _, cmd := range []string{"ipsec look"} {
			out, _ := runOn(ours.Host, "", cmd)
			t.Logf("ours: %s\n%s", cmd, out)
		}
		for _, cmd := range []string{"ip -s xfrm state", "ip xfrm policy", "cat /proc/thread-self/net/xfrm_stat"} {
			out, _ := runOn(kernel.Host, "", cmd)
			t.Logf("kernel: %s\n%s", cmd, out)
		}
	}
}

// tunnel reports whether the group begins with an IP-in-IP SA.
func (c *interopCase) tunnel() bool { return c.xforms[0].proto == "tun" }

// ends returns the addresses of packets from a to b before protection.
func (c *interopCase) ends(a, b *side) (src, dst string) {
	if c.tunnel() {
		return a.inner[c.inner], b.inner[c.inner]
	}
	return a.outer[c.outer], b.outer[c.outer]
}

// wireLayers returns the layers in a capture, up to the first encrypted one.
func (c *interopCase) wireLayers() string {
	ip := [2]string{"ip", "ip6"}
	icmp := [2]string{"icmp", "icmp6"}
	names := []string{ip[c.outer]}
	for i := len(c.xforms) - 1; i >= 0; i-- {
		switch x := c.xforms[i]; x.proto {
		case "esp":
			if x.udp {
				return strings.Join(append(names, "udp"), " ")
			}
			return strings.Join(append(names, "esp"), " ")
		case "tun":
			names = append(names, ip[c.inner])
		default:
			names = append(names, x.proto)
		}
	}
	return strings.Join(append(names, icmp[c.inner]), " ")
}

// spi returns the SPI of an SA: 0x110 and up towards the kernel, 0x210 and up towards
// us.
func spi(toKernel bool, i int) string {
	if toKernel {
		return fmt.Sprintf("0x11%d", i)
	}
	return fmt.Sprintf("0x21%d", i)
}

// ours returns the commands for the embedded stack.
func (c *interopCase) ours(ours, kernel *side) []string { return c.commands(ours, kernel, ours) }

// commands returns the commands for a stack of this program on the side at.
func (c *interopCase) commands(ours, kernel, at *side) (cmds []string) {
	for _, way := range [2][2]*side{{ours, kernel}, {kernel, ours}} {
		src, dst := way[0].outer[c.outer], way[1].outer[c.outer]
		group := "ipsec spigrp --said"
		for i, x := range c.xforms {
			said := x.proto + spi(way[1] == kernel, i) + "@" + dst
			group += " " + said
			opts := x.ours
			if x.proto == "tun" {
				opts = [2]string{"--ip4", "--ip6"}[c.outer] + " --dst " + dst
			}
			cmds = append(cmds, fmt.Sprintf("ipsec spi --said %s --src %s %s", said, src, opts))
		}
		if len(c.xforms) > 1 {
			cmds = append(cmds, group)
		}
	}
	to := kernel
	if at == kernel {
		to = ours
	}
	src, dst := c.ends(at, to)
	head := c.xforms[0].proto + spi(to == kernel, 0) + "@" + to.outer[c.outer]
	return append(cmds, fmt.Sprintf("ipsec eroute --add --eraf %s --src %s --dst %s --said %s",
		[2]string{"inet", "inet6"}[c.inner], hostPrefix(src), hostPrefix(dst), head))
}

// kernel returns the batch for ip(8). A tun SA has no state there; the next SA is in
// tunnel mode instead.
func (c *interopCase) kernel(ours, kernel *side) (batch []string) {
	for _, way := range [2][2]*side{{ours, kernel}, {kernel, ours}} {
		src, dst := way[0].outer[c.outer], way[1].outer[c.outer]
		mode, templates := "transport", ""
		unspec := "" // for SAs that may carry both families
		for i, x := range c.xforms {
			if x.proto == "tun" {
				mode, unspec = "tunnel", " af-unspec"
				continue
			}
			level, flags, towards := "", unspec, ""
			if way[0] == kernel {
				towards = x.towardsUs
			}
			if x.proto == "ah" && c.outer == 0 {
				flags += " align4" // RFC 4302 requires it for IPv4; the default of Linux is 8
			}
			if x.flags != "" {
				flags += " " + x.flags
			}
			if flags != "" {
				flags = "flag" + flags + " "
			}
			if x.proto == "comp" && way[1] == kernel {
				level = " level use" // packets that do not get smaller arrive uncompressed
			}
			batch = append(batch, fmt.Sprintf("xfrm state add src %s dst %s proto %s spi %s reqid 1 mode %s %s%s",
				src, dst, x.proto, spi(way[1] == kernel, i), mode, flags, x.kernel+towards))
			templates += fmt.Sprintf(" tmpl src %s dst %s proto %s reqid 1 mode %s%s", src, dst, x.proto, mode, level)
			mode = "transport"
		}
		dir := "in"
		if way[0] == kernel {
			dir = "out"
		}
		s, d := c.ends(way[0], way[1])
		batch = append(batch, fmt.Sprintf("xfrm policy add src %s dst %s dir %s priority 2%s", hostPrefix(s), hostPrefix(d), dir, templates))
		if c.outer == 1 && !c.tunnel() {
			// The kernel would also protect neighbour discovery, and would then never
			// find a neighbour.
			for _, typ := range []int{135, 136} {
				batch = append(batch, fmt.Sprintf("xfrm policy add src %s dst %s proto ipv6-icmp type %d dir %s priority 1", hostPrefix(s), hostPrefix(d), typ, dir))
			}
		}
		if dir == "in" {
			// The UDP packets around ESP need a policy too, also in transport mode.
			batch = append(batch, fmt.Sprintf("xfrm policy add src %s dst %s proto udp dport 4500 dir in priority 1", hostPrefix(src), hostPrefix(dst)))
		}
	}
	return batch
}

// ipsecHere runs the program in this process. The error has what it prints.
func ipsecHere(rundir string, args ...string) error {
	var out strings.Builder
	if status := runHere(rundir, &out, &out, args...); status != 0 {
		return fmt.Errorf("ipsec %s: exit status %d\n%s", strings.Join(args, " "), status, &out)
	}
	return nil
}

// runHere runs the program in this process, and returns its exit status.
func runHere(rundir string, out, errs io.Writer, args ...string) int {
	old, had := os.LookupEnv("IPSEC_RUNDIR")
	os.Setenv("IPSEC_RUNDIR", rundir)
	defer func() {
		if had {
			os.Setenv("IPSEC_RUNDIR", old)
		} else {
			os.Unsetenv("IPSEC_RUNDIR")
		}
	}()
	return commands.Run(append([]string{"ipsec"}, args...), out, errs)
}

// runOn runs a command line of plain words on a host.
func runOn(h *lab.Host, stdin, line string) (string, error) {
	words := strings.Fields(line)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := h.Output(cmd)
	if err != nil {
		err = fmt.Errorf("%s: %s: %w\n%s", h.Name, line, err, out)
		if errors.Is(err, exec.ErrNotFound) {
			err = fmt.Errorf("%s is not installed", words[0])
		}
	}
	return out, err
}

func mustRun(t *testing.T, h *lab.Host, stdin string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if _, err := runOn(h, stdin, line); err != nil {
			t.Fatalf("%v%s", err, stdin)
		}
	}
}

func hostPrefix(addr string) netip.Prefix {
	a := netip.MustParseAddr(addr)
	return netip.PrefixFrom(a, a.BitLen())
}

// testKey returns a key of the given number of bits.
func testKey(bits int) string {
	b := make([]byte, bits/8)
	for i := range b {
		b[i] = byte(i*37 + 11)
	}
	return "0x" + hex.EncodeToString(b)
}

// checkCrossed checks that the sequence numbers of the packets to us have crossed the
// border of the low half, on the wire and in our SA.
func (c *interopCase) checkCrossed(t *testing.T, ours *side, frames []lab.Frame) {
	t.Helper()
	outermost := c.xforms[len(c.xforms)-1]
	var low []uint32
	for _, f := range frames {
		p := f.Data[14:] // after the Ethernet header
		h, ok := packet.ParseIP(p)
		if !ok || f.Out || lab.IsHousekeeping(lab.LinkEthernet, f.Data) {
			continue
		}
		off := h.Len + 4
		switch {
		case outermost.udp:
			off += 8
		case outermost.proto == "ah":
			off += 4
		}
		low = append(low, binary.BigEndian.Uint32(p[off:]))
	}
	var want []uint32
	for i := range 2 * len(c.sizes) {
		want = append(want, uint32(uint64(beforeWrap)+1+uint64(i)))
	}
	if !slices.Equal(low, want) {
		t.Errorf("numbers on the wire %#x, want %#x", low, want)
	}
	out, err := runOn(ours.Host, "", "ipsec look")
	if err != nil {
		t.Error(err)
	}
	if seq := fmt.Sprintf(" seq=%d ", uint64(beforeWrap)+uint64(len(want))); !strings.Contains(out, seq) {
		t.Errorf("our SA does not say%s:\n%s", seq, out)
	}
}
