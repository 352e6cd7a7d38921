package testscripts

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/procfs"
	"github.com/klips-go/ipsec/klips/serial"
	"github.com/klips-go/ipsec/klips/xfrm"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
	"github.com/klips-go/ipsec/testscripts/bed"
	"github.com/klips-go/ipsec/testscripts/lab"
)

// benchHost is the host of the bench, by the name of the test.
var benchHost = map[string]*lab.Host{}

// xfrmBench returns the stack of the mainline kernel on a new host with a cable to
// another host.
func xfrmBench(t *testing.T) klipstest.Bench {
	t.Helper()
	need(t, "root", "xfrm")
	var hosts [2]*lab.Host
	for i, name := range []string{"contract", "far"} {
		h, err := lab.NewHost(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { h.Close() })
		hosts[i] = h
	}
	benchHost[t.Name()] = hosts[0]
	t.Cleanup(func() { delete(benchHost, t.Name()) })
	if err := lab.Cable(hosts[0], "eth0", hosts[1], "eth0"); err != nil {
		t.Fatal(err)
	}
	local := netip.MustParsePrefix("192.0.2.1/24")
	if err := hosts[0].AddAddr("eth0", local); err != nil {
		t.Fatal(err)
	}
	var s *xfrm.Stack
	if err := hosts[0].Do(func() (err error) { s, err = xfrm.Open(); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return klipstest.Bench{Stack: s, Local: local.Addr(), Physical: "eth0", Count: func(t *testing.T) klips.DeviceStats {
		return countByKernel(t, hosts[0])
	}}
}

// countByKernel sends a packet into ipsec0 and returns the counters of the device in
// /proc/net/dev. The stack reads them over netlink.
func countByKernel(t *testing.T, h *lab.Host) klips.DeviceStats {
	// Keep the kernel from sending packets of its own.
	if err := errors.Join(h.Sysctl("net/ipv6/conf/ipsec0/disable_ipv6", "1"), h.Up("ipsec0"),
		h.AddRoute(lab.Route{Dst: netip.MustParsePrefix("198.51.100.0/24"), Dev: "ipsec0"})); err != nil {
		t.Fatal(err)
	}
	var stats map[string]klips.DeviceStats
	if err := h.Do(func() error {
		c, err := net.Dial("udp", "198.51.100.1:7")
		if err != nil {
			return err
		}
		defer c.Close()
		_, _ = c.Write([]byte("no eroute takes it")) // the kernel may return an error
		f, err := os.Open("/proc/thread-self/net/dev")
		if err != nil {
			return err
		}
		defer f.Close()
		stats, err = procfs.ParseNetDev(f)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return stats["ipsec0"]
}

// TestInteropContract: the kernel's own IPsec fulfils the contract of all stacks.
func TestInteropContract(t *testing.T) {
	need(t, "root", "xfrm")
	klipstest.TestStack(t, xfrmBench)
}

// TestInteropStack: packets pass in both directions between the embedded stack and the
// kernel's, after the same commands on both.
func TestInteropStack(t *testing.T) {
	need(t, "root", "tun", "xfrm")
	ours, kernel := interopHosts(t)
	tell := func(t *testing.T, args ...string) {
		t.Helper()
		err := kernel.Do(func() error {
			return ipsecHere(os.Getenv("IPSEC_RUNDIR"), append([]string{"--stack", "xfrm"}, args...)...)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	tell(t, "tncfg", "--attach", "--virtual", "ipsec0", "--physical", "eth0")
	if err := kernel.Up("ipsec0"); err != nil {
		t.Fatal(err)
	}
	for f := range kernel.inner {
		if err := kernel.AddRoute(lab.Route{Dst: hostPrefix(ours.inner[f]), Dev: "ipsec0", Src: netip.MustParseAddr(kernel.inner[f])}); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range interopCases() {
		if c.last().towardsUs != "" {
			continue // needs sequence numbers that no command can set
		}
		t.Run(c.name, func(t *testing.T) {
			c.runWith(t, ours, kernel, func() {
				tell(t, "eroute", "--clear")
				tell(t, "spi", "--clear")
				for _, line := range c.commands(ours, kernel, kernel) {
					if strings.HasPrefix(line, "ipsec spigrp") && strings.Contains(line, "@"+kernel.outer[c.outer]) && c.tunnel() && i%2 == 0 {
						// Packets pass with and without an inbound policy.
						src, dst := c.ends(ours, kernel)
						tell(t, "eroute", "--addin", "--eraf", [2]string{"inet", "inet6"}[c.inner], "--src", hostPrefix(src).String(),
							"--dst", hostPrefix(dst).String(), "--said", "tun"+spi(true, 0)+"@"+kernel.outer[c.outer])
					}
					tell(t, strings.Fields(line)[1:]...)
				}
			})
		})
	}
}

// last returns the outermost transform.
func (c *interopCase) last() xform { return c.xforms[len(c.xforms)-1] }

// TestInteropForeign: objects of other programs are shown, never changed, and never
// taken for ours. If another program removes an SA of ours, its group is removed too.
func TestInteropForeign(t *testing.T) {
	b := xfrmBench(t)
	s, ctx := serial.Calls{Stack: b.Stack}, t.Context()
	h := benchHost[t.Name()]
	var c *nlxfrm.Conn
	if err := h.Do(func() (err error) { c, err = nlxfrm.Dial(); return err }); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	peer := netip.MustParseAddr("192.0.2.77")
	theirs := &nlxfrm.State{ID: nlxfrm.ID{Dst: peer, SPI: 0x999, Proto: 50}, Src: b.Local,
		Crypt: &nlxfrm.Algorithm{Name: "ecb(cipher_null)"}, Auth: &nlxfrm.AuthAlgorithm{Name: "hmac(sha1)", TruncateBits: 96, Key: xfrmKey(160)}}
	check(c.AddState(ctx, theirs))
	policy := &nlxfrm.Policy{Dir: nlxfrm.DirOut, Selector: nlxfrm.Selector{Src: netip.MustParsePrefix("10.9.0.0/16"), Dst: netip.MustParsePrefix("10.8.0.0/16")}}
	check(c.AddPolicy(ctx, policy))
	lines := func() string {
		t.Helper()
		now, err := s.Snapshot(ctx, klips.Want{Foreign: true})
		check(err)
		return strings.Join(now.Foreign, "\n")
	}
	const want = "state esp0x999@192.0.2.77 from 192.0.2.1 mode transport reqid 0\n" +
		"policy out 10.9.0.0/16 -> 10.8.0.0/16 priority 0: allow"
	if got := lines(); got != want {
		t.Errorf("Foreign:\n%s\nwant:\n%s", got, want)
	}

	spec := func(proto klips.Proto, spi klips.SPI) *klips.SASpec {
		x := &klips.SASpec{ID: klips.SAID{Dst: peer, SPI: spi, Proto: proto}, Src: b.Local}
		if proto == klips.ProtoESP {
			x.Enc, x.EncKey, x.Auth, x.AuthKey = alg.AES, xfrmKey(128), alg.SHA1, xfrmKey(160)
		}
		return x
	}
	if err := s.AddSA(ctx, spec(klips.ProtoESP, 0x999)); !errors.Is(err, syscall.EEXIST) || !strings.Contains(err.Error(), "another program") {
		t.Errorf("AddSA of a foreign SAID = %v", err)
	}
	check(s.Attach(ctx, "ipsec0", b.Physical))
	check(s.AddSA(ctx, spec(klips.ProtoTun, 0x113)))
	check(s.AddSA(ctx, spec(klips.ProtoESP, 0x115)))
	tun := klips.SAID{Dst: peer, SPI: 0x113, Proto: klips.ProtoTun}
	check(s.Group(ctx, []klips.SAID{tun, {Dst: peer, SPI: 0x115, Proto: klips.ProtoESP}}))
	route := klips.Eroute{Selector: klips.Selector{Src: netip.MustParsePrefix("10.1.0.0/16"), Dst: netip.MustParsePrefix("10.2.0.0/16")}, ID: tun}
	check(s.SetEroute(ctx, route, klips.ErouteAdd))
	if b.Stack.Info().Has(klips.CapPass) { // with interface IDs the policies do not collide
		taken := route
		taken.Selector = klips.Selector{Src: policy.Selector.Src, Dst: policy.Selector.Dst}
		if err := s.SetEroute(ctx, taken, klips.ErouteAdd); !errors.Is(err, syscall.EEXIST) {
			t.Errorf("SetEroute with a foreign selector = %v", err)
		}
	}
	action := func() (actions []nlxfrm.Action) {
		t.Helper()
		l, err := c.DumpPolicies(ctx)
		check(err)
		for _, p := range l {
			if p.Selector.Src == route.Src {
				actions = append(actions, p.Action)
			}
		}
		return actions
	}
	if got := action(); !slices.Equal(got, []nlxfrm.Action{nlxfrm.Allow}) {
		t.Errorf("the eroute's policies: %v", got)
	}
	// Another program removes the state: the SA and its group are gone, and after the
	// next change the eroute has no SA.
	check(c.DeleteState(ctx, nlxfrm.ID{Dst: peer, SPI: 0x115, Proto: 50}, nlxfrm.Mark{}))
	if l, err := s.SAs(ctx); err != nil || len(l) != 0 {
		t.Errorf("SAs without their state: %v, %v", l, err)
	}
	check(s.AddSA(ctx, spec(klips.ProtoESP, 0x200)))
	if got := action(); !slices.Equal(got, []nlxfrm.Action{nlxfrm.Block}) {
		t.Errorf("the eroute's policies without the SA: %v", got)
	}

	check(s.ClearEroutes(ctx))
	check(s.ClearSAs(ctx))
	check(s.DetachAll(ctx))
	if got := lines(); got != want {
		t.Errorf("Foreign after clear:\n%s\nwant:\n%s", got, want)
	}
	states, err := c.DumpStates(ctx, 0)
	check(err)
	policies, err := c.DumpPolicies(ctx)
	check(err)
	if len(states) != 1 || len(policies) != 1 {
		t.Errorf("%d states and %d policies are left, want the foreign ones", len(states), len(policies))
	}
}

// TestInteropConcurrent: concurrent commands that change the tables all succeed.
func TestInteropConcurrent(t *testing.T) {
	b := xfrmBench(t)
	const workers, each = 4, 10
	errs := make(chan error)
	for w := range workers {
		var s *xfrm.Stack
		if err := benchHost[t.Name()].Do(func() (err error) { s, err = xfrm.Open(); return err }); err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		go func() {
			for i := range each {
				_, err := klips.Do(t.Context(), s, klips.AddSA{SASpec: &klips.SASpec{ID: klips.SAID{Dst: netip.MustParseAddr("192.0.2.77"),
					SPI: klips.SPI(0x1000*(w+1) + i), Proto: klips.ProtoTun}, Src: b.Local}})
				errs <- err
			}
		}()
	}
	for range workers * each {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if l, err := klips.ReadSAs(t.Context(), b.Stack); err != nil || len(l) != workers*each {
		t.Errorf("%d SAs, %v; want %d", len(l), err, workers*each)
	}
}

// TestInteropCollect: if the kernel refuses a command in the middle of a file, nothing
// of the file stays. With --keep-going everything else stays.
func TestInteropCollect(t *testing.T) {
	b := xfrmBench(t)
	ctx, h := t.Context(), benchHost[t.Name()]
	var c *nlxfrm.Conn
	if err := h.Do(func() (err error) { c, err = nlxfrm.Dial(); return err }); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	theirs := &nlxfrm.State{ID: nlxfrm.ID{Dst: netip.MustParseAddr("192.0.2.77"), SPI: 0x999, Proto: 50}, Src: b.Local,
		Crypt: &nlxfrm.Algorithm{Name: "ecb(cipher_null)"}, Auth: &nlxfrm.AuthAlgorithm{Name: "hmac(sha1)", TruncateBits: 96, Key: xfrmKey(160)}}
	if err := c.AddState(ctx, theirs); err != nil {
		t.Fatal(err)
	}
	esp := fmt.Sprintf(" --src %s --esp aes128-sha1 --enckey 0x%032x --authkey 0x%040x\n", b.Local, 1, 2)
	tun := fmt.Sprintf(" --src %s --dst 192.0.2.77 --ip4\n", b.Local)
	group := func(spi, n int) string {
		return fmt.Sprintf("spi --said tun0x%x@192.0.2.77%sspi --said esp0x%x@192.0.2.77%sspigrp --said tun0x%x@192.0.2.77 esp0x%x@192.0.2.77\n"+
			"eroute --add --src 10.1.0.0/16 --dst 10.%d.0.0/16 --said tun0x%x@192.0.2.77\n", spi, tun, spi, esp, spi, spi, n, spi)
	}
	taken := "spi --said esp0x999@192.0.2.77" + esp
	for _, k := range []struct {
		name, options, text string
		want                []string // in what is printed
		routes              int
	}{
		{"none", "", group(0x1000, 2) + taken + group(0x2000, 3), []string{":5: ", "another program", "nothing was done"}, 0},
		{"goes on", "--keep-going ", taken + group(0x2000, 3) + taken, []string{":1: ", ":6: ", "2 of 6 commands failed"}, 1},
	} {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, []byte(k.text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := runOn(h, "", "ipsec --stack xfrm batch "+k.options+file)
		if err == nil {
			t.Errorf("%s: no error: %s", k.name, out)
			continue
		}
		out += err.Error()
		for _, w := range k.want {
			if !strings.Contains(out, w) {
				t.Errorf("%s: %q does not have %q", k.name, out, w)
			}
		}
		routes, err := klips.ReadEroutes(ctx, b.Stack)
		sas, err2 := klips.ReadSAs(ctx, b.Stack)
		if err != nil || err2 != nil || len(routes) != k.routes || len(sas) != 2*k.routes {
			t.Errorf("%s: eroutes %v, SAs %v, %v, %v; want %d groups", k.name, routes, sas, err, err2, k.routes)
		}
	}
}

// haveXfrm reports why the stack xfrm cannot be used here, or nil.
func haveXfrm() error {
	return bed.TryXfrm(func(s *xfrm.Stack) error {
		return serial.Calls{Stack: s}.AddSA(context.Background(), &klips.SASpec{
			ID:        klips.SAID{Dst: netip.MustParseAddr("192.0.2.2"), SPI: 0x100, Proto: klips.ProtoESP},
			Src:       netip.MustParseAddr("192.0.2.1"),
			Transform: klips.Transform{Enc: alg.AES, Auth: alg.SHA1}, EncKey: make([]byte, 16), AuthKey: make([]byte, 20)})
	})
}
