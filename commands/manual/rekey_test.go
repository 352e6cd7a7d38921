package manual

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/serial"
)

// A testClock jumps to the end of each sleep, after it has called the next function.
type testClock struct {
	time  time.Time
	slept []time.Duration
	then  []func()
}

func (c *testClock) now() time.Time { return c.time }

func (c *testClock) sleep(ctx context.Context, d time.Duration) error {
	c.time, c.slept = c.time.Add(d), append(c.slept, d)
	if len(c.then) > 0 {
		c.then[0]()
		c.then = c.then[1:]
	}
	return ctx.Err()
}

func (b *bench) rekey(c *testClock, line string) clitest.Result {
	w := clitest.World{Wrap: func(*clitest.Stack) klips.Stack { return serial.New(b.model) }}
	a := Rekey()
	a.Parse = func(env *cli.Env, args []string) (cli.Command, error) {
		return rekeyCommand(env, a, args, b.host, &b.table, c)
	}
	return clitest.Run(a, w, append([]string{"--config", b.file}, strings.Fields(line)...)...)
}

// newMaster returns a bench with a connection of a master key that is up.
func newMaster(t *testing.T) *bench {
	t.Helper()
	b := newRecorded(t, ends+"spibase=0x200\n esp=aes128-gcm\n masterkey=@master.key\n auto=start\n")
	key := filepath.Join(filepath.Dir(b.file), "master.key")
	if err := os.WriteFile(key, []byte("0x"+strings.Repeat("0123456789abcdef", 4)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.ok(t, "up --config FILE t")
	return b
}

// use has packets arrive by an SA.
func (b *bench) use(said string) { b.model.used = append(b.model.used, said) }

// Each stage does its part, once, and not before the one before it.
func TestRekeyStages(t *testing.T) {
	b := newMaster(t)
	const (
		oldOut, oldIn = "tun0x200@10.0.0.2 esp0x202@10.0.0.2\n", "tun0x201@10.0.0.1 esp0x203@10.0.0.1\n"
		newOut, newIn = "tun0x10200@10.0.0.2 esp0x10202@10.0.0.2\n", "tun0x10201@10.0.0.1 esp0x10203@10.0.0.1\n"
		byOld, byNew  = "10.2.0.0/16 tun0x200@10.0.0.2\n", "10.2.0.0/16 tun0x10200@10.0.0.2\n"
	)
	for _, tt := range []struct {
		line, says  string
		there, gone []string
	}{
		{"--stage send t", "there are no new SAs", []string{oldOut, oldIn, byOld}, []string{newIn, newOut}},
		{"--stage retire t", "there are no old SAs to remove", []string{oldOut, oldIn, byOld}, []string{newIn, newOut}},
		{"--stage receive --epoch 0 t", "--epoch 0: it has epoch 0, and must get a later one", []string{oldOut, oldIn, byOld}, []string{newIn, newOut}},
		{"--stage receive t", "", []string{oldOut, oldIn, byOld, newIn}, []string{newOut}},
		{"--stage receive t", "go on with ipsec rekey --stage send t", []string{oldOut, oldIn, byOld, newIn}, []string{newOut}},
		{"--stage retire t", "packets are still sent by the old SAs", []string{oldOut, oldIn, byOld, newIn}, []string{newOut}},
		{"--stage send t", "", []string{oldOut, oldIn, byNew, newIn, newOut}, []string{byOld}},
		{"--stage send t", "go on with ipsec rekey --stage retire t", []string{oldOut, oldIn, byNew, newIn, newOut}, []string{byOld}},
		{"--stage retire t", "the peer has sent nothing by the new SAs yet", []string{oldOut, oldIn, byNew, newIn, newOut}, []string{byOld}},
		{"--stage retire --force t", "", []string{byNew, newIn, newOut}, []string{oldOut, oldIn, byOld}},
	} {
		b.use("tun0x201@10.0.0.1")
		r := b.rekey(&testClock{}, tt.line)
		if (r.Status == 0) != (tt.says == "") || !strings.Contains(r.Err, tt.says) || r.Status > 1 {
			t.Fatalf("%s: %+v", tt.line, r)
		}
		for _, s := range tt.there {
			if !strings.Contains(b.state(), s) {
				t.Errorf("%s: %s is missing:\n%s", tt.line, s, b.state())
			}
		}
		for _, s := range tt.gone {
			if strings.Contains(b.state(), s) {
				t.Errorf("%s: there is %s:\n%s", tt.line, s, b.state())
			}
		}
		// A second up, and the file's earlier epoch, change nothing.
		if r := b.command("up --config FILE t"); r.Status != 0 || !strings.Contains(r.Err, "it is up already") {
			t.Fatalf("%s, then up: %+v", tt.line, r)
		}
		b.ok(t, "apply FILE")
		b.ok(t, "diff FILE")
	}
	// A machine that starts again brings up the epoch that it has reached.
	fresh := newRecorded(t, "")
	fresh.file, fresh.host.rundir = b.file, b.host.rundir
	if err := os.RemoveAll(filepath.Join(b.host.rundir, "made")); err != nil {
		t.Fatal(err)
	}
	fresh.ok(t, "up --config FILE t")
	if !strings.Contains(fresh.state(), newOut) {
		t.Errorf("after a start:\n%s", fresh.state())
	}
}

// A connection can be taken down, opened and made again at every stage; nothing is left.
func TestRekeyDown(t *testing.T) {
	for i := range stages {
		for _, down := range []string{"down --config FILE t", "unroute --config FILE t"} {
			b := newMaster(t)
			for _, s := range stages[:i+1] {
				b.use("tun0x10201@10.0.0.1")
				if r := b.rekey(&testClock{}, "--stage "+string(s)+" t"); r.Status != 0 {
					t.Fatalf("%s: %+v", s, r)
				}
			}
			if r := b.command(down); r.Status != 0 || strings.Contains(b.state(), "esp0x") {
				t.Errorf("after %s, %s: %+v\n%s", stages[i], down, r, b.state())
			}
			b.ok(t, "up --config FILE t")
			if n := strings.Count(b.state(), "esp0x"); n != 2 {
				t.Errorf("after %s and %s, up makes %d SAs of ESP:\n%s", stages[i], down, n, b.state())
			}
		}
	}
}

// Without a stage all are done: the peer has its time before each.
func TestRekeyAll(t *testing.T) {
	b := newMaster(t)
	c := &testClock{time: time.Unix(1e9, 0)}
	c.then = []func(){
		func() {
			if s := b.state(); !strings.Contains(s, "10.2.0.0/16 tun0x200@") || !strings.Contains(s, "esp0x10203@") {
				t.Errorf("while it waits for the peer:\n%s", s)
			}
			b.use("tun0x201@10.0.0.1")
		},
		func() {
			if s := b.state(); !strings.Contains(s, "10.2.0.0/16 tun0x10200@") || !strings.Contains(s, "esp0x203@") {
				t.Errorf("while the peer sends by the old SAs:\n%s", s)
			}
		},
		func() { b.use("tun0x10201@10.0.0.1") },
	}
	if r := b.rekey(c, "--wait 5 t"); r.Status != 0 || strings.Contains(b.state(), "esp0x203@") {
		t.Fatalf("%+v\n%s", r, b.state())
	}
	if len(c.slept) != 3 || c.slept[0] != 5*time.Second {
		t.Errorf("slept %v", c.slept)
	}
	// A peer that does not follow keeps its old SAs, and the time is bounded.
	b.use("tun0x10201@10.0.0.1")
	c = &testClock{time: time.Unix(2e9, 0)}
	if r := b.rekey(c, "--at 2033-05-18T03:33:30Z t"); r.Status != 1 || !strings.Contains(r.Err, "the peer has sent nothing by the new SAs yet") || !strings.Contains(b.state(), "esp0x10203@") {
		t.Errorf("%+v\n%s", r, b.state())
	}
	if len(c.slept) < 2 || c.slept[0] != 10*time.Second || c.time.Sub(time.Unix(2e9, 0)) > 21*time.Second {
		t.Errorf("slept %v", c.slept)
	}
	if r := b.rekey(c, "--at 2033-05-18T03:33:10Z t"); r.Status != 1 || !strings.Contains(r.Err, "it has passed") {
		t.Errorf("%+v", r)
	}
}

// Keys from files: the file has the new SPIs and keys.
func TestRekeyFiles(t *testing.T) {
	b := newRecorded(t, auto)
	b.ok(t, "up --config FILE t")
	if r := b.rekey(&testClock{}, "--stage receive t"); r.Status != 1 || !strings.Contains(r.Err, "the file has the SPIs that are in use") {
		t.Fatalf("%+v", r)
	}
	b.write(t, strings.NewReplacer("spibase=0x200", "spibase=0x300", "espenckey=0x01", "espenckey=0x02").Replace(auto))
	for _, s := range stages {
		b.use("tun0x301@10.0.0.1")
		if r := b.rekey(&testClock{}, "--stage "+string(s)+" t"); r.Status != 0 {
			t.Fatalf("%s: %+v", s, r)
		}
	}
	b.ok(t, "diff FILE")
	if s := b.state(); strings.Contains(s, "0x20") || !strings.Contains(s, "tun0x300@") {
		t.Errorf("got\n%s", s)
	}
	b.write(t, strings.NewReplacer("spibase=0x200", "spibase=0x400", "10.2.0.0/16", "10.7.0.0/16").Replace(auto))
	if r := b.rekey(&testClock{}, "--stage receive t"); r.Status != 1 || !strings.Contains(r.Err, "not only its keys differ: rightsubnet: ") {
		t.Errorf("%+v", r)
	}
}

// The last stage is refused while the peer has sent nothing by the new SAs, also if it has sent
// nothing by the old ones: it can still have only those.
func TestRetireIdle(t *testing.T) {
	b := newMaster(t)
	for _, line := range []string{"--stage receive t", "--stage send t"} {
		if r := b.rekey(&testClock{}, line); r.Status != 0 {
			t.Fatalf("%s: %+v", line, r)
		}
	}
	before := b.state()
	if r := b.rekey(&testClock{}, "--stage retire t"); r.Status != 1 || !strings.Contains(r.Err, "the peer has sent nothing by the new SAs yet") || b.state() != before {
		t.Errorf("%+v\n%s", r, b.state())
	}
	if r := b.rekey(&testClock{}, "--stage retire --force t"); r.Status != 0 {
		t.Errorf("%+v", r)
	}
}

func TestRekeyUsage(t *testing.T) {
	b := newRecorded(t, auto)
	for line, want := range map[string]string{
		"":                                     "which connection is missing",
		"t u":                                  "one connection at a time",
		"--stage now t":                        "--stage now: want receive, send or retire",
		"--stage send --epoch 2 t":             "--epoch goes with the first stage",
		"--force t":                            "--force goes with --stage retire",
		"--stage send --wait 1 t":              "--stage does not wait",
		"--wait 1 --at 2030-01-01T00:00:00Z t": "--wait and --at exclude each other",
		"--at noon t":                          "--at noon: write a date and a time",
		"--epoch -1 t":                         "--epoch -1",
		"--epoch 4294967296 t":                 "too large, at most 4294967295",
	} {
		if r := b.rekey(&testClock{}, line); r.Status != 2 || !strings.Contains(r.Err, want) || r.Opened {
			t.Errorf("%q: %+v", line, r)
		}
	}
	if r := b.rekey(&testClock{}, "t"); r.Status != 1 || !strings.Contains(r.Err, "it is not up, or was made by another program; ipsec up t") {
		t.Errorf("%+v", r)
	}
}
