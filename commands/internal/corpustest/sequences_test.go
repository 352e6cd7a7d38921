package corpustest

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/klipstest/recorded"
	"github.com/klips-go/ipsec/klips/procfs"
	"github.com/klips-go/ipsec/klips/syntax"
)

// TestSequences replays all recorded sequences of commands.
func TestSequences(t *testing.T) {
	counts := make([]int, len(differences))
	for q := range recorded.Sequences(t) {
		t.Run(q.ID, func(t *testing.T) {
			if q.Quirk {
				replayBetter(t, q)
				return
			}
			replay(t, q, counts)
		})
	}
	for i, d := range differences {
		t.Logf("%d steps: %s", counts[i], d.text)
		// A difference must not cover other steps than those that it was written for.
		if counts[i] != d.n {
			t.Errorf("%d steps differ because %s; want %d", counts[i], d.text, d.n)
		}
	}
}

// A difference is a step whose result differs from the recording on purpose.
type difference struct {
	text string
	n    int // number of steps in all recordings
	// fits reports whether a step has this difference. mend then brings the stack to
	// the state of the original, so that the rest of the sequence has the same meaning.
	fits func(s *recorded.Step, r clitest.Result) bool
	mend func(w *world, s *recorded.Step) error
}

var differences = []difference{
	{
		text: "a group of which one SA cannot be linked is refused as a whole; the original tool leaves the links before it",
		n:    2,
		fits: func(s *recorded.Step, r clitest.Result) bool {
			return s.Cmd[0] == "spigrp" && s.Exit != 0 && s.Accepted > 0 && r.Status != 0
		},
		mend: func(w *world, s *recorded.Step) error {
			ids := saids(w.t, s.Cmd[1:])
			for i := range s.Accepted {
				if err := w.stack.Group(w.t.Context(), ids[i:i+2]); err != nil {
					return err
				}
			}
			return nil
		},
	},
	{
		text: "replacing an eroute that is not there adds it; the tools of the last release are refused, the older ones add",
		n:    58,
		fits: func(s *recorded.Step, r clitest.Result) bool {
			return s.Cmd[0] == "eroute" && slices.Contains(s.Cmd, "--replace") && s.Errno == syscall.EFAULT && r.Status == 0
		},
		mend: func(w *world, s *recorded.Step) error {
			cmd := slices.Clone(s.Cmd)
			cmd[slices.Index(cmd, "--replace")] = "--del"
			if r := w.run(cmd); r.Status != 0 {
				return r.Error
			}
			return nil
		},
	},
	{
		text: "--life works with --esp too; Openswan's tool sends a message that is too long",
		n:    2,
		fits: func(s *recorded.Step, r clitest.Result) bool {
			return s.Cmd[0] == "spi" && slices.Contains(s.Cmd, "--life") && s.Errno == syscall.EINVAL && r.Status == 0
		},
		mend: func(w *world, s *recorded.Step) error {
			return w.stack.DeleteSA(w.t.Context(), saidOf(w.t, s.Cmd))
		},
	},
	{
		text: "replay windows may be larger than 64 packets",
		n:    4,
		fits: func(s *recorded.Step, r clitest.Result) bool {
			return s.Exit != 0 && s.Errno == 0 && r.Status == 0 && slices.Contains(s.Cmd, "--replay_window")
		},
		mend: func(w *world, s *recorded.Step) error { return w.stack.DeleteSA(w.t.Context(), saidOf(w.t, s.Cmd)) },
	},
	{
		text: "limits in packets are kept; PF_KEY messages of the original have no place for them",
		n:    3,
		fits: func(s *recorded.Step, r clitest.Result) bool {
			return s.Exit == 0 && r.Status == 0 && packetLimit.MatchString(strings.Join(s.Cmd, " "))
		},
		mend: func(w *world, s *recorded.Step) error {
			sa, err := w.stack.GetSA(w.t.Context(), saidOf(w.t, s.Cmd))
			if err != nil || sa.Life.Packets.Hard+sa.Life.Packets.Soft == 0 {
				return fmt.Errorf("limits %+v, %v", sa.Life, err)
			}
			if err := w.stack.DeleteSA(w.t.Context(), sa.ID); err != nil {
				return err
			}
			return w.again(s.Cmd, func(a string) string { return packetLimit.ReplaceAllString(a, "hard-allocations=0") })
		},
	},
	{
		text: "a port above 65535 is refused; the original cuts it to 16 bits",
		n:    1,
		fits: func(s *recorded.Step, r clitest.Result) bool {
			return s.Exit == 0 && r.Status != 0 && slices.Contains(s.Cmd, "65536")
		},
		mend: func(w *world, s *recorded.Step) error {
			return w.again(s.Cmd, func(a string) string { return strings.ReplaceAll(a, "65536", "0") })
		},
	},
	{
		text: "twofish and serpent are refused: the embedded stack has neither (AES goes on in their place here)",
		n:    31,
		fits: func(s *recorded.Step, r clitest.Result) bool {
			return s.Cmd[0] == "spi" && r.Status != 0 && foreign.MatchString(strings.Join(s.Cmd, " "))
		},
		mend: func(w *world, s *recorded.Step) error {
			if s.Exit != 0 {
				return nil
			}
			return w.again(s.Cmd, func(a string) string { return foreign.ReplaceAllString(a, "aes") })
		},
	},
	{
		text: "klipsdebug knows the area ipcomp by that name",
		n:    2,
		fits: func(s *recorded.Step, r clitest.Result) bool {
			return s.Cmd[0] == "klipsdebug" && s.Exit != 0 && r.Status == 0 && slices.Contains(s.Cmd, "ipcomp")
		},
		mend: func(*world, *recorded.Step) error { return nil },
	},
	{
		text: "an SA to 0.0.0.0 is refused: no packet can come by it (its lines are taken out of the recorded tables)",
		n:    1,
		fits: func(s *recorded.Step, r clitest.Result) bool {
			return s.Cmd[0] == "spi" && s.Exit == 0 && r.Status != 0 && nowhere.MatchString(strings.Join(s.Cmd, " "))
		},
		mend: func(*world, *recorded.Step) error { return nil },
	},
	{
		text: "an SA in transport mode takes an inbound policy (which is taken out of the tables)",
		n:    19,
		fits: func(s *recorded.Step, r clitest.Result) bool {
			return setsPolicy(s.Cmd) && s.Errno == syscall.ENOENT && r.Status == 0
		},
		mend: func(*world, *recorded.Step) error { return nil },
	},
	{
		text: "an inbound policy is for a protocol and ports (which are taken out of the tables)",
		n:    3,
		fits: func(s *recorded.Step, r clitest.Result) bool {
			return setsPolicy(s.Cmd) && s.Exit == 0 && r.Status == 0 && slices.Contains(s.Cmd, "--transport-proto")
		},
		mend: func(*world, *recorded.Step) error { return nil },
	},
}

// setsPolicy reports whether a command sets an inbound policy.
func setsPolicy(cmd []string) bool {
	return cmd[0] == "eroute" && (slices.Contains(cmd, "--addin") || slices.Contains(cmd, "--replacein"))
}

var (
	packetLimit = regexp.MustCompile(`(soft|hard)-packets=\d+`)
	foreign     = regexp.MustCompile(`twofish|serpent`)
	nowhere     = regexp.MustCompile(`@0\.0\.0\.0 `)
	foreignName = regexp.MustCompile(`ESP_(TWOFISH|SERPENT)`)
)

// again runs a command with changed arguments.
func (w *world) again(cmd []string, change func(string) string) error {
	changed := make([]string, len(cmd))
	for i, a := range cmd {
		changed[i] = change(a)
	}
	return w.run(changed).Error
}

// saidOf returns the SA that an spi command names.
func saidOf(t *testing.T, cmd []string) klips.SAID {
	t.Helper()
	value := func(name string) string {
		if i := slices.Index(cmd, name); i >= 0 {
			return cmd[i+1]
		}
		return ""
	}
	if id := value("--said"); id != "" {
		return saids(t, []string{"--said", id})[0]
	}
	return saids(t, []string{"inet", value("--edst"), value("--spi"), value("--proto")})[0]
}

// saids parses the SAs of a spigrp command line.
func saids(t *testing.T, args []string) (ids []klips.SAID) {
	t.Helper()
	take := func(text string) {
		id, err := syntax.ParseSAID(text, nil)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	for i := 0; i < len(args); i++ {
		switch args[i] {
		case "--said":
			for _, a := range args[i+1:] {
				take(a)
			}
			return ids
		case "inet", "inet6":
			spi, err := strconv.ParseUint(args[i+2], 0, 32)
			p, err2 := syntax.ParseProto(args[i+3])
			if err != nil || err2 != nil {
				t.Fatal(args, err, err2)
			}
			ids = append(ids, klips.SAID{Dst: netip.MustParseAddr(args[i+1]), SPI: klips.SPI(spi), Proto: p})
			i += 3
		default:
			t.Fatalf("spigrp %q", args)
		}
	}
	return ids
}

// worldOf returns the machine of a sequence before its first step.
func worldOf(t *testing.T, q *recorded.Sequence) *world {
	w := newWorld(t)
	w.host.AddDevice("lo", 65536)
	for _, i := range q.Setup {
		w.host.AddDevice(i.Name, i.MTU)
		for _, a := range i.Addrs {
			w.setAddr(a)
		}
	}
	return w
}

// replay compares the results and tables with the recorded ones.
func replay(t *testing.T, q *recorded.Sequence, counts []int) {
	w := worldOf(t, q)
	want := w.tables() // those of a fresh stack
	fresh := map[string][]string{"tncfg": {"ipsec0 -> NULL mtu=0(0) -> 0", "ipsec1 -> NULL mtu=0(0) -> 0"}}
	for _, a := range []string{"tunnel", "xform", "eroute", "spi", "radij", "esp", "ah", "rcv", "pfkey"} {
		fresh["klipsdebug"] = append(fresh["klipsdebug"], "debug_"+a+"=00000000.")
	}
	for name, got := range want {
		if d := cmp.Diff(fresh[name], got); d != "" {
			t.Fatalf("%s of a fresh stack (-want +got):\n%s", name, d)
		}
	}
	for i := range q.Steps {
		s := &q.Steps[i]
		what := fmt.Sprintf("step %d, %s", i+1, strings.Join(s.Cmd, " "))
		if s.Cmd[0] == "ip" {
			w.ip(s.Cmd)
		} else {
			before := w.tables()
			r := w.run(s.Cmd)
			for j, d := range differences {
				if !d.fits(s, r) {
					continue
				}
				counts[j]++
				if r.Status != 0 {
					if diff := cmp.Diff(before, w.tables()); diff != "" {
						t.Fatalf("%s: refused, but the tables changed:\n%s", what, diff)
					}
				}
				if err := d.mend(w, s); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				r.Status = s.Exit
			}
			if (r.Status == 0) != (s.Exit == 0) {
				t.Fatalf("%s: status %d, want %d (errno %d): %s", what, r.Status, s.Exit, s.Errno, r.Err)
			}
			if s.Exit != 0 && s.Accepted == 0 {
				if diff := cmp.Diff(before, w.tables()); diff != "" {
					t.Fatalf("%s: refused, but the tables changed:\n%s", what, diff)
				}
			}
		}
		for name, lines := range s.Tables {
			want[name] = slices.DeleteFunc(normal(lines), nowhere.MatchString)
			for i, l := range want[name] {
				want[name][i] = foreignName.ReplaceAllString(l, "ESP_AES")
			}
		}
		sameKeys(t, want["eroute"])
		w.wantTables(what, want)
	}
}

// wantTables compares all tables.
func (w *world) wantTables(what string, want map[string][]string) {
	w.t.Helper()
	if d := cmp.Diff(want, w.tables()); d != "" {
		w.t.Fatalf("after %s (-want +got):\n%s", what, d)
	}
}

// sameKeys sorts neighbours with the same key in the order of klips.CompareEroutes. If
// no mask is more specific, the original's order depends on its history.
func sameKeys(t *testing.T, lines []string) {
	t.Helper()
	routes, err := procfs.ParseEroute(strings.NewReader(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	key := func(i int) klips.Selector {
		s := routes[i].Selector
		s.Src, s.Dst = netip.PrefixFrom(s.Src.Addr(), 0), netip.PrefixFrom(s.Dst.Addr(), 0)
		return s
	}
	for i := range lines {
		for j := i; j > 0 && key(j) == key(j-1) && klips.CompareEroutes(routes[j], routes[j-1]) < 0; j-- {
			routes[j], routes[j-1] = routes[j-1], routes[j]
			lines[j], lines[j-1] = lines[j-1], lines[j]
		}
	}
}

// ip has the effect of an ip command on the host.
func (w *world) ip(cmd []string) {
	w.t.Helper()
	text := strings.Join(cmd, " ")
	var dev, what string
	if n, _ := fmt.Sscanf(text, "ip link set %s %s", &dev, &what); n != 2 {
		w.t.Fatalf("cannot do %q", text)
	}
	switch {
	case what == "mtu" && len(cmd) == 6:
		mtu, err := strconv.Atoi(cmd[5])
		if err != nil {
			w.t.Fatal(err)
		}
		w.host.SetDeviceMTU(dev, mtu)
	case what == "down":
		w.host.TakeDown(dev)
	case what == "up": // KLIPS needs a new attach of the device; the stack does not (TestPhysicalComesBack)
	default:
		w.t.Fatalf("cannot do %q", text)
	}
}

// replayBetter replays a sequence that depends on a defect of the original. The
// expected result is that of a simple model without the defect.
func replayBetter(t *testing.T, q *recorded.Sequence) {
	w := worldOf(t, q)
	model := &world{t: t, host: w.host}
	mtus := map[string]int{}
	for _, i := range q.Setup {
		mtus[i.Name] = i.MTU
	}
	model.stack = klipstest.NewModel(w.host.IsLocal, func(name string) (int, bool) {
		mtu, ok := mtus[name]
		return mtu, ok
	})
	for i, s := range q.Steps {
		want, got := model.run(s.Cmd), w.run(s.Cmd)
		if want.Status != got.Status {
			t.Fatalf("step %d, %q: status %d, want %d: %s", i+1, s.Cmd, got.Status, want.Status, got.Err)
		}
		if d := cmp.Diff(model.tables(), w.tables()); d != "" {
			t.Fatalf("after step %d, %q (-want +got):\n%s", i+1, s.Cmd, d)
		}
	}
}
