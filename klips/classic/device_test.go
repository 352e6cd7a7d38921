package classic_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// If the kernel reports success for a request that has no effect, the stack reports a
// fault. Without the table the effect is unknown.
func TestNoEffect(t *testing.T) {
	const first, second = "ipsec0 -> NULL mtu=0(0) -> 0\n", "ipsec1 -> NULL mtu=0(0) -> 0\n"
	for _, tt := range []struct {
		name          string
		create        bool
		device        string
		before, after string
		answer        syscall.Errno
		want          error
		fault         klips.Fault
	}{
		{"made", true, "ipsec1", first, first + second, 0, nil, klips.FaultNone},
		{"made already", true, "ipsec0", first, first, 0, syscall.EEXIST, klips.FaultNoEffect},
		{"not made", true, "ipsec1", first, first, 0, syscall.EOPNOTSUPP, klips.FaultNoEffect},
		{"refused", true, "ipsec1", first, first, syscall.EEXIST, syscall.EEXIST, klips.FaultNone},
		{"removed", false, "ipsec1", first + second, first, 0, nil, klips.FaultNone},
		{"not removed", false, "ipsec0", first, first, 0, syscall.EOPNOTSUPP, klips.FaultNoEffect},
		{"not there", false, "ipsec1", first, first, 0, syscall.ENOENT, klips.FaultNoEffect},
		{"mast made", true, "mast0", first, first, 0, nil, klips.FaultNone},
		{"mast removed", false, "mast0", first, first, 0, nil, klips.FaultNone},
		{"odd line", true, "ipsec1", first + "odd\n", first + "odd\n", 0, nil, klips.FaultNone},
		{"no table", false, "ipsec0", "", "", 0, nil, klips.FaultNone},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var table string
			write := func(text string) {
				if text != "" {
					if err := os.WriteFile(table, []byte(text), 0o600); err != nil {
						t.Error(err)
					}
				}
			}
			s := oddKernel(t, func(m *pfkey.Message) []*pfkey.Message {
				write(tt.after)
				return []*pfkey.Message{pfkey.ErrorReply(m.Header, tt.answer)}
			})
			table = filepath.Join(s.dir, "ipsec_tncfg")
			write(tt.before)
			act := s.DeleteDevice
			if tt.create {
				act = s.CreateDevice
			}
			err := act(t.Context(), tt.device)
			var oe *klips.OpError
			fault := klips.FaultNone
			if errors.As(err, &oe) {
				fault = oe.Fault
			}
			if !errors.Is(err, tt.want) || (tt.want == nil) != (err == nil) || fault != tt.fault {
				t.Errorf("got %v, want %v with fault %v", err, tt.want, tt.fault)
			}
		})
	}
}

// KLIPS reports success when ipsec0 is to be made or removed.
func TestNoEffectModule(t *testing.T) {
	s, _ := stack(t)
	for _, tt := range []struct {
		name string
		act  func(context.Context, string) error
		want error
	}{{"CreateDevice", s.CreateDevice, syscall.EEXIST}, {"DeleteDevice", s.DeleteDevice, syscall.EOPNOTSUPP}} {
		err := tt.act(t.Context(), "ipsec0")
		var oe *klips.OpError
		if !errors.Is(err, tt.want) || !errors.As(err, &oe) || oe.Fault != klips.FaultNoEffect {
			t.Errorf("%s of ipsec0 = %v, want %v without effect", tt.name, err, tt.want)
		}
		if l, err := s.Devices(t.Context()); err != nil || len(l) != 2 {
			t.Errorf("devices after %s: %v, %v", tt.name, l, err)
		}
	}
	if err := errors.Join(s.CreateDevice(t.Context(), "ipsec2"), s.DeleteDevice(t.Context(), "ipsec2")); err != nil {
		t.Errorf("ipsec2: %v", err)
	}
}
