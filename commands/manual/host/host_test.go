package host

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/routes"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/testscripts/skip"
)

func TestParseIdentity(t *testing.T) {
	want := Identity{netip.MustParseAddr("192.0.2.1"), "ipsec7"}
	if got, err := ParseIdentity("192.0.2.1@ipsec7"); err != nil || got != want {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	for text, want := range map[string]string{
		"":               "write an address and a virtual device, as in 192.0.2.1@ipsec0",
		"192.0.2.1":      "write an address and a virtual device, as in 192.0.2.1@ipsec0",
		"192.0.2.1@eth0": "a virtual device follows @: ipsec0 to ipsec63",
		"192.0.2.1@":     "a virtual device follows @: ipsec0 to ipsec63",
		"@ipsec0":        "",
	} {
		if _, err := ParseIdentity(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// inNamespace returns the machine as it is in a new network namespace, whose only device lo is
// up. There is no stack.
func inNamespace(t *testing.T) (Host, Network) {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread goes with the namespace
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		skip.Without(t, skip.Root, err)
	}
	h, n := This(t.Context(), &cli.Env{
		Stack: func(context.Context) (klips.Stack, error) { return nil, errors.New("no stack") },
	})
	if err := n.SetUp("lo", true); err != nil {
		t.Fatal(err)
	}
	return h, n
}

// TestThisMachine: what a machine reports of its addresses and of its default route.
func TestThisMachine(t *testing.T) {
	h, n := inNamespace(t)
	me := netip.MustParseAddr("192.0.2.1")
	none := "this host has no IPv4 default route; give the address itself"
	if _, err := h.DefaultRoute(false); err == nil || err.Error() != none {
		t.Errorf("no default route: %v", err)
	}
	if _, err := h.DefaultDevice(); err == nil {
		t.Error("no default route, but a device of it")
	}
	if err := n.AddAddress("lo", netip.PrefixFrom(me, 24)); err != nil {
		t.Fatal(err)
	}
	if list, err := n.Addresses("lo"); err != nil || !slices.Contains(list, netip.PrefixFrom(me, 24)) {
		t.Errorf("addresses of lo: %v, %v", list, err)
	}
	for a, want := range map[string]string{"192.0.2.1": "lo", "192.0.2.9": ""} {
		if got := h.DeviceOf(netip.MustParseAddr(a)); got != want {
			t.Errorf("device of %s: %q, want %q", a, got, want)
		}
	}
	for a, want := range map[string]bool{"192.0.2.9": true, "198.51.100.1": false} {
		if got := h.Reaches("lo", netip.MustParseAddr(a)); got != want {
			t.Errorf("reaches %s: %v, want %v", a, got, want)
		}
	}
	if !h.Reaches("ipsec9", me) {
		t.Error("a device that is not there yet does not reach its gateway")
	}
	own, rest, err := h.Identities(nil)
	if err != nil || len(own) != 0 || !slices.Contains(rest, Identity{me, "ipsec0"}) {
		t.Errorf("without bindings: own %v, rest %v, %v", own, rest, err)
	}
	own, rest, err = h.Identities([]Binding{{Virtual: "ipsec3", Physical: "lo"}})
	if err != nil || len(rest) != 0 || !slices.Contains(own, Identity{me, "ipsec3"}) {
		t.Errorf("with ipsec3=lo: own %v, rest %v, %v", own, rest, err)
	}
	if err := n.Add(routes.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Device: "lo", Src: me}); err != nil {
		t.Fatal(err)
	}
	if r, err := h.DefaultRoute(false); err != nil || r.Local != me || r.Device != "lo" || r.Gateway.IsValid() {
		t.Errorf("default route: %+v, %v", r, err)
	}
	if device, err := h.DefaultDevice(); device != "lo" || err != nil {
		t.Errorf("device of the default route: %q, %v", device, err)
	}
	if err := n.RemoveAddress("lo", netip.MustParsePrefix("192.0.2.9/24")); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("an address that lo does not have: %v", err)
	}
}
