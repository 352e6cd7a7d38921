package routes

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/commands/internal/links"
	"github.com/klips-go/ipsec/klips/rtnl"
	"github.com/klips-go/ipsec/testscripts/skip"
)

func TestString(t *testing.T) {
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	for want, r := range map[string]Route{
		"default via 192.0.2.254 dev eth0":                      {Dst: p("0.0.0.0/0"), Gateway: a("192.0.2.254"), Device: "eth0"},
		"default via fe80::1 dev eth0 metric 1024":              {Dst: p("::/0"), Gateway: a("fe80::1"), Device: "eth0", Metric: 1024},
		"10.0.2.0/24 dev ipsec0 src 10.0.1.1":                   {Dst: p("10.0.2.0/24"), Device: "ipsec0", Src: a("10.0.1.1")},
		"10.0.2.7 dev ipsec0":                                   {Dst: p("10.0.2.7/32"), Device: "ipsec0"},
		"fd02::7 dev ipsec0":                                    {Dst: p("fd02::7/128"), Device: "ipsec0"},
		"10.0.0.0/8 via 192.0.2.254 dev e src 1.2.3.4 metric 7": {Dst: p("10.0.0.0/8"), Gateway: a("192.0.2.254"), Device: "e", Src: a("1.2.3.4"), Metric: 7},
		"10.0.0.0/8": {Dst: p("10.0.0.0/8")}, // over several devices
	} {
		if got := r.String(); got != want {
			t.Errorf("String() = %q, want %q", got, want)
		}
	}
}

// message returns a struct rtmsg and its attributes.
func message(t *testing.T, family, bits, table, kind uint8, attrs func(*netlink.AttributeEncoder)) []byte {
	t.Helper()
	b := make([]byte, unix.SizeofRtMsg)
	b[0], b[1], b[4], b[7] = family, bits, table, kind
	e := netlink.NewAttributeEncoder()
	attrs(e)
	l, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return append(b, l...)
}

// add makes a route by a message that this package would not send.
func add(data []byte) error {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_NEWROUTE, Flags: netlink.Request | netlink.Acknowledge | netlink.Create | netlink.Excl},
		Data:   data,
	})
	return err
}

// about reports whether a message is about a route of IPv6 to a network.
func about(b []byte, dst netip.Prefix) bool {
	if len(b) < unix.SizeofRtMsg || b[0] != unix.AF_INET6 || int(b[1]) != dst.Bits() {
		return false
	}
	ad, err := netlink.NewAttributeDecoder(b[unix.SizeofRtMsg:])
	for err == nil && ad.Next() {
		if a, ok := netip.AddrFromSlice(ad.Bytes()); ad.Type() == unix.RTA_DST && ok && a == dst.Addr() {
			return true
		}
	}
	return false
}

// inNamespace runs the test in a new network namespace with loopback up, on a thread
// that ends with the test.
func inNamespace(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread goes with the namespace
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		skip.Without(t, skip.Root, err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	req.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		t.Fatal(err)
	}
}

func list(t *testing.T) (texts []string) {
	t.Helper()
	l, err := List()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range l {
		texts = append(texts, r.String())
	}
	return texts
}

// TestChanges: an added route is listed. A removed route is gone and can be restored
// unchanged.
func TestChanges(t *testing.T) {
	inNamespace(t)
	p := netip.MustParsePrefix
	for _, dst := range []netip.Prefix{p("10.0.2.0/24"), p("fd02::/64"), p("0.0.0.0/1")} {
		r := Route{Dst: dst, Device: "lo"}
		if err := Add(r); err != nil {
			t.Errorf("Add(%v) = %v", r, err)
			continue
		}
		before := list(t)
		if !slices.ContainsFunc(before, func(s string) bool { return strings.HasPrefix(s, dst.String()+" dev lo") }) {
			t.Errorf("after Add(%v) there are %q", r, before)
		}
		if err := Add(r); !errors.Is(err, syscall.EEXIST) {
			t.Errorf("Add(%v) again = %v, want EEXIST", r, err)
		}
		if _, err := Remove(Route{Dst: dst, Device: "eth9"}); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("Remove by another device = %v, want ESRCH", err)
		}
		if _, err := Remove(Route{Dst: dst, Gateway: netip.MustParseAddr("192.0.2.1")}); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("Remove by another gateway = %v, want ESRCH", err)
		}
		old, err := Remove(Route{Dst: dst})
		if err != nil {
			t.Errorf("Remove(%v) = %v", r, err)
			continue
		}
		if _, err := Remove(r); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("Remove(%v) again = %v, want ESRCH", r, err)
		}
		if err := Add(old); err != nil {
			t.Errorf("%v cannot be put back: %v", r, err)
		}
		if after := list(t); !slices.Equal(before, after) {
			t.Errorf("%q has become %q", before, after)
		}
	}
	if err := Add(Route{Dst: p("10.9.0.0/16"), Device: "nosuch0"}); !errors.Is(err, syscall.ENODEV) {
		t.Errorf("Add by a missing device = %v, want ENODEV", err)
	}
	// Loopback has no network, so the gateway cannot be reached.
	if err := Add(Route{Dst: p("10.9.0.0/16"), Gateway: netip.MustParseAddr("192.0.2.1"), Device: "lo"}); err == nil {
		t.Error("a route by a gateway that cannot be reached was added")
	}
}

// cable creates the connected devices a0 and b0, with an address of each family on a0.
func cable(t *testing.T) {
	t.Helper()
	c, err := rtnl.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Add(t.Context(), rtnl.Spec{Name: "a0", Kind: "veth"}); err != nil {
		t.Fatal(err)
	}
	all, err := c.Links(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range all {
		if err := links.SetUp(l.Name, true); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range []string{"192.0.2.1/24", "2001:db8::1/64"} {
		if err := links.AddAddress("a0", netip.MustParsePrefix(a)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReplace: one message replaces a route by another of any metric, and restores the
// old one.
func TestReplace(t *testing.T) {
	inNamespace(t)
	cable(t)
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	for _, tt := range []struct {
		dst netip.Prefix
		via netip.Addr
	}{{p("10.0.2.0/24"), a("192.0.2.9")}, {p("fd02::/64"), a("2001:db8::9")}} {
		into := Route{Dst: tt.dst, Device: "lo"}
		if old, ok, err := Replace(into); ok || err != nil {
			t.Errorf("Replace(%v) without another route = %v, %v, %v", into, old, ok, err)
		}
		if _, err := Remove(into); err != nil {
			t.Fatal(err)
		}
		for _, metric := range []uint32{0, 7, 2000} {
			for _, m := range []uint32{metric, 3000} { // one that packets take, one with a higher metric
				if err := Add(Route{Dst: tt.dst, Gateway: tt.via, Device: "a0", Metric: m}); err != nil {
					t.Fatal(err)
				}
			}
			before := listTo(t, tt.dst)
			events := listen(t)
			old, ok, err := Replace(into)
			if !ok || err != nil || old.Gateway != tt.via {
				t.Fatalf("Replace(%v) = %v, %v, %v", into, old, ok, err)
			}
			if device, err := Exit(tt.dst); device != "lo" || err != nil {
				t.Errorf("after Replace(%v) packets leave by %q, %v; %q", into, device, err, list(t))
			}
			if _, _, err := Replace(old); err != nil || !slices.Equal(listTo(t, tt.dst), before) {
				t.Errorf("%v does not take its place back: %v; %q, want %q", old, err, listTo(t, tt.dst), before)
			}
			for _, e := range events() {
				if e == unix.RTM_DELROUTE {
					t.Errorf("metric %d: Replace(%v) removes a route", metric, into)
				}
			}
			for range 2 {
				if _, err := Remove(Route{Dst: tt.dst}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, ok, err := Replace(Route{Dst: tt.dst, Device: "nosuch0"}); ok || !errors.Is(err, syscall.ENODEV) {
			t.Errorf("Replace by a missing device = %v, %v, want ENODEV", ok, err)
		}
	}
}

// listTo lists the routes to one network. The kernel adds others at any time.
func listTo(t *testing.T, dst netip.Prefix) []string {
	t.Helper()
	return slices.DeleteFunc(list(t), func(s string) bool { return !strings.HasPrefix(s, dst.String()) })
}

// listen records changes of routes. The returned function returns the types of the
// messages.
func listen(t *testing.T) func() []netlink.HeaderType {
	t.Helper()
	c, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{Groups: unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE})
	if err != nil {
		t.Fatal(err)
	}
	return func() (kinds []netlink.HeaderType) {
		defer c.Close()
		// The last message is about a route of this test that no other program has.
		mark := Route{Dst: netip.MustParsePrefix("fdff::/64"), Device: "lo"}
		if err := Add(mark); err != nil {
			t.Fatal(err)
		}
		defer Remove(mark)
		for {
			msgs, err := c.Receive()
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range msgs {
				if about(m.Data, mark.Dst) {
					return kinds
				}
				kinds = append(kinds, m.Header.Type)
			}
		}
	}
}

// TestExit: Exit follows the longest match, and returns no device if a route drops the
// packets.
func TestExit(t *testing.T) {
	inNamespace(t)
	cable(t)
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	for _, r := range []Route{
		{Dst: p("0.0.0.0/0"), Gateway: a("192.0.2.9"), Device: "a0"}, {Dst: p("::/0"), Gateway: a("2001:db8::9"), Device: "a0"},
		{Dst: p("10.0.0.0/8"), Device: "lo"}, {Dst: p("fd00::/8"), Device: "lo"},
	} {
		if err := Add(r); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range []struct {
		family, bits uint8
		dst          string
	}{{unix.AF_INET, 16, "10.9.0.0"}, {unix.AF_INET6, 32, "fd09::"}} {
		b := message(t, r.family, r.bits, unix.RT_TABLE_MAIN, unix.RTN_UNREACHABLE, func(e *netlink.AttributeEncoder) {
			e.Bytes(unix.RTA_DST, a(r.dst).AsSlice())
		})
		if err := add(b); err != nil {
			t.Fatal(err)
		}
	}
	for dst, want := range map[string]string{
		"0.0.0.0/1": "a0", "128.0.0.0/1": "a0", "::/1": "a0", "8000::/1": "a0", "0.0.0.0/0": "a0", "::/0": "a0",
		"10.2.0.0/16": "lo", "fd02::/32": "lo", "10.2.3.4/32": "lo", "10.2.3.4/31": "lo", "fd02::1/128": "lo",
		"10.9.0.0/16": "", "fd09::/32": "", "10.9.1.0/24": "", "192.0.2.1/32": "", "::1/128": "",
		"192.0.2.0/24": "a0", "2001:db8::/64": "a0",
	} {
		if got, err := Exit(p(dst)); got != want || err != nil {
			t.Errorf("Exit(%s) = %q, %v, want %q", dst, got, err, want)
		}
	}
	// Without a default route.
	for _, dst := range []string{"0.0.0.0/0", "::/0"} {
		if _, err := Remove(Route{Dst: p(dst)}); err != nil {
			t.Fatal(err)
		}
		if got, err := Exit(p(dst)); got != "" || err != nil {
			t.Errorf("Exit(%s) without a route = %q, %v", dst, got, err)
		}
	}
}

// TestInto: Into finds the routes of all tables and both families, except those that
// the kernel makes for the device.
func TestInto(t *testing.T) {
	inNamespace(t)
	cable(t)
	into := func() (texts []string) {
		l, err := Into("a0")
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range l {
			texts = append(texts, r.String())
		}
		return texts
	}
	if got := into(); got != nil {
		t.Errorf("Into a device with addresses alone = %q", got)
	}
	p := netip.MustParsePrefix
	for _, r := range []Route{
		{Dst: p("10.1.0.0/16"), Device: "lo"}, {Dst: p("10.2.0.0/16"), Device: "a0"}, {Dst: p("fd02::/64"), Device: "a0"},
	} {
		if err := Add(r); err != nil {
			t.Fatal(err)
		}
	}
	for _, table := range []uint32{77, 7000} {
		i, err := net.InterfaceByName("a0")
		if err != nil {
			t.Fatal(err)
		}
		b := message(t, unix.AF_INET, 16, 0, unix.RTN_UNICAST, func(e *netlink.AttributeEncoder) {
			e.Bytes(unix.RTA_DST, []byte{10, 7, 0, 0})
			e.Uint32(unix.RTA_OIF, uint32(i.Index))
			e.Uint32(unix.RTA_TABLE, table)
		})
		b[6] = unix.RT_SCOPE_LINK
		if err := add(b); err != nil {
			t.Fatal(err)
		}
	}
	// Over two devices: struct rtnexthop twice.
	var both []byte
	for _, name := range []string{"lo", "a0"} {
		i, err := net.InterfaceByName(name)
		if err != nil {
			t.Fatal(err)
		}
		hop := make([]byte, unix.SizeofRtNexthop)
		binary.NativeEndian.PutUint16(hop, unix.SizeofRtNexthop)
		binary.NativeEndian.PutUint32(hop[4:], uint32(i.Index))
		both = append(both, hop...)
	}
	b := message(t, unix.AF_INET, 16, unix.RT_TABLE_MAIN, unix.RTN_UNICAST, func(e *netlink.AttributeEncoder) {
		e.Bytes(unix.RTA_DST, []byte{10, 8, 0, 0})
		e.Bytes(unix.RTA_MULTIPATH, both)
	})
	b[6] = unix.RT_SCOPE_LINK
	if err := add(b); err != nil {
		t.Fatal(err)
	}
	got := into()
	want := []string{"10.2.0.0/16 dev a0", "10.8.0.0/16", "fd02::/64 dev a0 metric 1024", "10.7.0.0/16 dev a0 table 77", "10.7.0.0/16 dev a0 table 7000"}
	if !slices.Equal(got, want) {
		t.Errorf("Into = %q, want %q", got, want)
	}
	if slices.ContainsFunc(list(t), func(s string) bool { return strings.HasPrefix(s, "10.7.") }) {
		t.Errorf("List has routes of other tables: %q", list(t))
	}
}
