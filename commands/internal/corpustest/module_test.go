package corpustest

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/classic/classictest/module"
	"github.com/klips-go/ipsec/klips/klipstest/recorded"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/serial"
)

// TestModule replays all recorded sequences, those with defects as well, against
// the module of package klips/classic/classictest/module: it has to answer and to look as
// the recorded kernel did, in everything.
func TestModule(t *testing.T) {
	counts := make([]int, len(appletDifferences))
	for q := range recorded.Sequences(t) {
		t.Run(q.ID, func(t *testing.T) { replayModule(t, q, counts) })
	}
	for i, d := range appletDifferences {
		t.Logf("%d steps: %s", counts[i], d.text)
		if counts[i] != d.n {
			t.Errorf("%d steps differ because %s; want %d", counts[i], d.text, d.n)
		}
	}
}

// appletDifferences are the steps in which the applets, not the kernel, differ from the
// classic tools.
var appletDifferences = []struct {
	text string
	n    int
	fits func(s *recorded.Step, r clitest.Result) bool
	// mend sends the module the requests of the classic tool. nil: the applet made
	// another request, and undo restores the state of the kernel.
	mend, undo func(w *world, s *recorded.Step) error
}{
	{
		text: "--life works with --esp too; Openswan's tool sends a message that is too long",
		n:    2,
		fits: func(s *recorded.Step, r clitest.Result) bool {
			return slices.Contains(s.Cmd, "--life") && s.Errno == syscall.EINVAL && r.Status == 0
		},
		undo: func(w *world, s *recorded.Step) error { return w.stack.DeleteSA(w.t.Context(), saidOf(w.t, s.Cmd)) },
	},
	{
		text: "klipsdebug knows the area ipcomp by that name",
		n:    2,
		fits: func(s *recorded.Step, r clitest.Result) bool {
			return s.Exit != 0 && r.Status == 0 && slices.Contains(s.Cmd, "ipcomp")
		},
		undo: func(*world, *recorded.Step) error { return nil }, // no table shows that area
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
		text: "twofish and serpent are unknown to spi (AES is typed in their place, and they are sent)",
		n:    31,
		fits: func(s *recorded.Step, r clitest.Result) bool {
			return s.Cmd[0] == "spi" && r.Status != 0 && foreign.MatchString(strings.Join(s.Cmd, " "))
		},
		mend: func(w *world, s *recorded.Step) error {
			text := strings.Join(s.Cmd, " ")
			c := w.stack.(*classic)
			c.cipher = map[string]alg.Enc{"serpent": 252, "twofish": 253}[foreign.FindString(text)]
			defer func() { c.cipher = 0 }()
			if err := w.again(s.Cmd, func(a string) string { return foreign.ReplaceAllString(a, "aes") }); s.Exit == 0 {
				return err
			}
			return nil
		},
	},
}

func replayModule(t *testing.T, q *recorded.Sequence, counts []int) {
	m := module.New(func() time.Duration { return 0 })
	for _, i := range q.Setup {
		m.SetPhysical(i.Name, i.MTU)
		for _, a := range i.Addrs {
			m.AddAddr(netip.MustParsePrefix(a).Addr())
		}
	}
	c := newClassic(m)
	w := &world{t: t, stack: c}
	want := map[string][]string{"tncfg": {"ipsec0 -> NULL mtu=0(0) -> 0", "ipsec1 -> NULL mtu=0(0) -> 0"}}
	for _, a := range []string{"tunnel", "xform", "eroute", "spi", "radij", "esp", "ah", "rcv", "pfkey"} {
		want["klipsdebug"] = append(want["klipsdebug"], "debug_"+a+"=00000000.")
	}
	compare := func(what string) {
		t.Helper()
		if d := cmp.Diff(want, moduleTables(m)); d != "" {
			t.Fatalf("%s (-want +got):\n%s", what, d)
		}
	}
	compare("a fresh module")
	for i := range q.Steps {
		s := &q.Steps[i]
		what := fmt.Sprintf("step %d, %s", i+1, strings.Join(s.Cmd, " "))
		if s.Cmd[0] == "ip" {
			moduleLink(t, m, s.Cmd)
		} else {
			c.accepted, c.errno = 0, 0
			r := w.run(s.Cmd)
			same := (r.Status == 0) == (s.Exit == 0)
			for j, d := range appletDifferences {
				if !d.fits(s, r) {
					continue
				}
				counts[j]++
				do := d.mend
				if do == nil {
					do = d.undo
				}
				if err := do(w, s); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				if same = true; d.mend == nil {
					c.accepted, c.errno = s.Accepted, s.Errno
				}
				break
			}
			if !same || c.errno != s.Errno || c.accepted != s.Accepted {
				t.Fatalf("%s: %d messages accepted, errno %d, status %d, want %d, %d, %d: %s",
					what, c.accepted, c.errno, r.Status, s.Accepted, s.Errno, s.Exit, r.Err)
			}
		}
		for name, lines := range s.Tables {
			if want[name] = faithful(lines); len(want[name]) == 0 {
				delete(want, name)
			}
		}
		compare("after " + what)
	}
}

// moduleTables returns the tables that were recorded.
func moduleTables(m *module.Module) map[string][]string {
	out := map[string][]string{}
	for name, text := range m.Tables() {
		name, ok := strings.CutPrefix(name, "ipsec_")
		if ok && name != "version" && text != "" {
			out[name] = faithful(strings.Split(strings.TrimSuffix(text, "\n"), "\n"))
		}
	}
	return out
}

// faithful removes from listings only what time and chance make different.
func faithful(lines []string) (out []string) {
	for _, l := range lines {
		l = chance.ReplaceAllString(l, " $1=-")
		l = elapsed.ReplaceAllString(l, "$1(-")
		l = random.ReplaceAllStringFunc(l, func(iv string) string { return fmt.Sprint(" iv of ", len(iv)) })
		out = append(out, l)
	}
	return out
}

var (
	chance  = regexp.MustCompile(` (jiffies|ref|refhim|idle)=\d+`)
	elapsed = regexp.MustCompile(`(addtime|usetime)\(\d+`)
	random  = regexp.MustCompile(` iv=0x[0-9a-f]+`)
)

// moduleLink has the effect of an ip command on a device.
func moduleLink(t *testing.T, m *module.Module, cmd []string) {
	t.Helper()
	switch {
	case len(cmd) == 6 && cmd[4] == "mtu":
		mtu, err := strconv.Atoi(cmd[5])
		if err != nil {
			t.Fatal(err)
		}
		m.SetPhysical(cmd[3], mtu)
	case len(cmd) == 5 && cmd[4] == "down":
		m.TakeDown(cmd[3])
	case len(cmd) == 5 && cmd[4] == "up":
	default:
		t.Fatalf("cannot do %q", cmd)
	}
}

// A classic is a stack that sends KLIPS the requests of the classic tools: each part of
// the command line, pair by pair, up to the first error.
type classic struct {
	pfkey.Asker
	unasked
	m        *module.Module
	socket   *module.Socket
	seq      uint32
	accepted int           // messages and ioctls
	errno    syscall.Errno // of the last refused one
	cipher   alg.Enc       // cipher in ADD instead of the one in the command line; 0: the same
}

// unasked has the methods that no recorded command needs.
type unasked struct{ serial.Doer }

func newClassic(m *module.Module) *classic {
	c := &classic{m: m, socket: m.Open(0)}
	c.Asker = c.ask
	return c
}

// ask writes a message. Like the tools, it does not read the answer.
func (c *classic) ask(_ context.Context, op, object string, msg *pfkey.Message) error {
	c.seq++
	msg.Seq, msg.PID = c.seq, uint32(os.Getpid())
	b, err := msg.Marshal()
	if err != nil {
		return &klips.OpError{Op: op, Object: object, Err: err}
	}
	errno := c.socket.Write(b)
	for more := true; more; {
		_, more = c.socket.Read()
	}
	return c.result(op, object, errno)
}

func (c *classic) result(op, object string, errno syscall.Errno) error {
	if errno != 0 {
		c.errno = errno
		return &klips.OpError{Op: op, Object: object, Err: errno}
	}
	c.accepted++
	return nil
}

func (c *classic) Name() string              { return "klips" }
func (c *classic) Has(klips.Capability) bool { return false }
func (c *classic) Close() error              { return nil }

// AddSA refuses SAs that the tools do not send.
func (c *classic) AddSA(ctx context.Context, s *klips.SASpec) error {
	if s.Window > 64 {
		return &klips.OpError{Op: "add SA", Object: s.ID.String(), Err: syscall.EINVAL}
	}
	msg := pfkey.AddSA(s)
	if c.cipher != 0 {
		msg.SA.Encrypt = uint8(c.cipher)
	}
	return c.ask(ctx, "add SA", s.ID.String(), msg)
}

// Applets read these tables for their notes.
func (c *classic) SAs(context.Context) ([]klips.SA, error)         { return nil, nil }
func (c *classic) Eroutes(context.Context) ([]klips.Eroute, error) { return nil, nil }
func (c *classic) Devices(context.Context) ([]klips.Device, error) { return nil, nil }

func (c *classic) GetSA(ctx context.Context, id klips.SAID) (klips.SA, error) {
	return klips.SA{ID: id}, c.ask(ctx, "get SA", id.String(), pfkey.GetSA(id))
}

func (c *classic) Group(ctx context.Context, ids []klips.SAID) error {
	for i := 1; i < len(ids); i++ {
		if err := c.ask(ctx, "group", ids[i].String(), pfkey.GroupPair(ids[i-1], ids[i])); err != nil {
			return err
		}
	}
	return nil
}

func (c *classic) Attach(_ context.Context, virtual, physical string) error {
	return c.result("attach", virtual, c.m.Attach(virtual, physical))
}

func (c *classic) Detach(_ context.Context, virtual string) error {
	return c.result("detach", virtual, c.m.Detach(virtual))
}

func (c *classic) DetachAll(context.Context) error {
	return c.result("detach all", "", c.m.DetachAll("ipsec0"))
}
