package classic_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/classic"
	"github.com/klips-go/ipsec/klips/classic/classictest"
	"github.com/klips-go/ipsec/klips/classic/classictest/module"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/serial"
)

// TestRandomGroups runs random commands on SAs and groups, on the stack with a KLIPS
// that has all its faults, and on a model that has none. After each command both have
// the same SAs and groups. A refused command changes nothing. KLIPS is never made to
// free an SA that another one points at.
func TestRandomGroups(t *testing.T) {
	k := classictest.NewKernel(t, local)
	s := classic.New(k.Machine())
	t.Cleanup(func() { s.Close() })
	rapid.Check(t, func(r *rapid.T) {
		w := &groupWorld{T: r, ctx: t.Context(), k: k, stack: s, model: klipstest.NewModel(func(a netip.Addr) bool { return a == local }, nil)}
		w.dsts = []netip.Addr{local, rapid.SampledFrom([]netip.Addr{netip.MustParseAddr("192.0.2.77"), netip.MustParseAddr("2001:db8::77")}).Draw(r, "peer")}
		w.must(s.ClearSAs(w.ctx))
		for _, dst := range w.dsts {
			for _, p := range protos {
				w.add(klips.SAID{Dst: dst, SPI: 0x1000, Proto: p})
			}
		}
		for range rapid.IntRange(1, 40).Draw(r, "commands") {
			w.step()
		}
	})
}

// protos are the protocols of a group of four, the inner one first.
var protos = []klips.Proto{klips.ProtoTun, klips.ProtoComp, klips.ProtoESP, klips.ProtoAH}

type groupWorld struct {
	*rapid.T
	ctx   context.Context
	dsts  []netip.Addr
	k     *classictest.Kernel
	stack *classic.Stack
	model *klipstest.Model
}

// said draws from few SAs, so that commands use the same ones.
func (w *groupWorld) said(label string) klips.SAID {
	return klips.SAID{
		Dst: rapid.SampledFrom(w.dsts).Draw(w.T, label+" destination"), SPI: 0x1000,
		Proto: rapid.SampledFrom(protos).Draw(w.T, label),
	}
}

// members draws the SAs of a group: most often those of one destination in any
// order, which can be linked unless they are already.
func (w *groupWorld) members() []klips.SAID {
	ids := make([]klips.SAID, rapid.IntRange(2, klips.MaxGroup).Draw(w.T, "members"))
	if rapid.IntRange(0, 3).Draw(w.T, "any") == 0 {
		for i := range ids {
			ids[i] = w.said("member")
		}
		return ids
	}
	dst := rapid.SampledFrom(w.dsts).Draw(w.T, "destination")
	for i, p := range rapid.Permutation(protos).Draw(w.T, "protocols")[:len(ids)] {
		ids[i] = klips.SAID{Dst: dst, SPI: 0x1000, Proto: p}
	}
	return ids
}

func (w *groupWorld) step() {
	id := w.said("SA")
	switch rapid.IntRange(0, 19).Draw(w.T, "command") {
	case 0, 1, 2:
		w.add(id)
	case 3, 4, 5, 6, 7, 8, 9, 10, 11:
		ids := w.members()
		w.both(fmt.Sprint("Group ", ids), func(s serial.Doer) error { return s.Group(w.ctx, ids) })
	case 12, 13, 14, 15, 16:
		w.ungroup(id)
	case 17: // until references are used up
		ids := w.members()
		for range rapid.IntRange(2, 4).Draw(w.T, "times") {
			w.both(fmt.Sprint("Group ", ids), func(s serial.Doer) error { return s.Group(w.ctx, ids) })
			w.ungroup(ids[0])
		}
	case 18:
		w.both(fmt.Sprint("DeleteSA ", id), func(s serial.Doer) error { return s.DeleteSA(w.ctx, id) })
	case 19:
		if rapid.IntRange(0, 3).Draw(w.T, "clear") == 0 {
			w.both("ClearSAs", func(s serial.Doer) error { return s.ClearSAs(w.ctx) })
		}
	}
}

func (w *groupWorld) add(id klips.SAID) {
	w.Helper()
	w.both(fmt.Sprint("AddSA ", id), func(s serial.Doer) error { return s.AddSA(w.ctx, specOf(id)) })
}

// both runs one command on both stacks.
func (w *groupWorld) both(what string, do func(serial.Doer) error) {
	w.Helper()
	want := do(w.model)
	w.compare(what, want, w.try(what, func() error { return do(w.stack) }))
}

// try runs a command on the stack. A refused command must change nothing.
func (w *groupWorld) try(what string, do func() error) error {
	w.Helper()
	before := w.tables()
	err := do()
	if d := cmp.Diff(before, w.tables()); err != nil && d != "" {
		w.Fatalf("%s = %v, but it changed (-before +after)\n%s", what, err, d)
	}
	return err
}

// ungroup may find that KLIPS would free an SA: then the group is deleted and its SAs
// are made again.
func (w *groupWorld) ungroup(id klips.SAID) {
	what := fmt.Sprint("Ungroup ", id)
	got := w.try(what, func() error { return w.stack.Ungroup(w.ctx, id) })
	if !errors.Is(got, syscall.EBUSY) {
		w.compare(what, w.model.Ungroup(w.ctx, id), got)
		return
	}
	members, err := w.model.ReadGroup(w.ctx, id)
	w.must(err)
	used := false
	w.k.Module(func(m *module.Module) {
		for _, sa := range members[1:] {
			used = used || m.Refs(sa.ID) == 1
		}
	})
	if !used {
		w.Fatalf("%s = %v, but each SA behind the first of %v has references left", what, got, members)
	}
	w.both(fmt.Sprint("DeleteSA ", id), func(s serial.Doer) error { return s.DeleteSA(w.ctx, id) })
	for _, sa := range members {
		w.add(sa.ID)
	}
}

// compare checks for the same answer, the same SAs in the same groups, and an intact
// KLIPS.
func (w *groupWorld) compare(what string, want, got error) {
	w.Helper()
	if !alike(want, got) {
		w.Fatalf("%s = %v, want %v", what, got, want)
	}
	if d := cmp.Diff(w.groups(w.model), w.groups(w.stack), cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{})); d != "" {
		w.Fatalf("after %s (-want +got)\n%s", what, d)
	}
	w.k.Module(func(m *module.Module) {
		if l := m.Faults(); len(l) > 0 {
			w.Fatalf("after %s: %q", what, l)
		}
		if l := m.Dangling(); len(l) > 0 {
			w.Fatalf("after %s: %v point at freed SAs", what, l)
		}
	})
}

// alike reports whether the errnos are the same. If a group has a missing SA and one
// with a neighbour already, both errnos are right.
func alike(want, got error) bool {
	var w, g syscall.Errno
	var oe *klips.OpError
	if want == nil || got == nil {
		return want == got
	}
	group := []syscall.Errno{syscall.ENOENT, syscall.EEXIST}
	return errors.As(want, &w) && errors.As(got, &g) && errors.As(got, &oe) &&
		(w == g || oe.Op == "group" && slices.Contains(group, w) && slices.Contains(group, g))
}

// A member is an SA and its follower.
type member struct {
	ID   klips.SAID
	Dir  klips.Direction
	Next []klips.SAID
}

func (w *groupWorld) groups(s serial.Doer) (l []member) {
	w.Helper()
	sas, err := s.SAs(w.ctx)
	w.must(err)
	for _, sa := range sas {
		l = append(l, member{sa.ID, sa.Dir, sa.Next})
	}
	return l
}

// tables returns the tables of KLIPS, including references.
func (w *groupWorld) tables() (t [2]string) {
	w.k.Module(func(m *module.Module) { t = [2]string{m.Tables()["ipsec_spi"], m.Tables()["ipsec_spigrp"]} })
	return t
}

func (w *groupWorld) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// specOf returns a usable SA.
func specOf(id klips.SAID) *klips.SASpec {
	key := []byte("0123456789abcdef")
	s := &klips.SASpec{ID: id, Src: netip.MustParseAddr("192.0.2.77")}
	if id.Dst.Is6() {
		s.Src = netip.MustParseAddr("2001:db8::1")
	}
	switch id.Proto {
	case klips.ProtoESP:
		s.Enc, s.EncKey, s.Auth, s.AuthKey = alg.AES, key, alg.MD5, key
	case klips.ProtoAH:
		s.Auth, s.AuthKey = alg.MD5, key
	case klips.ProtoComp:
		s.Comp = alg.Deflate
	}
	return s
}
