package scrape

import (
	"reflect"
	"strings"
	"testing"
)

const whole = `# TYPE ipsec_stack info
# HELP ipsec_stack What it is.
ipsec_stack_info{name="user"} 1
# TYPE ipsec_sa_bytes counter
# UNIT ipsec_sa_bytes bytes
# HELP ipsec_sa_bytes A \"quoted\" word, a \\ and a\nline end.
ipsec_sa_bytes_total{said="esp0x100@2001:db8::1",device="a\"b\\c\nd,e}"} 18446744073709551615
ipsec_sa_bytes_total{said="esp0x101@192.0.2.2"} 1.5e3
ipsec_sa_bytes_created{said="esp0x101@192.0.2.2"} 0
# TYPE ipsec_sa_state stateset
ipsec_sa_state{said="a",ipsec_sa_state="mature"} 1
ipsec_sa_state{said="a",ipsec_sa_state="dead"} 0
ipsec_sa_state{said="b",ipsec_sa_state="mature"} 0
ipsec_sa_state{said="b",ipsec_sa_state="dead"} 1.0
# TYPE ipsec_sas gauge
ipsec_sas 2
# HELP ipsec_empty No samples.
up{} -Inf
# EOF
`

func TestParse(t *testing.T) {
	families, err := Parse(whole)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		names = append(names, f.Name+" "+f.Type+" "+f.Unit)
	}
	if got, want := strings.Join(names, ", "), "ipsec_stack info , ipsec_sa_bytes counter bytes, ipsec_sa_state stateset , ipsec_sas gauge , ipsec_empty unknown , up unknown "; got != want {
		t.Errorf("families %q, want %q", got, want)
	}
	if got, want := families[1].Help, "A \"quoted\" word, a \\ and a\nline end."; got != want {
		t.Errorf("help %q, want %q", got, want)
	}
	want := Sample{"ipsec_sa_bytes_total", map[string]string{"said": "esp0x100@2001:db8::1", "device": "a\"b\\c\nd,e}"}, "18446744073709551615"}
	if got := families[1].Samples[0]; !reflect.DeepEqual(got, want) {
		t.Errorf("sample %q, want %q", got, want)
	}
	if got := Samples(families, "ipsec_sa_state", map[string]string{"said": "b"}); len(got) != 2 || got[1].Value != "1.0" {
		t.Errorf("samples of b: %q", got)
	}
}

// TestRefused: each text breaks one rule of the specification.
func TestRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                                "# EOF",
		"a 1\n":                           "# EOF",
		"# EOF\na 1\n":                    "# EOF",
		"# EOF\n\n":                       "# EOF",
		"\xff 1\n# EOF\n":                 "UTF-8",
		"\n# EOF\n":                       "a name",
		"a 1\r\n# EOF\n":                  "a number",
		"a  1\n# EOF\n":                   "a number",
		"a\t1\n# EOF\n":                   "a name",
		"a 1 \n# EOF\n":                   "a number",
		"a 1 1234\n# EOF\n":               "a number",
		"a 0x1\n# EOF\n":                  "a number",
		"a 1_0\n# EOF\n":                  "a number",
		"a\n# EOF\n":                      "a name",
		"1a 1\n# EOF\n":                   "a name",
		"a-b 1\n# EOF\n":                  "a name",
		"a 1\na 2\n# EOF\n":               "twice",
		"a 1\nb 1\na{x=\"1\"} 2\n# EOF\n": "begun before",
		"#  TYPE a gauge\n# EOF\n":        "comment",
		"#TYPE a gauge\n# EOF\n":          "a name",
		"# comment\n# EOF\n":              "comment",
		"# TYPE a\n# EOF\n":               "no value",
		"# TYPE a histogram\n# EOF\n":     "not a type",
		"# TYPE a Gauge\n# EOF\n":         "not a type",
		"# TYPE a gauge\n# TYPE a gauge\n# EOF\n":                                                      "twice",
		"# TYPE a gauge\na 1\n# HELP a Late.\n# EOF\n":                                                 "after samples",
		"# TYPE a gauge\n# TYPE b gauge\n# HELP a X.\n# EOF\n":                                         "begun before",
		"# TYPE a gauge\na_total 1\n# TYPE a_total gauge\n# EOF\n":                                     "begun before|after samples|samples of the name",
		"# TYPE a counter\na 1\n# EOF\n":                                                               "begun before",
		"# TYPE a_total counter\na_total_total 1\n# EOF\n":                                             "suffix",
		"# TYPE a counter\na_total -1\n# EOF\n":                                                        "not negative",
		"# TYPE a counter\na_total NaN\n# EOF\n":                                                       "not negative",
		"# TYPE a info\na_info 2\n# EOF\n":                                                             "is 1",
		"# TYPE a info\na_info 1\n# TYPE a_info gauge\n# EOF\n":                                        "samples of the name",
		"# TYPE a_x info\n# UNIT a_x x\n# EOF\n":                                                       "no unit",
		"# TYPE a gauge\n# UNIT a bytes\n# EOF\n":                                                      "in its unit",
		"# TYPE a stateset\na{a=\"x\"} 2\n# EOF\n":                                                     "0 or 1",
		"# TYPE a stateset\na{b=\"x\"} 1\n# EOF\n":                                                     "no label",
		"# TYPE a stateset\na{a=\"x\"} 1\na{a=\"y\"} 1\n# EOF\n":                                       "2 states",
		"# TYPE a stateset\na{o=\"1\",a=\"x\"} 1\na{o=\"2\",a=\"y\"} 1\n# EOF\n":                       "other states",
		"# TYPE a stateset\na{o=\"1\",a=\"x\"} 1\na{o=\"2\",a=\"x\"} 1\na{o=\"1\",a=\"y\"} 0\n# EOF\n": "follow",
		"a{x=\"1\",} 1\n# EOF\n":                                                                       "name of a label",
		"a{x=\"1\" ,y=\"1\"} 1\n# EOF\n":                                                               "comma",
		"a{x=1} 1\n# EOF\n":                                                                            "name of a label",
		"a{x=\"1\",x=\"2\"} 1\n# EOF\n":                                                                "twice",
		"a{__x=\"1\"} 1\n# EOF\n":                                                                      "reserved",
		"a{x=\"1} 1\n# EOF\n":                                                                          "no end",
		"a{x=\"\\t\"} 1\n# EOF\n":                                                                      "escape",
		"a{x=\"1\"}1\n# EOF\n":                                                                         "a number",
		"# HELP a \"x\"\n# EOF\n":                                                                      "not escaped",
	} {
		_, err := Parse(text)
		ok := false
		for w := range strings.SplitSeq(want, "|") {
			ok = ok || err != nil && strings.Contains(err.Error(), w)
		}
		if !ok {
			t.Errorf("Parse(%q) = %v, want an error with %q", text, err, want)
		}
	}
}

// FuzzParse: no text makes the parser panic, and what it has accepted has no sample twice.
func FuzzParse(f *testing.F) {
	f.Add(whole)
	f.Add("a{x=\"\\\\\"} 1\n# EOF")
	f.Fuzz(func(t *testing.T, text string) {
		families, err := Parse(text)
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, fam := range families {
			for _, s := range fam.Samples {
				if !fam.owns(s.Name) || seen[s.key("")] {
					t.Fatalf("%q of family %s in %q", s.key(""), fam.Name, text)
				}
				seen[s.key("")] = true
			}
		}
	})
}
