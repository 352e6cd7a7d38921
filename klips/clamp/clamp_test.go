package clamp

import (
	"errors"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/testscripts/skip"
)

func flow(src, dst string, ports ...uint16) klips.Selector {
	s := klips.Selector{Src: netip.MustParsePrefix(src), Dst: netip.MustParsePrefix(dst)}
	if len(ports) > 0 {
		s.Proto, s.SrcPort, s.DstPort = 6, ports[0], ports[1]
	}
	return s
}

// TestSet: Set and nft with SetText make the same table, also in place of another one, and
// both ways to remove it leave none.
func TestSet(t *testing.T) {
	nft, err := exec.LookPath("nft")
	if err != nil {
		skip.Without(t, skip.NFTables, err)
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the namespace
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		skip.Without(t, skip.Root, err)
	}
	run := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(nft, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("nft %s: %v: %s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	other := Clamp{"other", []klips.Selector{flow("10.8.0.0/16", "10.9.0.0/16")}, 1000}
	if err := other.Set(); err != nil {
		t.Fatal(err)
	}
	alone := run("list", "ruleset")
	for _, c := range []Clamp{
		{"net", []klips.Selector{flow("10.1.0.0/16", "10.2.0.0/16")}, 1300},
		{"net", []klips.Selector{flow("10.1.0.0/16", "10.2.0.0/15")}, Auto},
		{"net/1x2", []klips.Selector{flow("fd01::/64", "::/1", 0, 443), flow("fd01::/64", "fd02::1/128", 5060, 5062)}, 1220},
		{"a.b-c_d", []klips.Selector{flow("192.0.2.1/32", "192.0.2.2/32", 22, 0)}, Auto},
	} {
		if err := c.Remove(); !errors.Is(err, unix.ENOENT) {
			t.Errorf("%s: Remove of nothing: %v", c.Name, err)
		}
		run(c.SetText())
		want := run("list", "ruleset")
		run(c.RemoveText())
		if got := run("list", "ruleset"); got != alone {
			t.Errorf("%s: nft leaves\n%s", c.Name, got)
		}
		for range 2 {
			if err := c.Set(); err != nil {
				t.Fatalf("%s: %v", c.Name, err)
			}
			if d := cmp.Diff(want, run("list", "ruleset")); d != "" {
				t.Errorf("%s: (-nft +Set):\n%s", c.Name, d)
			}
		}
		if err := c.Remove(); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
	run("table inet mine")
	if err := RemoveAll(); err != nil {
		t.Error(err)
	}
	if got := run("list", "tables"); got != "table inet mine\n" {
		t.Errorf("RemoveAll leaves %q", got)
	}
}
