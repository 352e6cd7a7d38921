package manual

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips"
)

// An endHost is the test's host, with some addresses.
type endHost struct {
	testHost
	addrs string
}

func (h endHost) DeviceOf(a netip.Addr) string {
	if strings.Contains(h.addrs, a.String()) {
		return "eth0"
	}
	return ""
}

// runNew runs ipsec new on a host with the addresses.
func runNew(addrs string, environ map[string]string, line string) clitest.Result {
	a := New()
	a.Parse = func(env *cli.Env, args []string) (cli.Command, error) {
		return newCommand(env, args, endHost{left, addrs})
	}
	return clitest.Run(a, clitest.World{StackErr: errors.New("no stack"), Environ: environ}, strings.Fields(line)...)
}

const newNet = "net --left 10.0.0.1 --leftsubnet 10.1.0.0/16 --right 10.0.0.2 --rightsubnet 10.2.0.0/16 "

// TestNew checks the files and the text on standard output.
func TestNew(t *testing.T) {
	dir := t.TempDir()
	in := map[string]string{"IPSEC_CONFS": dir}
	r := runNew("10.0.0.1", in, newNet)
	want := strings.ReplaceAll(`made DIR/net.conf, and DIR/net.key, which must stay secret
copy them to the other end:
    ssh root@10.0.0.2 mkdir -p DIR && scp -p DIR/net.conf DIR/net.key root@10.0.0.2:DIR/
then bring it up on both ends:
    ipsec up net
`, "DIR", dir)
	if d := cmp.Diff(want, r.Out); r.Status != 0 || r.Err != "" || d != "" {
		t.Errorf("status %d, %s (-want +got):\n%s", r.Status, r.Err, d)
	}
	text := regexp.MustCompile(`^# The same on both ends\. Both need net\.key, too\.
conn net
	left=10\.0\.0\.1
	leftsubnet=10\.1\.0\.0/16
	right=10\.0\.0\.2
	rightsubnet=10\.2\.0\.0/16
	spibase=0x[0-9a-f]{2,7}0
	esp=aes256-gcm
	masterkey=@net\.key
	auto=start
$`)
	conf, err := os.ReadFile(filepath.Join(dir, "net.conf"))
	if err != nil || !text.Match(conf) {
		t.Errorf("the file is, %v:\n%s", err, conf)
	}
	for _, name := range []string{"net.conf", "net.key"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	key, err := masterIn("@" + filepath.Join(dir, "net.key"))
	if err != nil || len(key) != 32 {
		t.Errorf("the key has %d bytes, %v", len(key), err)
	}
	// The plan for the file can be printed, so all of it is right.
	for _, who := range []string{"", "--other "} {
		r := clitest.Run(app(left, nil), clitest.World{}, strings.Fields("--showonly "+who+"--config "+dir+"/net.conf --up net")...)
		if r.Status != 0 || r.Err != "" || !strings.Contains(r.Out, "--replay_window 64 --enckey 0x") {
			t.Errorf("%s: status %d, %s%s", who, r.Status, r.Out, r.Err)
		}
	}
}

// TestNewNext checks the commands that come next on other hosts and in other folders.
func TestNewNext(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct{ addrs, line, want string }{
		{"2001:db8::2", "six --left 2001:db8::1 --right 2001:db8::2", `copy them to the other end:
    ssh root@2001:db8::1 mkdir -p DIR && scp -p DIR/six.conf DIR/six.key 'root@[2001:db8::1]:DIR/'
then bring it up on both ends:
    ipsec up --config DIR/six.conf six
`},
		{"", "far --left 10.0.0.1 --right 10.0.0.2 --esp aes128-sha1", `copy them to both ends:
    ssh root@10.0.0.1 mkdir -p DIR && scp -p DIR/far.conf DIR/far.key root@10.0.0.1:DIR/
    ssh root@10.0.0.2 mkdir -p DIR && scp -p DIR/far.conf DIR/far.key root@10.0.0.2:DIR/
then bring it up on both ends:
    ipsec up --config DIR/far.conf far
`},
	} {
		r := runNew(tt.addrs, nil, tt.line+" --dir "+dir)
		_, got, _ := strings.Cut(r.Out, "\n")
		if d := cmp.Diff(strings.ReplaceAll(tt.want, "DIR", dir), got); r.Status != 0 || r.Err != "" || d != "" {
			t.Errorf("%s: status %d, %s (-want +got):\n%s", tt.line, r.Status, r.Err, d)
		}
	}
}

// TestNewRefused: what is refused makes nothing, and each error has one line.
func TestNewRefused(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("other.conf", "conn taken\n\tleft=10.0.0.1\n")
	write("keyed.key", "0x00\n")
	write("filed.conf", "")
	const ends = " --left 10.0.0.1 --right 10.0.0.2"
	for _, tt := range []struct {
		line   string
		status int
		want   string
	}{
		{"", 2, "the name of the connection is missing"},
		{"net", 2, "each end needs its address; give --left and --right"},
		{"net --right 10.0.0.2", 2, "each end needs its address; give --left"},
		{"net other" + ends, 2, "unexpected argument number 2"},
		{"9" + ends, 2, "connection: 9 is no name"},
		{"net --left gw --right 10.0.0.2", 2, "--left gw: not a numeric IPv4 or IPv6 address"},
		{"net --left 10.0.0.1 --right %any", 2, "--right %any: "},
		{"net" + ends + " --leftsubnet 10.1.0.0", 2, "--leftsubnet 10.1.0.0: no / in subnet"},
		{"net" + ends + " --esp rot13", 2, "--esp rot13: unknown cipher"},
		{"net" + ends + " --dir=", 2, "--dir: there is no folder name"},
		{"net --left 10.0.0.1 --right 10.0.0.1", 2, "left and right are both 10.0.0.1"},
		{"net --left 10.0.0.1 --right 2001:db8::1", 2, "left 10.0.0.1 and right 2001:db8::1 are of different families"},
		{"net --left 10.0.0.1 --right 224.0.0.1", 2, "right: 224.0.0.1 is not the address of one host"},
		{"net" + ends + " --leftsubnet fd00::/64", 2, "the subnets fd00::/64 of left and 10.0.0.2/32 of right are of different families"},
		{"net" + ends + " --dir " + dir + "/none", 1, dir + "/none: no such file or directory"},
		{"net" + ends + " --dir " + dir + "/keyed.key", 1, dir + "/keyed.key is no folder"},
		{"taken" + ends, 1, "conn taken is at " + dir + "/other.conf:1 already; choose another name"},
		{"keyed" + ends, 1, dir + "/keyed.key: there is such a file, which is not overwritten; choose another name"},
		{"filed" + ends, 1, dir + "/filed.conf: there is such a file, which is not overwritten; choose another name"},
	} {
		r := runNew("10.0.0.1", map[string]string{"IPSEC_CONFS": dir}, tt.line)
		if r.Status != tt.status || r.Out != "" || r.Opened || !strings.HasPrefix(r.Err, "ipsec new: "+tt.want) || strings.Count(r.Err, "\n") != 1 {
			t.Errorf("new %s: status %d, %q, %q, want %d, %q", tt.line, r.Status, r.Out, r.Err, tt.status, tt.want)
		}
	}
	left, err := filepath.Glob(dir + "/*")
	if want := []string{dir + "/filed.conf", dir + "/keyed.key", dir + "/other.conf"}; err != nil || !cmp.Equal(left, want) {
		t.Errorf("there is %q, %v, want %q", left, err, want)
	}
}

// TestNewSPIs: the last 16 bits of the SPIs are those of no other connection, and never
// those of a reserved SPI.
func TestNewSPIs(t *testing.T) {
	dir := t.TempDir()
	var text strings.Builder
	for n := 0x100; n <= 0xfff0; n += 0x10 {
		if n != 0x5660 && n != 0x5670 && n != 0xfff0 {
			fmt.Fprintf(&text, "conn c%x\n\tspibase=0x1234%04x\n", n, n)
		}
	}
	// Two pairs of subnets have the SPIs of two connections.
	text.WriteString("conn pairs\n\tspibase=0x5650\n\tleftsubnets={10.1.0.0/24 10.2.0.0/24}\n\trightsubnets={10.3.0.0/24,10.4.0.0/24}\n")
	text.WriteString("conn last\n\tspi=0x200\n\tleftespspi=0xabcdfff3\n")
	if err := os.WriteFile(filepath.Join(dir, "all.conf"), []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	d := &draft{folder: folder{dir: dir, name: "net"}}
	env := &cli.Env{Err: os.Stderr}
	if err := d.choose(env); err != nil || d.base&0xffff != 0x5670 {
		t.Errorf("the base 0x%x, %v, want 0x5670 at the end", uint32(d.base), err)
	}
	if err := os.WriteFile(filepath.Join(dir, "more.conf"), []byte("conn more\n\tspibase=0x5670\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.choose(env); err == nil || !strings.Contains(err.Error(), "its connections use all SPIs") {
		t.Errorf("no SPI is free: 0x%x, %v", uint32(d.base), err)
	}
	for range 1000 {
		d := &draft{folder: folder{dir: t.TempDir(), name: "net"}}
		if err := d.choose(env); err != nil || d.base&0xffff < klips.MinSPI || d.base&0xf != 0 {
			t.Fatalf("the base 0x%x, %v", uint32(d.base), err)
		}
	}
}
