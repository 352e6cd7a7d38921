package classic_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/classic"
	"github.com/klips-go/ipsec/klips/classic/classictest"
	"github.com/klips-go/ipsec/klips/classic/classictest/module"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/syntax"
)

// Failures that were observed on a real KLIPS, tested on the double that has the same
// faults.

var remote = netip.MustParseAddr("192.0.2.77")

// A box is a machine with KLIPS.
type box struct {
	*testing.T
	*classic.Stack
	k *classictest.Kernel
}

func newBox(t *testing.T) box {
	k := classictest.NewKernel(t, local)
	s := classic.New(k.Machine())
	t.Cleanup(func() {
		s.Close()
		k.Module(func(m *module.Module) {
			if l := m.Faults(); len(l) > 0 {
				t.Errorf("KLIPS used what it had freed: %q", l)
			}
		})
	})
	return box{t, s, k}
}

// add makes SAs with a destination: "esp0x1202", ….
func (b box) add(dst netip.Addr, names ...string) (ids []klips.SAID) {
	b.Helper()
	for _, n := range names {
		id, err := syntax.ParseSAID(n+"@"+dst.String(), nil)
		if err == nil {
			err = b.AddSA(b.Context(), specOf(id))
		}
		if err != nil {
			b.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

func (b box) group(ids ...klips.SAID) {
	b.Helper()
	if err := b.Group(b.Context(), ids); err != nil {
		b.Fatal(err)
	}
}

// others writes messages from another program.
func (b box) others(l ...*pfkey.Message) {
	b.Helper()
	b.k.Module(func(m *module.Module) {
		s := m.Open(0)
		defer s.Close()
		for _, msg := range l {
			wire, err := msg.Marshal()
			if err != nil {
				b.Fatal(err)
			}
			if errno := s.Write(wire); errno != 0 {
				b.Fatalf("%v: %v", msg, errno)
			}
		}
	})
}

func (b box) tables() (text string) {
	b.Helper()
	for _, name := range []string{"ipsec_spi", "ipsec_spigrp", "ipsec_eroute"} {
		t, err := os.ReadFile(filepath.Join(b.k.ProcNet, name))
		if err != nil {
			b.Fatal(err)
		}
		text += string(t)
	}
	return text
}

// refuse runs a command several times. Each time it must be refused and change nothing,
// not even references. The error must name object.
func (b box) refuse(what string, want syscall.Errno, object klips.SAID, do func() error) {
	b.Helper()
	before := b.tables()
	for range 4 {
		err := do()
		var oe *klips.OpError
		if !errors.Is(err, want) || !errors.As(err, &oe) || oe.Object != object.String() || oe.Left != "" {
			b.Errorf("%s = %v, want %v that names %v", what, err, want, object)
		}
		if d := cmp.Diff(before, b.tables()); d != "" {
			b.Fatalf("%s changed (-before +after)\n%s", what, d)
		}
	}
}

func (b box) refuseGroup(want syscall.Errno, object klips.SAID, ids ...klips.SAID) {
	b.Helper()
	b.refuse("Group", want, object, func() error { return b.Group(b.Context(), ids) })
}

// A refused group took an SA of a running tunnel with it.
func TestRefusedGroup(t *testing.T) {
	for _, dst := range []netip.Addr{remote, local, netip.MustParseAddr("2001:db8::77")} {
		t.Run(dst.String(), func(t *testing.T) {
			b := newBox(t)
			ids := b.add(dst, "tun0x1201", "esp0x1202", "ah0x1203", "esp0x1204")
			tunnel, esp, ah, other := ids[0], ids[1], ids[2], ids[3]
			missing := klips.SAID{Dst: dst, SPI: 0x9999, Proto: klips.ProtoAH}
			b.refuseGroup(syscall.ENOENT, missing, tunnel, esp, missing) // a loop unless it is refused first
			b.group(tunnel, esp, ah)
			b.refuseGroup(syscall.ENOENT, missing, other, esp, missing)
			b.refuseGroup(syscall.ENOENT, missing, ah, missing)
			if dst == local {
				b.refuseGroup(syscall.EEXIST, tunnel, tunnel, other) // follows another one already
				b.refuseGroup(syscall.EEXIST, ah, other, ah)         // has a follower
			} else {
				b.refuseGroup(syscall.EEXIST, esp, other, esp)
				b.refuseGroup(syscall.EEXIST, tunnel, tunnel, other)
			}
		})
	}
}

// Grouping and ungrouping the same SAs three times deleted all but one.
func TestUngroupAgain(t *testing.T) {
	for _, dst := range []netip.Addr{remote, local} {
		t.Run(dst.String(), func(t *testing.T) {
			b := newBox(t)
			ids := b.add(dst, "tun0x113", "esp0x114", "ah0x115")
			for _, by := range []klips.SAID{ids[1], ids[2]} {
				b.group(ids...)
				if err := b.Ungroup(t.Context(), by); err != nil {
					t.Fatal(err)
				}
			}
			b.group(ids...)
			for _, by := range ids {
				b.refuse("Ungroup", syscall.EBUSY, by, func() error { return b.Ungroup(t.Context(), by) })
			}
			if err := b.DeleteSA(t.Context(), ids[1]); err != nil || b.tables() != "" {
				t.Errorf("DeleteSA = %v, and there is\n%s", err, b.tables())
			}
		})
	}
}

// Another program's groups can share an SA: deleting one group leaves a freed SA in the
// other. Taking the groups apart avoids this.
func TestSharedSA(t *testing.T) {
	b := newBox(t)
	ids := b.add(remote, "tun0x1001", "tun0x1002", "esp0x1003")
	b.others(pfkey.GroupPair(ids[0], ids[2]), pfkey.GroupPair(ids[1], ids[2]))
	for _, id := range ids {
		b.refuse("DeleteSA", syscall.EBUSY, id, func() error { return b.DeleteSA(t.Context(), id) })
	}
	if err := b.ClearSAs(t.Context()); !errors.Is(err, syscall.EBUSY) || strings.Count(b.tables(), "\n") != 6 {
		t.Errorf("ClearSAs = %v, and there is\n%s", err, b.tables())
	}
	if err := b.Ungroup(t.Context(), ids[2]); err != nil {
		t.Errorf("Ungroup = %v", err)
	}
	if err := b.DeleteSA(t.Context(), ids[0]); err != nil {
		t.Errorf("DeleteSA = %v", err)
	}
	if err := b.ClearSAs(t.Context()); err != nil || b.tables() != "" {
		t.Errorf("ClearSAs = %v, and there is\n%s", err, b.tables())
	}
}

// Requests are refused that would make KLIPS use a freed SA.
func TestFreedSA(t *testing.T) {
	b := newBox(t)
	ids := b.add(remote, "tun0x1001", "tun0x1002", "esp0x1003")
	b.others(pfkey.GroupPair(ids[0], ids[2]), pfkey.GroupPair(ids[1], ids[2]), pfkey.DeleteSA(ids[1]))
	if text := b.tables(); !strings.Contains(text, ids[0].String()+" unk00x0@<invalid> \n") {
		t.Fatalf("nothing was freed:\n%s", text)
	}
	b.refuse("DeleteSA", syscall.EBUSY, ids[0], func() error { return b.DeleteSA(t.Context(), ids[0]) })
	b.refuse("Ungroup", syscall.EBUSY, ids[0], func() error { return b.Ungroup(t.Context(), ids[0]) })
	b.refuse("ClearSAs", syscall.EBUSY, ids[0], func() error { return b.ClearSAs(t.Context()) })
	fine := klips.SAID{Dst: remote, SPI: 0x1004, Proto: klips.ProtoAH}
	b.refuseGroup(syscall.ENOENT, fine, ids[0], fine)
}

// KLIPS prints the protocol of an eroute into an IPv6 tunnel right behind the address
// of its SA, as if it were a part of the address.
func TestErouteIntoIPv6(t *testing.T) {
	b := newBox(t)
	ids := b.add(netip.MustParseAddr("2001:db8::77"), "tun0x1001")
	e := klips.Eroute{ID: ids[0], Selector: klips.Selector{Src: netip.MustParsePrefix("10.1.0.0/16"), Dst: netip.MustParsePrefix("10.2.0.0/16"), Proto: 6}}
	if err := b.SetEroute(t.Context(), e, klips.ErouteAdd); err != nil {
		t.Fatal(err)
	}
	if l, err := b.Eroutes(t.Context()); err != nil || len(l) != 1 || l[0].ID != e.ID || l[0].Selector != e.Selector {
		t.Errorf("Eroutes = %v, %v, want %v", l, err, e)
	}
}

// The knob of KLIPS is for all tunnels.
func TestCopyTOS(t *testing.T) {
	b := newBox(t)
	id := klips.SAID{Dst: remote, SPI: 0x1201, Proto: klips.ProtoTun}
	var oe *klips.OpError
	if err := b.AddSA(t.Context(), &klips.SASpec{ID: id, Src: local, CopyTOS: true}); !errors.As(err, &oe) ||
		oe.Fault != klips.FaultCopyTOS || oe.Object != id.String() || !errors.Is(err, syscall.EOPNOTSUPP) {
		t.Errorf("AddSA = %v, want FaultCopyTOS with EOPNOTSUPP", err)
	}
	b.add(remote, "tun0x1201") // it was not made
}

// KLIPS' messages have no place for padded AH headers.
func TestAlign8(t *testing.T) {
	b := newBox(t)
	id := klips.SAID{Dst: remote, SPI: 0x1201, Proto: klips.ProtoAH}
	spec := specOf(id)
	spec.Align8 = true
	var oe *klips.OpError
	if err := b.AddSA(t.Context(), spec); !errors.As(err, &oe) || oe.Fault != klips.FaultAlign8 || oe.Object != id.String() || !errors.Is(err, syscall.EOPNOTSUPP) {
		t.Errorf("AddSA = %v, want FaultAlign8 with EOPNOTSUPP", err)
	}
	b.add(remote, "ah0x1201") // it was not made
}
