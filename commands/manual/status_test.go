package manual

import (
	"strings"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/serial"
)

func (b *bench) status(line string) clitest.Result {
	w := clitest.World{StackErr: b.stackErr, Wrap: func(*clitest.Stack) klips.Stack { return serial.New(b.model) }}
	a := Status()
	a.Parse = func(env *cli.Env, args []string) (cli.Command, error) {
		return statusCommand(env, a, args, b.host, &b.table)
	}
	return clitest.Run(a, w, append([]string{"--config", b.file}, strings.Fields(line)...)...)
}

// The states of connections, as text and as JSON.
func TestStatus(t *testing.T) {
	b := newMaster(t)
	text := ends + "spibase=0x200\n esp=aes128-gcm\n masterkey=@master.key\n auto=start\n" +
		second + strings.NewReplacer("conn u", "conn routed", "10.6.", "10.16.", "0x400", "0x600").Replace(second) +
		"conn drops\n left=10.0.0.1\n leftsubnet=10.1.0.0/16\n right=%any\n rightsubnet=10.9.0.0/16\n type=drop\n" +
		"conn keyed\n left=10.0.0.1\n right=10.0.0.2\n"
	b.write(t, text)
	b.ok(t, "up --config FILE drops u")
	b.ok(t, "route --config FILE routed")
	if r := b.rekey(&testClock{}, "--stage receive t"); r.Status != 0 {
		t.Fatalf("%+v", r)
	}
	b.use("tun0x201@10.0.0.1")
	b.use("tun0x400@10.0.0.2")
	want := `drops   up      10.1.0.0/16 -> 10.9.0.0/16, received nothing, sent nothing
routed  closed  10.5.0.0/16 -> 10.16.0.0/16
t       up      10.1.0.0/16 -> 10.2.0.0/16, received 0s ago, sent nothing, epoch 0, new keys: stage receive
u       up      10.5.0.0/16 -> 10.6.0.0/16, received nothing, sent 0s ago
`
	if r := b.status(""); r.Status != 0 || r.Out != want || r.Err != "" {
		t.Errorf("got %+v\n%s\nwant\n%s", r, r.Out, want)
	}
	if r := b.status("u"); r.Out != "u  up  10.5.0.0/16 -> 10.6.0.0/16, received nothing, sent 0s ago\n" {
		t.Errorf("%+v", r)
	}
	for name, want := range map[string]string{"keyed": "so it is for a key daemon", "v": "no conn v in"} {
		if r := b.status(name); r.Status != 1 || r.Out != "" || !strings.Contains(r.Err, want) {
			t.Errorf("%s: %+v", name, r)
		}
	}
	r := b.status("--json")
	clitest.GoldenJSON(t, "status", "status", strings.ReplaceAll(r.Out, b.file, "/etc/ipsec.conf"))

	b.ok(t, "unroute --config FILE u")
	if r := b.status("u"); r.Out != "u  down  10.5.0.0/16 -> 10.6.0.0/16\n" {
		t.Errorf("%+v", r)
	}

	// The file changes: what is made stays listed as it was made.
	b.write(t, strings.ReplaceAll(auto, "10.2.0.0/16", "10.7.0.0/16"))
	b.ok(t, "down --config FILE t")
	b.ok(t, "up --config FILE t")
	b.write(t, strings.ReplaceAll(auto, "10.2.0.0/16", "10.8.0.0/16"))
	want = `drops   up      10.1.0.0/16 -> 10.9.0.0/16, received nothing, sent nothing
routed  closed  10.5.0.0/16 -> 10.16.0.0/16
t       up      10.1.0.0/16 -> 10.7.0.0/16, received 0s ago, sent nothing
conn drops: no file has it any more
conn routed: no file has it any more
conn t: rightsubnet: 10.7.0.0/16 is made, the file has 10.8.0.0/16
conn t: 10.1.0.0/16 -> 10.2.0.0/16 is closed, too; ipsec unroute t opens it
`
	r = b.status("--json")
	clitest.GoldenJSON(t, "status", "status-changed", strings.ReplaceAll(r.Out, b.file, "/etc/ipsec.conf"))
	if r := b.status(""); r.Status != 0 || r.Out != want || r.Err != "" {
		t.Errorf("got %+v\n%s\nwant\n%s", r, r.Out, want)
	}
}

// The tables are read once for all connections.
func TestSurveyReadsOnce(t *testing.T) {
	b := newLists(t, lists+second+" mtu=1400\n")
	b.ok(t, "apply FILE")
	b.write(t, lists)
	for _, tt := range []struct {
		line, out string
		run       func(string) clitest.Result
	}{
		{"", "conn u: no file has it any more", b.status},
		{"diff FILE", "conn u: it is up, and no file has it any more", b.command},
		{"apply --dry-run --prune FILE", "ipsec eroute --label u --del", b.command},
	} {
		b.model.listed = 0
		if r := tt.run(tt.line); !strings.Contains(r.Out, tt.out) || r.Err != "" || b.model.listed != 1 {
			t.Errorf("%q: the SAs were listed %d times, %+v", tt.line, b.model.listed, r)
		}
	}
}

// Each connection has the MTU of its own device.
func TestSurveyMTU(t *testing.T) {
	text := "config setup\n interfaces=\"ipsec0=eth0 ipsec1=eth1\"\n" + second + " mtu=1400\n" +
		strings.NewReplacer("conn u", "conn v", "10.0.0.1", "10.0.1.1", "10.5.", "10.15.", "10.6.", "10.16.", "0x400", "0x600").Replace(second) + " mtu=1300\n"
	b := newRecorded(t, text)
	b.host.own = append(b.host.own[:len(b.host.own):len(b.host.own)], "10.0.1.1@ipsec1")
	b.model.devices["ipsec1"] = "eth1"
	if r := b.command("apply FILE"); r.Status != 0 {
		t.Fatalf("%+v", r)
	}
	b.ok(t, "diff FILE")
	if err := b.table.SetMTU("ipsec1", 1400); err != nil {
		t.Fatal(err)
	}
	if r := b.command("diff FILE"); r.Out != "conn v: it is up, but the MTU of ipsec1 is 1400\n" {
		t.Errorf("%+v", r)
	}
}
