package manual

import (
	"strings"
	"testing"
)

const fixed = tunnel + " mtu=1400\n auto=start\n" + second

func (b *bench) mtuIs(t *testing.T, want int, when string) {
	t.Helper()
	if got, err := b.table.MTU("ipsec0"); err != nil || got != want {
		t.Errorf("%s: the MTU is %d, %v, want %d", when, got, err, want)
	}
}

// The virtual device has the MTU of a connection while it is up.
func TestMTU(t *testing.T) {
	const was = 16260
	b := newRecorded(t, fixed+" mtu=1400\n")
	b.ok(t, "route --config FILE t")
	b.mtuIs(t, was, "routed")
	b.ok(t, "up --config FILE t")
	b.mtuIs(t, 1400, "up")
	b.ok(t, "up --config FILE u")
	b.ok(t, "down --config FILE t")
	b.mtuIs(t, 1400, "another one is up")
	b.ok(t, "down --config FILE u")
	b.mtuIs(t, was, "down")

	b.ok(t, "up --config FILE t u")
	b.table.SetMTU("ipsec0", 1350)
	if r := b.command("diff FILE"); !strings.HasPrefix(r.Out, "conn t: it is up, but the MTU of ipsec0 is 1350\n") || r.Status != 1 {
		t.Errorf("diff of a changed device: %+v", r)
	}
	b.ok(t, "up --config FILE t")
	b.mtuIs(t, 1400, "up again")
	b.table.SetMTU("ipsec0", 1380)
	b.ok(t, "down --config FILE t u")
	b.mtuIs(t, 1380, "changed by another program")
}

// A connection gets another MTU, or none, without new SAs.
func TestChangeMTU(t *testing.T) {
	b := newRecorded(t, fixed)
	b.ok(t, "apply FILE")
	b.mtuIs(t, 1400, "applied")
	sas := b.model.String()
	for _, c := range []struct {
		word, diff string
		mtu        int
	}{
		{"1300", "conn t: mtu: 1400 is made, the file has 1300\n", 1300},
		{"auto", "conn t: mtu: 1300 is made, the file has auto\n", 16260},
		{"1200", "conn t: mtu: auto is made, the file has 1200\n", 1200},
	} {
		b.write(t, strings.Replace(fixed, "mtu=1400", "mtu="+c.word, 1))
		if r := b.command("diff FILE"); r.Out != c.diff {
			t.Errorf("diff: %+v", r)
		}
		if r := b.command("apply --dry-run FILE"); !strings.Contains(r.Out, "ip link set ipsec0 mtu ") || strings.Contains(r.Out, "spi") {
			t.Errorf("dry run: %+v", r)
		}
		b.ok(t, "apply FILE")
		b.mtuIs(t, c.mtu, "with mtu="+c.word)
	}
	if b.model.String() != sas {
		t.Errorf("the stack has changed from\n%sto\n%s", sas, b.model)
	}
	b.write(t, second)
	b.ok(t, "apply --prune FILE")
	b.mtuIs(t, 16260, "pruned")
}

// Two connections cannot ask for different MTUs of one device, unless they change together.
func TestOneMTU(t *testing.T) {
	two := fixed + " mtu=1300\n"
	for _, line := range []string{"up --config FILE t u", "apply FILE", "apply --dry-run FILE"} {
		b := newRecorded(t, two)
		r := b.command(line)
		if r.Status != 1 || !strings.Contains(r.Err, "and both use ipsec0; give them the same, or take conn") || strings.Count(r.Err, "mtu=1300") != 1 || strings.Count(r.Err, "mtu=1400") != 1 {
			t.Errorf("%s: %+v", line, r)
		}
		if b.state() != "" || b.guarded() != "" {
			t.Errorf("%s: refused, it leaves\n%s%s", line, b.state(), b.guarded())
		}
	}
	b := newRecorded(t, strings.ReplaceAll(two, "mtu=1300", "mtu=1400"))
	b.ok(t, "apply FILE")
	b.write(t, strings.ReplaceAll(two, "mtu=1400", "mtu=1300"))
	b.ok(t, "apply FILE")
	b.mtuIs(t, 1300, "both changed")
	b.write(t, strings.NewReplacer("mtu=1400", "mtu=1200", " mtu=1300\n", "", "espenckey=0x01", "espenckey=0x02").Replace(two))
	b.ok(t, "apply FILE")
	b.mtuIs(t, 1200, "one changed with its keys")
	b.ok(t, "unroute --config FILE t")
	b.mtuIs(t, 16260, "unrouted")
}

// If a later step fails, the MTU is as before.
func TestMTUTakenBack(t *testing.T) {
	b := newRecorded(t, strings.Replace(fixed, "auto=start", "leftupdown=false", 1))
	if r := b.command("up --config FILE t"); r.Status != 1 || !strings.Contains(r.Err, "false (prepare-client)") {
		t.Fatalf("%+v", r)
	}
	b.mtuIs(t, 16260, "refused")
}

// TCP of a connection announces segments of its MSS while it is up.
func TestMSS(t *testing.T) {
	clamped := func(b *bench) (list string) {
		for _, l := range b.table.links {
			if strings.HasPrefix(l, "clamp") {
				list += l + "\n"
			}
		}
		return list
	}
	const flow = "10.1.0.0/16 -> 10.2.0.0/16"
	b := newRecorded(t, tunnel+" mss=auto\n")
	b.ok(t, "up --config FILE t")
	for _, c := range []struct{ text, want string }{
		{tunnel + " mss=auto\n", "clamp t [" + flow + "] 0\n"},
		{tunnel + " mss=1300\n", "clamp t [" + flow + "] 1300\n"},
		{strings.ReplaceAll(tunnel, "10.2.0.0", "10.7.0.0") + " mss=1300\n", "clamp t [" + strings.ReplaceAll(flow, "10.2.0.0", "10.7.0.0") + "] 1300\n"},
		{strings.ReplaceAll(tunnel, "0x200", "0x300") + " mss=1200\n", "clamp t [" + flow + "] 1200\n"},
		{strings.ReplaceAll(tunnel, "0x200", "0x300") + " mss=no\n", ""},
		{strings.ReplaceAll(tunnel, "0x200", "0x300") + " mss=1400\n", "clamp t [" + flow + "] 1400\n"},
	} {
		b.write(t, c.text)
		b.ok(t, "apply FILE")
		if got := clamped(b); got != c.want {
			t.Errorf("%s: there is %q, want %q", c.text, got, c.want)
		}
	}
	b.write(t, strings.Replace(tunnel, "10.2.0.0", "10.8.0.0", 1)+" mss=1200\n")
	b.table.refuse = errnoSRCH // of the route
	before := clamped(b)
	if r := b.command("apply FILE"); r.Status != 1 || clamped(b) != before {
		t.Errorf("a failed change: %+v, %q, want %q", r, clamped(b), before)
	}
	b.table.refuse = nil
	b.ok(t, "down --config FILE t")
	if got := clamped(b); got != "" {
		t.Errorf("down leaves %q", got)
	}
	b.table.noFilter = true
	b.command("unroute --config FILE t")
	before = b.state()
	if r := b.command("up --config FILE t"); r.Status != 1 || !strings.Contains(r.Err, "mss: this kernel has no usable nftables; leave mss out, or use stack user") || b.state() != before {
		t.Errorf("without a packet filter: %+v\n%s", r, b.state())
	}
}

func TestWrongLengths(t *testing.T) {
	six := strings.NewReplacer("10.1.0.0/16", "fd01::/64", "10.2.0.0/16", "fd02::/64").Replace(ends)
	const sas = "spibase=0x200\n esp=3des-md5-96\n " + keys3des
	for _, tt := range []struct{ text, want string }{
		{ends + sas + " mtu=much\n", "; write auto, or a number of bytes as in mtu=1400"},
		{ends + sas + " mtu=67\n", "67: an MTU is 68 bytes at least"},
		{ends + sas + " mtu=65536\n", "write auto, or a number of bytes"},
		{six + sas + " mtu=1279\n", "1279: packets of IPv6 need 1280 bytes at least"},
		{"conn t\n type=drop\n left=10.0.0.1\n right=%any\n rightsubnet=10.9.0.0/16\n mtu=1400\n", "a conn of type drop protects nothing; leave mtu out, or the type"},
		{ends + sas + " mss=87\n", "87: TCP uses segments of 88 bytes at least"},
		{ends + sas + " mss=yes\n", "; write auto, no, or a number of bytes as in mss=1300"},
		{ends + sas + " mss=auto\n leftprotoport=udp\n", "only TCP has it, and the connection is for another protocol; leave mss out"},
		{"conn t\n type=passthrough\n left=10.0.0.1\n right=%any\n rightsubnet=10.9.0.0/16\n mss=auto\n", "a conn of type passthrough protects nothing; leave mss out, or the type"},
		{ends + sas + " mss=auto\n leftprotoport=tcp\n", ""},
		{ends + sas + " mss=no\n leftprotoport=udp\n", ""},
		{six + sas + " mtu=1280\n", ""},
		{ends + sas + " mtu=auto\n", ""},
	} {
		if _, err := load(t, left, false, tt.text); tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.text, err, tt.want)
		}
	}
}
