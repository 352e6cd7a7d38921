package manual

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/commands/manual/conf"
)

// TestPage: ipsec.conf(5) describes every parameter that is used, and has it in an example.
// The tests of the pages run the examples.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../manpages/ipsec.conf.5")
	if err != nil {
		t.Fatal(err)
	}
	_, examples, ok := strings.Cut(string(page), "\n.Sh EXAMPLES\n")
	if !ok {
		t.Fatal("the page has no examples")
	}
	described := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\.It Cm (\w+(?: , \w+)*)$`).FindAllStringSubmatch(string(page), -1) {
		for name := range strings.SplitSeq(m[1], " , ") {
			described[name] = true
		}
	}
	for _, name := range append(allParams(), "interfaces", "hidetos", "manualstart", "forwardcontrol", "rp_filter") {
		other := conf.Flip(name)
		if strings.HasPrefix(name, sides[1]) {
			continue // the page describes those of left
		}
		if !described[name] {
			t.Errorf("%s is not described", name)
		}
		if !strings.Contains(examples, "\n\t"+name+"=") && !strings.Contains(examples, "\n\t"+other+"=") {
			t.Errorf("%s is in no example", name)
		}
	}
}
