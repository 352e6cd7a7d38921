package host_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/rtnl"
	"github.com/klips-go/ipsec/testscripts/skip"
)

// A virtual device has the link-local addresses of a physical one, also when these change,
// and when it has been down itself, and no other address of it.
func TestShareLinkLocal(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	n := newNamespace(t)
	l, err := n.host.OpenLink("ipsec0")
	if err != nil {
		skip.Without(t, skip.TUN, err)
	}
	defer l.Close()
	n.add("eth1")
	own := n.index("ipsec0")
	addresses := func(index int) (addrs []string) {
		t.Helper()
		all, err := n.conn.Addrs(t.Context())
		n.must(err)
		for _, a := range all {
			if a.Index == index && a.Prefix.Addr().Is6() {
				addrs = append(addrs, a.Prefix.String())
			}
		}
		slices.Sort(addrs)
		return addrs
	}
	addr := func(dev, prefix string) rtnl.Addr {
		return rtnl.Addr{Index: n.index(dev), Prefix: netip.MustParsePrefix(prefix), Scope: unix.RT_SCOPE_LINK, NoDAD: true}
	}
	for _, dev := range []string{"eth0", "eth1"} { // later the kernel would give them more
		if err := n.conn.NoLinkLocal(t.Context(), n.index(dev)); err != nil {
			skip.Without(t, skip.IPv6, err)
		}
		for _, p := range addresses(n.index(dev)) {
			n.must(n.conn.DeleteAddr(t.Context(), addr(dev, p)))
		}
	}
	n.must(n.conn.AddAddr(t.Context(), addr("eth0", "fe80::a/64")))
	n.must(n.conn.AddAddr(t.Context(), rtnl.Addr{Index: n.index("eth0"), Prefix: netip.MustParsePrefix("2001:db8::1/64"), NoDAD: true}))
	n.must(n.conn.AddAddr(t.Context(), addr("eth1", "fe80::1a/64")))
	want := func(what string, addrs ...string) {
		t.Helper()
		n.wait(fmt.Sprintf("%s, ipsec0 has %v", what, addrs), func() bool { return slices.Equal(addresses(own), addrs) })
	}
	want("at first")
	n.must(l.ShareLinkLocal(n.index("eth0")))
	want("shared", "fe80::a/64")
	n.setUp("ipsec0", true)
	want("up", "fe80::a/64")
	n.must(n.conn.AddAddr(t.Context(), addr("eth0", "fe80::b/64")))
	want("one more", "fe80::a/64", "fe80::b/64")
	n.must(n.conn.DeleteAddr(t.Context(), addr("eth0", "fe80::a/64")))
	want("another", "fe80::b/64")
	n.must(n.conn.DeleteAddr(t.Context(), addr("ipsec0", "fe80::b/64")))
	want("taken away", "fe80::b/64")
	n.setUp("ipsec0", false) // the kernel takes the addresses of a device that is down
	want("down", "fe80::b/64")
	n.setUp("ipsec0", true)
	want("up again", "fe80::b/64")
	n.must(l.ShareLinkLocal(n.index("eth1")))
	want("of another device", "fe80::1a/64")
	n.must(l.ShareLinkLocal(0))
	want("of none")
}
