package routes

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/klipstest/skip"
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

// message makes a struct rtmsg and its attributes.
func message(t *testing.T, family, bits, table, kind uint8, attrs func(*netlink.AttributeEncoder)) []byte {
	t.Helper()
	b := make([]byte, unix.SizeofRtMsg)
	b[0], b[1], b[4], b[7] = family, bits, table, kind
	binary.NativeEndian.PutUint32(b[8:], unix.RTNH_F_ONLINK|unix.RTNH_F_LINKDOWN)
	e := netlink.NewAttributeEncoder()
	attrs(e)
	l, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return append(b, l...)
}

func TestParse(t *testing.T) {
	names := map[uint32]string{3: "eth0"}
	full := message(t, unix.AF_INET, 24, unix.RT_TABLE_MAIN, unix.RTN_UNICAST, func(e *netlink.AttributeEncoder) {
		e.Bytes(unix.RTA_DST, []byte{10, 0, 2, 0})
		e.Bytes(unix.RTA_GATEWAY, []byte{192, 0, 2, 254})
		e.Bytes(unix.RTA_PREFSRC, []byte{10, 0, 1, 1})
		e.Uint32(unix.RTA_OIF, 3)
		e.Uint32(unix.RTA_PRIORITY, 9)
	})
	r, ok := parse(full, names)
	if want := "10.0.2.0/24 via 192.0.2.254 dev eth0 src 10.0.1.1 metric 9"; !ok || r.String() != want {
		t.Errorf("parse = %v, %v, want %s", r, ok, want)
	}
	// The kernel's description can be sent back: without the states of the link.
	if flags := binary.NativeEndian.Uint32(r.raw[8:]); flags != unix.RTNH_F_ONLINK {
		t.Errorf("flags to be sent back are %#x", flags)
	}
	none := func(*netlink.AttributeEncoder) {}
	for family, want := range map[uint8]string{unix.AF_INET: "0.0.0.0/0", unix.AF_INET6: "::/0"} {
		r, ok := parse(message(t, family, 0, unix.RT_TABLE_MAIN, unix.RTN_UNICAST, none), names)
		if !ok || r.Dst.String() != want || r.Device != "" {
			t.Errorf("a default route of family %d = %+v, %v", family, r, ok)
		}
	}
	for name, b := range map[string][]byte{
		"another table":      message(t, unix.AF_INET, 0, unix.RT_TABLE_LOCAL, unix.RTN_UNICAST, none),
		"a blackhole":        message(t, unix.AF_INET, 0, unix.RT_TABLE_MAIN, unix.RTN_BLACKHOLE, none),
		"another family":     message(t, unix.AF_MPLS, 0, unix.RT_TABLE_MAIN, unix.RTN_UNICAST, none),
		"too long a prefix":  message(t, unix.AF_INET, 33, unix.RT_TABLE_MAIN, unix.RTN_UNICAST, none),
		"an address too big": message(t, unix.AF_INET, 24, unix.RT_TABLE_MAIN, unix.RTN_UNICAST, func(e *netlink.AttributeEncoder) { e.Bytes(unix.RTA_DST, make([]byte, 5)) }),
	} {
		if r, ok := parse(b, names); ok {
			t.Errorf("%s is taken for %v", name, r)
		}
	}
	for n := range full {
		parse(full[:n], names) // must not read past the end
	}
}

// inNamespace gives the test a network namespace of its own with loopback up, on
// a thread that ends with it.
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

// What is added is listed, what is removed is gone and can be put back as it was.
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
		back, err := Remove(Route{Dst: dst})
		if err != nil {
			t.Errorf("Remove(%v) = %v", r, err)
			continue
		}
		if _, err := Remove(r); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("Remove(%v) again = %v, want ESRCH", r, err)
		}
		if err := back(); err != nil {
			t.Errorf("%v cannot be put back: %v", r, err)
		}
		if after := list(t); !slices.Equal(before, after) {
			t.Errorf("%q has become %q", before, after)
		}
	}
	if err := Add(Route{Dst: p("10.9.0.0/16"), Device: "nosuch0"}); !errors.Is(err, syscall.ENODEV) {
		t.Errorf("Add by a missing device = %v, want ENODEV", err)
	}
	// Loopback has no network, so there is no way to the gateway.
	if err := Add(Route{Dst: p("10.9.0.0/16"), Gateway: netip.MustParseAddr("192.0.2.1"), Device: "lo"}); err == nil {
		t.Error("a route by a gateway that cannot be reached was added")
	}
}
