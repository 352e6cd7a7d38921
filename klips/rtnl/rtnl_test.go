package rtnl

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/testscripts/skip"
)

// inNamespace runs the test in its own network namespace, on a thread that ends with
// it.
func inNamespace(t *testing.T) *Conn {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread ends with the namespace
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		skip.Without(t, skip.Root, err)
	}
	c, err := Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// ip runs ip(8) in the namespace and reads its JSON.
func ip(t *testing.T, args ...string) (l []map[string]any) {
	t.Helper()
	path := skip.WithoutProgram(t, skip.IP)
	out, err := exec.Command(path, append([]string{"-j", "-d"}, args...)...).CombinedOutput()
	if err == nil {
		err = json.Unmarshal(out, &l)
	}
	if err != nil {
		t.Fatalf("ip %v: %v\n%s", args, err, out)
	}
	return l
}

func TestLinks(t *testing.T) {
	c := inNamespace(t)
	ctx := context.Background()
	if err := c.Add(ctx, Spec{Name: "ipsec0", Kind: "bridge", MTU: 16260, Up: true, Alias: "eth0"}); errors.Is(err, syscall.EOPNOTSUPP) {
		skip.Without(t, skip.Bridge, err)
	} else if err != nil {
		t.Fatal(err)
	}
	l, err := c.Link(ctx, "ipsec0")
	if err != nil || l.Kind != "bridge" || l.MTU != 16260 || !l.Up || l.Alias != "eth0" {
		t.Errorf("Link = %+v, %v", l, err)
	}
	shown := ip(t, "link", "show", "dev", "ipsec0")[0]
	if shown["mtu"] != 16260.0 || shown["ifalias"] != "eth0" || int(shown["ifindex"].(float64)) != l.Index {
		t.Errorf("ip shows %v", shown)
	}
	if err := c.NoLinkLocal(ctx, l.Index); err != nil {
		t.Error(err)
	}
	if mode := ip(t, "link", "show", "dev", "ipsec0")[0]["inet6_addr_gen_mode"]; mode != "none" {
		t.Errorf("ip shows the mode %v of making addresses, want none", mode)
	}
	if err := c.NoLinkLocal(ctx, 9999); !errors.Is(err, syscall.ENODEV) {
		t.Errorf("NoLinkLocal of no device = %v", err)
	}
	all, err := c.Links(ctx)
	if n := len(all) - 1; n > 0 {
		all[n].Stats = l.Stats // the kernel sends packets itself
	}
	if err != nil || len(all) < 2 || all[0].Name != "lo" || all[len(all)-1] != l {
		t.Errorf("Links = %+v, %v", all, err)
	}
	for _, p := range []string{"10.1.2.3/24", "2001:db8::1/64"} {
		a := Addr{Index: l.Index, Prefix: netip.MustParsePrefix(p)}
		if err := c.AddAddr(ctx, a); err != nil {
			t.Fatal(err)
		}
		if err := c.AddAddr(ctx, a); !errors.Is(err, syscall.EEXIST) {
			t.Errorf("AddAddr again = %v", err)
		}
		found := false
		addrs, err := c.Addrs(ctx)
		for _, got := range addrs {
			got.Unsure = false // the kernel tests it
			found = found || got == a
		}
		if err != nil || !found {
			t.Errorf("Addrs = %v, %v; want %v too", addrs, err, a)
		}
	}
	if n := len(ip(t, "addr", "show", "dev", "ipsec0")[0]["addr_info"].([]any)); n < 2 {
		t.Errorf("ip shows %d addresses", n)
	}
	if err := c.Add(ctx, Spec{Name: "ipsec0", Kind: "bridge"}); !errors.Is(err, syscall.EEXIST) {
		t.Errorf("Add again = %v", err)
	}
	if err := c.Add(ctx, Spec{Name: "x0", Kind: "nosuchkind"}); !errors.Is(err, syscall.EOPNOTSUPP) {
		t.Errorf("Add of an unknown kind = %v", err)
	}
	if err := c.Delete(ctx, l.Index); err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(ctx, l.Index); !errors.Is(err, syscall.ENODEV) {
		t.Errorf("Delete again = %v", err)
	}
	if _, err := c.Link(ctx, "ipsec0"); !errors.Is(err, syscall.ENODEV) {
		t.Errorf("Link of none = %v", err)
	}
}

// With passes an open connection on, returns what its function returns, and closes the
// connection.
func TestWith(t *testing.T) {
	var lent *Conn
	failure := errors.New("a failure of the function")
	err := With(func(ctx context.Context, c *Conn) error {
		lent = c
		_, err := c.Link(ctx, "lo")
		return errors.Join(err, failure)
	})
	if err == nil || err.Error() != failure.Error() {
		t.Errorf("With = %v, want %v", err, failure)
	}
	if _, err := lent.Link(t.Context(), "lo"); err == nil {
		t.Error("afterwards the connection is open")
	}
}

func TestCancel(t *testing.T) {
	c := inNamespace(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Links(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Links = %v", err)
	}
	if _, err := c.Links(context.Background()); err != nil {
		t.Errorf("Links after that = %v", err)
	}
}

// xfrmLink is an RTM_NEWLINK of an xfrm interface, with only the attributes that are
// read.
var xfrmLink = func() []byte {
	b := ifinfo(7, unix.IFF_UP, 0)
	b = append(b, 11, 0, 3, 0, 'i', 'p', 's', 'e', 'c', '0', 0, 0) // IFLA_IFNAME
	b = append(b, 36, 0, 18, 0)                                    // IFLA_LINKINFO
	b = append(b, 9, 0, 1, 0, 'x', 'f', 'r', 'm', 0, 0, 0, 0)
	b = append(b, 20, 0, 2, 0, 8, 0, 1, 0, 3, 0, 0, 0, 8, 0, 2, 0, 1, 0, 0, 0)
	return b
}()

func TestParseXfrm(t *testing.T) {
	l, err := parseLink(xfrmLink)
	want := Link{Index: 7, Name: "ipsec0", Kind: "xfrm", Up: true, Parent: 3, IfID: 1}
	if err != nil || l != want {
		t.Errorf("parseLink = %+v, %v; want %+v", l, err, want)
	}
}

// An address is unsure before its test, and when it has failed; an optimistic one (RFC
// 4429) is used meanwhile.
func TestParseUnsure(t *testing.T) {
	for flags, want := range map[byte]bool{
		unix.IFA_F_PERMANENT: false, unix.IFA_F_NODAD: false,
		unix.IFA_F_TENTATIVE: true, unix.IFA_F_PERMANENT | unix.IFA_F_DADFAILED: true,
		unix.IFA_F_TENTATIVE | unix.IFA_F_OPTIMISTIC: false,
	} {
		b := append([]byte{unix.AF_INET6, 64, flags, 253, 3, 0, 0, 0, 20, 0, unix.IFA_ADDRESS, 0, 0xfe, 0x80}, make([]byte, 14)...)
		a, err := parseAddr(b)
		if err != nil || a.Unsure != want || a.Index != 3 || a.Prefix.String() != "fe80::/64" {
			t.Errorf("flags %#x: %+v, %v, want unsure %v", flags, a, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(xfrmLink)
	f.Add([]byte{2, 24, 0x80, 0, 1, 0, 0, 0, 8, 0, 2, 0, 10, 1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := parseLink(b); err != nil && !errors.Is(err, errMalformed) {
			t.Errorf("parseLink: %v", err)
		}
		if _, err := parseAddr(b); err != nil && !errors.Is(err, errMalformed) {
			t.Errorf("parseAddr: %v", err)
		}
	})
}
