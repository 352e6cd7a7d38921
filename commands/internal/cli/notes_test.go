package cli

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/serial"
)

// A counting is a stack that counts its calls.
type counting struct {
	serial.Doer
	groups, lists int
}

func (*counting) Name() string { return "test" }

func (s *counting) ReadGroup(_ context.Context, id klips.SAID) ([]klips.SA, error) {
	s.groups++
	return []klips.SA{{ID: id}}, nil
}

func (s *counting) SAs(context.Context) ([]klips.SA, error) {
	s.lists++
	return []klips.SA{{ID: klips.SAID{SPI: 0x100}}}, nil
}

// TestManyGroups: a few groups are read one by one; for many checks, or one check of many
// groups, the whole table is read once.
func TestManyGroups(t *testing.T) {
	look := func(times int) Check {
		return func(ctx context.Context, t Tables) (notes []string) {
			for range times {
				group, err := t.Group(ctx, klips.SAID{SPI: 0x100})
				notes = []string{fmt.Sprint(len(group), err)}
			}
			return notes
		}
	}
	for _, tt := range []struct{ checks, each, groups, lists int }{
		{manyGroups, 1, manyGroups, 0},
		{manyGroups + 1, 1, 0, 1},
		{1, manyGroups + 50, manyGroups, 1},
	} {
		s := &counting{}
		notes := Notes(t.Context(), serial.New(s), slices.Repeat([]Check{look(tt.each)}, tt.checks))
		if want := []Note{{0, "1 <nil>"}}; !slices.Equal(notes, want) || s.groups != tt.groups || s.lists != tt.lists {
			t.Errorf("%d checks of %d groups: %+v, %d groups and %d tables were read, want %+v, %d and %d",
				tt.checks, tt.each, notes, s.groups, s.lists, want, tt.groups, tt.lists)
		}
	}
}

func TestNotesOfMany(t *testing.T) {
	say := func(notes ...string) Check {
		return func(context.Context, Tables) []string { return notes }
	}
	const a, b, c = "esp0x100@192.0.2.1", "ah0x100@192.0.2.1", "esp0x100@2001:db8::1"
	for _, tt := range []struct {
		name   string
		checks []Check
		want   []Note
	}{
		{"none", []Check{say(), say()}, nil},
		{"each by itself", []Check{say("one", a+": two"), say("three")}, []Note{{0, "one"}, {0, a + ": two"}, {1, "three"}}},
		{"the same words", []Check{say(), say("one"), say("one")}, []Note{{1, "one"}}},
		{"two SAs", []Check{say(a + ": one"), say(b + ": one"), say(a + ": two")},
			[]Note{{0, a + ": one (the same holds for " + b + ")"}, {2, a + ": two"}}},
		{"three SAs", []Check{say(a + ": one"), say(b + ": one"), say(c + ": one")}, []Note{{0, a + ": one (the same holds for 2 others)"}}},
		{"one SA twice", []Check{say(a + ": one"), say(a + ": one")}, []Note{{0, a + ": one"}}},
		{"pairs", []Check{say(a + " and " + c + ": one"), say(a + " and " + c + ": one"), say(b + " and " + c + ": one")},
			[]Note{{0, a + " and " + c + ": one (the same holds for " + b + " and " + c + ")"}}},
		{"no SAID in front", []Check{say("esp: one"), say("ah: one")}, []Note{{0, "esp: one"}, {1, "ah: one"}}},
	} {
		if got := Notes(t.Context(), nil, tt.checks); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}
