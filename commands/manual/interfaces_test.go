package manual

import (
	"strings"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/commands/manual/conf"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/serial"
)

// setup returns the file of a tunnel with a line interfaces=.
func setup(interfaces string) string {
	return "config setup\n interfaces=\"" + interfaces + "\"\n" + tunnel
}

func TestInterfaces(t *testing.T) {
	tests := []struct{ value, want string }{
		{"", ""},
		{"%none", ""},
		{"ipsec0=eth0", "ipsec0=eth0"},
		{" ipsec0=eth0  ipsec1=ppp0 ", "ipsec0=eth0 ipsec1=ppp0"},
		{"%defaultroute", "ipsec0=eth0"},
		{"%defaultroute ipsec1=eth1", "ipsec0=eth0 ipsec1=eth1"},
		{"eth0", "eth0: write a virtual and a physical device, as in ipsec0=eth0"},
		{"ipsec0=", "ipsec0=: write a virtual and a physical device, as in ipsec0=eth0"},
		{"ipsec0=eth0,ipsec1=eth1", "ipsec0=eth0,ipsec1=eth1: write a virtual and a physical device, as in ipsec0=eth0"},
		{"eth0=ipsec0", "eth0 is no virtual device; these are ipsec0 to ipsec63"},
		{"ipsec64=eth0", "ipsec64 is no virtual device; these are ipsec0 to ipsec63"},
		{"ipsec0=eth0 ipsec0=eth1", "ipsec0 is there twice"},
		{"%none ipsec0=eth0", "%none means no device; it must be the only word"},
	}
	for _, tt := range tests {
		b := newBench(t, setup(tt.value))
		f := &configuration{host: left}
		var err error
		if f.file, err = (conf.Loader{}).Load(b.file); err != nil {
			t.Fatal(err)
		}
		list, err := interfaces(f.file.Setup("interfaces"), left)
		var got []string
		for _, b := range list {
			got = append(got, b.Virtual+"="+b.Physical)
		}
		text := strings.Join(got, " ")
		if err != nil {
			_, text, _ = strings.Cut(err.Error(), "config setup: interfaces: ")
		}
		if text != tt.want {
			t.Errorf("interfaces=%q: %s, want %s", tt.value, text, tt.want)
		}
	}
}

// TestAttach: --up and --route attach the virtual device as in interfaces=, or are
// refused with an error that names the device, and make nothing.
func TestAttach(t *testing.T) {
	const attached = "link ipsec0 10.0.0.1/32\n"
	tests := []struct {
		name, file string
		physical   string // physical device of ipsec0 before; "-": no ipsec0
		links      []string
		err        string
		want       string // devices and links
	}{
		{"as the file has it", setup("ipsec0=eth0"), "", nil, "", attached},
		{"by the default route", setup("%defaultroute"), "", nil, "", attached},
		{"with an address", setup("ipsec0=eth0"), "", []string{"ipsec0 10.0.0.1/32"}, "", "link ipsec0 10.0.0.1/32\n"},
		{"up already", setup("ipsec0=eth0"), "", []string{"ipsec0 up"}, "", attached},
		{"made first", setup("ipsec0=eth0"), "-", nil, "", attached},
		{"attached already", setup("ipsec0=eth0"), "eth0", []string{"ipsec0 up"}, "", ""},
		{"attached by hand, the file names none", tunnel, "eth7", []string{"ipsec0 up"}, "", "ipsec0 -> eth7\n"},
		{"attached by hand, the default route leads elsewhere", setup("%defaultroute"), "eth7", []string{"ipsec0 up"}, "", "ipsec0 -> eth7\n"},
		{"attached elsewhere", setup("ipsec0=eth0"), "eth7", []string{"ipsec0 up"},
			":2: config setup: interfaces: ipsec0=eth0, but ipsec0 is attached to eth7; detach it with ipsec tncfg --detach --virtual ipsec0, or change the line\n", ""},
		{"no interfaces=", tunnel, "", nil,
			":1: conn t: ipsec0 is attached to no device; do it with ipsec tncfg --attach --virtual ipsec0 --physical eth0, or write interfaces=\"ipsec0=eth0\" into config setup\n", ""},
		{"%none", setup("%none"), "", nil, "ipsec0 is attached to no device; do it with", ""},
		{"another virtual device", setup("ipsec1=eth0"), "", nil, "ipsec0 is attached to no device; do it with", ""},
		{"no address, but a script", tunnel + " leftupdown=true\n", "eth0", nil, ":1: conn t: ipsec0 is down; ip link set ipsec0 up\n", ""},
	}
	for _, tt := range tests {
		for _, op := range []string{"--up t", "--route t"} {
			b := newBench(t, tt.file)
			b.table.links = tt.links
			if b.model.devices["ipsec0"] = tt.physical; tt.physical == "-" {
				delete(b.model.devices, "ipsec0")
			}
			before := b.state()
			r := b.run(op)
			if tt.err != "" {
				if r.Status != 1 || !strings.Contains(r.Err, tt.err) || b.state() != before {
					t.Errorf("%s: %s: status %d, %swant %s\n%s", tt.name, op, r.Status, r.Err, tt.err, b.state())
				}
				continue
			}
			if r.Status != 0 || r.Err != "" || !strings.Contains(b.state(), "route 10.2.0.0/16 ipsec0") {
				t.Errorf("%s: %s: status %d, %s%s", tt.name, op, r.Status, r.Err, b.state())
			}
			if op == "--up t" {
				b.run("--down t")
			}
			b.run("--unroute t")
			if got := b.state(); got != tt.want {
				t.Errorf("%s: after %s and back:\n%swant\n%s", tt.name, op, got, tt.want)
			}
		}
	}
	b := newBench(t, setup("%defaultroute"))
	b.model.devices["ipsec0"] = ""
	h := left
	h.noDefault = true
	r := clitest.Run(app(h, &b.table), clitest.World{Wrap: func(*clitest.Stack) klips.Stack { return serial.New(b.model) }}, "--config", b.file, "--up", "t")
	if want := "config setup: interfaces: %defaultroute: this host has no default route; name the device, as in ipsec0=eth0\n"; r.Status != 1 || !strings.HasSuffix(r.Err, want) {
		t.Errorf("no default route: status %d, %s", r.Status, r.Err)
	}
}

// TestAttachUndo lets each request of an --up that attaches fail in turn. The device is
// unchanged afterwards.
func TestAttachUndo(t *testing.T) {
	for n := 1; ; n++ {
		b := newBench(t, setup("ipsec0=eth0"))
		delete(b.model.devices, "ipsec0")
		b.table.links = nil
		want := b.state()
		b.model.failAt = n
		r := b.run("--up t")
		if b.model.requests < n {
			if r.Status != 0 || n != 12 {
				t.Errorf("%d requests, status %d, want 11 and 0: %s", n-1, r.Status, r.Err)
			}
			break
		}
		if r.Status != 1 || b.state() != want || len(b.table.links) != 0 || strings.Count(r.Err, "\n") != 1 {
			t.Errorf("request %d fails: status %d, %s\n got %s%q\nwant %s", n, r.Status, r.Err, b.state(), b.table.links, want)
		}
	}
	b := newBench(t, setup("ipsec0=eth0"))
	b.model.devices["ipsec0"] = ""
	b.table.links, b.table.refuse = nil, errnoNETDOWN
	want := b.state()
	if r := b.run("--up t"); r.Status != 1 || b.state() != want || !strings.HasSuffix(r.Err, "conn t: ip link set ipsec0 up: network is down\n") {
		t.Errorf("not brought up: status %d, %s\n got %s\nwant %s", r.Status, r.Err, b.state(), want)
	}
}

// TestHideTOS: the tunnel of a connection copies the TOS to its peer, unless config setup
// has hidetos=yes or the stack cannot do that.
func TestHideTOS(t *testing.T) {
	for _, tt := range []struct {
		hidetos string
		has     bool
		want    bool
		err     string
	}{
		{"", true, true, ""},
		{"", false, false, ""},
		{"no", true, true, ""},
		{"yes", true, false, ""},
		{"maybe", true, false, ":2: config setup: hidetos: maybe is neither yes nor no"},
	} {
		b := newBench(t, "config setup\n hidetos="+tt.hidetos+"\n"+tunnel)
		if !tt.has {
			b.model.lacks = klips.CapCopyTOS
		}
		r := b.run("--up t")
		if !strings.Contains(r.Err, tt.err) || (r.Status != 0) != (tt.err != "") {
			t.Errorf("hidetos=%s: status %d, %s, want %s", tt.hidetos, r.Status, r.Err, tt.err)
		}
		for id, s := range b.model.specs {
			if want := tt.want && id.String() == "tun0x200@10.0.0.2"; s.CopyTOS != want {
				t.Errorf("hidetos=%s, the stack can copy: %v: %v copies %v, want %v", tt.hidetos, tt.has, id, s.CopyTOS, want)
			}
		}
		words := clitest.Run(app(left, &b.table), clitest.World{}, "--config", b.file, "--showonly", "--up", "t")
		if got := strings.Count(words.Out, " --copy-tos\n"); tt.err == "" && got != map[bool]int{true: 1}[tt.hidetos != "yes"] {
			t.Errorf("hidetos=%s: --showonly prints --copy-tos %d times", tt.hidetos, got)
		}
	}
}

// TestSetupParams: an unknown parameter of config setup gets a note, with its line.
func TestSetupParams(t *testing.T) {
	b := newBench(t, "config setup\n plutodebug=none\n interfacess=ipsec0=eth0\n\tfrob=1\n x-frob=1\n\tnat_traversal=yes\n"+tunnel)
	want := ":3: config setup: interfacess: there is no such parameter; did you mean interfaces?\n|:4: config setup: frob: there is no such parameter; it has no effect\n"
	r := b.run("--up t")
	var got []string
	for line := range strings.Lines(r.Err) {
		_, rest, _ := strings.Cut(line, "ipsec manual: note: "+b.file)
		got = append(got, rest)
	}
	if text := strings.Join(got, "|"); r.Status != 0 || text != want {
		t.Errorf("status %d, %s, want %s", r.Status, text, want)
	}
}
