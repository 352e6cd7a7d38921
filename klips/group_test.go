package klips

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// saids parses short names: "tunA espB ahC" are tun0x100@192.0.2.1, esp0x101@192.0.2.2
// and ah0x102@192.0.2.3; small letters are IPv6.
func saids(t *testing.T, short string) []SAID {
	t.Helper()
	var ids []SAID
	for i, s := range strings.Fields(short) {
		proto, host := s[:len(s)-1], s[len(s)-1]
		dst := fmt.Sprintf("192.0.2.%d", host-'A'+1)
		if host >= 'a' {
			dst = fmt.Sprintf("2001:db8::%d", host-'a'+1)
		}
		var id SAID
		if err := id.UnmarshalText(fmt.Appendf(nil, "%s0x%x@%s", proto, 0x100+i, dst)); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

func TestCheckGroup(t *testing.T) {
	for _, tt := range []struct {
		group string
		want  []GroupFault // SA and Other by their places in the group
	}{
		{"espA", nil},
		{"tunA", nil},
		{"tunA espA", nil},
		{"tunA espA ahA", nil},
		{"tunA compA espA ahA", nil},
		{"compA espA ahA", nil},
		{"tuna espa aha", nil},
		{"ahA espA", nil}, // unusual, but each end can undo it
		{"tunA espA tunB espB", nil},
		{"tunA espA tunA espA", nil}, // two tunnels between the same ends (RFC 2401 section 4.3)
		{"tunA tunB espB", nil},
		{"espC tunA espA", nil}, // transport mode to the host behind the gateway, in a tunnel to it
		{"tunA espA tunb espb", nil},
	} {
		if got := CheckGroup(saids(t, tt.group)); got != nil {
			t.Errorf("CheckGroup(%s) = %v, want nothing", tt.group, got)
		}
	}
	type fault struct {
		kind      GroupFaultKind
		at, other int
	}
	for _, tt := range []struct {
		group string
		want  []fault
	}{
		{"tunA espB", []fault{{GroupDestination, 1, 0}}},
		{"tuna espb", []fault{{GroupDestination, 1, 0}}},
		{"tunA espa", []fault{{GroupDestination, 1, 0}}},
		{"tunA espA ahB", []fault{{GroupDestination, 2, 0}}},
		{"tunA espB ahA", []fault{{GroupDestination, 1, 0}}},
		{"espA ahB", []fault{{GroupDestination, 1, 0}}},
		{"compA espB", []fault{{GroupDestination, 1, 0}}},
		{"tunA espA tunB espA", []fault{{GroupDestination, 3, 2}}},
		{"espA tunA", []fault{{GroupInside, 0, 1}}},
		{"espa tuna", []fault{{GroupInside, 0, 1}}},
		{"ahA tunA espA", []fault{{GroupInside, 0, 1}}},
		{"compA tunA espA", []fault{{GroupInside, 0, 1}}},
		{"espA compA", []fault{{GroupCompression, 1, 0}}},
		{"tunA ahA compA", []fault{{GroupCompression, 2, 1}}},
		{"tunA espA compA ahA", []fault{{GroupCompression, 2, 1}}},
		{"espC tunA", []fault{{GroupBare, 1, 0}}},
		{"tunA espA tunB", []fault{{GroupBare, 2, 1}}},
		{"espA compB", []fault{{GroupDestination, 1, 0}, {GroupCompression, 1, 0}}},
	} {
		ids := saids(t, tt.group)
		var want []GroupFault
		for _, f := range tt.want {
			want = append(want, GroupFault{f.kind, ids[f.at], ids[f.other]})
		}
		if got := CheckGroup(ids); !slices.Equal(got, want) {
			t.Errorf("CheckGroup(%s) = %v, want %v", tt.group, got, want)
		}
	}
}

func TestGroups(t *testing.T) {
	ids := saids(t, "tunA espA ahA espB espC")
	a, b, c, alone, missing := ids[0], ids[1], ids[2], ids[3], ids[4]
	sas := []SA{{ID: b, Next: []SAID{c}}, {ID: alone}, {ID: c}, {ID: a, Next: []SAID{b, c}}}
	for id, want := range map[SAID][]SAID{a: {a, b, c}, b: {a, b, c}, c: {a, b, c}, alone: {alone}} {
		group, err := NewGroups(sas).Of(id)
		var got []SAID
		for _, sa := range group {
			got = append(got, sa.ID)
		}
		if d := cmp.Diff(want, got, cmp.Comparer(func(a, b SAID) bool { return a == b })); d != "" || err != nil {
			t.Errorf("Of(%v): %v (-want +got)\n%s", id, err, d)
		}
	}
	// A line may name an SA that was removed meanwhile.
	for _, list := range [][]SA{sas, nil, {{ID: a, Next: []SAID{missing}}}} {
		if got, err := NewGroups(list).Of(missing); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("Of(%v) = %v, %v, want ESRCH", missing, got, err)
		}
	}
}
