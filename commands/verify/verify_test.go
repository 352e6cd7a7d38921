package verify

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/serial"
)

// A stack is the model of a stack, with another name and with objects of other programs.
type stack struct {
	klips.Stack
	name    string
	foreign []string
	lists   error // the error of listings
}

func (s stack) Info() klips.Info {
	i := s.Stack.Info()
	i.Name = s.name
	return i
}

func (s stack) Snapshot(ctx context.Context, w klips.Want) (*klips.Snapshot, error) {
	if w.SAs && s.lists != nil {
		return nil, s.lists
	}
	if w.Abilities {
		return &klips.Snapshot{Abilities: []klips.Ability{{Name: "esp over IPv4"}, {Name: "ah over IPv6", Missing: "module ah6"}}}, nil
	}
	t, err := s.Stack.Snapshot(ctx, w)
	if err == nil && w.Foreign {
		t.Foreign = s.foreign
	}
	if err == nil && w.Version && s.name == "user" {
		t.Version = "ipsec version: 0.9"
	}
	return t, err
}

// model returns a stack with a tunnel from a network, attached to eth0.
func model(t *testing.T) klips.Stack {
	m := klipstest.NewModel(func(netip.Addr) bool { return false }, func(name string) (int, bool) { return 1500, name == "eth0" })
	peer := netip.MustParseAddr("192.0.2.2")
	tun, esp := klips.SAID{Dst: peer, SPI: 0x100, Proto: klips.ProtoTun}, klips.SAID{Dst: peer, SPI: 0x101, Proto: klips.ProtoESP}
	ctx := t.Context()
	for _, err := range []error{
		m.AddSA(ctx, &klips.SASpec{ID: tun}),
		m.AddSA(ctx, &klips.SASpec{ID: esp, Transform: klips.Transform{Enc: alg.AES, Auth: alg.SHA1}, EncKey: make([]byte, 16), AuthKey: make([]byte, 20)}),
		m.Group(ctx, []klips.SAID{tun, esp}),
		m.SetEroute(ctx, klips.Eroute{ID: tun, Selector: klips.Selector{Src: netip.MustParsePrefix("10.1.0.0/16"), Dst: netip.MustParsePrefix("10.2.0.0/16")}}, klips.ErouteAdd),
		m.SetEroute(ctx, klips.Eroute{ID: tun, Selector: klips.Selector{Src: netip.MustParsePrefix("fd01::/16"), Dst: netip.MustParsePrefix("fd02::/16")}}, klips.ErouteAdd),
		m.Attach(ctx, "ipsec0", "eth0"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return serial.New(m)
}

var today = time.Date(2026, 3, 4, 5, 6, 0, 0, time.UTC)

// machine returns a host with files, of root, that lacks nothing.
func machine(t *testing.T, files map[string]string) *host {
	all := map[string]string{
		"proc/self/status":                      "Name:\tipsec\nCapEff:\t000001ffffffffff\n",
		"proc/self/uid_map":                     "         0          0 4294967295\n",
		"proc/1/comm":                           "init\n",
		"proc/sys/net/ipv4/ip_forward":          "1\n",
		"proc/sys/net/ipv6/conf/all/forwarding": "1\n",
		"dev/net/tun":                           "",
	}
	for name, text := range files {
		all[name] = text
	}
	root := t.TempDir()
	for name, text := range all {
		if text == "none" {
			continue
		}
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return &host{
		root: root, now: func() time.Time { return today },
		packets:  func() (*ruleset, error) { return nil, errors.New("no nftables") },
		kernel:   func(context.Context, *cli.Env) (klips.Stack, error) { return nil, errors.New("no ESP") },
		openable: func(path string) error { _, err := os.Stat(path); return err },
		writable: func(string) error { return nil },
		modified: func(string) (time.Time, error) { return today.Add(-time.Hour), nil },
	}
}

func run(t *testing.T, h *host, s klips.Stack, env map[string]string, args ...string) clitest.Result {
	t.Helper()
	w := clitest.World{Environ: map[string]string{"IPSEC_CONFS": t.TempDir(), "IPSEC_RUNDIR": "/nothing", "IPSEC_STATEDIR": "/var/lib/ipsec"}}
	for name, value := range env {
		w.Environ[name] = value
	}
	if w.Wrap = func(*clitest.Stack) klips.Stack { return s }; s == nil {
		w.StackErr = errors.New("none here")
	}
	return clitest.Run(app(h), w, args...)
}

// TestGolden: a machine that is fit, and one that is not in any respect.
func TestGolden(t *testing.T) {
	const conf = "proc/sys/net/ipv4/conf/"
	bad := map[string]string{
		"proc/self/status": "CapEff:\t0000000000000000\n", "proc/self/uid_map": "0 1000 1\n", "run/.containerenv": "",
		"proc/sys/user/max_net_namespaces": "0\n", "proc/sys/net/ipv4/ip_forward": "0\n", "proc/sys/net/ipv6/conf/all/forwarding": "0\n",
		conf + "all/rp_filter": "1\n", conf + "eth0/rp_filter": "2\n", conf + "ipsec0/rp_filter": "0\n",
		conf + "eth0/disable_xfrm": "1\n", conf + "all/disable_policy": "1\n", conf + "eth0/accept_redirects": "1\n",
		"proc/net/ip_tables_names": "filter\nmangle\n", "proc/77/comm": "charon\n", "proc/78/comm": "pluto\n",
	}
	for name, c := range map[string]struct {
		s      klips.Stack
		files  map[string]string
		change func(h *host)
	}{
		"fit": {stack{Stack: model(t), name: "xfrm"}, nil, func(*host) {}},
		"unfit": {stack{Stack: model(t), name: "xfrm", foreign: []string{"policy out 10.0.0.0/8 -> 10.9.0.0/16", "another"}}, bad, func(h *host) {
			h.writable = func(string) error { return fs.ErrPermission }
			h.modified = func(string) (time.Time, error) { return today.Add(1000 * time.Hour), nil }
		}},
		"none": {nil, map[string]string{"dev/net/tun": "none", "proc/sys/net/ipv4/ip_forward": "none"}, func(*host) {}},
		"user": {stack{Stack: model(t), name: "user"}, map[string]string{conf + "all/send_redirects": "1\n"}, func(h *host) {
			h.openable = func(string) error { return fs.ErrPermission }
			h.kernel = func(context.Context, *cli.Env) (klips.Stack, error) {
				return stack{Stack: model(t), name: "xfrm", foreign: []string{"policy in 10.9.0.0/16 -> 10.0.0.0/8"}}, nil
			}
		}},
		"ordinary": {stack{Stack: model(t), name: "klips", lists: &klips.OpError{Op: "list", Err: fs.ErrPermission}},
			map[string]string{"proc/self/status": "CapEff:\t0000000000000000\n"}, func(h *host) {
				h.euid = 1000
				h.packets = func() (*ruleset, error) { return nil, fs.ErrPermission }
				h.writable = func(string) error { return fs.ErrPermission }
			}},
	} {
		h := machine(t, c.files)
		c.change(h)
		r := run(t, h, c.s, nil)
		if want := map[bool]int{false: 0, true: cli.ExitFailed}[strings.Contains(r.Out, "FAILED")]; r.Status != want || r.Err != "" {
			t.Errorf("%s: status %d, %q, want %d", name, r.Status, r.Err, want)
		}
		clitest.Golden(t, name+".txt", r.Out)
		r = run(t, h, c.s, nil, "--json")
		clitest.GoldenJSON(t, "verify", name, r.Out)
	}
}

// TestNoRight: a user who may not use the stack learns that it is not known, and root that it
// fails.
func TestNoRight(t *testing.T) {
	for euid, want := range map[int]string{0: "FAILED   stack: ", 1000: "unknown  stack: "} {
		h := machine(t, nil)
		h.euid = euid
		w := clitest.World{StackErr: &klips.UnavailableError{Fault: klips.FaultDaemonRights, Why: "no right", Err: fs.ErrPermission}, Environ: map[string]string{"IPSEC_CONFS": t.TempDir()}}
		r := clitest.Run(app(h), w)
		if !strings.Contains(r.Out, want) || (r.Status == 0) != (euid != 0) {
			t.Errorf("user %d: status %d, %s, want %q", euid, r.Status, r.Out, want)
		}
	}
}

// TestFiles: files that others can change or read, and keys in them, are found, and no key is
// printed.
func TestFiles(t *testing.T) {
	const key = "0x0123456789abcdef0123456789abcdef"
	for _, c := range []struct {
		conf          string
		mode, keyMode fs.FileMode
		want          string
	}{
		{"conn n\n\tmasterkey=@n.key\n", 0o644, 0o600, "ok       files: only their owners"},
		{"conn n\n\tmasterkey=@n.key\n", 0o666, 0o600, "FAILED   files: net.conf: other users can change it"},
		{"conn n\n\tmasterkey=@n.key # the key\n", 0o644, 0o644, "n.key can be read by others (mode 0644)"},
		{"conn n\n\tleftespenckey=\"@n.key\"\n", 0o644, 0o622, "n.key can be changed by others (mode 0622)"},
		{"conn n\n\tespauthkey=@gone.key\n", 0o644, 0o600, "gone.key"},
		{"conn n\n\tahkey=" + key + "\n", 0o644, 0o600, "FAILED   files: it has keys in it: "},
		{"conn n\n\tahkey=" + key + "\n", 0o600, 0o600, "ok       files: only their owners"},
		{"conn n\n\t#ahkey=" + key + "\n", 0o644, 0o600, "ok       files: only their owners"},
	} {
		dir := t.TempDir()
		t.Chdir(dir)
		for name, f := range map[string]struct {
			text string
			mode fs.FileMode
		}{"net.conf": {c.conf, c.mode}, "n.key": {key, c.keyMode}} {
			if err := errors.Join(os.WriteFile(name, []byte(f.text), 0o600), os.Chmod(name, f.mode)); err != nil {
				t.Fatal(err)
			}
		}
		r := run(t, machine(t, nil), stack{Stack: model(t), name: "xfrm"}, map[string]string{"IPSEC_CONFS": "."})
		if !strings.Contains(r.Out, c.want) || strings.Contains(r.Out+r.Err, "0123") {
			t.Errorf("%q, modes %o and %o:\n%s, want %q", c.conf, c.mode, c.keyMode, r.Out, c.want)
		}
	}
}
