package export

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/commands/internal/made"
	"github.com/klips-go/ipsec/commands/internal/render/rendertest"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/serial"
)

const tunnel = `
	tncfg --attach --virtual ipsec0 --physical eth0
	spi --said tun0x1001@192.0.2.2 --ip4 --src 192.0.2.1 --dst 192.0.2.2
	spi --said esp0x1002@192.0.2.2 --esp aes128-sha1 --enckey 0xaa0102030405060708090a0b0c0d0e0f --authkey 0xbb0102030405060708090a0b0c0d0e0fbb111213 --src 192.0.2.1 --replay_window 64 --life hard-packets=9
	spigrp --said tun0x1001@192.0.2.2 esp0x1002@192.0.2.2
	spi --said tun0x2001@192.0.2.1 --ip4 --src 192.0.2.2 --dst 192.0.2.1
	spi --said esp0x2002@192.0.2.1 --esp aes128-gcm --enckey 0xaa0102030405060708090a0b0c0d0e0faa101112 --src 192.0.2.2 --replay_window 64
	spigrp --said tun0x2001@192.0.2.1 esp0x2002@192.0.2.1
	eroute --add --src 10.0.1.0/24 --dst 10.0.2.0/24 --said tun0x1001@192.0.2.2
	eroute --addin --src 10.0.2.0/24 --dst 10.0.1.0/24 --said tun0x2001@192.0.2.1
`

const other = `
	spi --said ah0x3001@192.0.2.3 --ah sha1 --authkey 0xbb0102030405060708090a0b0c0d0e0fbb111214 --src 192.0.2.1
	spi --said comp0x3002@192.0.2.4 --comp deflate --src 192.0.2.1
	eroute --add --src 192.0.2.1/32 --dst 192.0.2.3/32 --said ah0x3001@192.0.2.3
`

func run(h *rendertest.Host, w clitest.World, line string) clitest.Result {
	if h != nil {
		w.Wrap = h.World().Wrap
	}
	return clitest.Run(App(), w, strings.Fields(line)...)
}

// TestUsage: a wrong command line opens no stack.
func TestUsage(t *testing.T) {
	for line, want := range map[string]string{
		"":                       "FORMAT is missing: one of wireshark, ",
		"xfrm":                   "no format xfrm; there are wireshark, ",
		"ip-xfm":                 "no format ip-xfm; did you mean ip-xfrm?",
		"json --force":           "--force is for --out FILE",
		"json --out=":            "--out: there is no file name",
		"json esp0x12@nowhere.x": "SAID esp0x12@nowhere.x: ",
		"json a/b/c:d":           "connection: ",
		"json --peers":           "--peers",
	} {
		if r := run(nil, clitest.World{}, line); r.Status != 2 || r.Opened || r.Out != "" || !strings.Contains(r.Err, want) {
			t.Errorf("export %s: status %d, %q, want %q", line, r.Status, r.Err, want)
		}
	}
}

// TestKeys: keys are in the text only if they are asked for.
func TestKeys(t *testing.T) {
	h := rendertest.NewHost("192.0.2.1")
	h.Do(t, tunnel)
	for _, format := range languages().Names() {
		r := run(h, clitest.World{}, format+" tun0x2001@192.0.2.1")
		if strings.Contains(r.Out+r.Err, "aa0102") {
			t.Errorf("%s: a key is shown\n%s%s", format, r.Out, r.Err)
		}
		shown := run(h, clitest.World{}, format+" --show-keys tun0x2001@192.0.2.1")
		can := format != "tcpdump" && format != "ipsecctl" && format != "cisco" // they cannot have this SA
		if strings.Contains(shown.Out, "aa0102") != can || (shown.Status == 0) != can {
			t.Errorf("%s --show-keys: status %d\n%s%s", format, shown.Status, shown.Out, shown.Err)
		}
		if !can && (!strings.Contains(r.Err, "esp0x2002@192.0.2.1") || r.Status != 1) {
			t.Errorf("%s: status %d, no note for what is left out: %s", format, r.Status, r.Err)
		}
	}
}

// TestMissingKeys: each SA whose keys the stack does not give is named, and the status is 1.
func TestMissingKeys(t *testing.T) {
	h := rendertest.NewHost("192.0.2.1")
	h.Do(t, tunnel)
	for err, status := range map[error]int{
		&klips.OpError{Op: "get keys", Err: syscall.EOPNOTSUPP}:                    1,
		&klips.OpError{Op: "get keys", Err: syscall.EACCES, Reason: "locked down"}: 1,
	} {
		h.KeysErr = err
		r := run(h, clitest.World{}, "ip-xfrm --show-keys")
		if r.Status != status || strings.Count(r.Err, "are missing: ") != 2 || !strings.Contains(r.Err, "the keys of esp0x1002@192.0.2.2 are missing: ") || !strings.Contains(r.Out, "0xKEY-NOT-SHOWN") {
			t.Errorf("%v: status %d, %s%s", err, r.Status, r.Out, r.Err)
		}
	}
	h.KeysErr = &klips.OpError{Op: "get keys", Err: syscall.EPERM}
	if r := run(h, clitest.World{}, "ip-xfrm --show-keys"); r.Status != 1 || r.Out != "" || !strings.Contains(r.Err, "the keys of esp0x2002@192.0.2.1 are not given") {
		t.Errorf("status %d, %s%s", r.Status, r.Out, r.Err)
	}
	// A stack without such a request.
	r := clitest.Run(App(), clitest.World{Wrap: func(*clitest.Stack) klips.Stack { return struct{ klips.Stack }{h} }}, "wireshark", "--show-keys")
	if r.Status != 1 || !strings.Contains(r.Err, "this stack gives no keys") {
		t.Errorf("status %d, %s", r.Status, r.Err)
	}
	h.KeysErr = nil
	h.Keys[said("esp0x1002@192.0.2.2")] = klips.Keys{EncKey: []byte{1}}
	if r := run(h, clitest.World{}, "ip-xfrm --show-keys"); r.Status != 1 || r.Out != "" || !strings.Contains(r.Err, "try again") {
		t.Errorf("status %d, %s%s", r.Status, r.Out, r.Err)
	}
}

func said(text string) (id klips.SAID) {
	if err := id.UnmarshalText([]byte(text)); err != nil {
		panic(err)
	}
	return id
}

// TestOut: the file is secret, and only overwritten with --force.
func TestOut(t *testing.T) {
	h := rendertest.NewHost("192.0.2.1")
	h.Do(t, tunnel)
	file := filepath.Join(t.TempDir(), "x")
	if r := run(h, clitest.World{}, "ipsec --show-keys --out "+file); r.Status != 0 || r.Out+r.Err != "" {
		t.Errorf("status %d, %s%s", r.Status, r.Out, r.Err)
	}
	first, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(first), "--enckey 0xaa0102") {
		t.Errorf("%v, %s", err, first)
	}
	if info, _ := os.Stat(file); info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if r := run(h, clitest.World{}, "json --out "+file); r.Status != 1 || !strings.Contains(r.Err, "--force") {
		t.Errorf("status %d, %s", r.Status, r.Err)
	}
	if again, _ := os.ReadFile(file); string(again) != string(first) {
		t.Error("the file was changed")
	}
	if r := run(h, clitest.World{}, "json --force --out "+file); r.Status != 0 {
		t.Errorf("status %d, %s", r.Status, r.Err)
	}
	if again, _ := os.ReadFile(file); !strings.HasPrefix(string(again), "{") {
		t.Errorf("the file is %s", again)
	}
}

// TestChoice: names and SAIDs choose groups, with their eroutes.
func TestChoice(t *testing.T) {
	h := rendertest.NewHost("192.0.2.1")
	h.Do(t, tunnel+other)
	rundir := filepath.Join(t.TempDir(), "run")
	d, err := made.Make(rundir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	addr, net := netip.MustParseAddr, netip.MustParsePrefix
	c := made.Connection{Conn: "net", Config: "/etc/ipsec.conf", Keys: made.CheckKeys([][]byte{{1}})}
	c.Form = made.Form{Interface: "ipsec0", Tunnel: true, ESP: "aes128-sha1"}
	c.Form.Ends = [2]made.End{
		{Addr: addr("192.0.2.1"), Subnet: net("10.0.1.0/24"), Given: true, TunSPI: 0x2001, ESPSPI: 0x2002},
		{Addr: addr("192.0.2.2"), Subnet: net("10.0.2.0/24"), Given: true, TunSPI: 0x1001, ESPSPI: 0x1002},
	}
	if err := d.Put(c); err != nil {
		t.Fatal(err)
	}
	w := clitest.World{Environ: map[string]string{"IPSEC_RUNDIR": rundir}}
	all := []string{"--said esp0x1002", "--said esp0x2002", "--said ah0x3001", "--add --src 10.0.1.0/24", "--addin --src 10.0.2.0/24", "--add --src 192.0.2.1/32"}
	for line, want := range map[string]string{
		"ipsec":                     "111111",
		"ipsec net":                 "110110",
		"ipsec ah0x3001@192.0.2.3":  "001001",
		"ipsec esp0x2002@192.0.2.1": "010010",
		"ipsec esp0x1002@192.0.2.2 ah0x3001@192.0.2.3": "101101",
		"ipsec --peer tun0x1001@192.0.2.2":             "100000",
	} {
		r := run(h, w, line)
		got := ""
		for _, part := range all {
			got += map[bool]string{true: "1", false: "0"}[strings.Contains(r.Out, part)]
		}
		if r.Status != 0 || got != want {
			t.Errorf("export %s: status %d, %s, want %s\n%s%s", line, r.Status, got, want, r.Out, r.Err)
		}
	}
	c.Conn, c.Form.Ends[0].ESPSPI, c.Form.Ends[1].ESPSPI = "gone", 0x7001, 0x7002
	c.Form.Ends[0].TunSPI, c.Form.Ends[1].TunSPI = 0x7003, 0x7004
	if err := d.Put(c); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"ipsec gone":               "connection gone has no SAs any more",
		"ipsec nett":               "connection nett is not up",
		"ipsec esp0x777@192.0.2.9": "there is no SA esp0x777@192.0.2.9",
	} {
		if r := run(h, w, line); r.Status != 1 || r.Out != "" || !strings.Contains(r.Err, want) {
			t.Errorf("export %s: status %d, %s%s", line, r.Status, r.Out, r.Err)
		}
	}
}

// TestUnread: a table that cannot be read whole is not exported in part.
func TestUnread(t *testing.T) {
	h := rendertest.NewHost()
	w := clitest.World{Wrap: func(*clitest.Stack) klips.Stack { return unread{h} }}
	if r := run(nil, w, "ipsec"); r.Status != 1 || r.Out != "" || !strings.Contains(r.Err, "line 3 of ipsec_spi cannot be read") {
		t.Errorf("status %d, %s%s", r.Status, r.Out, r.Err)
	}
	w.StackErr = errors.New("no stack")
	if r := run(nil, w, "ipsec"); r.Status != 1 || !strings.Contains(r.Err, "no stack") {
		t.Errorf("status %d, %s", r.Status, r.Err)
	}
}

// TestJSON checks the object, with keys and for the peer.
func TestJSON(t *testing.T) {
	h := rendertest.NewHost("192.0.2.1")
	clitest.GoldenJSON(t, "export", "empty", run(h, clitest.World{}, "json").Out)
	h.Do(t, tunnel+other)
	clitest.GoldenJSON(t, "export", "keys", run(h, clitest.World{}, "json --show-keys").Out)
	clitest.GoldenJSON(t, "export", "peer", run(h, clitest.World{}, "json --peer").Out)
	full := clitest.World{Wrap: func(*clitest.Stack) klips.Stack { return serial.New(&readable{}) }}
	clitest.GoldenJSON(t, "export", "full", run(nil, full, "json").Out)
}

// unread is a stack with a line that cannot be read.
type unread struct{ *rendertest.Host }

func (u unread) Snapshot(ctx context.Context, w klips.Want) (*klips.Snapshot, error) {
	t, err := u.Host.Snapshot(ctx, w)
	if err == nil && len(w.Unread) > 0 {
		t.Unread = []klips.UnreadLine{{Table: "ipsec_spi", Number: 3, Reason: "garbage"}}
	}
	return t, err
}

// readable has records in each table, and no line that cannot be read.
type readable struct{ clitest.Full }

func (*readable) Unread(context.Context, ...string) ([]klips.UnreadLine, error) { return nil, nil }
