package testscripts

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/xfrm"
	"github.com/klips-go/ipsec/testscripts/lab"
	"github.com/klips-go/ipsec/testscripts/qemu"
)

// TestDeviceKernel runs the tests of the stack xfrm under a kernel that has xfrm
// interfaces.
func TestDeviceKernel(t *testing.T) {
	need(t, "qemu")
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	// The guest has no C library.
	program := filepath.Join(t.TempDir(), "program")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	args := []string{"-test.run=^TestInterop(Contract|Stack)", "-test.timeout=8m"}
	if testing.Verbose() {
		args = append(args, "-test.v")
	}
	var out strings.Builder
	status, err := qemu.Run(ctx, qemu.Job{Program: program, Args: args, Env: []string{"REQUIRE=root,tun,xfrm"},
		Modules: append([]string{"xfrm_interface"}, interopModules...)}, &out)
	t.Logf("in the guest:\n%s", &out)
	if err != nil {
		t.Fatal(err)
	}
	if status != 0 || !strings.Contains(out.String(), "PASS") {
		t.Errorf("exit status %d", status)
	}
}

// xfrmBench is the stack of the mainline kernel on a fresh host with a cable to
// another.
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
	return klipstest.Bench{Stack: s, Local: local.Addr(), Physical: "eth0"}
}

// TestInteropContract: the kernel's own IPsec keeps the contract of all stacks.
func TestInteropContract(t *testing.T) {
	need(t, "root", "xfrm")
	klipstest.TestStack(t, xfrmBench)
}

// TestInteropStack: packets go both ways between the embedded stack and the
// kernel's, when the same commands have told both.
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
	var interfaces bool
	if err := kernel.Do(func() error {
		s, err := xfrm.Open()
		if err == nil {
			interfaces = s.Has(klips.CapReject)
			err = s.Close()
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for i, c := range interopCases() {
		if c.last().towardsUs != "" {
			continue // has numbers that no command gives
		}
		t.Run(c.name, func(t *testing.T) {
			c.runWith(t, ours, kernel, func() {
				tell(t, "eroute", "--clear")
				tell(t, "spi", "--clear")
				for _, line := range c.commands(ours, kernel, kernel) {
					if strings.HasPrefix(line, "ipsec spigrp") && strings.Contains(line, "@"+kernel.outer[c.outer]) && c.tunnel() && (!interfaces || i%2 == 0) {
						// A kernel without xfrm interfaces wants to know this first; with
						// them, packets pass with it and without.
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

// last is the outermost transform.
func (c *interopCase) last() xform { return c.xforms[len(c.xforms)-1] }

// haveXfrm reports why the stack xfrm cannot be used here, or nil.
func haveXfrm() error {
	h, err := lab.NewHost("probe")
	if err != nil {
		return err
	}
	defer h.Close()
	return h.Do(func() error {
		s, err := xfrm.Open()
		if err != nil {
			return err
		}
		defer s.Close()
		return s.AddSA(context.Background(), &klips.SASpec{
			ID:        klips.SAID{Dst: netip.MustParseAddr("192.0.2.2"), SPI: 0x100, Proto: klips.ProtoESP},
			Src:       netip.MustParseAddr("192.0.2.1"),
			Transform: klips.Transform{Enc: klips.EncAES, Auth: klips.AuthSHA1}, EncKey: make([]byte, 16), AuthKey: make([]byte, 20)})
	})
}
