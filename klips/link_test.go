package klips

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestCheckLinks names SAs by digits; 0 is one that was freed.
func TestCheckLinks(t *testing.T) {
	id := func(r rune) SAID {
		if r == '0' {
			return SAID{}
		}
		return SAID{Dst: netip.MustParseAddr("10.9.0.2"), SPI: SPI(r-'0') + MinSPI, Proto: ProtoESP}
	}
	for _, tt := range []struct{ lines, want string }{
		{"", ""},
		{"1 2 3", ""},
		{"123 23 3", ""},
		{"12 2 34 4", ""},
		{"10", "freed 1 0"},
		{"120 20", "freed 2 0"}, // once, at its SA
		{"10 20", "freed 1 0;freed 2 0"},
		{"13 23 3", "shared 2 3 1"},
		{"134 34 4 234", "shared 2 3 1"},
		{"14 24 34 4", "shared 2 4 1;shared 3 4 1"},
		{"130 230 30", "shared 2 3 1;freed 3 0"},
		{"121 212", "loop 1 2;loop 2 1"},
		{"11", "loop 1 1"},
		{"19", ""}, // the tables are read one after the other
	} {
		var sas []SA
		for line := range strings.FieldsSeq(tt.lines) {
			sa := SA{ID: id(rune(line[0]))}
			for _, r := range line[1:] {
				sa.Next = append(sa.Next, id(r))
			}
			sas = append(sas, sa)
		}
		digit := func(id SAID) string {
			if id == (SAID{}) {
				return "0"
			}
			return strconv.Itoa(int(id.SPI - MinSPI))
		}
		var got []string
		for _, f := range CheckLinks(sas) {
			text := string(f.Kind) + " " + digit(f.SA) + " " + digit(f.Next)
			if f.Other != (SAID{}) {
				text += " " + digit(f.Other)
			}
			got = append(got, text)
		}
		if d := cmp.Diff(tt.want, strings.Join(got, ";")); d != "" {
			t.Errorf("CheckLinks of %q (-want +got):\n%s", tt.lines, d)
		}
		// Reading groups with such links ends.
		g := NewGroups(sas)
		for _, sa := range sas {
			group, err := g.Of(sa.ID)
			if err != nil || len(group) > 2*len(sas) {
				t.Errorf("%q: the group of %v is %v, %v", tt.lines, sa.ID, group, err)
			}
			var ids []SAID
			for _, m := range append(group, SA{}) {
				ids = append(ids, m.ID)
			}
			CheckGroup(ids)
		}
	}
}
