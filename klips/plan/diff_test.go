package plan_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/plan"
)

// paths returns what happens to the packets of a network, one text for each SA of its
// eroute: the SAs that process them, in order, or "clear" if no eroute matches. A missing
// first SA drops them. It takes the packets of further ones that are missing.
func paths(r *rapid.T, m *plan.Model, s klips.Selector) (texts []string) {
	l, _ := m.Eroutes(context.Background())
	i := slices.IndexFunc(l, func(e klips.Eroute) bool { return e.Selector == s })
	if i < 0 {
		return []string{"clear"}
	}
	for _, id := range l[i].SAIDs() {
		text := path(r, m, id)
		if text == "dropped" {
			text = path(r, m, l[i].ID)
		}
		texts = append(texts, text)
	}
	return texts
}

func path(r *rapid.T, m *plan.Model, id klips.SAID) string {
	ctx := context.Background()
	sa, err := m.GetSA(ctx, id)
	if err != nil {
		return "dropped"
	}
	text := sa.ID.String() + " " + sa.Transform.Name(sa.ID.Proto) + fmt.Sprint(sa.Window)
	for _, id := range sa.Next {
		next, err := m.GetSA(ctx, id)
		if err != nil {
			r.Fatal(err)
		}
		text += ", " + next.ID.String() + " " + next.Transform.Name(id.Proto) + fmt.Sprint(next.Window)
	}
	return text
}

// The result of Diff makes one state from another; then there is no difference. At
// every step a flow has its old path, its new path, or is dropped; a flow without a
// change keeps its path.
func TestDiff(t *testing.T) {
	ctx := context.Background()
	rapid.Check(t, func(r *rapid.T) {
		have, want := newModel(), newModel()
		var wanted []klips.Change
		both := rapid.Bool().Draw(r, "begin alike")
		for range rapid.IntRange(0, 25).Draw(r, "have") {
			c := windowed(r, anyChange(r))
			if have.Do(ctx, c) == nil && both && want.Do(ctx, c) == nil {
				wanted = append(wanted, c)
			}
		}
		for range rapid.IntRange(0, 15).Draw(r, "want") {
			if c := windowed(r, anyChange(r)); want.Do(ctx, c) == nil {
				wanted = append(wanted, c)
			}
		}
		changes, err := plan.Diff(ctx, have, wanted...)
		if err != nil {
			r.Fatal(err)
		}
		var flows []klips.Selector
		for _, m := range []*plan.Model{have, want} {
			for _, e := range m.EroutesByAge() {
				flows = append(flows, e.Selector)
			}
		}
		now := have.Clone()
		for i, c := range changes {
			if err := now.Do(ctx, c); err != nil {
				r.Fatalf("%v (number %d of %v) = %v", c, i, changes, err)
			}
			for _, s := range flows {
				before, after := paths(r, have, s), paths(r, want, s)
				for _, got := range paths(r, now, s) {
					if got != "dropped" && !slices.Contains(before, got) && !slices.Contains(after, got) {
						r.Fatalf("after %v (number %d of %v) %v meets %s; it met %s and is to meet %s", c, i, changes, s, got, before, after)
					}
				}
			}
		}
		byName := func(m *plan.Model) *klips.Snapshot {
			v := view(r, m)
			slices.SortFunc(v.SAs, func(a, b klips.SA) int { return strings.Compare(a.ID.String(), b.ID.String()) })
			return v
		}
		if d := cmp.Diff(byName(want), byName(now), cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); d != "" {
			r.Fatalf("after %v (-want +got)\n%s", changes, d)
		}
		again, err := plan.Diff(ctx, now, wanted...)
		if err != nil || len(again) > 0 {
			r.Fatalf("%v, %v although all is as it is to be", again, err)
		}
	})
}

// windowed gives new SAs one of two forms.
func windowed(r *rapid.T, c klips.Change) klips.Change {
	if a, ok := c.(klips.AddSA); ok && a.ID.Proto == klips.ProtoESP && rapid.Bool().Draw(r, "window") {
		a.Window = 64
	}
	return c
}

// A tunnel gets new SAs while its flow never stops: the new SAs come first, and the old
// ones are removed last.
func TestDiffOrder(t *testing.T) {
	ctx := t.Context()
	flow := klips.Selector{Src: netip.MustParsePrefix("10.1.0.0/24"), Dst: netip.MustParsePrefix("10.2.0.0/24")}
	tunnel := func(spi klips.SPI) []klips.Change {
		out := klips.SAID{Dst: there, SPI: spi, Proto: klips.ProtoTun}
		in := klips.SAID{Dst: here, SPI: spi, Proto: klips.ProtoTun}
		return []klips.Change{
			klips.AddSA{SASpec: &klips.SASpec{ID: out, Src: here}}, klips.AddSA{SASpec: &klips.SASpec{ID: in, Src: there}},
			klips.SetEroute{Eroute: klips.Eroute{Selector: flow, ID: out}},
		}
	}
	have := newModel()
	for _, c := range tunnel(0x100) {
		if err := have.Do(ctx, c); err != nil {
			t.Fatal(err)
		}
	}
	got, err := plan.Diff(ctx, have, tunnel(0x101)...)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"add SA tun0x101@192.0.2.1", "add SA tun0x101@192.0.2.2", "replace eroute 10.1.0.0/24 -> 10.2.0.0/24 => tun0x101@192.0.2.2",
		"delete SA tun0x100@192.0.2.2", "delete SA tun0x100@192.0.2.1",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
}
