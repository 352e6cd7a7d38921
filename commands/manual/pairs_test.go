package manual

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const lists = "conn t\n left=10.0.0.1\n leftsubnets={10.1.0.0/16 10.3.0.0/16}\n right=10.0.0.2\n rightsubnets={10.2.0.0/16,10.4.0.0/16}\n" +
	" spibase=0x1000\n esp=aes128-gcm\n masterkey=@master.key\n auto=start\n"

func newLists(t *testing.T, text string) *bench {
	t.Helper()
	b := newRecorded(t, text)
	key := filepath.Join(filepath.Dir(b.file), "master.key")
	if err := os.WriteFile(key, []byte("0x"+strings.Repeat("0123456789abcdef", 4)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return b
}

// A conn with lists of subnets is a connection for each pair, with SAs of its own.
func TestPairs(t *testing.T) {
	b := newLists(t, lists)
	b.ok(t, "up --config FILE t")
	for _, want := range []string{
		"eroute 10.1.0.0/16 10.2.0.0/16 tun0x1000@10.0.0.2\n", "eroute 10.1.0.0/16 10.4.0.0/16 tun0x1010@10.0.0.2\n",
		"eroute 10.3.0.0/16 10.2.0.0/16 tun0x1100@10.0.0.2\n", "eroute 10.3.0.0/16 10.4.0.0/16 tun0x1110@10.0.0.2\n",
		"route 10.2.0.0/16 ipsec0", "route 10.4.0.0/16 ipsec0",
	} {
		if !strings.Contains(b.state(), want) {
			t.Errorf("%s is missing in\n%s", want, b.state())
		}
	}
	b.ok(t, "diff FILE")
	for _, s := range stages {
		for _, in := range []string{"0x11001", "0x11011", "0x11101", "0x11111"} {
			b.use("tun" + in + "@10.0.0.1")
		}
		if r := b.rekey(&testClock{}, "--stage "+string(s)+" t"); r.Status != 0 {
			t.Fatalf("%s: %+v", s, r)
		}
	}
	if s := b.state(); strings.Contains(s, "esp0x1") && !strings.Contains(s, "tun0x11110@10.0.0.2") || strings.Contains(s, "tun0x1110@") {
		t.Errorf("after a rekey:\n%s", s)
	}
	// One more subnet changes nothing of the others.
	b.model.added = 0
	b.write(t, strings.Replace(lists, "10.4.0.0/16}", "10.4.0.0/16,10.5.0.0/16}", 1))
	b.ok(t, "apply FILE")
	if b.model.added != 8 || !strings.Contains(b.state(), "10.3.0.0/16 10.5.0.0/16 tun0x1120@10.0.0.2\n") {
		t.Errorf("%d SAs were added:\n%s", b.model.added, b.state())
	}
	b.ok(t, "down --config FILE t/1x3")
	if r := b.status("t"); strings.Count(r.Out, "  up  ") != 5 || !strings.Contains(r.Out, "t/1x3  closed") {
		t.Errorf("%+v", r)
	}
	// One subnet less: its connections are taken down if that is asked for.
	b.write(t, lists)
	b.ok(t, "apply --prune FILE")
	if strings.Contains(b.state(), "10.5.0.0/16 tun") {
		t.Errorf("pruned:\n%s", b.state())
	}
	if r := b.command("unroute --config FILE t"); r.Status != 0 || strings.Contains(b.state(), "tun") || b.guarded() != "" {
		t.Errorf("%+v\n%s%s", r, b.state(), b.guarded())
	}
}

func TestPairsRefused(t *testing.T) {
	for text, want := range map[string]string{
		strings.Replace(lists, "masterkey=@master.key", strings.TrimSpace(keys3des), 1):      "leftsubnets: each pair of subnets has SAs of its own, and they need keys of their own; give masterkey",
		strings.Replace(lists, "spibase=0x1000", "spi=0x1000", 1):                            "leftsubnets: each pair of subnets has SPIs of its own; give spibase",
		strings.Replace(lists, "leftsubnets=", "leftsubnet=10.9.0.0/16\n leftsubnets=", 1):   "leftsubnet: leftsubnets is given too",
		strings.Replace(lists, "{10.1.0.0/16 ", "{10.1.0.0/16 "+strings.Repeat("x ", 16), 1): "leftsubnets: there are 18 subnets, at most 16 are possible",
		strings.Replace(lists, "auto=start", "rightespspi=0x300", 1):                         "rightespspi: each pair of subnets has SPIs of its own; leave it out",
		strings.Replace(lists, "10.4.0.0/16", "none", 1):                                     "rightsubnet: none: ",
	} {
		b := newLists(t, text)
		if r := b.command("up --config FILE t"); r.Status != 1 || !strings.Contains(r.Err, want) || b.state() != "" {
			t.Errorf("want %s, got %+v\n%s", want, r, b.state())
		}
	}
	// The pair 1x2 would have a reserved SPI in this epoch, though the conn itself has none.
	b := newLists(t, strings.NewReplacer("0x1000", "0xfff0", "auto=start", "epoch=65535").Replace(lists))
	if r := b.command("up --config FILE t"); r.Status != 1 || !strings.Contains(r.Err, "those below 0x100 are reserved; use the next epoch") || b.state() != "" {
		t.Errorf("%+v\n%s", r, b.state())
	}
	b = newLists(t, lists)
	for name, want := range map[string]string{"t/3x1": "leftsubnets: it has 2 subnets, and so there is no connection t/3x1", "t/0x1": "a pair of subnets is written NAME/1x2", "t/1": "is no name", "t/1x2x": "is no name", "t/01x1": "is no name"} {
		if r := b.command("up --config FILE " + name); r.Status == 0 || !strings.Contains(r.Err, want) {
			t.Errorf("%s: %+v", name, r)
		}
	}
	single := newRecorded(t, auto)
	for _, line := range []string{"up --config FILE t/1x1", "reload --config FILE t/1x1", "down --config FILE t/1x1"} {
		if r := single.command(line); r.Status != 1 || !strings.Contains(r.Err, "it has no lists of subnets or ports, and so there is no connection t/1x1") || single.state() != "" {
			t.Errorf("%s: %+v\n%s", line, r, single.state())
		}
	}
	for _, line := range []string{"reload --config FILE t/3x1", "up --config FILE t/3x1", "down --config FILE t/3x1"} {
		if r := b.command(line); r.Status != 1 || !strings.Contains(r.Err, "and so there is no connection t/3x1") {
			t.Errorf("%s: %+v", line, r)
		}
	}
	if r := b.status("t/3x1"); r.Status != 1 || !strings.Contains(r.Err, "and so there is no connection t/3x1") {
		t.Errorf("status: %+v", r)
	}
	if r := b.run("--up t"); r.Status != 1 || !strings.Contains(r.Err, "leftsubnets: it stands for several connections; ipsec up t makes them all") {
		t.Errorf("%+v", r)
	}
}

// A conn with lists of ports is a connection for each of them; if both ends have a list, for
// each two in order.
func TestPortLists(t *testing.T) {
	const text = "conn t\n left=10.0.0.1\n right=10.0.0.2\n type=transport\n spibase=0x1000\n esp=aes128-gcm\n masterkey=@master.key\n auto=start\n"
	for lines, want := range map[string][]string{
		" rightprotoport=tcp/80,tcp/443,udp/53\n":                   {"esp0x1000", "esp0x1010", "esp0x1020"},
		" leftprotoport=tcp/1,udp/2\n rightprotoport=tcp/3,udp/4\n": {"esp0x1000", "esp0x1110"},
		" rightprotoport=tcp/5060,udp/5060\n":                       {"esp0x1000"},
	} {
		b := newLists(t, text+lines)
		b.ok(t, "up --config FILE t")
		var got []string
		for line := range strings.Lines(b.state()) {
			if said, ok := strings.CutPrefix(line, "eroute 10.0.0.1/32 10.0.0.2/32 "); ok {
				got = append(got, strings.TrimSuffix(said, "@10.0.0.2\n"))
			}
		}
		slices.Sort(got)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s(-want +got):\n%s", lines, d)
		}
		b.ok(t, "diff FILE")
	}
	for lines, want := range map[string]string{
		text + " leftprotoport=tcp/1,udp/2\n rightprotoport=tcp/3\n":                    "leftprotoport: the other end has 1 protocols with ports, and this one 2; give one for each, or none at one end",
		text + " leftprotoport=tcp/1,udp/2\n rightprotoport=udp/3,tcp/4\n":              "both ends have the same",
		text + " leftprotoport=tcp/1,none/2\n":                                          "leftprotoport: none: neither a number nor a known name",
		strings.Replace(text, "spibase", "spi", 1) + " leftprotoport=tcp/1,tcp/2\n":     "leftprotoport: each pair of protocols with ports has SPIs of its own; give spibase",
		strings.Replace(text, "masterkey", "espenckey", 1) + " leftprotoport=1,2,6/1\n": "leftprotoport: each pair of protocols with ports has SAs of its own, and they need keys of their own; give masterkey",
	} {
		b := newLists(t, lines)
		if r := b.command("up --config FILE t"); r.Status != 1 || !strings.Contains(r.Err, want) || b.state() != "" {
			t.Errorf("%s%+v", lines, r)
		}
	}
	b := newLists(t, text+" leftprotoport=tcp/1,udp/2\n rightprotoport=tcp/3,udp/4\n")
	for name, want := range map[string]string{"t/1x2": "and so there is no connection t/1x2", "t/3x3": "it has 2 protocols with ports, and so there is no connection t/3x3"} {
		if r := b.command("up --config FILE " + name); r.Status != 1 || !strings.Contains(r.Err, want) {
			t.Errorf("%s: %+v", name, r)
		}
	}
	b.ok(t, "up --config FILE t/2x2")
}
