package output

import (
	"strings"
	"testing"

	"github.com/klips-go/ipsec/klips"
)

// TestGroups: each SA is in a group, whatever a KLIPS kernel shows.
func TestGroups(t *testing.T) {
	for _, c := range []struct{ table, want string }{
		{"", ""},
		{"a", "a"},
		{"a b c,b c,c,d", "a b c,d"},
		{"c,b c,a b c", "a b c"},           // the order of the table has no meaning
		{"a c,b c,c", "a c,b c"},           // two are linked to one
		{"a b", "a b"},                     // b was removed while the table was read
		{"a b a,b a b,c", "c,a b a"},       // a loop has no beginning
		{"a b c b,b c b,c b c", "a b c b"}, // a loop after a first SA
	} {
		var sas []klips.SA
		for line := range strings.SplitSeq(c.table, ",") {
			if line == "" {
				continue
			}
			var ids []klips.SAID
			for name := range strings.FieldsSeq(line) {
				ids = append(ids, klips.SAID{Proto: klips.ProtoESP, SPI: klips.SPI(name[0])})
			}
			sas = append(sas, klips.SA{ID: ids[0], Next: ids[1:]})
		}
		var got []string
		for _, g := range Groups(sas) {
			var names []string
			for _, m := range g.Members {
				names = append(names, string(rune(m.SPI)))
			}
			got = append(got, strings.Join(names, " "))
		}
		if s := strings.Join(got, ","); s != c.want {
			t.Errorf("Groups(%s) = %s, want %s", c.table, s, c.want)
		}
	}
}
