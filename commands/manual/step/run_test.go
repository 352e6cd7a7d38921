package step

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/routes"
	"github.com/klips-go/ipsec/commands/manual/host"
)

// A table is a network that has only routes. It refuses those to the prefix refused.
type table struct {
	host.Network
	refused netip.Prefix
	dsts    []netip.Prefix
}

func (tb *table) Add(r routes.Route) error {
	if r.Dst == tb.refused {
		return syscall.ENETUNREACH
	}
	tb.dsts = append(tb.dsts, r.Dst)
	return nil
}

func (tb *table) Remove(r routes.Route) (routes.Route, error) {
	i := slices.Index(tb.dsts, r.Dst)
	if i < 0 {
		return r, syscall.ESRCH
	}
	tb.dsts = slices.Delete(tb.dsts, i, i+1)
	return r, nil
}

func (tb *table) text() string {
	var words []string
	for _, d := range tb.dsts {
		words = append(words, d.String())
	}
	return strings.Join(words, " ")
}

// to returns a step that adds a route, or removes it.
func to(dst string, remove bool) Step {
	return Step{Route: &routes.Route{Dst: netip.MustParsePrefix(dst), Device: "ipsec0"}, Remove: remove, IfExists: remove}
}

// runner returns a Runner for connection t on a network, and its output.
func runner(tb *table) (r *Runner, out, errOut *bytes.Buffer) {
	out, errOut = &bytes.Buffer{}, &bytes.Buffer{}
	return NewRunner(&cli.Env{Name: "ipsec up", Out: out, Err: errOut}, "t", tb, true), out, errOut
}

// TestAll: a plan is carried out as a whole, or taken back in reverse order.
func TestAll(t *testing.T) {
	tb := &table{refused: netip.MustParsePrefix("10.3.0.0/16")}
	r, _, errOut := runner(tb)
	r.Plan.Steps = []Step{to("10.1.0.0/16", false), to("10.2.0.0/16", false), to("10.3.0.0/16", false)}
	err := r.All(t.Context())
	if want := "the gateway is not in a network of ipsec0"; err == nil || !strings.Contains(err.Error(), want) || tb.text() != "" {
		t.Errorf("the third is refused: %v, want %s; left: %s", err, want, tb.text())
	}
	const want = `+ ip route add 10.1.0.0/16 dev ipsec0
+ ip route add 10.2.0.0/16 dev ipsec0
+ ip route add 10.3.0.0/16 dev ipsec0
+ ip route del 10.2.0.0/16 dev ipsec0
+ ip route del 10.1.0.0/16 dev ipsec0
`
	if errOut.String() != want {
		t.Errorf("printed:\n%swant\n%s", errOut, want)
	}
	r.Plan.Steps = r.Plan.Steps[:2]
	if err := r.All(t.Context()); err != nil || tb.text() != "10.1.0.0/16 10.2.0.0/16" {
		t.Errorf("%v, routes %s", err, tb.text())
	}
	var own []string // the caller's own work, which is the last
	r.OnTakeBack(func(context.Context) error { own = append(own, tb.text()); return errors.New("a\nb") })
	errOut.Reset()
	r.TakeBack(t.Context())
	if len(own) != 1 || own[0] != "10.1.0.0/16 10.2.0.0/16" || tb.text() != "" {
		t.Errorf("taken back later: the caller's own work at %q, left: %s", own, tb.text())
	}
	if want := "ipsec up: note: not taken back: a; b\n"; !strings.HasPrefix(errOut.String(), want) {
		t.Errorf("printed %s, want %s", errOut, want)
	}
	r.TakeBack(t.Context())
	if len(own) != 1 {
		t.Error("it is taken back twice")
	}
}

// TestInterrupted: an interrupt between two steps takes back what was done.
func TestInterrupted(t *testing.T) {
	tb := &table{}
	r, out, _ := runner(tb)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	r.Plan.Steps = []Step{to("10.1.0.0/16", false)}
	if err := r.All(ctx); !errors.Is(err, errInterrupted) || tb.text() != "" || out.Len() != 0 {
		t.Errorf("%v, routes %s", err, tb.text())
	}
}

// TestEach: all steps are carried out, also after errors, and what was missing is counted.
func TestEach(t *testing.T) {
	tb := &table{refused: netip.MustParsePrefix("10.3.0.0/16"), dsts: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}
	r, _, _ := runner(tb)
	r.Plan.Steps = []Step{to("10.3.0.0/16", false), to("10.2.0.0/16", true), to("10.1.0.0/16", true)}
	gone, of, errs := r.Each(t.Context())
	if gone != 1 || of != 2 || len(errs) != 1 || tb.text() != "" {
		t.Errorf("%d of %d were gone, %v, left: %s; want 1 of 2, one error", gone, of, errs, tb.text())
	}
}

// TestScript: a script gets the environment of the plan, and its verb.
func TestScript(t *testing.T) {
	r, out, errOut := runner(&table{})
	r.Plan = Plan{Environ: []string{"PLUTO_ME=10.0.0.1"}, Steps: []Step{{Script: `echo "$PLUTO_VERB $PLUTO_ME"`, Verb: "up-host"}}}
	if err := r.All(t.Context()); err != nil || out.String() != "up-host 10.0.0.1\n" {
		t.Errorf("%v, %s%s", err, out, errOut)
	}
	r.Plan.Steps[0].Script = "exit 3"
	if err := r.All(t.Context()); err == nil || err.Error() != "exit 3 (up-host): exit status 3" {
		t.Errorf("the script fails: %v", err)
	}
}
