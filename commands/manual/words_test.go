package manual

import (
	"errors"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/commands/internal/sysctls"
)

// The words for ports, encapsulation, long sequence numbers and the source of packets, as
// commands of each end.
func TestWords(t *testing.T) {
	text := ends + "leftprotoport=tcp\n rightprotoport=6/5060\n leftsourceip=10.1.0.1\n spibase=0x200\n esp=3des-md5-96\n " + keys3des +
		" espreplay_window=64\n esn=yes\n encapsulation=yes\n rightnatport=4501\n"
	b := newBench(t, text)
	r := b.run("--showonly --up t")
	for _, want := range []string{
		"--said esp0x202@10.0.0.2 --esp 3des-md5-96 --src 10.0.0.1 --esn ",
		"--natt nonesp --sport 4501 --dport 4500", "--natt nonesp --sport 4500 --dport 4501",
		"eroute --label t --replace --eraf inet --src 10.1.0.0/16 --dst 10.2.0.0/16 --transport-proto 6 --dst-port 5060 --said tun0x200@10.0.0.2",
		"eroute --label t --addin --eraf inet --src 10.2.0.0/16 --dst 10.1.0.0/16 --transport-proto 6 --src-port 5060 --said tun0x201@10.0.0.1",
		"route replace 10.2.0.0/16 via 10.0.0.254 dev ipsec0 src 10.1.0.1\n",
	} {
		if !strings.Contains(r.Out, want) {
			t.Errorf("%s is missing in\n%s%s", want, r.Out, r.Err)
		}
	}
	if r := b.run("--showonly --other --up t"); !strings.Contains(r.Out, "--src 10.2.0.0/16 --dst 10.1.0.0/16 --transport-proto 6 --src-port 5060 --said tun0x201@10.0.0.1") || strings.Contains(r.Out, " src 10.1.0.1") {
		t.Errorf("the other end: %+v", r)
	}
	// A list of TCP and UDP is one eroute and one inbound policy.
	b = newBench(t, hosts+"leftprotoport=udp/40001,tcp/40001\n rightprotoport=tcp/%any,udp/%any\n spibase=0x200\n esp=3des-md5-96\n "+keys3des)
	r = b.run("--showonly --up t")
	for _, want := range []string{
		"eroute --label t --replace --eraf inet --src 10.0.0.1/32 --dst 10.0.0.2/32 --transport-proto tcp,udp --src-port 40001 --said esp0x200@10.0.0.2",
		"eroute --label t --addin --eraf inet --src 10.0.0.2/32 --dst 10.0.0.1/32 --transport-proto tcp,udp --dst-port 40001 --said esp0x201@10.0.0.1",
	} {
		if !strings.Contains(r.Out, want) {
			t.Errorf("%s is missing in\n%s%s", want, r.Out, r.Err)
		}
	}
	for line, want := range map[string]string{
		"leftprotoport=none":                               "leftprotoport: none: neither a number nor a known name",
		"leftprotoport=tcp/none":                           "leftprotoport: none: neither a number nor a known name",
		"leftprotoport=esp/5":                              "leftprotoport: only tcp and udp have ports",
		"leftprotoport=tcp/70000":                          "leftprotoport: 70000: ",
		"leftprotoport=tcp/5\n rightprotoport=udp":         "rightprotoport: its protocol is 17, and that of left 6",
		"leftprotoport=tcp/5\n rightprotoport=tcp/6,udp/6": "rightprotoport: its protocol is 6,17, and that of left 6; both ends have the same",
		"leftprotoport=tcp/5,udp/6":                        "leftprotoport: each pair of protocols with ports has SAs of its own, and they need keys of their own; give masterkey",
		"leftprotoport=tcp/5,tcp/5":                        "leftprotoport: each pair of protocols with ports has SAs of its own, and they need keys of their own; give masterkey",
		"leftprotoport=tcp/5,udp/5,udp/5":                  "leftprotoport: each pair of protocols with ports has SAs of its own, and they need keys of their own; give masterkey",
		"leftprotoport=udp,icmp":                           "leftprotoport: each pair of protocols with ports has SAs of its own, and they need keys of their own; give masterkey",
		"leftprotoport=tcp/%any,udp":                       "TCP and UDP together need a port at one end, as in rightprotoport=tcp/5060,udp/5060",
		"leftprotoport=tcp/5,esp/5":                        "leftprotoport: each pair of protocols with ports has SAs of its own, and they need keys of their own; give masterkey",
		"leftsourceip=10.9.0.1":                            "leftsourceip: 10.9.0.1 is not in leftsubnet",
		"leftsourceip=fd00::1":                             "leftsourceip: fd00::1: ",
		"esn=maybe":                                        "esn: maybe is neither yes nor no",
		"encapsulation=1":                                  "encapsulation: 1 is neither yes nor no",
		"leftnatport=4500":                                 "leftnatport: it goes with encapsulation=yes",
		"encapsulation=yes\n leftnatport=0":                "leftnatport: a port is 1 to 65535",
		"encapsulation=yes\n leftnatport=x":                "leftnatport: x: ",
		"ah=hmac-md5-96\n ahkey=0x12345678_9abcdef0_2468ace0_13579bdf\n encapsulation=yes": "encapsulation: UDP carries ESP alone",
	} {
		b := newBench(t, tunnel+" "+line+"\n")
		if r := b.run("--up t"); r.Status != 1 || !strings.Contains(r.Err, want) || strings.Count(r.Err, "\n") != 1 {
			t.Errorf("%q: %+v", line, r)
		}
	}
}

// An SA that authenticates has a replay window, unless the file gives another one. What
// KLIPS had made is made without one by "ipsec manual".
func TestDefaultWindows(t *testing.T) {
	const ah = " ah=hmac-md5-96\n ahkey=0x12345678_9abcdef0_2468ace0_13579bdf\n"
	for _, tt := range []struct{ words, up, manual string }{
		{" esp=3des-md5-96\n " + keys3des, "esp 64", ""},
		{" esp=3des-md5-96\n espreplay_window=0\n " + keys3des, "", ""},
		{" esp=3des-md5-96\n espreplay_window=128\n " + keys3des, "esp 128", "esp 128"},
		{" esp=3des\n espenckey=0x01234567_89abcdef_02468ace_13579bdf_12345678_9abcdef0\n" + ah, "ah 64", ""},
		{" esp=3des-md5-96\n ahreplay_window=32\n " + keys3des + ah, "ah 32, esp 64", "ah 32"},
		{" esp=aes256-gcm16\n masterkey=0x" + strings.Repeat("5a", 32) + "\n", "esp 64", "esp 64"},
	} {
		b := newBench(t, ends+"spibase=0x200\n"+tt.words)
		for line, want := range map[string]string{"ipsec up": tt.up, "ipsec manual --up": tt.manual} {
			r := b.run("--showonly --up t")
			if line == "ipsec up" {
				r = b.command("up --show --config FILE t")
			}
			got := map[string]bool{}
			for _, m := range regexp.MustCompile(`(?m) --(esp|ah) .* --replay_window (\d+)`).FindAllStringSubmatch(r.Out+r.Err, -1) {
				got[m[1]+" "+m[2]] = true
			}
			if text := strings.Join(slices.Sorted(maps.Keys(got)), ", "); r.Status != 0 || text != want {
				t.Errorf("%s: windows %q, want %q:\n%s\n%+v", line, text, want, tt.words, r)
			}
		}
	}
}

// An end can have a name. It is looked up when the connection is brought up; a status uses the
// address of then, and diff and apply look it up again.
func TestNames(t *testing.T) {
	b := newRecorded(t, strings.Replace(auto, "right=10.0.0.2", "right=far.example", 1))
	addr := netip.MustParseAddr
	b.host.names = map[string][]netip.Addr{"far.example": {addr("fd00::2"), addr("10.0.0.2")}}
	b.ok(t, "up --config FILE t")
	if s := b.state(); !strings.Contains(s, "tun0x200@10.0.0.2") {
		t.Errorf("it made\n%s", s)
	}
	b.host.names = nil
	if r := b.status("t"); r.Status != 0 || r.Out != "t  up  10.1.0.0/16 -> 10.2.0.0/16, received nothing, sent nothing\n" || r.Err != "" {
		t.Errorf("a status looks it up: %+v", r)
	}
	if r := b.command("diff FILE"); r.Status != 2 || !strings.Contains(r.Err, "failed: no such host") {
		t.Errorf("diff without an answer: %+v", r)
	}
	b.host.names = map[string][]netip.Addr{"far.example": {addr("10.0.0.3")}}
	if r := b.command("diff FILE"); r.Status != 1 || !strings.Contains(r.Out, "10.0.0.3") {
		t.Errorf("diff: %+v", r)
	}
	b.host.names = nil
	b.ok(t, "down --config FILE t")
	for names, want := range map[string]string{"": "right: far.example: ", "fd00::3": "right: far.example: "} {
		b.host.names = map[string][]netip.Addr{}
		if names != "" {
			b.host.names["far.example"] = []netip.Addr{addr(names)}
		}
		if r := b.command("up --config FILE t"); r.Status != 1 || !strings.Contains(r.Err, want) || strings.Count(r.Err, "\n") != 1 {
			t.Errorf("names %q: %+v", names, r)
		}
	}
}

// A connection can have a device of its own.
func TestInterface(t *testing.T) {
	b := newRecorded(t, auto+" interface=ipsec7\n")
	b.ok(t, "up --config FILE t")
	if s := b.state(); !strings.Contains(s, "ipsec7") || strings.Contains(s, "ipsec0") {
		t.Errorf("it made\n%s", s)
	}
	for line, want := range map[string]string{
		"interface=eth0":    "interface: eth0 is no virtual device; these are ipsec0 to ipsec63",
		"interface=ipsec64": "interface: ipsec64 is no virtual device",
	} {
		b := newRecorded(t, auto+" "+line+"\n")
		if r := b.command("up --config FILE t"); r.Status != 1 || !strings.Contains(r.Err, want) || strings.Count(r.Err, "\n") != 1 {
			t.Errorf("%s: %+v", line, r)
		}
	}
	b = newBench(t, tunnel+" interface=ipsec7\n")
	if r := b.run("--iam 10.0.0.1@ipsec0 --up t"); r.Status != 1 || !strings.Contains(r.Err, "interface: ipsec7: --iam gives ipsec0") {
		t.Errorf("%+v", r)
	}
}

// Parameters of the kernel are set when a connection has come up whose file asks for them.
func TestControls(t *testing.T) {
	const setup = "config setup\n interfaces=\"ipsec0=eth0 ipsec1=eth1\"\n forwardcontrol=yes\n rp_filter=2\n"
	want := []sysctls.Setting{{Name: "net/ipv4/ip_forward", Value: "1"}, {Name: "net/ipv4/conf/eth0/rp_filter", Value: "2"}, {Name: "net/ipv4/conf/eth1/rp_filter", Value: "2"}}
	for _, line := range []string{"up --config FILE t", "up --config FILE --all", "route --config FILE t", "apply FILE"} {
		b := newRecorded(t, setup+auto)
		var set []sysctls.Setting
		b.host.set = &set
		b.ok(t, line)
		if d := cmp.Diff(want, set); d != "" {
			t.Errorf("%s sets (-want +got):\n%s", line, d)
		}
		set = nil
		if r := b.command("apply --dry-run FILE"); r.Status != 0 || set != nil {
			t.Errorf("%+v sets %v", r, set)
		}
		b.command("unroute --config FILE t")
		b.host.set = nil
		if r := b.command(line); r.Status != 1 || !strings.Contains(r.Err, "config setup: a parameter of the kernel is not set: the test sets none; set it before, with sysctl(8)") || strings.Count(r.Err, "\n") != 1 {
			t.Errorf("%s: %+v", line, r)
		}
	}
	for lines, want := range map[string]string{
		"forwardcontrol=1": "forwardcontrol: 1 is neither yes nor no",
		"rp_filter=yes":    "rp_filter: yes: write %unchanged, 0, 1 or 2",
	} {
		b := newRecorded(t, "config setup\n "+lines+"\n"+auto)
		if r := b.command("up --config FILE t"); r.Status != 1 || !strings.Contains(r.Err, want) {
			t.Errorf("%s: %+v", lines, r)
		}
	}
	b := newRecorded(t, "config setup\n forwardcontrol=no\n rp_filter=%unchanged\n"+auto)
	b.ok(t, "up --config FILE t")

	// What did not come up sets none.
	b = newRecorded(t, setup+auto)
	b.stackErr = errors.New("the test has no stack")
	var set []sysctls.Setting
	b.host.set = &set
	if r := b.command("up --config FILE --all"); r.Status != 1 || set != nil {
		t.Errorf("%+v sets %v", r, set)
	}
}
