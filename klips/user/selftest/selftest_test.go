package selftest

import (
	"testing"

	"github.com/klips-go/ipsec/klips/alg"
)

// TestTests: every test passes, and each algorithm that carries packets has one.
func TestTests(t *testing.T) {
	tested := map[string]int{}
	for _, test := range Tests() {
		if err := test.Check(); err != nil {
			t.Errorf("%v, %s: %v", test.Of, test.Source, err)
		}
		if test.Source == "" || len(test.Of) == 0 {
			t.Errorf("a test of %q has the source %q", test.Of, test.Source)
		}
		for _, of := range test.Of {
			tested[of]++
		}
	}
	want := []string{Window, ESN, alg.Deflate.String()}
	for _, e := range alg.Encs() {
		want = append(want, e.String())
	}
	for _, a := range alg.Auths() {
		want = append(want, a.String())
	}
	for _, of := range want {
		if tested[of] == 0 {
			t.Errorf("there is no test of %s", of)
		}
	}
	if len(tested) != len(want) {
		t.Errorf("tests of %v, want %v", tested, want)
	}
}
