package capture

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/rtnl"
)

// TestUsage: a wrong command line opens no stack and makes no file.
func TestUsage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x")
	for args, want := range map[string]string{
		"--show-keys":               "--show-keys needs --write FILE",
		"-w - --show-keys":          "--show-keys needs --write FILE",
		"--force":                   "--force is for --write FILE",
		"-w " + file + " --count 0": "--count 0: want a number of packets",
		"--snaplen 0":               "--snaplen 0: want a number of bytes, from 1 to 65575",
		"--snaplen 65576":           "--snaplen 65576: want a number",
		"--src 10.1.0.0/33":         "--src 10.1.0.0/33: ",
		"--dst x.example":           "--dst x.example: ",
		"--proto nonsense":          "--proto nonsense: ",
		"--port 0":                  "--port 0: no packet has this port",
		"--port 65536":              "--port 65536: ",
		"--said esp0x12":            "--said esp0x12: ",
		"-i=":                       "--interface: there is no name of a device",
		"--write=":                  "--write: there is no file name",
		"eth0":                      "unexpected argument eth0",
	} {
		if r := clitest.Run(App(), clitest.World{}, strings.Fields(args)...); r.Status != 2 || r.Opened || r.Out != "" || !strings.Contains(r.Err, want) {
			t.Errorf("capture %s: status %d, %q, want %q", args, r.Status, r.Err, want)
		}
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("there is a file")
	}
}

func said4(text string) (id klips.SAID) {
	if err := id.UnmarshalText([]byte(text)); err != nil {
		panic(err)
	}
	return id
}

func selector(src, dst string) klips.Selector {
	return klips.Selector{Src: netip.MustParsePrefix(src), Dst: netip.MustParsePrefix(dst)}
}

// exampleTables are those of gw1: a tunnel with ESP and AH in both directions, and shunts.
func exampleTables() *tables {
	policy := selector("10.2.0.0/24", "10.1.0.0/24")
	sa := func(id string, src string, dir klips.Direction, next ...string) klips.SA {
		s := klips.SA{ID: said4(id), Src: netip.MustParseAddr(src), Dir: dir, State: klips.Mature}
		for _, n := range next {
			s.Next = append(s.Next, said4(n))
		}
		return s
	}
	t := &klips.Snapshot{
		SAs: []klips.SA{
			sa("tun0x101@192.0.2.2", gw1, klips.Outbound, "esp0x102@192.0.2.2", "ah0x103@192.0.2.2"), sa("esp0x102@192.0.2.2", gw1, klips.Outbound, "ah0x103@192.0.2.2"), sa("ah0x103@192.0.2.2", gw1, klips.Outbound),
			sa("ah0x203@192.0.2.1", gw2, klips.Inbound, "esp0x202@192.0.2.1", "tun0x201@192.0.2.1"), sa("esp0x202@192.0.2.1", gw2, klips.Inbound, "tun0x201@192.0.2.1"), sa("tun0x201@192.0.2.1", gw2, klips.Inbound),
			sa("esp0x300@192.0.2.2", gw1, klips.Outbound),
		},
		Eroutes: []klips.Eroute{
			{Selector: selector("10.1.0.0/24", "10.2.0.0/24"), ID: said4("tun0x101@192.0.2.2")},
			{Selector: selector("10.1.0.0/24", "10.2.0.9/32"), ID: klips.Magic(klips.SPIDrop)},
			{Selector: selector("10.1.0.0/24", "10.3.0.0/24"), ID: said4("tun0x999@192.0.2.3")},
			{Selector: selector("192.0.2.1/32", "192.0.2.2/32"), ID: said4("esp0x300@192.0.2.2")},
			{Selector: selector("192.0.2.9/32", "192.0.2.2/32"), ID: said4("esp0x300@192.0.2.2")},
		},
		Devices: []klips.Device{{Name: "ipsec0", Physical: "eth0"}, {Name: "ipsec1"}},
	}
	t.SAs[5].Policy = &policy
	t.SAs[1].NATT = klips.NATT{Type: klips.NATTNonESP, SPort: 4500, DPort: 1024}
	return newTables(time.Unix(1700000000, 0), t, true, []rtnl.Link{{Index: 1, Name: "lo"}, {Index: 2, Name: "eth0"}, {Index: 3, Name: "ipsec0"}, {Index: 4, Name: "ipsec1"}},
		[]rtnl.Addr{{Prefix: netip.MustParsePrefix("192.0.2.1/24")}})
}

// packets are packets on gw1, each as an item.
func packets() (l []*item) {
	esp := words(0x102, 7, 0, 0)
	add := func(d device, out bool, p []byte) {
		at := time.Unix(1700000000+int64(len(l)), 1000)
		l = append(l, &item{device: d, out: out, time: at, data: p, length: len(p), view: look(p, []uint16{500, 4500})})
	}
	clear, eth0 := device{"ipsec0", true}, device{"eth0", false}
	part := ip4(in1, in2, 17, udp(9, 53, nil))
	part[6] = 0x20
	later := ip4(gw2, gw1, 50, esp)
	later[7] = 9
	add(clear, true, ip4(in1, in2, 6, make([]byte, 20)))
	add(clear, true, part)
	add(clear, true, ip4(in1, "10.2.0.9", 1, words(0, 0)))
	add(clear, true, ip4(in1, "10.3.0.1", 1, words(0, 0)))
	add(clear, true, ip4(in1, "10.9.0.1", 1, words(0, 0)))
	add(clear, true, ip4(gw1, gw2, 17, udp(4500, 4500, words(0, 0, 0))))
	add(clear, false, ip4(in2, in1, 1, words(0, 0)))
	add(clear, false, ip4("10.9.0.1", in1, 1, words(0, 0)))
	add(clear, true, []byte{0x45, 0})
	add(eth0, true, ip4(gw1, gw2, 51, ah(50, 0x103, 7, esp)))
	add(eth0, true, ip4(gw1, gw2, 17, udp(4500, 4500, esp)))
	add(eth0, true, ip4(gw1, gw2, 50, words(0x300, 1)))
	add(eth0, false, ip4(gw2, gw1, 51, ah(50, 0x203, 8, words(0x202, 8))))
	add(eth0, false, ip4(gw2, gw1, 50, words(0x777, 8)))
	add(eth0, false, ip4(gw2, gw1, 50, words(0x777)))
	add(eth0, false, later)
	add(eth0, false, ip4(gw2, gw1, 4, ip4(in2, in1, 1, words(0, 0))))
	add(eth0, false, ip4("192.0.2.7", gw1, 4, ip4(in2, in1, 1, words(0, 0)))) // of nobody
	add(eth0, false, ip4(gw2, gw1, 17, udp(500, 500, words(1, 2, 3))))        // IKE
	return l
}

// Each kind of packet has its comment.
func TestComments(t *testing.T) {
	tab := exampleTables()
	var text strings.Builder
	for _, p := range packets() {
		if s, ok := tab.about(p); ok {
			text.WriteString(line(p, s.comment("")) + "\n")
		} else {
			text.WriteString("(not recorded)\n")
		}
	}
	clitest.Golden(t, "lines.txt", text.String())
}

// The devices are those that are attached, or those that were asked for.
func TestDevices(t *testing.T) {
	tab := exampleTables()
	for names, want := range map[string]map[int]device{
		"":            {2: {"eth0", false}, 3: {"ipsec0", true}},
		"ipsec1":      {4: {"ipsec1", true}},
		"eth0":        {2: {"eth0", false}},
		"lo ipsec0":   {1: {"lo", false}, 3: {"ipsec0", true}},
		"eth7 ipsec9": {},
	} {
		got := tab.devices(strings.Fields(names))
		if len(got) != len(want) {
			t.Errorf("%q: %v, want %v", names, got, want)
		}
		for i, d := range want {
			if got[i] != d {
				t.Errorf("%q: %v, want %v", names, got, want)
			}
		}
	}
	if got := tab.ports(); len(got) != 3 || got[0] != 500 || got[1] != 1024 || got[2] != 4500 {
		t.Errorf("ports %v", got)
	}
}

// A dropped packet is found by its headers, or as the only one of its SA.
func TestDrops(t *testing.T) {
	tab := exampleTables()
	at := func(n int64) time.Time { return time.Unix(1700000000+n, 0) }
	addr := netip.MustParseAddr
	wait := func() []*item { return packets() }
	espIn := klips.Dropped{Reason: "bad-icv", Inbound: true, Src: addr(gw2), Dst: addr(gw1), Proto: 51, Length: 52, SPI: 0x203, Sequence: 8, SA: said4("ah0x203@192.0.2.1")}
	clearOut := klips.Dropped{Reason: "eroute-drop", Src: addr(in1), Dst: addr("10.2.0.9"), Proto: 1, Length: 28}
	opened := klips.Dropped{Reason: "policy", Inbound: true, Src: addr("10.9.9.9"), Dst: addr(in1), Proto: 1, Length: 28, SA: said4("tun0x201@192.0.2.1")}
	stranger := espIn
	stranger.Sequence = 9
	for name, c := range map[string]struct {
		drop klips.Dropped
		want int // index of packets; -1: none
	}{
		"by number": {espIn, 12}, "in clear": {clearOut, 2}, "the only one of its SA": {opened, 12}, "another number": {stranger, -1},
	} {
		var d drops
		l := wait()
		c.drop.Time = at(1)
		d.note([]klips.Dropped{c.drop}, l, tab)
		for i, it := range l {
			if it.reason != "" {
				t.Errorf("%s: the first reading is of the past, but packet %d was %s", name, i, it.reason)
			}
		}
		c.drop.Time = at(2)
		for range 2 { // what was read before is not new
			d.note([]klips.Dropped{c.drop}, l, tab)
		}
		for i, it := range l {
			if (it.reason != "") != (i == c.want) {
				t.Errorf("%s: packet %d has the reason %q, want packet %d", name, i, it.reason, c.want)
			}
		}
	}
	// Two packets of the SA: which one it was is not known.
	var d drops
	l := append(wait(), packets()[12])
	d.note(nil, l, tab)
	opened.Time = at(3)
	d.note([]klips.Dropped{opened}, l, tab)
	for i, it := range l {
		if it.reason != "" {
			t.Errorf("packet %d was %s; it could be another one", i, it.reason)
		}
	}
	s := said{text: "a", fate: "to be dropped: no-eroute"}
	if got := s.comment("no-eroute") + "|" + s.comment(""); got != "a; dropped: no-eroute|a; to be dropped: no-eroute" {
		t.Error(got)
	}
}
