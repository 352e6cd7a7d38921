package eroute

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/kernel"
	"github.com/klips-go/ipsec/klips/klipstest"
)

// On a KLIPS kernel, which looks at the masks only where several eroutes have the
// addresses, no eroute is taken for another.
func TestKLIPSMasks(t *testing.T) {
	k := klipstest.NewKernel(t, netip.MustParseAddr("10.0.0.1"))
	flow := func(op, dst string, more ...string) []string {
		return append([]string{op, "--eraf", "inet", "--src", "10.1.0.0/16", "--dst", dst}, more...)
	}
	const route16 = "0          10.1.0.0/16        -> 10.4.0.0/16        => %drop\n"
	const route17 = "0          10.1.0.0/16        -> 10.4.0.0/17        => %drop\n"
	for _, step := range []struct {
		args []string
		err  string // what is on standard error
		want string // the table after it
	}{
		{flow("--add", "10.4.0.0/16", "--said", "%drop"), "", route16},
		{flow("--del", "10.4.0.0/17"), "ipsec eroute: 10.1.0.0/16 -> 10.4.0.0/17: eroute not removed: there is none with these masks, and KLIPS would remove 10.1.0.0/16 -> 10.4.0.0/16 in its place\n", route16},
		{flow("--replace", "10.4.0.0/17", "--said", "%drop"), "ipsec eroute: 10.1.0.0/16 -> 10.4.0.0/17: eroute not replaced: there is none with these masks, and KLIPS would replace 10.1.0.0/16 -> 10.4.0.0/16; add it, which leaves that one alone\n", route16},
		{flow("--add", "10.4.0.0/17", "--said", "%drop"), "", route17 + route16},
		{flow("--del", "10.4.0.0/18"), "ipsec eroute: 10.1.0.0/16 -> 10.4.0.0/18: eroute not removed: there is none with these masks, and KLIPS would remove 10.1.0.0/16 -> 10.4.0.0/17 in its place\n", route17 + route16},
		{flow("--del", "10.4.0.0/16"), "", route17},
		{flow("--del", "10.4.0.0/17"), "", ""},
	} {
		w := clitest.World{Wrap: func(klips.Stack) klips.Stack { return kernel.New(k.Machine()) }}
		r := clitest.Run(App(), w, step.args...)
		table, err := os.ReadFile(filepath.Join(k.ProcNet, "ipsec_eroute"))
		if (r.Status == 0) != (step.err == "") || r.Err != step.err || err != nil || string(table) != step.want {
			t.Errorf("%q: status %d, %swant %s\ntable, %v:\n%swant\n%s", step.args, r.Status, r.Err, step.err, err, table, step.want)
		}
	}
}
