package classic_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/classic"
	"github.com/klips-go/ipsec/klips/classic/classictest"
	"github.com/klips-go/ipsec/klips/classic/classictest/module"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// TestRandomRaces lets another program make a change between two messages of a command
// that makes a group. If the group is then refused, only earlier links and those of
// that program remain, or the error names the remaining ones. KLIPS is never made to
// use freed memory.
func TestRandomRaces(t *testing.T) {
	k := classictest.NewKernel(t, local)
	s := classic.New(k.Machine())
	t.Cleanup(func() { s.Close() })
	rapid.Check(t, func(r *rapid.T) {
		w := &groupWorld{T: r, ctx: t.Context(), dsts: []netip.Addr{local, netip.MustParseAddr("192.0.2.77")}}
		before := append([]*pfkey.Message{pfkey.Flush()}, w.drawHistory()...)
		ids := w.members()
		when, other := rapid.IntRange(1, klips.MaxGroup-1).Draw(r, "message"), w.drawOther()
		var want string // the links without those of the group
		k.Hook(nil)
		k.Module(func(m *module.Module) {
			write(r, m, before...)
			want = linksOf(m, nil)
		})
		k.Hook(func(n int, _ *pfkey.Message, m *module.Module) {
			if n == when {
				write(r, m, other)
				want = linksOf(m, ids[:n])
			}
		})
		err := s.Group(w.ctx, ids)
		k.Hook(nil)
		what := fmt.Sprintf("Group %v = %v, with %v before message %d", ids, err, other, when)
		k.Module(func(m *module.Module) {
			if l := m.Faults(); len(l) > 0 {
				r.Fatalf("%s: %q", what, l)
			}
			if l := m.Dangling(); len(l) > 0 {
				r.Fatalf("%s: %v point at freed SAs", what, l)
			}
			d := cmp.Diff(want, linksOf(m, nil))
			var oe *klips.OpError
			switch {
			case err == nil:
			case !errors.As(err, &oe):
				r.Fatalf("%s: want an *OpError", what)
			case oe.Left == "" && d != "":
				r.Fatalf("%s, and no word of what is left (-want +got)\n%s", what, d)
			case oe.Left != "" && d == "":
				r.Fatalf("%s: %s, but nothing is", what, oe.Left)
			}
		})
	})
}

// linksOf returns the SAs with their followers, without the links that a group has made
// so far.
func linksOf(m *module.Module, group []klips.SAID) string {
	lines := strings.Split(m.Tables()["ipsec_spigrp"], "\n")
	for i, l := range lines {
		f := append(strings.Fields(l), "", "")
		a, b := f[0], f[1]
		for j := 1; j < len(group); j++ {
			x, y := group[j-1].String(), group[j].String()
			if a == x && b == y || a == y && b == x {
				b = ""
			}
		}
		lines[i] = a + " " + b
	}
	return strings.Join(lines, "\n")
}

// drawHistory draws the messages that made the existing SAs and groups: some of the SAs
// have few references left.
func (w *groupWorld) drawHistory() (l []*pfkey.Message) {
	m := klipstest.NewModel(func(a netip.Addr) bool { return a == local }, nil)
	for _, dst := range w.dsts {
		for _, p := range protos {
			if id := (klips.SAID{Dst: dst, SPI: 0x1000, Proto: p}); rapid.IntRange(0, 9).Draw(w.T, "missing") != 0 {
				l = append(l, pfkey.AddSA(specOf(id)))
				_ = m.AddSA(w.ctx, specOf(id))
			}
		}
	}
	used := map[klips.SAID]int{} // the maximum number of lost references
	for range rapid.IntRange(0, 5).Draw(w.T, "groups before") {
		a, b := w.said("inner"), w.said("outer")
		if m.Group(w.ctx, []klips.SAID{a, b}) != nil {
			continue
		}
		l = append(l, pfkey.GroupPair(a, b))
		group, err := m.ReadGroup(w.ctx, a)
		if err != nil {
			w.Fatal(err)
		}
		apart := rapid.Bool().Draw(w.T, "apart again")
		for _, sa := range group[1:] {
			apart = apart && used[sa.ID] < 2
		}
		if !apart {
			continue
		}
		for _, sa := range group[1:] {
			used[sa.ID]++
		}
		l = append(l, pfkey.Ungroup(group[0].ID))
		_ = m.Ungroup(w.ctx, a)
	}
	return l
}

// drawOther draws a message of another program.
func (w *groupWorld) drawOther() *pfkey.Message {
	a, b := w.said("other"), w.said("other's second")
	switch rapid.IntRange(0, 4).Draw(w.T, "other's command") {
	case 0, 1:
		return pfkey.GroupPair(a, b)
	case 2:
		return pfkey.Ungroup(a)
	case 3:
		return pfkey.AddSA(specOf(a))
	}
	return pfkey.DeleteSA(a)
}

// write writes messages of another program, which ignores the answers.
func write(r *rapid.T, m *module.Module, l ...*pfkey.Message) {
	r.Helper()
	s := m.Open(0)
	defer s.Close()
	for _, msg := range l {
		b, err := msg.Marshal()
		if err != nil {
			r.Fatal(err)
		}
		s.Write(b)
	}
}
