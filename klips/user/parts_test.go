package user_test

import (
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user"
	"github.com/klips-go/ipsec/klips/user/control"
)

// A daemon of an older version does not know parts. Its table is then one part.
func TestPartsOlderDaemon(t *testing.T) {
	want := []klips.SA{{ID: klips.SAID{Dst: netip.MustParseAddr("192.0.2.1"), SPI: 0x100, Proto: klips.ProtoTun}}}
	path := olderDaemon(t, func(m *pfkey.Message, send func(*pfkey.Message) error) error {
		table, _ := control.TableOf(m)
		switch part, _ := control.PlaceOf(m, nil); {
		case part:
			return send(pfkey.ErrorReply(m.Header, syscall.EINVAL))
		case table == control.TableEroutes:
			return send(pfkey.ErrorReply(m.Header, syscall.ESHUTDOWN))
		}
		return control.SendList(m, slices.Values(want), send)
	}, nil)
	c, err := user.Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	n := 0
	for part, err := range c.SAParts(t.Context()) {
		if n++; err != nil || len(part) != 1 || part[0].ID != want[0].ID {
			t.Errorf("part %d is %v, %v, want %v", n, part, err, want)
		}
	}
	if n != 1 {
		t.Errorf("%d parts, want 1", n)
	}
	for part, err := range c.ErouteParts(t.Context()) {
		if n++; part != nil || !errors.Is(err, syscall.ESHUTDOWN) {
			t.Errorf("the eroutes are %v, %v, want ESHUTDOWN", part, err)
		}
	}
	if n != 2 {
		t.Errorf("%d parts, want an error once", n-1)
	}
}
