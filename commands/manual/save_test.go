package manual

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/klips-go/ipsec/commands/eroute"
	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/commands/internal/made"
	"github.com/klips-go/ipsec/commands/spi"
	"github.com/klips-go/ipsec/commands/spigrp"
	"github.com/klips-go/ipsec/commands/tncfg"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/serial"
	"github.com/klips-go/ipsec/klips/user/clock/clocktest"
	"github.com/klips-go/ipsec/klips/user/engine"
)

// A byHand is a stack on which a test makes SAs and eroutes by commands.
type byHand struct {
	t     *testing.T
	stack klips.Stack
	host  testHost
	net   *table
	dir   string
}

// newByHand returns an engine with ipsec0 on eth0, and a host that is left.
func newByHand(t *testing.T) *byHand {
	h := klipstest.NewHost(new(klipstest.Network), []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")}, "eth0")
	e, err := engine.New(h, engine.Config{Version: "test", Clock: clocktest.New()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	if err := e.CreateDevice(t.Context(), "ipsec0"); err != nil {
		t.Fatal(err)
	}
	return &byHand{t: t, stack: serial.New(e), host: left, net: &table{links: []string{"ipsec0 up", "eth0 10.0.0.1/24"}}, dir: t.TempDir()}
}

// noClose is a stack that stays open for the next command.
type noClose struct{ klips.Stack }

func (noClose) Close() error { return nil }

// ReadKeys reads the keys if the stack gives them.
func (s noClose) ReadKeys(ctx context.Context, id klips.SAID) (klips.Keys, error) {
	return klips.ReadKeys(ctx, s.Stack, id)
}

func (b *byHand) world() clitest.World {
	return clitest.World{
		Environ: map[string]string{"IPSEC_CONFS": b.dir},
		Wrap:    func(*clitest.Stack) klips.Stack { return noClose{b.stack} },
	}
}

// do runs commands, one a line.
func (b *byHand) do(lines string) {
	b.t.Helper()
	apps := map[string]func() *cli.App{"spi": spi.App, "spigrp": spigrp.App, "eroute": eroute.App, "tncfg": tncfg.App}
	for line := range strings.Lines(lines) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if r := clitest.Run(apps[words[0]](), b.world(), words[1:]...); r.Status != 0 {
			b.t.Fatalf("%s: %s", line, r.Err)
		}
	}
}

// save runs ipsec save.
func (b *byHand) save(line string) clitest.Result {
	a := Save()
	a.Parse = func(env *cli.Env, args []string) (cli.Command, error) {
		return saveCommand(env, a, args, b.host, b.net)
	}
	return clitest.Run(a, b.world(), strings.Fields(line)...)
}

// read returns a file of the folder, with its mode checked.
func (b *byHand) read(name string) string {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	text, err := os.ReadFile(path)
	if err != nil {
		b.t.Fatal(err)
	}
	if info, _ := os.Stat(path); info.Mode() != 0o600 {
		b.t.Errorf("%s has mode %v", name, info.Mode())
	}
	return string(text)
}

// up runs ipsec up.
func (b *byHand) up(name string) clitest.Result {
	a := verbApp("up", "", nil)
	a.Parse = func(env *cli.Env, args []string) (cli.Command, error) {
		return verbCommand(env, a, args, b.host, b.net, func(context.Context, *cli.Env) error { return nil })
	}
	return clitest.Run(a, b.world(), name)
}

// A state is what commands have made on a stack, with the keys.
type state struct {
	SAs     map[klips.SAID]klips.SA
	Keys    map[klips.SAID]klips.Keys
	Eroutes []klips.Eroute
}

// state returns what commands have made.
func (b *byHand) state() state {
	b.t.Helper()
	s := state{map[klips.SAID]klips.SA{}, map[klips.SAID]klips.Keys{}, nil}
	list, err := klips.ReadSAs(b.t.Context(), b.stack)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, sa := range list {
		sa.IV, sa.Ref, sa.RefHim = nil, 0, 0 // random, or in the order of the commands
		if sa.Dir == klips.Outbound {
			sa.Window = 0 // only the receiver uses it
		}
		s.SAs[sa.ID] = sa
		if s.Keys[sa.ID], err = klips.ReadKeys(b.t.Context(), b.stack, sa.ID); err != nil {
			b.t.Fatal(err)
		}
	}
	if s.Eroutes, err = klips.ReadEroutes(b.t.Context(), b.stack); err != nil {
		b.t.Fatal(err)
	}
	for i := range s.Eroutes {
		s.Eroutes[i].PID = 0
	}
	return s
}

// empty reports whether nothing was written.
func (b *byHand) empty() bool {
	list, err := os.ReadDir(b.dir)
	return err == nil && len(list) == 0
}

const (
	attached = "tncfg --attach --virtual ipsec0 --physical eth0\n"
	// The commands for a tunnel with ESP, whose SPIs have no order.
	outTunnel = `
		spi --said tun0x200@10.0.0.2 --ip4 --src 10.0.0.1 --dst 10.0.0.2
		spi --said esp0x301@10.0.0.2 --src 10.0.0.1 --esp aes128-sha1 --enckey 0x01010101010101010101010101010101 --authkey 0x0202020202020202020202020202020202020202
		spigrp --said tun0x200@10.0.0.2 esp0x301@10.0.0.2
		eroute --add --src 10.1.0.0/16 --dst 10.2.0.0/16 --said tun0x200@10.0.0.2
`
	inTunnel = `
		spi --said tun0x200@10.0.0.1 --ip4 --src 10.0.0.2 --dst 10.0.0.1
		spi --said esp0x302@10.0.0.1 --src 10.0.0.2 --esp aes128-sha1 --enckey 0x03030303030303030303030303030303 --authkey 0x0404040404040404040404040404040404040404 --replay_window 64
		spigrp --said tun0x200@10.0.0.1 esp0x302@10.0.0.1
`
	inPolicy = "eroute --addin --src 10.2.0.0/16 --dst 10.1.0.0/16 --said tun0x200@10.0.0.1\n"
	head     = "# Saved from SAs and an eroute that were made by hand. This host is left.\n"
	noMarks  = "this stack keeps no sequence marks: if the connection is made again, its numbers begin at 1, and a peer with a replay window refuses them until its SAs are made again, too"
)

// espPair returns the commands for one SA in each direction, in transport mode.
func espPair(options, keys string) string {
	return "spi --said esp0x200@10.0.0.2 --src 10.0.0.1 --esp " + keys + " " + options + "\n" +
		"spi --said esp0x200@10.0.0.1 --src 10.0.0.2 --esp " + keys + " " + options + "\n" +
		"eroute --add --src 10.0.0.1/32 --dst 10.0.0.2/32 --said esp0x200@10.0.0.2\n" +
		"eroute --addin --src 10.0.0.2/32 --dst 10.0.0.1/32 --said esp0x200@10.0.0.1\n"
}

const aesKeys = "aes256-sha2_256 --enckey 0x0101010101010101010101010101010101010101010101010101010101010101 --authkey 0x0202020202020202020202020202020202020202020202020202020202020202"

// TestSave checks the files of what can be saved, and the notes.
func TestSave(t *testing.T) {
	tests := []struct {
		name, lines, line string
		routes            []string
		want              string
		notes             []string
	}{
		{
			name: "tunnel", lines: attached + outTunnel + inTunnel + inPolicy, line: "net", routes: []string{"10.2.0.0/16 ipsec0 via 10.0.0.254"},
			want: head + "config setup\n\tinterfaces=\"ipsec0=eth0\"\n\thidetos=yes\n\nconn net\n" +
				"\tleft=10.0.0.1\n\tleftsubnet=10.1.0.0/16\n\tleftnexthop=10.0.0.254\n\tlefttunspi=0x200\n\tleftespspi=0x302\n" +
				"\tright=10.0.0.2\n\trightsubnet=10.2.0.0/16\n\trighttunspi=0x200\n" +
				"\tspi=0x301\n\tesp=aes128-sha1\n\tespreplay_window=64\n" +
				"\tleftespenckey=@net-leftespenckey.key\n\trightespenckey=@net-rightespenckey.key\n" +
				"\tleftespauthkey=@net-leftespauthkey.key\n\trightespauthkey=@net-rightespauthkey.key\n\tauto=start\n",
		},
		{
			// One number, one key for both directions, and a TOS that is copied.
			name: "one number", line: "one --dst 10.2.0.0/16", routes: []string{"10.2.0.0/16 ipsec0"},
			lines: attached + `
				spi --said tun0x200@10.0.0.2 --ip4 --src 10.0.0.1 --dst 10.0.0.2 --copy-tos
				spi --said ah0x200@10.0.0.2 --src 10.0.0.1 --ah md5 --authkey 0x05050505050505050505050505050505 --esn
				spigrp --said tun0x200@10.0.0.2 ah0x200@10.0.0.2
				spi --said tun0x200@10.0.0.1 --ip4 --src 10.0.0.2 --dst 10.0.0.1
				spi --said ah0x200@10.0.0.1 --src 10.0.0.2 --ah md5 --authkey 0x05050505050505050505050505050505 --esn
				spigrp --said tun0x200@10.0.0.1 ah0x200@10.0.0.1
				eroute --add --src 0.0.0.0/0 --dst 10.2.0.0/16 --said tun0x200@10.0.0.2 --transport-proto tcp --dst-port 80
				eroute --addin --src 10.2.0.0/16 --dst 0.0.0.0/0 --said tun0x200@10.0.0.1 --transport-proto tcp --src-port 80
`,
			want: head + "config setup\n\tinterfaces=\"ipsec0=eth0\"\n\nconn one\n" +
				"\tleft=10.0.0.1\n\tleftsubnet=0.0.0.0/0\n\tleftprotoport=6\n\tright=10.0.0.2\n\trightsubnet=10.2.0.0/16\n\trightprotoport=6/80\n" +
				"\tspi=0x200\n\tah=hmac-md5-96\n\tahreplay_window=64\n\tesn=yes\n\tahkey=@one-ahkey.key\n\tauto=start\n",
		},
		{
			// The SPIs are those of spibase, and ESP is in UDP.
			name: "base", line: "udp", routes: []string{"10.0.0.2/32 ipsec0"},
			lines: attached + strings.NewReplacer("esp0x200@10.0.0.1", "esp0x201@10.0.0.1").Replace(
				"spi --said esp0x200@10.0.0.2 --src 10.0.0.1 --esp "+aesKeys+" --natt nonesp --sport 4600 --dport 4500\n"+
					"spi --said esp0x200@10.0.0.1 --src 10.0.0.2 --esp "+aesKeys+" --natt nonesp --sport 4500 --dport 4600\n"+
					"eroute --add --src 10.0.0.1/32 --dst 10.0.0.2/32 --said esp0x200@10.0.0.2\n"+
					"eroute --addin --src 10.0.0.2/32 --dst 10.0.0.1/32 --said esp0x200@10.0.0.1\n"),
			want: head + "config setup\n\tinterfaces=\"ipsec0=eth0\"\n\nconn udp\n\ttype=transport\n" +
				"\tleft=10.0.0.1\n\tright=10.0.0.2\n\trightnatport=4600\n" +
				"\tspibase=0x200\n\tesp=aes256-sha2_256\n\tespreplay_window=0\n\tencapsulation=yes\n\tespenckey=@udp-espenckey.key\n\tespauthkey=@udp-espauthkey.key\n\tauto=start\n",
		},
		{
			// What a conn has no word for, and can be without.
			name: "lost", line: "less --src 10.1.0.0/16",
			lines: strings.Replace(outTunnel, "--src 10.0.0.1 --esp", "--src 10.0.0.1 --replay_window 128 --life hard-bytes=1000 --esp", 1) + inTunnel +
				"eroute --add --src 10.3.0.0/16 --dst 10.2.0.0/16 --said tun0x200@10.0.0.2\n",
			notes: []string{
				"tun0x200@10.0.0.1 esp0x302@10.0.0.1 has no inbound policy; as a connection it accepts only 10.2.0.0/16 -> 10.1.0.0/16",
				"esp0x301@10.0.0.2 has a replay window of 128 packets, and as a connection that of esp0x302@10.0.0.1, 64",
				"esp0x301@10.0.0.2 has a limited lifetime, and the SAs of a connection do not end",
				"no virtual device is attached for it; ipsec up attaches one",
				"the eroute 10.3.0.0/16 -> 10.2.0.0/16 leads to the same SAs, and is not part of the connection",
			},
			want: "config setup\n\thidetos=yes\n\nconn less\n" +
				"\tleft=10.0.0.1\n\tleftsubnet=10.1.0.0/16\n\tlefttunspi=0x200\n\tleftespspi=0x302\n" +
				"\tright=10.0.0.2\n\trightsubnet=10.2.0.0/16\n\trighttunspi=0x200\n" +
				"\tspi=0x301\n\tesp=aes128-sha1\n\tespreplay_window=64\n" +
				"\tleftespenckey=@less-leftespenckey.key\n\trightespenckey=@less-rightespenckey.key\n" +
				"\tleftespauthkey=@less-leftespauthkey.key\n\trightespauthkey=@less-rightespauthkey.key\n\tauto=start\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newByHand(t)
			b.net.routes = tt.routes
			b.do(tt.lines)
			r := b.save(tt.line)
			name, _, _ := strings.Cut(tt.line, " ")
			want, notes := tt.want, ""
			if tt.notes != nil {
				want = head + "# Not as it was: " + strings.Join(tt.notes, ".\n# Not as it was: ") + ".\n" + want
			}
			for _, n := range append(tt.notes, noMarks) {
				notes += "ipsec save: note: conn " + name + ": " + n + "\n"
			}
			if d := cmp.Diff(notes, r.Err); r.Status != 0 || d != "" {
				t.Fatalf("status %d (-want +got):\n%s", r.Status, d)
			}
			if d := cmp.Diff(want, b.read(name+".conf")); d != "" {
				t.Errorf("the file (-want +got):\n%s", d)
			}
			if strings.Contains(r.Out+r.Err, "0101") || strings.Contains(r.Out+r.Err, "0202") {
				t.Errorf("a key is shown: %s%s", r.Out, r.Err)
			}
			// What was made by hand is removed, and up makes the same.
			before := b.state()
			if _, err := b.stack.Apply(t.Context(), klips.ClearEroutes{}, klips.ClearSAs{}); err != nil {
				t.Fatal(err)
			}
			if r := b.up(name); r.Status != 0 {
				t.Fatalf("up: status %d, %s", r.Status, r.Err)
			}
			after := b.state()
			if d := cmp.Diff(before, after, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); (d != "") != (tt.notes != nil) {
				t.Errorf("up makes something else (-by hand +up):\n%s", d)
			}
		})
	}
}

// TestSaveRefused: what is refused writes nothing, and each error has one line.
func TestSaveRefused(t *testing.T) {
	const whole = outTunnel + inTunnel + inPolicy
	espGCM := "aes128-gcm --enckey 0x0102030405060708090a0b0c0d0e0f1011121314 --replay_window 64"
	for _, tt := range []struct{ lines, line, want string }{
		{"", "net", "there is no eroute, so that there is nothing to save; make SAs and an eroute first, or ipsec new makes a connection"},
		{whole, "net --dst 10.3.0.0/16", "there is no such eroute; ipsec eroute lists them"},
		{whole, "net --to 10.0.0.3", "there is no such eroute; ipsec eroute lists them"},
		{"eroute --add --src 10.1.0.0/16 --dst 10.2.0.0/16 --said %drop\n", "net", "no such eroute leads to an SA; one that lets packets pass, drops or rejects them is a conn of type passthrough, drop or reject in ipsec.conf(5)"},
		{whole + "eroute --add --src 10.1.0.0/16 --dst 10.3.0.0/16 --said tun0x200@10.0.0.2\n", "net",
			"it can be one of 2 eroutes: 10.1.0.0/16 -> 10.2.0.0/16 to tun0x200@10.0.0.2, 10.1.0.0/16 -> 10.3.0.0/16 to tun0x200@10.0.0.2; choose one with --src, --dst or --to"},
		{outTunnel, "net", "no SA like tun0x200@10.0.0.2 esp0x301@10.0.0.2 receives from 10.0.0.2 to 10.0.0.1, and a conn has both directions; make it first"},
		{outTunnel + inTunnel + strings.ReplaceAll(strings.ReplaceAll(inTunnel, "0x200", "0x201"), "0x302", "0x303"), "net",
			"it can be one of 2 groups that receive from 10.0.0.2 to 10.0.0.1: "},
		{whole, "net --in esp0x999@10.0.0.1", "--in esp0x999@10.0.0.1: there is no such SA; ipsec spi lists them"},
		{outTunnel + inTunnel + strings.Replace(inPolicy, "10.1.0.0/16", "10.0.0.0/8", 1), "net",
			"tun0x200@10.0.0.1 esp0x302@10.0.0.1 receives from 10.0.0.2 to 10.0.0.1, with the inbound policy 10.2.0.0/16 -> 10.0.0.0/8; that of a conn is the reverse of its eroute, 10.2.0.0/16 -> 10.1.0.0/16; set it with ipsec eroute --addin\n"},
		{"eroute --add --src 10.1.0.0/16 --dst 10.2.0.0/16 --said tun0x200@10.0.0.2\n", "net", "the eroute 10.1.0.0/16 -> 10.2.0.0/16: tun0x200@10.0.0.2"},
		{whole + "spi --said comp0x1000@10.0.0.2 --src 10.0.0.1 --comp deflate\nspi --said esp0x400@10.0.0.2 --src 10.0.0.1 --esp " + aesKeys + "\nspigrp --said comp0x1000@10.0.0.2 esp0x400@10.0.0.2\n" +
			"eroute --add --src 10.0.0.1/32 --dst 10.0.0.2/32 --said comp0x1000@10.0.0.2\n", "net --dst 10.0.0.2/32", "the eroute 10.0.0.1/32 -> 10.0.0.2/32: comp0x1000@10.0.0.2 compresses, and a conn has no word for that; ipsec batch can make it again, from a file with its commands\n"},
		{"spi --said ah0x300@10.0.0.2 --src 10.0.0.1 --ah md5 --authkey 0x05050505050505050505050505050505\nspi --said esp0x400@10.0.0.2 --src 10.0.0.1 --esp " + aesKeys + "\nspigrp --said ah0x300@10.0.0.2 esp0x400@10.0.0.2\n" +
			"eroute --add --src 10.0.0.1/32 --dst 10.0.0.2/32 --said ah0x300@10.0.0.2\n", "net", "the eroute 10.0.0.1/32 -> 10.0.0.2/32: esp0x400@10.0.0.2 is outside ah0x300@10.0.0.2, and a conn has at most tun, esp and ah, in this order"},
		{whole + "eroute --add --src 10.5.0.0/16 --dst 10.6.0.0/16 --said esp0x301@10.0.0.2\n", "net --dst 10.6.0.0/16",
			"the eroute 10.5.0.0/16 -> 10.6.0.0/16: it leads to esp0x301@10.0.0.2, which is inside the group of tun0x200@10.0.0.2; lead it to the first, as a conn does"},
		{"spi --said esp0x200@10.0.0.2 --src 10.0.0.1 --esp " + aesKeys + "\neroute --add --src 10.1.0.0/16 --dst 10.0.0.2/32 --said esp0x200@10.0.0.2\n", "net",
			"the eroute 10.1.0.0/16 -> 10.0.0.2/32: in transport mode the packets of a conn are those between 10.0.0.1 and 10.0.0.2"},
		{outTunnel + strings.Replace(inTunnel, "aes128-sha1 --enckey 0x03030303030303030303030303030303 --authkey 0x0404040404040404040404040404040404040404", aesKeys, 1), "net",
			"esp0x301@10.0.0.2 and esp0x302@10.0.0.1 have different algorithms, lengths of keys or sequence numbers, and a conn has one for both directions"},
		{"spi --said esp0x200@10.0.0.2 --src 10.0.0.1 --esp " + espGCM + "\nspi --said esp0x200@10.0.0.1 --src 10.0.0.2 --esp " + espGCM + "\neroute --add --src 10.0.0.1/32 --dst 10.0.0.2/32 --said esp0x200@10.0.0.2\n", "net",
			"esp0x200@10.0.0.2: with aes128-gcm no number may be used twice with one key (RFC 4106), and this stack keeps no sequence marks (IPSEC_STATEDIR), so that the connection would begin at 1 again; ipsec new makes a connection with new keys"},
		{espPair("--natt nonesp --sport 4600 --dport 4500", aesKeys), "net", "esp0x200@10.0.0.2 and esp0x200@10.0.0.1: each end of a conn has one UDP port, to send and to receive"},
		{strings.Replace(espPair("--align8", "x"), "--esp x", "--ah md5 --authkey 0x05050505050505050505050505050505", 2), "net", ""},
	} {
		b := newByHand(t)
		lines := tt.lines
		if tt.want == "" {
			lines = strings.ReplaceAll(lines, "esp0x", "ah0x")
			tt.want = "ah0x200@10.0.0.2 pads its header to 8 bytes, and a conn has no word for that; its peer would not accept another form"
		}
		b.do(lines)
		r := b.save(tt.line)
		if r.Status != cli.ExitFailed || !strings.HasPrefix(r.Err, "ipsec save: "+tt.want) || strings.Count(r.Err, "\n") != 1 || r.Out != "" {
			t.Errorf("save %s: status %d, %s%s, want %s\nafter:\n%s", tt.line, r.Status, r.Out, r.Err, tt.want, tt.lines)
		}
		if !b.empty() {
			t.Errorf("save %s: something was written", tt.line)
		}
	}
}

// TestSaveUsage checks wrong command lines, for which no stack is opened.
func TestSaveUsage(t *testing.T) {
	for line, want := range map[string]string{
		"":                       "the name of the connection is missing",
		"net more":               "unexpected argument number 2 (4 characters, not shown: it may be part of a key) after the name",
		"9net":                   "connection: 9net is no name; a name is a letter, then letters, digits, dots, hyphens and underscores",
		"net --src 10.0.0":       "--src 10.0.0: ",
		"net --src 10/8 --src x": "--src",
		"net --in tun":           "--in tun: ",
		"net --dir=":             "--dir \"\": there is no folder name",
		"net --frob":             "unknown option --frob",
	} {
		b := newByHand(t)
		if r := b.save(line); r.Status != cli.ExitUsage || !strings.HasPrefix(r.Err, "ipsec save: "+want) || r.Opened {
			t.Errorf("save %s: status %d, %s, want %s", line, r.Status, r.Err, want)
		}
	}
}

// TestSaveMade: what ipsec up has made is named with its connection, and is not saved.
func TestSaveMade(t *testing.T) {
	b := newByHand(t)
	b.host.rundir = t.TempDir()
	b.do(attached + outTunnel + inTunnel + inPolicy)
	b.net.routes = []string{"10.2.0.0/16 ipsec0"}
	if r := b.save("net"); r.Status != 0 {
		t.Fatal(r.Err)
	}
	before := b.state()
	r := b.up("net")
	if r.Status != 0 || !strings.Contains(r.Err, "its SAs and its eroute are there already; they are part of it from now on") {
		t.Fatalf("up: status %d, %s", r.Status, r.Err)
	}
	if d := cmp.Diff(before, b.state(), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); d != "" {
		t.Errorf("up has changed what was there (-was +is):\n%s", d)
	}
	dir, err := made.Open(b.host.rundir)
	if err != nil {
		t.Fatal(err)
	}
	c, err := dir.Get("net")
	dir.Close()
	if err != nil || !c.Up() || c.Config != filepath.Join(b.dir, "net.conf") {
		t.Errorf("the record is %+v, %v", c, err)
	}
	if r := b.up("net"); r.Status != 0 || !strings.Contains(r.Err, "it is up already") {
		t.Errorf("up again: status %d, %s", r.Status, r.Err)
	}
	r = b.save("again")
	want := "ipsec save: the eroute 10.1.0.0/16 -> 10.2.0.0/16 is of conn net already, which has the file " + filepath.Join(b.dir, "net.conf") + "; there is nothing to save\n"
	if r.Status != cli.ExitFailed || r.Err != want {
		t.Errorf("save again: status %d, %s", r.Status, r.Err)
	}
	// Its SAs that receive are not those of another eroute.
	b.do(strings.ReplaceAll(strings.ReplaceAll(strings.ReplaceAll(outTunnel, "0x200", "0x500"), "0x301", "0x501"), "10.2.0.0", "10.6.0.0"))
	if r := b.save("other"); !strings.HasPrefix(r.Err, "ipsec save: no SA like tun0x500@10.0.0.2 esp0x501@10.0.0.2 receives") {
		t.Errorf("save other: status %d, %s", r.Status, r.Err)
	}
	if r := b.save("other --in esp0x302@10.0.0.1"); r.Err != "ipsec save: --in esp0x302@10.0.0.1: it is of conn net\n" {
		t.Errorf("save other: status %d, %s", r.Status, r.Err)
	}
}

// TestSaveWithoutKeys: a stack that gives no keys is saved without; the file and notes name
// what is missing, and up refuses the connection until it is there.
func TestSaveWithoutKeys(t *testing.T) {
	b := newByHand(t)
	local := func(a netip.Addr) bool { return a == netip.MustParseAddr("10.0.0.1") }
	b.stack = serial.New(klipstest.NewModel(local, func(name string) (int, bool) { return 1500, name == "eth0" }))
	b.do(attached + espPair("", aesKeys))
	b.net.routes = []string{"10.0.0.2/32 ipsec0"}
	r := b.save("keyless")
	notes, comments := "", ""
	for _, k := range []string{
		"leftespenckey, of esp0x200@10.0.0.1", "rightespenckey, of esp0x200@10.0.0.2", "leftespauthkey, of esp0x200@10.0.0.1", "rightespauthkey, of esp0x200@10.0.0.2",
	} {
		word, _, _ := strings.Cut(k, ",")
		text := "the key for " + k + ", is missing: this stack gives no keys; write its 256 bits into keyless-" + word + ".key, mode 0600"
		notes += "ipsec save: note: conn keyless: " + text + "\n"
		comments += "# " + text + ".\n"
	}
	notes += "ipsec save: note: conn keyless: " + noMarks + "\n"
	if d := cmp.Diff(notes, r.Err); r.Status != 0 || d != "" {
		t.Errorf("status %d (-want +got):\n%s", r.Status, d)
	}
	file := filepath.Join(b.dir, "keyless.conf")
	if want := "made " + file + "\nwhen all keys are there, the SAs become this connection, without a change, by:\n    ipsec up keyless\n"; r.Out != want {
		t.Errorf("output %swant %s", r.Out, want)
	}
	if text := b.read("keyless.conf"); !strings.HasPrefix(text, head+comments) || !strings.Contains(text, "\trightespauthkey=@keyless-rightespauthkey.key\n") {
		t.Errorf("the file is\n%s", text)
	}
	up := clitest.Run(app(b.host, b.net), b.world(), "--config", file, "--up", "keyless")
	if up.Status != cli.ExitFailed || !strings.Contains(up.Err, "keyless-") || !strings.Contains(up.Err, ".key") {
		t.Errorf("up without keys: status %d, %s", up.Status, up.Err)
	}
}
