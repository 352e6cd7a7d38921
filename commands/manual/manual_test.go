package manual

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/commands/internal/epochs"
	"github.com/klips-go/ipsec/commands/internal/followed"
	"github.com/klips-go/ipsec/commands/internal/made"
	"github.com/klips-go/ipsec/commands/internal/routes"
	"github.com/klips-go/ipsec/commands/internal/sysctls"
	"github.com/klips-go/ipsec/commands/manual/conf"
	"github.com/klips-go/ipsec/commands/manual/host"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/clamp"
	"github.com/klips-go/ipsec/klips/serial"
	"github.com/klips-go/ipsec/klips/syntax"
)

// A testHost is a host with addresses in the form "10.0.0.1@ipsec0".
type testHost struct {
	own, rest []string
	noDefault bool
	pointed   bool // its virtual devices reach no gateway
	rundir    string
	stateless bool           // it keeps no epochs
	route     followed.Route // %defaultroute of IPv4, if it is valid
	names     map[string][]netip.Addr
	set       *[]sysctls.Setting
}

func (h testHost) StartFollowing() error { return nil }

func (h testHost) SetControls(list []sysctls.Setting) error {
	if h.set == nil {
		return errors.New("the test sets none")
	}
	*h.set = append(*h.set, list...)
	return nil
}

func (h testHost) LookUp(name string, f syntax.Family) (netip.Addr, error) {
	for _, a := range h.names[name] {
		if f == syntax.FamilyAny || syntax.FamilyOf(a) == f {
			return a, nil
		}
	}
	return netip.Addr{}, errors.New("no such host")
}

func (h testHost) Follow(makeIt bool) (*followed.Dir, error) {
	switch {
	case h.rundir == "" && makeIt:
		return nil, errors.New("the test has no run directory")
	case h.rundir == "":
		return nil, nil
	case makeIt:
		return followed.Make(h.rundir)
	}
	return followed.Open(h.rundir)
}

func (h testHost) Made(makeIt bool) (*made.Dir, error) {
	switch {
	case h.rundir == "":
		return nil, nil
	case makeIt:
		return made.Make(h.rundir)
	}
	return made.Open(h.rundir)
}

func (h testHost) Epochs() (epochs.List, error) {
	if h.rundir == "" || h.stateless {
		return nil, nil
	}
	return epochs.Read(h.rundir)
}

func (h testHost) RaiseEpoch(name string, epoch uint32) error {
	return epochs.Raise(h.rundir, name, epoch)
}

func ids(texts []string) (list []host.Identity) {
	for _, t := range texts {
		i, err := host.ParseIdentity(t)
		if err != nil {
			panic(err)
		}
		list = append(list, i)
	}
	return list
}

func (h testHost) Identities(bindings []host.Binding) (own, rest []host.Identity, err error) {
	return ids(h.own), ids(h.rest), nil
}

func (h testHost) DefaultDevice() (string, error) {
	if h.noDefault {
		return "", errors.New("this host has no default route")
	}
	return "eth0", nil
}

func (h testHost) DeviceOf(a netip.Addr) string { return "eth0" }

func (h testHost) Reaches(string, netip.Addr) bool { return !h.pointed }

func (h testHost) DefaultRoute(is6 bool) (followed.Route, error) {
	switch {
	case h.noDefault:
		return followed.Route{}, errors.New("this host has no IPv4 default route; give the address itself")
	case h.route.Local.IsValid() && !is6:
		return h.route, nil
	case is6:
		return followed.Route{Local: netip.MustParseAddr("2001:db8::1"), Gateway: netip.MustParseAddr("2001:db8::fe"), Device: "eth0"}, nil
	}
	return followed.Route{Local: netip.MustParseAddr("10.0.0.1"), Gateway: netip.MustParseAddr("10.0.0.254"), Device: "eth0"}, nil
}

var left = testHost{own: []string{"10.0.0.1@ipsec0", "10.0.0.1@ipsec0", "2001:db8::1@ipsec0"}, rest: []string{"10.1.0.1@ipsec0"}}

// app returns the applet on a host and routes of the test.
func app(h host.Host, n host.Network) *cli.App {
	a := App()
	a.Parse = func(env *cli.Env, args []string) (cli.Command, error) { return command(env, args, h, n) }
	return a
}

// TestGolden runs the command lines in the files of testdata and compares the output. A
// section "> ARGS" is the output of "ipsec manual --config FILE ARGS" on the host left;
// "N> ARGS" also has the exit status N. The last section ipsec.conf before it is the
// file. UPDATE=1 writes the results.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no testdata: %v", err)
	}
	head := regexp.MustCompile(`^(\d?)> (.*)$`)
	for _, name := range files {
		ar, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		config := filepath.Join(t.TempDir(), "ipsec.conf")
		for i := range ar.Files {
			f := &ar.Files[i]
			m := head.FindStringSubmatch(f.Name)
			if m == nil {
				if err := os.WriteFile(filepath.Join(filepath.Dir(config), f.Name), f.Data, 0o600); err != nil {
					t.Fatal(err)
				}
				continue
			}
			r := clitest.Run(app(left, nil), clitest.World{StackErr: errors.New("no stack")},
				append([]string{"--config", config}, strings.Fields(m[2])...)...)
			got := strings.ReplaceAll(r.Out+r.Err, filepath.Dir(config)+"/", "")
			if d := cmp.Diff(string(f.Data), got); d != "" && os.Getenv("UPDATE") == "" {
				t.Errorf("%s: %s (-want +got):\n%s", name, m[2], d)
			}
			if want := "0" + m[1]; fmt.Sprintf("%0*d", len(want), r.Status) != want {
				t.Errorf("%s: %s: status %d, want %s\n%s", name, m[2], r.Status, want, r.Err)
			}
			f.Data = []byte(got)
		}
		if os.Getenv("UPDATE") != "" {
			if err := os.WriteFile(name, txtar.Format(ar), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

const keys3des = "espenckey=0x01234567_89abcdef_02468ace_13579bdf_12345678_9abcdef0\n espauthkey=0x12345678_9abcdef0_2468ace0_13579bdf\n"

const ends = "conn t\n left=10.0.0.1\n leftsubnet=10.1.0.0/16\n leftnexthop=10.0.0.254\n right=10.0.0.2\n rightsubnet=10.2.0.0/16\n "

const hosts = "conn t\n left=10.0.0.1\n right=10.0.0.2\n type=transport\n "

// load returns the connection of a file's text.
func load(t *testing.T, h host.Host, other bool, text string) (*connection, error) {
	t.Helper()
	l := conf.Loader{ReadFile: func(string) ([]byte, error) { return []byte(text), nil }}
	f, err := l.Load("ipsec.conf")
	if err != nil {
		return nil, err
	}
	c, err := f.Conn([]string{"t"}, known, allParams())
	if err != nil {
		return nil, err
	}
	b, err := interfaces(f.Setup("interfaces"), h)
	if err != nil {
		return nil, err
	}
	return understand(c, b, h, host.Identity{}, other)
}

// TestRecorded compares plans with the recorded output of the original for the same
// conns. One difference is on purpose: the original removed the old route and added its
// own; the applet replaces the route, so that packets always have one.
func TestRecorded(t *testing.T) {
	two := "spibase=0x300\n esp=3des-md5-96\n ah=hmac-md5-96\n ahkey=0x12345678_9abcdef0_2468ace0_13579bdf\n" +
		" leftespenckey=0x1111\n rightespenckey=0x2222\n espauthkey=0x12345678_9abcdef0_2468ace0_13579bdf\n"
	tests := []struct {
		name, text string
		other      bool
		want       []string
	}{
		{"tunnel", ends + "spi=0x200\n esp=3des-md5-96\n espreplay_window=32\n " + keys3des, false, []string{
			"spi tun0x200@10.0.0.2 --ip4 --src 10.0.0.1 --dst 10.0.0.2",
			"spi esp0x200@10.0.0.2 --esp 3des-md5-96 --src 10.0.0.1 --authkey … --replay_window 32 --enckey …",
			"spigrp tun0x200@10.0.0.2 esp0x200@10.0.0.2",
			"spi tun0x200@10.0.0.1 --ip4 --src 10.0.0.2 --dst 10.0.0.1",
			"spi esp0x200@10.0.0.1 --esp 3des-md5-96 --src 10.0.0.2 --authkey … --replay_window 32 --enckey …",
			"spigrp tun0x200@10.0.0.1 esp0x200@10.0.0.1",
			"eroute --replace --src 10.1.0.0/16 --dst 10.2.0.0/16 tun0x200@10.0.0.2",
			"ip route replace 10.2.0.0/16 via 10.0.0.254 dev ipsec0",
		}},
		{"spibase on left", ends + two, false, []string{
			"spi tun0x300@10.0.0.2 --ip4 --src 10.0.0.1 --dst 10.0.0.2",
			"spi esp0x302@10.0.0.2 --esp 3des-md5-96 --src 10.0.0.1 --authkey … --enckey 0x2222",
			"spi ah0x304@10.0.0.2 --ah hmac-md5-96 --src 10.0.0.1 --authkey …",
			"spigrp tun0x300@10.0.0.2 esp0x302@10.0.0.2 ah0x304@10.0.0.2",
			"spi tun0x301@10.0.0.1 --ip4 --src 10.0.0.2 --dst 10.0.0.1",
			"spi esp0x303@10.0.0.1 --esp 3des-md5-96 --src 10.0.0.2 --authkey … --enckey 0x1111",
			"spi ah0x305@10.0.0.1 --ah hmac-md5-96 --src 10.0.0.2 --authkey …",
			"spigrp tun0x301@10.0.0.1 esp0x303@10.0.0.1 ah0x305@10.0.0.1",
			"eroute --replace --src 10.1.0.0/16 --dst 10.2.0.0/16 tun0x300@10.0.0.2",
			"ip route replace 10.2.0.0/16 via 10.0.0.254 dev ipsec0",
		}},
		{"spibase on right", ends + two, true, []string{
			"spi tun0x301@10.0.0.1 --ip4 --src 10.0.0.2 --dst 10.0.0.1",
			"spi esp0x303@10.0.0.1 --esp 3des-md5-96 --src 10.0.0.2 --authkey … --enckey 0x1111",
			"spi ah0x305@10.0.0.1 --ah hmac-md5-96 --src 10.0.0.2 --authkey …",
			"spigrp tun0x301@10.0.0.1 esp0x303@10.0.0.1 ah0x305@10.0.0.1",
			"spi tun0x300@10.0.0.2 --ip4 --src 10.0.0.1 --dst 10.0.0.2",
			"spi esp0x302@10.0.0.2 --esp 3des-md5-96 --src 10.0.0.1 --authkey … --enckey 0x2222",
			"spi ah0x304@10.0.0.2 --ah hmac-md5-96 --src 10.0.0.1 --authkey …",
			"spigrp tun0x300@10.0.0.2 esp0x302@10.0.0.2 ah0x304@10.0.0.2",
			"eroute --replace --src 10.2.0.0/16 --dst 10.1.0.0/16 tun0x301@10.0.0.1",
			"ip route replace 10.1.0.0/16 dev ipsec0",
		}},
		{"transport", hosts + "spibase=0x400\n esp=3des-md5-96\n " + keys3des, false, []string{
			"spi esp0x400@10.0.0.2 --esp 3des-md5-96 --src 10.0.0.1 --authkey … --enckey …",
			"spi esp0x401@10.0.0.1 --esp 3des-md5-96 --src 10.0.0.2 --authkey … --enckey …",
			"eroute --replace --src 10.0.0.1/32 --dst 10.0.0.2/32 esp0x400@10.0.0.2",
			"ip route replace 10.0.0.2/32 dev ipsec0",
		}},
		{"passthrough", strings.ReplaceAll(ends, "conn t\n", "conn t\n type=passthrough\n"), false, []string{
			"eroute --replace --src 10.1.0.0/16 --dst 10.2.0.0/16 %pass",
			"ip route replace 10.2.0.0/16 via 10.0.0.254 dev ipsec0",
		}},
	}
	strip := strings.NewReplacer(" --label t", "", " --af inet", "", " --eraf inet", "", " --said", "",
		"0x01234567_89abcdef_02468ace_13579bdf_12345678_9abcdef0", "…", "0x12345678_9abcdef0_2468ace0_13579bdf", "…")
	for _, tt := range tests {
		k, err := load(t, left, tt.other, tt.text)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		var got []string
		for _, s := range makePlan(k, "up", nil).Steps {
			if _, policy := s.Change.(klips.SetPolicy); policy || s.Guard != nil || s.Backstop != nil {
				continue // the original had no inbound policies and no guards
			}
			got = append(got, strings.TrimPrefix(strip.Replace(s.Text("", true)), "ipsec "))
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}
}

// TestNumbers checks the SPIs against the whole table of types and protocols.
func TestNumbers(t *testing.T) {
	const esp, ah = "esp=3des-md5-96\n " + keys3des + " ", "ah=hmac-md5-96\n ahkey=0x12345678_9abcdef0_2468ace0_13579bdf\n "
	tests := []struct{ text, right, left string }{
		{ends + "spibase=0xB00\n " + esp, "tun0xb00 esp0xb02", "tun0xb01 esp0xb03"},
		{ends + "spibase=0xB00\n " + ah, "tun0xb00 ah0xb02", "tun0xb01 ah0xb03"},
		{ends + "spibase=0xB00\n " + esp + ah, "tun0xb00 esp0xb02 ah0xb04", "tun0xb01 esp0xb03 ah0xb05"},
		{hosts + "spibase=0xB00\n " + esp, "esp0xb00", "esp0xb01"},
		{hosts + "spibase=0xB00\n " + ah, "ah0xb00", "ah0xb01"},
		{hosts + "spibase=0xB00\n " + esp + ah, "esp0xb00 ah0xb02", "esp0xb01 ah0xb03"},
		{ends + "spi=0x200\n " + esp + ah, "tun0x200 esp0x200 ah0x200", "tun0x200 esp0x200 ah0x200"},
		{ends + "spi=0x200\n leftespspi=0x201\n rightahspi=0x202\n " + esp + ah, "tun0x200 esp0x200 ah0x202", "tun0x200 esp0x201 ah0x200"},
		{ends + "spi=0x200\n lefttunspi=0x300\n righttunspi=0x301\n " + esp, "tun0x301 esp0x200", "tun0x300 esp0x200"},
		{hosts + "spi=0x200\n rightespspi=0x201\n " + esp, "esp0x201", "esp0x200"},
		{hosts + "spibase=0x200\n rightespspi=0x777\n " + esp + ah, "esp0x777 ah0x202", "esp0x201 ah0x203"},
	}
	for _, tt := range tests {
		for _, other := range []bool{false, true} {
			k, err := load(t, left, other, tt.text)
			if err != nil {
				t.Errorf("%s: %v", tt.text, err)
				continue
			}
			want := [2]string{tt.left, tt.right}
			for to, w := range want {
				var got []string
				for _, s := range k.sas(to) {
					text, _, _ := strings.Cut(s.id.String(), "@")
					got = append(got, text)
				}
				if strings.Join(got, " ") != w {
					t.Errorf("%s: SAs to %s %q, want %s", tt.text, sides[to], got, w)
				}
			}
			// Down removes what up has made, by the same SPIs.
			down := makePlan(k, "down", nil).Steps
			ids := []string{k.sas(1 - k.local)[0].id.String(), k.sas(k.local)[0].id.String()}
			for i, id := range ids {
				if got := down[i+1].SAID().String(); got != id {
					t.Errorf("%s: down removes %s, want %s", tt.text, got, id)
				}
			}
		}
	}
}

func TestWhoAmI(t *testing.T) {
	text := hosts + "spi=0x200\n esp=3des-md5-96\n " + keys3des
	tests := []struct {
		h     testHost
		local string
		iface string
		err   string
		setup string
	}{
		{testHost{own: []string{"10.0.0.1@ipsec0"}}, "left", "ipsec0", "", ""},
		{testHost{own: []string{"192.0.2.1@ipsec0", "10.0.0.2@ipsec1", "10.0.0.2@ipsec1"}}, "right", "ipsec1", "", ""},
		{testHost{own: []string{"192.0.2.1@ipsec0"}, rest: []string{"10.0.0.2@ipsec0"}}, "right", "ipsec0", "", ""},
		{testHost{own: []string{"10.0.0.1@ipsec0"}, rest: []string{"10.0.0.2@ipsec0"}}, "left", "ipsec0", "", ""},
		{testHost{own: []string{"10.0.0.1@ipsec0", "10.0.0.2@ipsec0"}}, "", "", "ambiguous which end this is: 10.0.0.1 on ipsec0 or 10.0.0.2 on ipsec0", ""},
		{testHost{own: []string{"10.0.0.1@ipsec10", "10.0.0.1@ipsec2", "10.0.0.1@ipsec3"}}, "left", "ipsec2", "", ""},
		{testHost{own: []string{"10.0.0.1@ipsec0", "10.0.0.1@ipsec5"}}, "left", "ipsec5", "", "config setup\n interfaces=ipsec5=eth0\n"},
		{testHost{own: []string{"192.0.2.1@ipsec0"}}, "", "", "this host is neither left (10.0.0.1) nor right (10.0.0.2)", ""},
	}
	for _, tt := range tests {
		k, err := load(t, tt.h, false, tt.setup+text)
		if err != nil {
			if tt.err == "" || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%v: %v, want %q", tt.h, err, tt.err)
			}
			continue
		}
		if tt.err != "" || sides[k.local] != tt.local || k.iface != tt.iface {
			t.Errorf("%v: %s on %s, want %s on %s %s", tt.h, sides[k.local], k.iface, tt.local, tt.iface, tt.err)
		}
	}
}

func TestCommandLine(t *testing.T) {
	tests := []struct{ line, want string }{
		{"", "what to do is missing; give one of --up, --down, --route and --unroute"},
		{"net", "what to do is missing; give one of --up, --down, --route and --unroute"},
		{"--up", "--up needs a connection name"},
		{"up", "what to do is missing; give one of --up, --down, --route and --unroute"},
		{"--up --down net", "--down after --up; one at a time"},
		{"--unroute --up net", "--up after --unroute; one at a time"},
		{"--down --route net", "--route after --down; one at a time"},
		{"--down --unroute --up net", "--up after --down --unroute; one at a time"},
		{"--up --other net", "--other goes with --showonly; this host is not the other end"},
		{"--up 9net", "connection: 9net is no name; a name is a letter, then letters, digits, dots, hyphens and underscores"},
		{"--iam 10.0.0.1 --up net", "--iam 10.0.0.1: write an address and a virtual device, as in 192.0.2.1@ipsec0"},
		{"--iam 10.0.0.1@eth0 --up net", "--iam 10.0.0.1@eth0: a virtual device follows @: ipsec0 to ipsec63"},
		{"--iam 0xfeedface_fedcba98 --up net", "--iam (19 characters, not shown: it may be a key): write an address and a virtual device, as in 192.0.2.1@ipsec0"},
		{"--up net 0xfeedface_fedcba98", "connection: (19 characters, not shown: it may be a key) is no name; a name is a letter, then letters, digits, dots, hyphens and underscores"},
		{"--up net\x1b[2J", `connection: "net\x1b[2J" is no name; a name is a letter, then letters, digits, dots, hyphens and underscores`},
		{"--frob net", "unknown option --frob"},
	}
	for _, tt := range tests {
		r := clitest.Run(app(left, nil), clitest.World{}, strings.Fields(tt.line)...)
		if want := "ipsec manual: " + tt.want + "\n"; r.Err != want || r.Status != cli.ExitUsage || r.Opened {
			t.Errorf("manual %s: status %d\n got %swant %s", tt.line, r.Status, r.Err, want)
		}
	}
}

// A table is a network in memory: routes in the form "10.2.0.0/16 ipsec0", and devices
// in the form "ipsec0 up" and "ipsec0 10.0.0.1/24".
type table struct {
	routes []string
	stops  []string
	links  []string
	refuse error
	// noFilter: the kernel has no packet filter.
	noFilter bool
}

func (tb *table) List() (list []routes.Route, err error) {
	for _, text := range tb.routes {
		dst, device, _ := strings.Cut(text, " ")
		device, via, _ := strings.Cut(device, " via ")
		r := routes.Route{Dst: netip.MustParsePrefix(dst), Device: device}
		if via != "" {
			r.Gateway = netip.MustParseAddr(via)
		}
		list = append(list, r)
	}
	return list, nil
}

func (tb *table) Add(r routes.Route) error {
	if tb.refuse != nil {
		return tb.refuse
	}
	text := r.Dst.String() + " " + r.Device
	if r.Gateway.IsValid() {
		text += " via " + r.Gateway.String()
	}
	tb.routes = append(tb.routes, text)
	return nil
}

func (tb *table) Replace(r routes.Route) (old routes.Route, ok bool, err error) {
	list, err := tb.List()
	if err != nil {
		return old, false, err
	}
	i := slices.IndexFunc(list, func(k routes.Route) bool { return k.Dst == r.Dst })
	if i < 0 {
		return old, false, tb.Add(r)
	}
	if err := tb.Add(r); err != nil {
		return old, true, err
	}
	last := len(tb.routes) - 1
	tb.routes[i], tb.routes = tb.routes[last], tb.routes[:last]
	return list[i], true, nil
}

func (tb *table) Remove(r routes.Route) (old routes.Route, err error) {
	list, err := tb.List()
	if err != nil {
		return old, err
	}
	i := slices.IndexFunc(list, func(k routes.Route) bool { return k.Dst == r.Dst && k.Device == r.Device })
	if i < 0 {
		return old, errnoSRCH
	}
	tb.routes = slices.Delete(tb.routes, i, i+1)
	return list[i], nil
}

// A backstop has the form "NETWORK unreachable".
const unreachable = " unreachable"

func (tb *table) Backstops() (l []netip.Prefix, err error) {
	for _, text := range tb.stops {
		l = append(l, netip.MustParsePrefix(strings.TrimSuffix(text, unreachable)))
	}
	return l, nil
}

func (tb *table) AddBackstop(dst netip.Prefix) (was bool, err error) {
	if slices.Contains(tb.stops, dst.String()+unreachable) {
		return true, nil
	}
	tb.stops = append(tb.stops, dst.String()+unreachable)
	return false, nil
}

func (tb *table) RemoveBackstop(dst netip.Prefix) error {
	i := slices.Index(tb.stops, dst.String()+unreachable)
	if i < 0 {
		return errnoSRCH
	}
	tb.stops = slices.Delete(tb.stops, i, i+1)
	return nil
}

func (tb *table) Exit(dst netip.Prefix) (string, error) {
	list, err := tb.List()
	best := routes.Route{}
	for _, r := range list {
		if r.Dst.Overlaps(dst) && r.Dst.Bits() <= dst.Bits() && (best.Device == "" || r.Dst.Bits() > best.Dst.Bits()) {
			best = r
		}
	}
	return best.Device, err
}

func (tb *table) set(text string, on bool) error {
	i := slices.Index(tb.links, text)
	switch {
	case on && i >= 0:
		return syscall.EEXIST
	case on:
		tb.links = append(tb.links, text)
	case i < 0:
		return syscall.EADDRNOTAVAIL
	default:
		tb.links = slices.Delete(tb.links, i, i+1)
	}
	return nil
}

func (tb *table) IsUp(device string) (bool, error) {
	return slices.Contains(tb.links, device+" up"), nil
}

func (tb *table) SetUp(device string, up bool) error {
	if tb.refuse != nil {
		return tb.refuse
	}
	return tb.set(device+" up", up)
}

func (tb *table) MTU(device string) (int, error) {
	for _, text := range tb.links {
		if n, ok := strings.CutPrefix(text, device+" mtu "); ok {
			return strconv.Atoi(n)
		}
	}
	return 16260, nil
}

func (tb *table) SetMTU(device string, mtu int) error {
	if tb.refuse != nil {
		return tb.refuse
	}
	tb.links = slices.DeleteFunc(tb.links, func(text string) bool { return strings.HasPrefix(text, device+" mtu ") })
	if mtu != 16260 {
		tb.links = append(tb.links, fmt.Sprintf("%s mtu %d", device, mtu))
	}
	return nil
}

func (tb *table) SetClamp(c clamp.Clamp) error {
	if tb.noFilter {
		return clamp.ErrNone
	}
	_ = tb.RemoveClamp(c)
	tb.links = append(tb.links, fmt.Sprintf("clamp %s %v %d", c.Name, c.Flows, c.Size))
	return nil
}

func (tb *table) RemoveClamp(c clamp.Clamp) error {
	n := len(tb.links)
	tb.links = slices.DeleteFunc(tb.links, func(text string) bool { return strings.HasPrefix(text, "clamp "+c.Name+" ") })
	if len(tb.links) == n {
		return syscall.ENOENT
	}
	return nil
}

func (tb *table) AddAddress(device string, p netip.Prefix) error {
	return tb.set(device+" "+p.String(), true)
}

func (tb *table) RemoveAddress(device string, p netip.Prefix) error {
	return tb.set(device+" "+p.String(), false)
}

func (tb *table) Addresses(device string) (list []netip.Prefix, err error) {
	if device == "eth0" {
		return []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("2001:db8::1/64")}, nil
	}
	for _, text := range tb.links {
		if p, err := netip.ParsePrefix(strings.TrimPrefix(text, device+" ")); err == nil {
			list = append(list, p)
		}
	}
	return list, nil
}

// A bench is the applet on a stack in memory.
type bench struct {
	started  int   // how often the stack was started
	stackErr error // of opening the stack
	model    *model
	host     testHost
	table    table
	file     string
}

func newBench(t *testing.T, text string) *bench {
	t.Helper()
	b := &bench{model: newModel(), host: left, table: table{links: []string{"ipsec0 up"}}, file: filepath.Join(t.TempDir(), "ipsec.conf")}
	if err := os.WriteFile(b.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) run(line string) clitest.Result {
	w := clitest.World{Wrap: func(*clitest.Stack) klips.Stack { return serial.New(b.model) }}
	args := strings.Fields(line)
	if args[0] != "--renew" {
		args = append([]string{"--config", b.file}, args...)
	}
	return clitest.Run(app(b.host, &b.table), w, args...)
}

// guarded returns the guards and backstops, as text.
func (b *bench) guarded() string {
	text := b.model.guarded()
	for _, r := range b.table.stops {
		text += "route " + r + "\n"
	}
	return text
}

// state returns the rest of the state, as text.
func (b *bench) state() string {
	var sb bytes.Buffer
	sb.WriteString(b.model.String())
	for _, r := range b.table.routes {
		fmt.Fprintf(&sb, "route %s\n", r)
	}
	for _, l := range b.table.links {
		if l != "ipsec0 up" {
			fmt.Fprintf(&sb, "link %s\n", l)
		}
	}
	return sb.String()
}

const tunnel = ends + "spibase=0x200\n espreplay_window=64\n esp=3des-md5-96\n " + keys3des

func TestUpDown(t *testing.T) {
	b := newBench(t, tunnel)
	const up = "eroute 10.1.0.0/16 10.2.0.0/16 tun0x200@10.0.0.2\n" +
		"policy tun0x201@10.0.0.1 10.2.0.0/16 10.1.0.0/16\n" +
		"tun0x200@10.0.0.2 esp0x202@10.0.0.2\ntun0x201@10.0.0.1 esp0x203@10.0.0.1\nroute 10.2.0.0/16 ipsec0 via 10.0.0.254\n"
	if r := b.run("--up t"); r.Status != 0 || r.Err != "" || r.Out != "" || b.state() != up {
		t.Fatalf("--up: status %d, %s%s\n%s", r.Status, r.Out, r.Err, b.state())
	}
	if r := b.run("--up t"); r.Status != 1 || !strings.Contains(r.Err, "it is up already: there is tun0x200@10.0.0.2") || b.state() != up {
		t.Errorf("a second --up: status %d, %s\n%s", r.Status, r.Err, b.state())
	}
	if r := b.run("--down t"); r.Status != 0 || r.Err != "" || b.state() != "route 10.2.0.0/16 ipsec0 via 10.0.0.254\n" {
		t.Errorf("--down: status %d, %s\n%s", r.Status, r.Err, b.state())
	}
	if r := b.run("--down t"); r.Status != 0 || !strings.Contains(r.Err, "it was not up") {
		t.Errorf("a second --down: status %d, %s", r.Status, r.Err)
	}
	if r := b.run("--unroute t"); r.Status != 0 || r.Err != "" || b.state() != "" {
		t.Errorf("--unroute: status %d, %s\n%s", r.Status, r.Err, b.state())
	}
	if r := b.run("--unroute t"); r.Status != 0 || !strings.Contains(r.Err, "it was not routed") {
		t.Errorf("a second --unroute: status %d, %s", r.Status, r.Err)
	}
	if r := b.run("--route t"); r.Status != 0 || r.Err != "" || b.state() != "route 10.2.0.0/16 ipsec0 via 10.0.0.254\n" {
		t.Errorf("--route: status %d, %s\n%s", r.Status, r.Err, b.state())
	}
	if r := b.run("t up"); r.Status != 0 || r.Err != "ipsec manual: note: this form is obsolete; write --up t\n" || b.state() != up {
		t.Errorf("t up: status %d, %s\n%s", r.Status, r.Err, b.state())
	}
}

// TestNotes: the notes of the applets come after the last step, when the groups exist,
// each of them once. A connection that is not brought up has no notes.
func TestNotes(t *testing.T) {
	const replays = "ipsec spi --label t: note: esp0x203@10.0.0.1: without a replay window it takes packets again that somebody has recorded (RFC 4303 section 3.4.3); " +
		"give inbound SAs one: --replay_window 64, in ipsec.conf espreplay_window=64\n"
	const zeros = "ipsec spi --label t: note: esp0x202@10.0.0.2: its authentication key is all zeros, which anybody can guess; make one with ipsec ranbits (the same holds for esp0x203@10.0.0.1)\n"
	bare := strings.Replace(tunnel, " espreplay_window=64\n", "", 1)
	zero := regexp.MustCompile("espauthkey=.*").ReplaceAllString(tunnel, "espauthkey=0x"+strings.Repeat("00", 16))
	for _, tt := range []struct{ name, text, want string }{
		{"a window", tunnel, ""},
		{"no window", bare, replays},
		{"an ah SA with a window", bare + " ah=hmac-md5-96\n ahkey=0x12345678_9abcdef0_2468ace0_13579bdf\n ahreplay_window=64\n", ""},
		{"an ah SA authenticates", regexp.MustCompile("espauthkey=.*").ReplaceAllString(strings.Replace(tunnel, "3des-md5-96", "3des", 1), "") +
			" ah=hmac-md5-96\n ahkey=0x12345678_9abcdef0_2468ace0_13579bdf\n ahreplay_window=64\n", ""},
		{"zeros", zero, zeros},
	} {
		b := newBench(t, tt.text)
		if r := b.run("--up t"); r.Status != 0 || r.Err != tt.want {
			t.Errorf("%s: status %d, %s, want %s", tt.name, r.Status, r.Err, tt.want)
		}
		if r := b.run("--down t"); r.Status != 0 || r.Err != "" {
			t.Errorf("%s: --down: status %d, %s", tt.name, r.Status, r.Err)
		}
		if r := b.run("--showonly --up t"); r.Status != 0 || r.Err != "" {
			t.Errorf("%s: --showonly: status %d, %s", tt.name, r.Status, r.Err)
		}
	}
	b := newBench(t, bare)
	b.table.refuse = errnoNETDOWN
	if r := b.run("--up t"); r.Status != 1 || strings.Contains(r.Err, "note:") {
		t.Errorf("not brought up: status %d, %s", r.Status, r.Err)
	}
}

// TestOpens: only --unroute opens a flow, if another route takes the packets, and a
// note reports it. --down opens nothing, whatever follows it.
func TestOpens(t *testing.T) {
	const (
		opened = "ipsec manual: note: conn t: 10.2.0.0/16 can leave in clear now\n"
		out    = "0.0.0.0/0 eth0"
		routed = "route 10.2.0.0/16 ipsec0 via 10.0.0.254\n"
	)
	for _, tt := range []struct {
		other string // route
		lines string
		said  string
		left  string // besides the other route
	}{
		{out, "--up t;--down t;--up t;--down t", "", routed},
		{out, "--up t;--down t;--unroute t", opened, ""},
		{out, "--up t;--down --unroute t", opened, ""},
		{out, "--up t;--unroute --down --unroute t", opened, ""},
		{out, "--up t;--unroute t;--down t", opened, ""},
		{out, "--route t;--unroute t", opened, ""},
		{out, "--route t;--down t", "ipsec manual: note: conn t: it was not up\n", routed},
		{out, "--route t;--down --unroute t", "ipsec manual: note: conn t: it was not up\n" + opened, ""},
		{out, "--unroute t", "ipsec manual: note: conn t: it was not routed\n", ""},
		{"0.0.0.0/0 ipsec1", "--up t;--down --unroute t", "", ""},
		{"10.3.0.0/16 eth0", "--up t;--down --unroute t", "", ""},
	} {
		b := newBench(t, tunnel)
		b.table.routes = []string{tt.other}
		said := ""
		for line := range strings.SplitSeq(tt.lines, ";") {
			r := b.run(line)
			if said += r.Err; r.Status != 0 {
				t.Errorf("%s: status %d, %s", line, r.Status, r.Err)
			}
		}
		if left := "route " + tt.other + "\n" + tt.left; said != tt.said || b.state() != left {
			t.Errorf("%s with the route %s: %q, want %q; there is\n%swant\n%s", tt.lines, tt.other, said, tt.said, b.state(), left)
		}
	}
}

// TestDownUnrouteOthers: --down --unroute is refused as a whole if --unroute is
// refused.
func TestDownUnrouteOthers(t *testing.T) {
	b := newBench(t, tunnel+"\nconn side\n type=drop\n left=10.0.0.1\n leftsubnet=10.9.0.0/16\n leftnexthop=10.0.0.254\n right=10.0.0.2\n rightsubnet=10.2.0.0/16\n")
	b.run("--up t")
	b.run("--up side")
	before := b.state()
	if r := b.run("--down --unroute side"); r.Status != 1 || !strings.Contains(r.Err, "conn side: not unrouted: the eroute 10.1.0.0/16 -> 10.2.0.0/16") || b.state() != before {
		t.Errorf("--down --unroute of one of two: status %d, %s\n%s", r.Status, r.Err, b.state())
	}
}

// TestDownTransport: the inbound SA is removed too, whatever its SPI.
func TestDownTransport(t *testing.T) {
	b := newBench(t, hosts+"spi=0x200\n leftespspi=0x201\n rightespspi=0x202\n esp=3des-md5-96\n "+keys3des)
	if r := b.run("--up t"); r.Status != 0 || !strings.Contains(b.state(), "esp0x201@10.0.0.1\n") || !strings.Contains(b.state(), "10.0.0.2/32 esp0x202@10.0.0.2\n") {
		t.Fatalf("--up: %s\n%s", r.Err, b.state())
	}
	if r := b.run("--down t"); r.Status != 0 || b.state() != "route 10.0.0.2/32 ipsec0\n" {
		t.Errorf("--down: %s\n%s", r.Err, b.state())
	}
}

func TestShunt(t *testing.T) {
	b := newBench(t, strings.ReplaceAll(ends, "conn t\n", "conn t\n type=drop\n"))
	const up = "eroute 10.1.0.0/16 10.2.0.0/16 %drop\nroute 10.2.0.0/16 ipsec0 via 10.0.0.254\n"
	if r := b.run("--up t"); r.Status != 0 || b.state() != up {
		t.Errorf("--up: %s\n%s", r.Err, b.state())
	}
	if r := b.run("--up t"); r.Status != 1 || !strings.Contains(r.Err, "up already") || b.state() != up {
		t.Errorf("a second --up: %s\n%s", r.Err, b.state())
	}
	if r := b.run("--down t"); r.Status != 0 || b.state() != "route 10.2.0.0/16 ipsec0 via 10.0.0.254\n" {
		t.Errorf("--down: %s\n%s", r.Err, b.state())
	}
}

// TestShuntFarEnd: the address of a shunt's far end has no effect.
func TestShuntFarEnd(t *testing.T) {
	tests := []struct{ text, eroute, err string }{
		{" left=10.0.0.1\n leftsubnet=10.1.0.0/16\n right=0.0.0.0\n rightsubnet=0.0.0.0/0\n", "10.1.0.0/16 0.0.0.0/0", ""},
		{" left=10.0.0.1\n right=%any\n rightsubnet=10.2.0.0/16\n rightnexthop=%any\n", "10.0.0.1/32 10.2.0.0/16", ""},
		{" left=10.0.0.1\n right=%any\n rightsubnet=%default\n", "10.0.0.1/32 0.0.0.0/0", ""},
		{" left=10.0.0.1\n rightsubnet=10.2.0.0/16\n", "10.0.0.1/32 10.2.0.0/16", ""},
		{" left=10.0.0.1\n right=\n rightsubnet=10.2.0.0/16\n", "10.0.0.1/32 10.2.0.0/16", ""},
		{" left=10.0.0.1\n leftnexthop=10.0.0.254\n right=%opportunistic\n rightsubnet=10.2.0.0/16\n", "10.0.0.1/32 10.2.0.0/16", ""},
		{" left=10.0.0.1\n leftnexthop=%defaultroute\n right=%group\n rightsubnet=10.2.0.0/16\n", "10.0.0.1/32 10.2.0.0/16", ""},
		{" left=%defaultroute\n right=%any\n rightsubnet=10.2.0.0/16\n", "10.0.0.1/32 10.2.0.0/16", ""},
		{" left=%defaultroute\n right=%any\n rightsubnet=fd02::/64\n", "2001:db8::1/128 fd02::/64", ""},
		{" left=2001:db8::1\n leftsubnet=fd01::/64\n right=::\n rightsubnet=::/0\n", "fd01::/64 ::/0", ""},
		{" left=2001:db8::1\n right=::\n rightsubnet=%default\n", "2001:db8::1/128 ::/0", ""},
		{" left=10.0.0.1\n leftsubnet=fd01::/64\n right=%any\n rightsubnet=%default\n", "fd01::/64 ::/0", ""},
		{" left=10.0.0.1\n right=::\n rightsubnet=10.2.0.0/16\n", "10.0.0.1/32 10.2.0.0/16", ""},
		{" left=10.0.0.1\n right=2001:db8::2\n rightsubnet=10.2.0.0/16\n", "10.0.0.1/32 10.2.0.0/16", ""},
		{" left=%any\n leftsubnet=10.2.0.0/16\n right=10.0.0.1\n rightsubnet=10.1.0.0/16\n", "10.1.0.0/16 10.2.0.0/16", ""},

		{" left=10.0.0.1\n right=%any\n", "", "rightsubnet is missing; it must name the packets, because right is any address"},
		{" left=10.0.0.1\n right=%any\n rightsubnet=fd02::/64\n", "", "of different families"},
		{" left=%any\n right=0.0.0.0\n rightsubnet=10.2.0.0/16\n", "", "left and right are both any address; give the one that is this host its address, or %defaultroute"},
		{" left=10.0.0.9\n right=0.0.0.0\n rightsubnet=10.2.0.0/16\n", "", "this host is neither left (10.0.0.9) nor right (any address)"},
		{" left=10.0.0.1\n right=224.0.0.1\n rightsubnet=10.2.0.0/16\n", "", "right: 224.0.0.1 is not the address of one host"},
	}
	for _, kind := range []string{"passthrough", "drop", "reject"} {
		for _, tt := range tests {
			k, err := load(t, left, false, "conn t\n type="+kind+"\n"+tt.text)
			switch {
			case tt.err != "":
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("%s%s: %v, want %q", kind, tt.text, err, tt.err)
				}
			case err != nil:
				t.Errorf("%s%s: %v", kind, tt.text, err)
			default:
				if got := klips.FormatPrefix(k.me().subnet) + " " + klips.FormatPrefix(k.peer().subnet); got != tt.eroute || len(k.notes) != 0 {
					t.Errorf("%s%s: eroute %s, want %s; notes %q", kind, tt.text, got, tt.eroute, k.notes)
				}
			}
		}
	}
	for _, value := range []string{"%any", "%group", "%opportunistic"} {
		_, err := load(t, left, false, "conn t\n left=10.0.0.1\n right="+value+"\n spi=0x200\n esp=3des-md5-96\n "+keys3des)
		if want := "right: " + value + ": a manually keyed connection needs the address of that host"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("tunnel to %s: %v, want %q", value, err, want)
		}
	}
}

// TestHostBits: host bits of a subnet are dropped, with a note.
func TestHostBits(t *testing.T) {
	for _, tt := range []struct{ left, right, note string }{
		{"10.1.0.0/16", "10.2.0.0/255.255.0.0", ""},
		{"10.1.2.3/16", "10.2.0.0/16", "leftsubnet 10.1.2.3/16 has host bits set; it is taken as 10.1.0.0/16"},
		{"10.1.0.0/16", "10.2.0.1/255.255.255.0", "rightsubnet 10.2.0.1/255.255.255.0 has host bits set; it is taken as 10.2.0.0/24"},
		{"fd01::/64", "fd02::1/64", "rightsubnet fd02::1/64 has host bits set; it is taken as fd02::/64"},
		{"10.0.0.1/0", "10.2.0.0/16", "leftsubnet 10.0.0.1/0 has host bits set; it is taken as 0.0.0.0/0"},
	} {
		k, err := load(t, left, false, "conn t\n type=drop\n left=10.0.0.1\n right=10.0.0.2\n leftsubnet="+tt.left+"\n rightsubnet="+tt.right+"\n")
		if err != nil || strings.Join(k.notes, ";") != tt.note {
			t.Errorf("%s, %s: %v, notes %q, want %q", tt.left, tt.right, err, k.notes, tt.note)
		}
	}
}

// TestUndo lets each request of --up fail in turn. The state afterwards is the same as
// before, and the error is the first one.
func TestUndo(t *testing.T) {
	for _, before := range []string{"", "trap"} {
		for n := 1; ; n++ {
			b := newBench(t, tunnel)
			b.table.routes = []string{"10.2.0.0/16 eth1"}
			if before != "" {
				sel := klips.Selector{Src: netip.MustParsePrefix("10.1.0.0/16"), Dst: netip.MustParsePrefix("10.2.0.0/16")}
				b.model.eroutes[sel] = klips.Magic(klips.SPITrap)
			}
			want := b.state()
			b.model.failAt = n
			r := b.run("--up t")
			if b.model.requests < n {
				if r.Status != 0 || n != 10 {
					t.Errorf("%d requests, status %d, want 9 and 0: %s", n-1, r.Status, r.Err)
				}
				break
			}
			if r.Status != 1 || b.state() != want || b.guarded() != "" || !strings.HasSuffix(r.Err, "the stack has no memory left; remove what is not needed\n") || strings.Count(r.Err, "\n") != 1 {
				t.Errorf("request %d fails: status %d, %s\n got %s\nwant %s", n, r.Status, r.Err, b.state(), want)
			}
		}
	}
	b := newBench(t, tunnel)
	b.table.routes = []string{"10.2.0.0/16 eth1"}
	b.table.refuse = errnoNETDOWN
	r := b.run("--up t")
	if want := "conn t: ip route replace 10.2.0.0/16 via 10.0.0.254 dev ipsec0: ipsec0 is down; ip link set ipsec0 up\n"; r.Status != 1 ||
		!strings.HasSuffix(r.Err, want) || b.state() != "route 10.2.0.0/16 eth1\n" || b.guarded() != "" {
		t.Errorf("no route: status %d, %s\n%s", r.Status, r.Err, b.state())
	}
}

// TestDownGoesOn: when a step fails, --down carries out the others and reports the
// failure.
func TestDownGoesOn(t *testing.T) {
	b := newBench(t, tunnel)
	b.run("--up t")
	b.model.requests, b.model.failAt = 0, 1
	r := b.run("--down t")
	want := "eroute 10.1.0.0/16 10.2.0.0/16 tun0x200@10.0.0.2\nroute 10.2.0.0/16 ipsec0 via 10.0.0.254\n"
	if r.Status != 1 || !strings.Contains(r.Err, "eroute: 10.1.0.0/16 -> 10.2.0.0/16: ") || b.state() != want {
		t.Errorf("--down: status %d, %s\n%s", r.Status, r.Err, b.state())
	}
}

// TestScript: a script replaces the built-in one, receives the connection in its
// environment, and its failure undoes the connection.
func TestScript(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	script := ` leftupdown="echo $PLUTO_VERB $PLUTO_VERSION $PLUTO_STACK $PLUTO_CONNECTION $PLUTO_ME $PLUTO_MY_CLIENT_MASK` +
		` $PLUTO_PEER $PLUTO_PEER_CLIENT_NET $PLUTO_NEXT_HOP $PLUTO_INTERFACE >> ` + log + `; test -e ` + log + `.ok -o $PLUTO_VERB != up-client"` + "\n"
	b := newBench(t, tunnel+script)
	const about = " 2.0 klips t 10.0.0.1 255.255.0.0 10.0.0.2 10.2.0.0 10.0.0.254 ipsec0\n"
	calls := func(verbs ...string) string {
		var sb strings.Builder
		for _, v := range verbs {
			sb.WriteString(v + "-client" + about)
		}
		return sb.String()
	}
	r := b.run("--up t")
	got, _ := os.ReadFile(log)
	if want := calls("prepare", "route", "up", "unroute"); r.Status != 1 || !strings.Contains(r.Err, "(up-client): exit status 1") || string(got) != want || b.state() != "" {
		t.Errorf("--up with a failing script: status %d, %s\n%s%s", r.Status, r.Err, got, b.state())
	}
	os.WriteFile(log+".ok", nil, 0o600)
	os.Remove(log)
	for _, op := range []string{"--up", "--down", "--unroute"} {
		if r := b.run(op + " t"); r.Status != 0 {
			t.Errorf("%s: %s", op, r.Err)
		}
	}
	got, _ = os.ReadFile(log)
	if want := calls("prepare", "route", "up", "down", "unroute"); string(got) != want || b.state() != "" {
		t.Errorf("scripts: got\n%swant\n%s%s", got, want, b.state())
	}
}

// TestInterrupted: after a signal everything is undone.
func TestInterrupted(t *testing.T) {
	for _, script := range []string{"kill -TERM $PPID; exec sleep 60", "kill -INT $PPID; exec sleep 60"} {
		b := newBench(t, tunnel+" leftupdown=\"test $PLUTO_VERB != route-client || { "+script+"; }\"\n")
		r := b.run("--up t")
		if r.Status != 1 || !strings.HasSuffix(r.Err, "conn t: interrupted; what was done has been taken back\n") || b.state() != "" {
			t.Errorf("%s: status %d, %s\n%s", script, r.Status, r.Err, b.state())
		}
	}
}

// TestSecrets: no trace, message or error contains a key.
func TestSecrets(t *testing.T) {
	secret := regexp.MustCompile(`(?i)0123.?4567|89abcdef|12345678|9abcdef0|c2VjcmV0`)
	for _, text := range []string{
		tunnel,
		strings.ReplaceAll(tunnel, "_9abcdef0\n", "\n"),
		strings.ReplaceAll(tunnel, "_9abcdef0\n", "_9abcdefg\n"),
		strings.ReplaceAll(tunnel, "espenckey=", "espenkey="),
		strings.ReplaceAll(tunnel, "espenckey=", "espenckey "),
		strings.ReplaceAll(tunnel, "espenckey=", "\n espenckey="),
		strings.ReplaceAll(tunnel, "espenckey=", "espenckey=\n "),
		strings.ReplaceAll(tunnel, "espenckey=0x01234567", "espenckey=0x01234567 89abcdef"),
		tunnel + " c2VjcmV0c2VjcmV0c2VjcmV0==\n",
		tunnel + "0x01234567\n",
		tunnel + keys3des,
	} {
		for _, line := range []string{"--show --up t", "--debug --show --up t"} {
			b := newBench(t, text)
			if r := b.run(line); secret.MatchString(r.Out + r.Err) {
				t.Errorf("%q: %s: a key is shown:\n%s%s", text, line, r.Out, r.Err)
			} else if text == tunnel && !strings.Contains(r.Err, "--enckey …\n") {
				t.Errorf("%s: no trace:\n%s", line, r.Err)
			}
		}
	}
}
