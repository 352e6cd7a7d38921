package algs

import (
	"strconv"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/syntax"
)

// transforms returns all algorithms, each in a Transform of its own: ciphers,
// authentication, compression.
func transforms() (l []klips.Transform) {
	for _, e := range alg.Encs() {
		l = append(l, klips.Transform{Enc: e})
	}
	for _, a := range alg.Auths() {
		l = append(l, klips.Transform{Auth: a})
	}
	for _, c := range alg.Comps() {
		l = append(l, klips.Transform{Comp: c})
	}
	return l
}

// names returns all names of an algorithm, of all programs.
func names(t klips.Transform) []string {
	a := output.NewAlgorithm(t)
	l := append([]string{a.Word, a.Title, a.ListingName, strings.TrimPrefix(a.ListingName, "_")}, a.Names...)
	if a.RFC > 0 {
		l = append(l, "RFC "+strconv.Itoa(a.RFC), "RFC"+strconv.Itoa(a.RFC))
	}
	for _, n := range []string{a.KernelName, a.SetkeyName, a.WiresharkName} {
		if n != "" {
			l = append(l, n)
		}
	}
	return l
}

// words returns all names in lower case.
func words() (l []string) {
	for _, t := range transforms() {
		for _, n := range names(t) {
			l = append(l, strings.ToLower(n))
		}
	}
	return l
}

// find returns the algorithms that have a name, in upper or lower case, each in a Transform
// of its own: all of an RFC, the two of a transform. Underscores are equivalent to hyphens.
func find(name string) (l []klips.Transform) {
	plain := func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "_", "-") }
	for _, t := range transforms() {
		for _, n := range names(t) {
			if plain(n) == plain(name) {
				l = append(l, t)
				break
			}
		}
	}
	if len(l) > 0 {
		return l
	}
	t, _, err := syntax.ParseESP(strings.ToLower(name))
	if err != nil {
		t = klips.Transform{}
		t.Auth, _ = syntax.ParseAH(strings.ToLower(name))
	}
	if t.Enc != alg.EncNone {
		l = append(l, klips.Transform{Enc: t.Enc})
	}
	if t.Auth != alg.AuthNone {
		l = append(l, klips.Transform{Auth: t.Auth})
	}
	return l
}
