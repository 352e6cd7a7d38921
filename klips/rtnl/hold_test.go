package rtnl

import (
	"context"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/testscripts/skip"
)

// Routes into a replaced device stay the same. Meanwhile their packets are dropped: no
// other route takes them.
func TestHold(t *testing.T) {
	c := inNamespace(t)
	path := skip.WithoutProgram(t, skip.IP)
	run := func(args string) string {
		t.Helper()
		out, err := exec.Command(path, strings.Fields(args)...).CombinedOutput()
		if err != nil {
			t.Fatalf("ip %s: %v\n%s", args, err, out)
		}
		return string(out)
	}
	ctx := context.Background()
	device := func() int {
		t.Helper()
		if err := c.Add(ctx, Spec{Name: "ipsec0", Kind: "veth", Up: true}); err != nil {
			t.Fatal(err)
		}
		for _, args := range []string{"link set veth0 up", "addr add 10.1.0.1/24 dev ipsec0", "-6 addr add fd01::1/64 dev ipsec0 nodad"} {
			run(args)
		}
		l, err := c.Link(ctx, "ipsec0")
		if err != nil {
			t.Fatal(err)
		}
		return l.Index
	}
	for _, args := range []string{
		"link set lo up", "link add out type veth peer name far", "link set out up", "link set far up", "addr add 192.0.2.1/24 dev out",
		"-6 addr add 2001:db8::1/64 dev out nodad", "route add default via 192.0.2.2", "-6 route add default via 2001:db8::2",
	} {
		run(args)
	}
	index := device()
	for _, args := range []string{
		"route add 10.2.0.0/24 dev ipsec0 src 10.1.0.1 mtu 1300", "-6 route add fd02::/64 dev ipsec0", "route add 10.3.0.0/24 via 10.1.0.9 dev ipsec0 metric 7",
		"-6 route add fd03::/64 via fd01::9 dev ipsec0", "route add 10.4.0.0/24 dev ipsec0 table 7000", "route add 10.5.0.0/24 nexthop dev lo nexthop dev ipsec0",
		"route add 10.6.0.0/24 dev ipsec0 tos 0x10", "route add 10.2.0.0/24 dev out metric 9", "-6 route add fd02::/64 dev out metric 2000",
		"-6 route add fd04::/64 dev ipsec0 table 7000", "route add 10.7.0.0/24 via 10.2.0.9 dev ipsec0",
	} {
		run(args)
	}
	list := func() string {
		var lines []string
		for line := range strings.Lines(run("route show table all") + run("-6 route show table all")) {
			// The kernel makes and removes routes of the link at any time.
			if !strings.Contains(line, "table local") && !strings.Contains(line, "fe80") && !strings.Contains(line, "ff00") {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
		return strings.Join(lines, "\n")
	}
	takes := func(to string) string {
		out, err := exec.Command(path, "route", "get", to).CombinedOutput()
		switch {
		case err != nil || strings.HasPrefix(string(out), "unreachable"):
			return "nothing"
		case strings.Contains(string(out), "dev out"):
			return "out"
		}
		return "ipsec0"
	}
	before := list()
	flows := []string{"10.1.0.9", "10.2.0.9", "10.3.0.9", "fd01::9", "fd02::9", "fd03::9", "10.7.0.9"}
	held, err := c.Hold(ctx, index)
	if err != nil {
		t.Fatal(err)
	}
	for _, state := range []string{"held", "without the device"} {
		for _, to := range flows {
			if by := takes(to); by != "nothing" {
				t.Errorf("%s, %s takes packets to %s\n%s", state, by, to, list())
			}
		}
		if state == "held" {
			if err := c.Delete(ctx, index); err != nil {
				t.Fatal(err)
			}
		}
	}
	index = device()
	for range 2 {
		if err := c.Release(ctx, held, index); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(before, list()); d != "" {
			t.Errorf("released (-want +got):\n%s", d)
		}
		for _, to := range flows {
			if by := takes(to); by != "ipsec0" {
				t.Errorf("released, %s takes packets to %s", by, to)
			}
		}
	}
	if err := c.HoldAgain(ctx, held); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"10.2.0.9", "10.3.0.9", "fd02::9", "fd03::9"} {
		if by := takes(to); by != "nothing" {
			t.Errorf("held again, %s takes packets to %s", by, to)
		}
	}
}

// A route hidden by another device's route in the same place is not changed: no packets
// use it.
func TestHoldHidden(t *testing.T) {
	c := inNamespace(t)
	path := skip.WithoutProgram(t, skip.IP)
	for _, args := range []string{
		"link set lo up", "link add out type veth peer name ipsec0", "link set out up", "link set ipsec0 up",
		"addr add 192.0.2.1/24 dev out", "addr add 192.0.2.1/24 dev ipsec0", "route append 10.2.0.0/24 dev out", "route append 10.2.0.0/24 dev ipsec0",
	} {
		if out, err := exec.Command(path, strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v\n%s", args, err, out)
		}
	}
	l, err := c.Link(t.Context(), "ipsec0")
	if err != nil {
		t.Fatal(err)
	}
	if held, err := c.Hold(t.Context(), l.Index); err != nil || len(held) != 0 {
		t.Errorf("held %v, %v", held, err)
	}
}
