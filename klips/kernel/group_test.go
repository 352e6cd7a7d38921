package kernel_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/procfs"
)

// showSAs writes the tables of SAs and groups.
func (s odd) showSAs(t *testing.T, sas []klips.SA) {
	t.Helper()
	for name, write := range map[string]func(io.Writer, []klips.SA) error{"ipsec_spi": procfs.WriteSPI, "ipsec_spigrp": procfs.WriteSPIGrp} {
		f, err := os.Create(filepath.Join(s.dir, name))
		if err == nil {
			err = errors.Join(write(f, sas), f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// What the tables show that KLIPS refuses is refused without a message, so that
// nothing has to be taken back: taking back would break groups that exist.
func TestGroupLooksFirst(t *testing.T) {
	a, b, c, d := tun(0x101), tun(0x102), tun(0x103), tun(0x104)
	outbound := []klips.SA{{ID: a, Next: []klips.SAID{b}}, {ID: b}, {ID: c}}
	inbound := []klips.SA{{ID: a, Dir: klips.Inbound}, {ID: b, Dir: klips.Inbound, Next: []klips.SAID{a}}, {ID: c, Dir: klips.Inbound}}
	for _, test := range []struct {
		name   string
		tables []klips.SA
		group  []klips.SAID
		errno  syscall.Errno // 0: it is asked of KLIPS
		object klips.SAID
	}{
		{"last one missing", outbound, []klips.SAID{c, b, d}, syscall.ENOENT, d},
		{"first one missing", outbound, []klips.SAID{d, b}, syscall.ENOENT, d},
		{"all missing", outbound, []klips.SAID{d, tun(0x105)}, 0, d},
		{"second follower", outbound, []klips.SAID{a, c}, syscall.EEXIST, a},
		{"loop", outbound, []klips.SAID{b, a}, syscall.EEXIST, a},
		{"loop of its own", outbound, []klips.SAID{c, b, c}, syscall.EEXIST, c},
		{"named twice", outbound, []klips.SAID{c, c}, syscall.EEXIST, c},
		{"joined", outbound, []klips.SAID{b, c}, 0, c},
		{"second follower inbound", inbound, []klips.SAID{c, b}, syscall.EEXIST, b},
		{"joined inbound", inbound, []klips.SAID{b, c}, 0, c},
	} {
		t.Run(test.name, func(t *testing.T) {
			asked := 0
			s := oddKernel(t, func(m *pfkey.Message) []*pfkey.Message {
				asked++
				return []*pfkey.Message{pfkey.Ack(m.Header)}
			})
			s.showSAs(t, test.tables)
			err := s.Group(t.Context(), test.group)
			if test.errno == 0 {
				if err != nil || asked != len(test.group)-1 {
					t.Errorf("Group = %v after %d messages, want it done", err, asked)
				}
				return
			}
			var oe *klips.OpError
			if !errors.Is(err, test.errno) || !errors.As(err, &oe) || oe.Object != test.object.String() || asked != 0 {
				t.Errorf("Group = %v after %d messages, want %v of %v after none", err, asked, test.errno, test.object)
			}
		})
	}
}

// A kernel whose tables are broken is asked all the same, and no loop in them
// hangs the check.
func TestGroupBrokenTables(t *testing.T) {
	a, b, c := tun(0x101), tun(0x102), tun(0x103)
	s := oddKernel(t, func(m *pfkey.Message) []*pfkey.Message { return []*pfkey.Message{pfkey.Ack(m.Header)} })
	s.showSAs(t, []klips.SA{{ID: a, Next: []klips.SAID{b}}, {ID: b, Next: []klips.SAID{a}}, {ID: c}})
	if err := s.Group(t.Context(), []klips.SAID{c, a}); err != nil {
		t.Errorf("Group = %v", err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "ipsec_spi"), slices.Repeat([]byte("x"), 100), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Group(t.Context(), []klips.SAID{c, a}); err != nil {
		t.Errorf("Group = %v", err)
	}
}
