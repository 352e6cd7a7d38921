package engine

import (
	"slices"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// set is called with the ports that SAs need, once for each change. That is also so if
// the removal of an SA is recorded before its making, because two goroutines have made
// and removed it.
func TestPorts(t *testing.T) {
	sa := func(typ klips.NATTType, dir klips.Direction, sport, dport uint16) *sadb.SA {
		return &sadb.SA{Fixed: sadb.Fixed{
			ID: klips.SAID{Proto: klips.ProtoESP}, Dir: dir, NATT: klips.NATT{Type: typ, SPort: sport, DPort: dport},
		}}
	}
	in := sa(klips.NATTNonESP, klips.Inbound, 61000, 4500)
	out := sa(klips.NATTNonESP, klips.Outbound, 4500, 61000)
	old := sa(klips.NATTNonIKE, klips.Inbound, 0, 0)
	none := sa(klips.NATTNone, klips.Inbound, 1, 2)
	var told [][]uint16
	var ps ports
	ps.init(func(l []uint16) { told = append(told, l) })
	for _, step := range []struct {
		name string
		by   int
		sas  []*sadb.SA
		want []uint16 // nil: set is not called
	}{
		{"not in UDP", 1, []*sadb.SA{none}, nil},
		{"the first", 1, []*sadb.SA{in}, []uint16{4500}},
		{"another of the same port", 1, []*sadb.SA{out}, nil},
		{"two at once, one new", 1, []*sadb.SA{in, old}, []uint16{500, 4500}},
		{"the draft's port goes", -1, []*sadb.SA{old}, []uint16{4500}},
		{"two of three go", -1, []*sadb.SA{in, in}, nil},
		{"the last goes", -1, []*sadb.SA{out}, []uint16{}},
		{"one ends before it begins", -1, []*sadb.SA{in}, nil},
		{"and begins", 1, []*sadb.SA{in}, nil},
		{"one more", 1, []*sadb.SA{in}, []uint16{4500}},
	} {
		told = nil
		ps.watch(step.by, step.sas...)
		switch {
		case step.want == nil && told != nil, step.want != nil && (len(told) != 1 || !slices.Equal(told[0], step.want)):
			t.Errorf("%s: set is called with %v, want %v", step.name, told, step.want)
		}
	}
	told = nil
	ps.close()
	ps.watch(-1, in)
	if told != nil {
		t.Errorf("after close set is called with %v", told)
	}
}
