package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReadObjects: a struct that the page cannot describe is refused, and the error
// names its place.
func TestReadObjects(t *testing.T) {
	for _, c := range []struct{ source, want string }{
		{"// A list.\ntype AList struct {\n\tHead\n\t// Records.\n\tR []R `json:\"r\"`\n}\n// A record.\ntype R struct {\n\t// Its name.\n\tN string `json:\"n,omitempty\"`\n}\n// What lists begin with.\ntype Head struct{}\n", ""},
		{"type AList struct {\n\t// Records.\n\tR []int `json:\"r\"`\n}\n", "type AList has no comment"},
		{"// A list.\ntype AList struct {\n\tR []int `json:\"r\"`\n}\n", "type AList: field R has no comment before it"},
		{"// A list.\ntype AList struct {\n\tR []int `json:\"r\"` // records\n}\n", "type AList: field R has no comment before it"},
		{"// A list.\ntype AList struct {\n\t// Records.\n\tR []int\n}\n", "type AList: field R has no tag"},
		{"// A list.\ntype AList struct {\n\t// Records.\n\tR []int `json:\"-\"`\n}\n", "type AList: field R has no name in JSON"},
		{"// A list.\ntype AList struct {\n\t// Records.\n\tR []klips.SA `json:\"r\"`\n}\n", "type AList: field R: the page has no words for its type; see typeWords in manpages/gen"},
		{"// A list.\ntype AList struct {\n\t// Records.\n\tR float64 `json:\"r\"`\n}\n", "type AList: field R: the page has no words for its type; see typeWords in manpages/gen"},
		{"// A list.\ntype AList struct {\n\t// Records.\n\tR string `json:\"r\" words:\"colours\"`\n}\n", "type AList: field R: there are no words of colours"},
		{"// A list.\ntype AList struct {\n\tklips.SA\n}\n", "type AList: it embeds what is no struct of the package"},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "lists.go"), []byte("package output\n"+c.source), 0o600); err != nil {
			t.Fatal(err)
		}
		objects, err := readObjects(dir)
		got := ""
		if err != nil {
			got = strings.TrimPrefix(err.Error(), dir+": ")
		}
		if got != c.want || (err == nil) != (len(objects) > 0) {
			t.Errorf("%s: %q, want %q", c.source, got, c.want)
		}
	}
}

func TestParagraph(t *testing.T) {
	for text, want := range map[string]string{
		"One. Two: x.":                        "One.\nTwo: x.\n",
		"See ipsec_spi(5) for more.":          "See\n.Xr ipsec_spi 5\nfor more.\n",
		"The line of ipsec_version(5). More.": "The line of\n.Xr ipsec_version 5 .\nMore.\n",
	} {
		if got := paragraph(text); got != want {
			t.Errorf("paragraph(%q) = %q, want %q", text, got, want)
		}
	}
}
