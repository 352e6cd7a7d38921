package setup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/classic"
	"github.com/klips-go/ipsec/klips/classic/classictest"
)

// A klipsBench is a machine that has KLIPS, or has it after its module is loaded.
type klipsBench struct {
	machine classic.Machine
	loaded  bool
	loads   int
	loadErr error
	rundir  string
}

func newKLIPS(t *testing.T) *klipsBench {
	t.Helper()
	k := classictest.NewKernel(t, netip.MustParseAddr("192.0.2.1"))
	b := &klipsBench{machine: k.Machine(), loaded: true, rundir: t.TempDir()}
	b.machine.ProcSys = t.TempDir()
	for name, text := range map[string]string{"icmp": "0\n", "inbound_policy_check": "1\n", "tos": "0\n"} {
		write(t, filepath.Join(b.machine.ProcSys, name), text)
	}
	return b
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (b *klipsBench) open(context.Context) (klips.Stack, error) {
	if !b.loaded {
		return nil, &klips.UnavailableError{Fault: klips.FaultNoKLIPS, Err: classic.ErrNotLoaded}
	}
	return classic.New(b.machine), nil
}

func (b *klipsBench) run(action func(kernel, context.Context) error) result {
	var out, errs bytes.Buffer
	k := kernel{
		env: &cli.Env{
			Name: "ipsec setup", Out: &out, Err: &errs, StackName: "klips", Stack: b.open,
			Getenv: func(string) string { return b.rundir },
		},
		load: func(context.Context) error {
			b.loads++
			b.loaded = b.loadErr == nil
			return b.loadErr
		},
	}
	text, status := cli.Message("ipsec setup", action(k, context.Background()))
	return result{status, out.String(), errs.String() + text}
}

func set(words ...string) func(kernel, context.Context) error {
	return func(k kernel, ctx context.Context) error { return k.set(ctx, words) }
}

func showStatus(k kernel, ctx context.Context) error { return k.status(ctx, false) }

// fill sets up a tunnel through ipsec0.
func (b *klipsBench) fill(t *testing.T) {
	t.Helper()
	s := classic.New(b.machine)
	defer s.Close()
	id := klips.SAID{Proto: klips.ProtoTun, SPI: 0x100, Dst: netip.MustParseAddr("192.0.2.2")}
	e := klips.Eroute{ID: id, Selector: klips.Selector{Src: netip.MustParsePrefix("10.1.0.0/16"), Dst: netip.MustParsePrefix("10.2.0.0/16")}}
	if err := errors.Join(
		s.Attach(t.Context(), "ipsec0", "eth0"),
		s.AddSA(t.Context(), &klips.SASpec{ID: id, Src: netip.MustParseAddr("192.0.2.1")}),
		s.SetEroute(t.Context(), e, klips.ErouteAdd)); err != nil {
		t.Fatal(err)
	}
}

// TestKLIPSStatus: status lists knobs and abilities, and after a stop reports that
// nothing is set up.
func TestKLIPSStatus(t *testing.T) {
	b := newKLIPS(t)
	b.fill(t)
	r := b.run(showStatus)
	for _, want := range []string{"IPsec running - stack klips: ", "1 SAs, 1 eroutes\n", "ipsec0 on eth0", "icmp=0\ninbound_policy_check=1\ntos=0\n",
		"it has ah over IPv4, ", "cbc(aes), ", "it lacks ah over IPv6: "} {
		if r.status != 0 || !strings.Contains(r.out, want) {
			t.Errorf("status: %d, lacks %q:\n%s%s", r.status, want, r.out, r.err)
		}
	}
	if strings.Contains(r.out, "nothing is set up") {
		t.Errorf("status of a tunnel:\n%s", r.out)
	}
	r = b.run(func(k kernel, ctx context.Context) error { return k.status(ctx, true) })
	var l output.SetupList
	if err := json.Unmarshal([]byte(r.out), &l); err != nil || len(l.Status) != 1 || !l.Status[0].Running || len(l.Status[0].Abilities) == 0 ||
		!maps.Equal(l.Status[0].Knobs, map[string]string{"icmp": "0", "inbound_policy_check": "1", "tos": "0"}) {
		t.Errorf("status --json: %v, %s", err, r.out)
	}
	if r := b.run(kernel.stop); r.status != 0 || r.out+r.err != "" {
		t.Fatalf("stop: %v", r)
	}
	if r := b.run(showStatus); r.status != 0 || !strings.Contains(r.out, "0 SAs, 0 eroutes\nnothing is set up\nipsec0 not attached") {
		t.Errorf("status after stop: %v", r)
	}
}

// TestKLIPSKeyDaemon: objects of a running key daemon are not cleared.
func TestKLIPSKeyDaemon(t *testing.T) {
	b := newKLIPS(t)
	b.fill(t)
	registered := filepath.Join(b.machine.ProcNet, "pf_key_registered")
	write(t, registered, "satype   socket   pid       sk\n     3 00000000f7a1     0 00000000c0de\n")
	for name, action := range map[string]func(kernel, context.Context) error{"stop": kernel.stop, "restart": errOf(kernel.restart), "condrestart": errOf(kernel.condrestart)} {
		if r := b.run(action); r.status != 1 || !strings.Contains(r.err, "a key daemon has registered with stack klips") {
			t.Errorf("%s with a key daemon: %v", name, r)
		}
		if r := b.run(showStatus); !strings.Contains(r.out, "1 SAs, 1 eroutes\nipsec0 on eth0") {
			t.Errorf("after %s with a key daemon: %s", name, r.out)
		}
	}
	write(t, registered, "satype   socket   pid       sk\n")
	if r := b.run(kernel.stop); r.status != 0 {
		t.Errorf("stop without a key daemon: %v", r)
	}
}

func TestKLIPSKnobs(t *testing.T) {
	b := newKLIPS(t)
	if r := b.run(set("icmp=1", "tos=1")); r.status != 0 || r.out+r.err != "" {
		t.Fatalf("set: %v", r)
	}
	for _, tt := range []struct {
		words  string
		status int
		want   string
	}{
		{"icmp=0 inbound_policy_required=1", 1, "set inbound_policy_required: there is no such knob; ipsec setup status lists them"},
		{"icmp=0 tos=7", 2, "tos=7: write KNOB=0 or KNOB=1"},
		{"icmp=0 icmp=1", 2, "icmp: it was given twice"},
	} {
		if r := b.run(set(strings.Fields(tt.words)...)); r.status != tt.status || !strings.Contains(r.err, tt.want) {
			t.Errorf("set %s: %v, want %d, %q", tt.words, r, tt.status, tt.want)
		}
		if r := b.run(showStatus); !strings.Contains(r.out, "icmp=1\ninbound_policy_check=1\ntos=1\n") {
			t.Errorf("after set %s: %s", tt.words, r.out)
		}
	}
}

// TestKLIPSLoads: only actions that start the stack load the module, and only if it is
// missing. Then the knobs get the values of KLIPS' setup.
func TestKLIPSLoads(t *testing.T) {
	for _, tt := range []struct {
		name   string
		action func(kernel, context.Context) error
		loads  int
		status int
		err    string
	}{
		{"start", errOf(kernel.start), 1, 0, ""},
		{"reload", errOf(kernel.reload), 1, 0, ""},
		{"restart", errOf(kernel.restart), 1, 0, ""},
		{"condrestart", errOf(kernel.condrestart), 0, 0, "nothing to restart: this kernel has no KLIPS"},
		{"stop", kernel.stop, 0, 0, "nothing to stop: this kernel has no KLIPS"},
		{"status", showStatus, 0, exitStopped, ""},
		{"set", set("tos=1"), 0, 1, "this kernel has no KLIPS"},
	} {
		b := newKLIPS(t)
		b.loaded = false
		r := b.run(tt.action)
		if r.status != tt.status || b.loads != tt.loads || !strings.Contains(r.err, tt.err) || (tt.err == "") != (r.err == "") {
			t.Errorf("%s: %v, module loaded %d times; want status %d, %q, %d times", tt.name, r, b.loads, tt.status, tt.err, tt.loads)
		}
		if b.loaded {
			if r := b.run(showStatus); !strings.Contains(r.out, "icmp=1\ninbound_policy_check=1\ntos=1\n") {
				t.Errorf("knobs after %s: %s", tt.name, r.out)
			}
			if r := b.run(tt.action); r.status != 0 || b.loads != tt.loads {
				t.Errorf("a second %s: %v, module loaded %d times", tt.name, r, b.loads)
			}
		}
	}
	b := newKLIPS(t)
	b.loaded, b.loadErr = false, errors.New("no such module")
	if r := b.run(errOf(kernel.start)); r.status != 1 || r.err != "ipsec setup: no such module" {
		t.Errorf("start without a module: %v", r)
	}
}

// TestKLIPSStartKeepsKnobs: start does not change the knobs of a loaded module.
func TestKLIPSStartKeepsKnobs(t *testing.T) {
	b := newKLIPS(t)
	if r := b.run(errOf(kernel.start)); r.status != 0 || b.loads != 0 || r.out+r.err != "" {
		t.Errorf("start: %v, module loaded %d times", r, b.loads)
	}
	if r := b.run(showStatus); !strings.Contains(r.out, "icmp=0\ninbound_policy_check=1\ntos=0\n") {
		t.Errorf("knobs after start: %s", r.out)
	}
}
