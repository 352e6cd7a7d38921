package links_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/links"
	"github.com/klips-go/ipsec/testscripts/lab"
	"github.com/klips-go/ipsec/testscripts/skip"
)

func TestMain(m *testing.M) {
	_ = lab.Enter() // as an ordinary user, in a user namespace
	os.Exit(m.Run())
}

// TestLinks adds and removes addresses of a device, and sets it down and up.
func TestLinks(t *testing.T) {
	h, err := lab.NewHost("links")
	if errors.Is(err, os.ErrPermission) {
		skip.Without(t, skip.Root, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	err = h.Do(func() error {
		has := func(p netip.Prefix) bool {
			i, err := net.InterfaceByName("lo")
			if err != nil {
				t.Fatal(err)
			}
			addrs, err := i.Addrs()
			if err != nil {
				t.Fatal(err)
			}
			return slices.ContainsFunc(addrs, func(a net.Addr) bool { return a.String() == p.String() })
		}
		for _, text := range []string{"192.0.2.1/24", "2001:db8::1/128"} {
			p := netip.MustParsePrefix(text)
			for _, step := range []struct {
				do   func(string, netip.Prefix) error
				want error
				has  bool
			}{
				{links.AddAddress, nil, true},
				{links.AddAddress, syscall.EEXIST, true},
				{links.RemoveAddress, nil, false},
				{links.RemoveAddress, syscall.EADDRNOTAVAIL, false},
			} {
				if err := step.do("lo", p); !errors.Is(err, step.want) || has(p) != step.has {
					t.Errorf("%v: error %v, there %v, want %v, %v", p, err, has(p), step.want, step.has)
				}
			}
			if err := links.AddAddress("none", p); !errors.Is(err, syscall.ENODEV) {
				t.Errorf("%v on no device: %v", p, err)
			}
		}
		for _, up := range []bool{false, true, true, false} {
			if err := links.SetUp("lo", up); err != nil {
				t.Errorf("SetUp %v: %v", up, err)
			}
			if got, err := links.IsUp("lo"); err != nil || got != up {
				t.Errorf("IsUp = %v, %v, want %v", got, err, up)
			}
		}
		if _, err := links.IsUp("none"); !errors.Is(err, syscall.ENODEV) {
			t.Errorf("IsUp of no device: %v", err)
		}
		if err := links.SetUp("none", true); !errors.Is(err, syscall.ENODEV) {
			t.Errorf("SetUp of no device: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
