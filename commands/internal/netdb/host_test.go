package netdb

import (
	"net/netip"
	"os"
	"regexp"
	"testing"

	"github.com/klips-go/ipsec/klips/syntax"
)

func TestHost(t *testing.T) {
	if a, err := Host("192.0.2.1", syntax.Family4); err != nil || a.String() != "192.0.2.1" {
		t.Errorf("Host(192.0.2.1, inet) = %v, %v", a, err)
	}
	// Some systems have no /etc/hosts, and tests do not use the DNS.
	if hosts, err := os.ReadFile("/etc/hosts"); err == nil && regexp.MustCompile(`(?m)^127\.0\.0\.1\s+localhost\b`).Match(hosts) {
		if a, err := Host("localhost", syntax.Family4); err != nil || !a.Is4() || !a.IsLoopback() {
			t.Errorf("Host(localhost, inet) = %v, %v, want a loopback address", a, err)
		}
	}
	v4, v6 := netip.MustParseAddr("::ffff:192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for _, c := range []struct {
		f    syntax.Family
		in   []netip.Addr
		want string
	}{
		{syntax.FamilyAny, []netip.Addr{v4, v6}, "2001:db8::1"},
		{syntax.FamilyAny, []netip.Addr{v4}, "192.0.2.1"},
		{syntax.Family4, []netip.Addr{v6, v4}, "192.0.2.1"},
		{syntax.Family6, []netip.Addr{v4}, "invalid IP"},
	} {
		if got, err := pickAddr(c.in, c.f); got.String() != c.want || (err == nil) != got.IsValid() {
			t.Errorf("pickAddr(%v, %v) = %v, %v, want %s", c.in, c.f, got, err, c.want)
		}
	}
}
