package host_test

import (
	"errors"
	"os"
	"testing"

	"github.com/klips-go/ipsec/klips/user/engine"
	"github.com/klips-go/ipsec/klips/user/host"
	"github.com/klips-go/ipsec/testscripts/lab"
	"github.com/klips-go/ipsec/testscripts/skip"
)

func TestMain(m *testing.M) {
	_ = lab.Enter() // as an ordinary user, in a user namespace
	os.Exit(m.Run())
}

// A wire has the TTL of its host's packets, and the hop limit of its own device,
// whatever other devices have.
func TestHops(t *testing.T) {
	here, err := lab.NewHost("here")
	if errors.Is(err, os.ErrPermission) {
		skip.Without(t, skip.Root, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	there, err := lab.NewHost("there")
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	if err := lab.Cable(here, "eth0", there, "eth0"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		ttl, limit string
		v4, v6     uint8
	}{{"64", "64", 64, 64}, {"255", "1", 255, 1}, {"77", "99", 77, 99}} {
		for key, value := range map[string]string{
			"net.ipv4.ip_default_ttl": tt.ttl, "net.ipv6.conf.eth0.hop_limit": tt.limit, "net.ipv6.conf.lo.hop_limit": "13",
		} {
			if err := here.Sysctl(key, value); err != nil {
				t.Fatal(err)
			}
		}
		err := here.Do(func() error {
			h, err := host.Open()
			if err != nil {
				return err
			}
			defer h.Close()
			w, err := h.OpenWire("eth0:1", engine.WireEvents{Rerouted: func() {}})
			if err != nil {
				return err
			}
			defer w.Close()
			if v4, v6 := w.Hops(); v4 != tt.v4 || v6 != tt.v6 {
				t.Errorf("Hops = %d, %d, want %d, %d", v4, v6, tt.v4, tt.v6)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
