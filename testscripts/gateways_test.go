package testscripts

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/klips-go/ipsec/testscripts/lab"
)

// The two gateways that most tunnels need, on one cable. Each has an address of its
// protected networks, a running stack, ipsec0 attached, and the routes into it.
//
//	10.1.0.1 fd01::1 (gw1) 192.0.2.1 2001:db8::1 --- 192.0.2.2 2001:db8::2 (gw2) 10.2.0.1 fd02::1
type gateway struct {
	*lab.Host
	outer, inner [2]string // IPv4 and IPv6: on the cable, and of the protected network
	rundir       string
}

// newGateways creates the two gateways; run runs the tool's commands on one of them.
func newGateways(rundir func(name string) string) (gw [2]*gateway, err error) {
	defer func() {
		if err != nil {
			closeGateways(gw)
		}
	}()
	for i := range gw {
		n := i + 1
		name := fmt.Sprintf("gw%d", n)
		h, err := lab.NewHost(name)
		if err != nil {
			return gw, err
		}
		gw[i] = &gateway{h, [2]string{fmt.Sprintf("192.0.2.%d", n), fmt.Sprintf("2001:db8::%d", n)},
			[2]string{fmt.Sprintf("10.%d.0.1", n), fmt.Sprintf("fd0%d::1", n)}, rundir(name)}
	}
	if err := lab.Cable(gw[0].Host, "eth0", gw[1].Host, "eth0"); err != nil {
		return gw, err
	}
	for i, g := range gw {
		for f, bits := range []int{24, 64} {
			if err := g.AddAddr("eth0", netip.PrefixFrom(netip.MustParseAddr(g.outer[f]), bits)); err != nil {
				return gw, err
			}
			if err := g.AddAddr("lo", hostPrefix(g.inner[f])); err != nil {
				return gw, err
			}
		}
		for _, args := range [][]string{{"setup", "start"}, {"tncfg", "--attach", "--virtual", "ipsec0", "--physical", "eth0"}} {
			if err := g.ipsec(args...); err != nil {
				return gw, err
			}
		}
		if err := g.Up("ipsec0"); err != nil {
			return gw, err
		}
		peer := gw[1-i]
		for f, bits := range []int{24, 64} {
			net := netip.PrefixFrom(netip.MustParseAddr(peer.inner[f]), bits).Masked()
			if err := g.AddRoute(lab.Route{Dst: net, Dev: "ipsec0", Src: netip.MustParseAddr(g.inner[f])}); err != nil {
				return gw, err
			}
		}
	}
	return gw, nil
}

// ipsec runs the tool on the gateway.
func (g *gateway) ipsec(args ...string) error {
	if err := os.MkdirAll(g.rundir, 0o700); err != nil {
		return err
	}
	cmd := exec.Command("ipsec", args...)
	cmd.Env = append(os.Environ(), "IPSEC_RUNDIR="+g.rundir)
	if out, err := g.Output(cmd); err != nil {
		return fmt.Errorf("%s: ipsec %v: %w: %s", g.Name, args, err, out)
	}
	return nil
}

// closeGateways stops the stacks and removes the hosts; gateways may be nil.
func closeGateways(gw [2]*gateway) (err error) {
	for _, g := range gw {
		if g != nil {
			err = errors.Join(err, g.ipsec("setup", "stop"), g.Close())
		}
	}
	return err
}

// testGateways makes the gateways for a test that is no script.
func testGateways(t *testing.T) [2]*gateway {
	t.Helper()
	dir := t.TempDir()
	gw, err := newGateways(func(name string) string { return filepath.Join(dir, name) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := closeGateways(gw); err != nil {
			t.Error(err)
		}
	})
	return gw
}

func cmdGateways(ts *testscript.TestScript, _ []string) {
	w := worldOf(ts)
	gw, err := newGateways(func(name string) string { return lab.RunDir(w.work, name) })
	ts.Check(err)
	for _, g := range gw {
		addHost(ts, g.Host)
	}
}
