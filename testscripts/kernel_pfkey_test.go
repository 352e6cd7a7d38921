package testscripts

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/classic"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user/control"
)

// havePFKEY reports why the running kernel has no PF_KEY, or nil.
func havePFKEY() error {
	c, err := pfkey.Open()
	if err != nil {
		return err
	}
	return c.Close()
}

// TestInteropPFKEY: a kernel's PF_KEY socket answers REGISTER, and refuses our private
// messages. classic.Open finds out, without a request, that it is not the socket of
// KLIPS.
func TestInteropPFKEY(t *testing.T) {
	need(t, "root", "pfkey")
	c, err := pfkey.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	messages, err := c.Events(t.Context(), klips.EventWant{Register: []uint8{uint8(pfkey.SATypeESP)}})
	if err != nil {
		t.Fatal(err)
	}
	for event, err := range messages {
		if err != nil {
			t.Fatal(err)
		}
		m, err := pfkey.Parse(event.PFKey)
		if err != nil || m.Type != pfkey.TypeRegister || m.SAType != pfkey.SATypeESP || m.PID != uint32(os.Getpid()) {
			t.Errorf("answer to REGISTER: %v, %v", m, err)
		} else if m.SupportedAuth == nil || m.SupportedEnc == nil {
			t.Errorf("REGISTER says nothing of algorithms: %v", m)
		}
		break
	}
	for _, m := range []*pfkey.Message{control.Status(), control.DetachAll(), control.ListTable(control.TableSAs)} {
		if _, err := c.Call(t.Context(), m); !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.EOPNOTSUPP) {
			t.Errorf("Call(%v) = %v, want EINVAL or EOPNOTSUPP", m.Type, err)
		}
	}
	if _, err := c.Call(t.Context(), pfkey.Flush()); err != nil {
		t.Errorf("Call(FLUSH) = %v", err)
	}
	var u *klips.UnavailableError
	if _, err := classic.Open(classic.Config{}); !errors.As(err, &u) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("classic.Open = %v, want that there is no KLIPS", err)
	}
}
