package pf_key

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/testscripts/skip"
)

// little skips the test on machines where its bytes have another meaning.
func little(t testing.TB) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		skip.Without(t, skip.LittleEndian, "the bytes would differ")
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// addHold is an X_ADDFLOW of %hold with a protocol, in the form of the classic tool.
const addHold = `
	020e000b 18000000 01000000 34120000
	03000100 00000103 00000000 00000000 00000000 00000000
	03000500 00000000 02000000 00000000 00000000 00000000
	03000600 00000000 02000000 00000000 00000000 00000000
	03001500 00000000 02000000 c0000200 00000000 00000000
	03001600 00000000 02000050 c0000100 00000000 00000000
	03001700 00000000 02000000 ffffff00 00000000 00000000
	03001800 00000000 0200ffff ffffff00 00000000 00000000
	01001a00 11000000`

const addHoldText = `
pfkey v2 msg. type=14(x-addflow(eroute)) seq=1 len=24 pid=4660 errno=0 satype=11(INT)
version=2 type=14 errno=0 satype=11 len=24 seq=1 pid=4660 {ext=1 len=3 spi=03010000 replay=0 state=0 auth=0 encrypt=0 flags=00000000 ref=00000000}` +
	`{ext=5 len=3 proto=0 prefixlen=0 addr=0x02000000000000000000000000000000 } ` +
	`{ext=6 len=3 proto=0 prefixlen=0 addr=0x02000000000000000000000000000000 } ` +
	`{ext=21 len=3 proto=0 prefixlen=0 addr=0x02000000c00002000000000000000000 } ` +
	`{ext=22 len=3 proto=0 prefixlen=0 addr=0x02000050c00001000000000000000000 } ` +
	`{ext=23 len=3 proto=0 prefixlen=0 addr=0x02000000ffffff000000000000000000 } ` +
	`{ext=24 len=3 proto=0 prefixlen=0 addr=0x0200ffffffffff000000000000000000 } ` +
	"{ext=26 len=1 proto=17 direction=0 flags=0 } \n"

func TestMessage(t *testing.T) {
	little(t)
	head := "020800031300000001000000ffffffff"
	for _, tt := range []struct{ name, hex, want string }{
		{"eroute", addHold, addHoldText},
		{"header", "02070003 02000000 01000000 34120000",
			"\npfkey v2 msg. type=7(register) seq=1 len=2 pid=4660 errno=0 satype=3(ESP)\nversion=2 type=7 errno=0 satype=3 len=2 seq=1 pid=4660 \n"},
		{"error", "020d1109 02000000 feffffff 34120000",
			"\npfkey v2 msg. type=13(x-groupsa) seq=-2 len=2 pid=4660 errno=17 satype=9(IPIP)\nversion=2 type=13 errno=17 satype=9 len=2 seq=4294967294 pid=4660 \n"},
		{"unknown", "02140005 02000000 00000000 00000000",
			"\npfkey v2 msg. type=20(unknown-sadb-type) seq=0 len=2 pid=0 errno=0 satype=5(UNKNOWN)\nversion=2 type=20 errno=0 satype=5 len=2 seq=0 pid=0 \n"},
		{"expire", `02080003 13000000 01000000 00000000
			03000100 00001102 40010203 00000000 00000000 00000000
			04000200 01000000 fc00000000000000 105b8f0200000000 105b8f0200000000
			04000400 00000000 c800000000000000 0000000000000000 0000000000000000
			03000500 00000000 02000000 0a090001 00000000 00000000
			03000600 00000000 02000000 0a090002 00000000 00000000`,
			`
pfkey v2 msg. type=8(expire) seq=1 len=19 pid=0 errno=0 satype=3(ESP)
version=2 type=8 errno=0 satype=3 len=19 seq=1 pid=0 {ext=1 len=3 spi=02110000 replay=64 state=1 auth=2 encrypt=3 flags=00000000 ref=00000000}` +
				`{ext=2 len=4 allocations=1 bytes=252 addtime=42949392 usetime=42949392 } ` +
				`{ext=4 len=4 allocations=0 bytes=200 addtime=0 usetime=0 } ` +
				`{ext=5 len=3 proto=0 prefixlen=0 addr=0x020000000a0900010000000000000000 } ` +
				"{ext=6 len=3 proto=0 prefixlen=0 addr=0x020000000a0900020000000000000000 } \n"},
		{"new mapping", `02110003 0d000000 01000000 00000000
			03000100 00001002 00000000 00000000 00000000 00000000
			03000500 32000000 02000000 c0000201 00000000 00000000
			01001c00 94110000
			03000600 32000000 02000000 c0000201 00000000 00000000
			01001d00 49ee0000`,
			`
pfkey v2 msg. type=17(x-natt-new-mapping) seq=1 len=13 pid=0 errno=0 satype=3(ESP)
version=2 type=17 errno=0 satype=3 len=13 seq=1 pid=0 {ext=1 len=3 spi=02100000 replay=0 state=0 auth=0 encrypt=0 flags=00000000 ref=00000000}` +
				`{ext=5 len=3 proto=50 prefixlen=0 addr=0x02000000c00002010000000000000000 } ` +
				`{ext=28 len=1 bytes=0x94110000 } ` +
				`{ext=6 len=3 proto=50 prefixlen=0 addr=0x02000000c00002010000000000000000 } ` +
				"{ext=29 len=1 bytes=0x49ee0000 } \n"},
		{"old lifetime", "02080003 07000000 00000000 00000000 05000300 01000000 0200000000000000 0300000000000000 0400000000000000 0500000000000000",
			"\npfkey v2 msg. type=8(expire) seq=0 len=7 pid=0 errno=0 satype=3(ESP)\nversion=2 type=8 errno=0 satype=3 len=7 seq=0 pid=0 {ext=3 len=5 allocations=1 bytes=2 addtime=3 usetime=4 packets=5 } \n"},
		{"others in hex", "02120000 04000000 00000000 00000000 01001f00 01c00000 01001200 02000000",
			"\npfkey v2 msg. type=18(x-plumbif) seq=0 len=4 pid=0 errno=0 satype=0(UNKNOWN)\nversion=2 type=18 errno=0 satype=0 len=4 seq=0 pid=0 {ext=31 len=1 bytes=0x01c00000 } {ext=18 len=1 bytes=0x02000000 } \n"},
		{"SA of RFC 2367", "02040003 04000000 00000000 00000000 02000100 00000104 00000000 00000000",
			"\npfkey v2 msg. type=4(delete) seq=0 len=4 pid=0 errno=0 satype=3(ESP)\nversion=2 type=4 errno=0 satype=3 len=4 seq=0 pid=0 {ext=1 len=2 too small for struct k_sadb_sa bytes=0x000001040000000000000000 } \n"},
		{"short lifetime", "02040003 03000000 00000000 00000000 01000200 01000000",
			"\npfkey v2 msg. type=4(delete) seq=0 len=3 pid=0 errno=0 satype=3(ESP)\nversion=2 type=4 errno=0 satype=3 len=3 seq=0 pid=0 {ext=2 len=1 too small for struct sadb_lifetime bytes=0x01000000 } \n"},
		{"too long", "02040003 04000000 00000000 00000000 03000500 01020304 05060708 090a0b0c",
			"\npfkey v2 msg. type=4(delete) seq=0 len=4 pid=0 errno=0 satype=3(ESP)\nversion=2 type=4 errno=0 satype=3 len=4 seq=0 pid=0 {ext=5 len=3 short-packet(16<24) bytes=0x0102030405060708090a0b0c } \n"},
		{"no length", "02040003 04000000 00000000 00000000 00000500 01020304 05060708 090a0b0c",
			"\npfkey v2 msg. type=4(delete) seq=0 len=4 pid=0 errno=0 satype=3(ESP)\nversion=2 type=4 errno=0 satype=3 len=4 seq=0 pid=0 {ext=5 len=0 ext_len (0) too small for sadb_ext header 16 bytes left over\n"},
		{"runt", "0204", "ipsec pf_key: runt packet of size: 2 (<16)\n"},
		{"other length", head, "ipsec pf_key: packet size read from socket=16 doesn't equal sadb_msg_len 19 * 8; message not decoded\n"},
	} {
		var b bytes.Buffer
		p := &printer{w: &b, name: "ipsec pf_key"}
		if err := p.message(unhex(t, tt.hex)); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if d := cmp.Diff(tt.want, b.String()); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}
}

// TestFile: a file is printed message by message.
func TestFile(t *testing.T) {
	little(t)
	register := "02070003020000000100000034120000"
	registered := "\npfkey v2 msg. type=7(register) seq=1 len=2 pid=4660 errno=0 satype=3(ESP)\nversion=2 type=7 errno=0 satype=3 len=2 seq=1 pid=4660 \n"
	for _, tt := range []struct{ hex, want string }{
		{"", ""},
		{addHold + register + addHold, addHoldText + registered + addHoldText},
		{register + "020700", registered + "P: runt packet of size: 3 (<16)\n"},
		{register + register[:30], registered + "P: runt packet of size: 15 (<16)\n"},
		{register + "02070003030000000100000034120000", registered +
			"P: packet size read from socket=16 doesn't equal sadb_msg_len 3 * 8; message not decoded\n"},
		{"02070003000000000100000034120000" + register, "P: packet size read from socket=32 doesn't equal sadb_msg_len 0 * 8; message not decoded\n"},
	} {
		var b bytes.Buffer
		p := &printer{w: &b, name: "P"}
		if err := p.file(unhex(t, tt.hex)); err != nil {
			t.Error(err)
		}
		if d := cmp.Diff(tt.want, b.String()); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.hex, d)
		}
	}
}

func FuzzFile(f *testing.F) {
	f.Add(unhex(f, addHold))
	f.Add(unhex(f, addHold+"02070003020000000100000034120000"))
	f.Add(unhex(f, "02040003 04000000 00000000 00000000 00000500 01020304 05060708 090a0b0c"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var out bytes.Buffer
		p := &printer{w: &out, name: "P"}
		if err := p.file(b); err != nil {
			t.Fatal(err)
		}
		if len(b) > 0 && !bytes.HasSuffix(out.Bytes(), []byte("\n")) {
			t.Errorf("%x: %q", b, out.Bytes())
		}
		for l := range bytes.Lines(out.Bytes()) {
			if bytes.ContainsAny(l[:len(l)-1], "\r\x00\x1b") {
				t.Errorf("%x: %q", b, l)
			}
		}
	})
}

func TestLengthen(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"-h", "--help"},
		{"-f x -d y -e z", "--daemon x --dumpfile y --encodefile z"},
		{"-fx", "--daemon x"},
		{"-f -h", "--daemon -h"},
		{"--label -d --esp", "--label -d --esp"},
		{"--daemon -h -h", "--daemon -h --help"},
		{"--esp -h", "--esp --help"},
		{"--esp -x - -- -h", "--esp -x - -- -h"},
	} {
		if got := strings.Join(lengthen(strings.Fields(tt.args)), " "); got != tt.want {
			t.Errorf("lengthen(%s) = %s, want %s", tt.args, got, tt.want)
		}
	}
}

func parseLine(line string) (*request, error) {
	return parse(&cli.Env{Getenv: func(string) string { return "" }}, strings.Split(line, " "))
}

func TestParse(t *testing.T) {
	for _, tt := range []struct{ line, args string }{
		{"--label x", "--ah --esp --ipip --ipcomp"},
		{"--esp", "--esp"},
		{"--ipc --ah --deb", "--ah --ipcomp --debug"},
		{"--daemon /run/p --ipip", "--ipip --daemon /run/p"},
		{"-f p --esp", "--esp --daemon p"},
	} {
		r, err := parseLine(tt.line)
		if err != nil {
			t.Errorf("%s: %v", tt.line, err)
			continue
		}
		if got := strings.Join(r.args(), " "); got != tt.args {
			t.Errorf("%s is %s, want %s", tt.line, got, tt.args)
		}
	}
}

// FuzzParse: the arguments that a request returns parse to the same request.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"--esp", "-f x", "-dx", "--daemon=a --ah --label b", "--dumpfile x --ipip", "--ready-fd 3", "--optionsfrom="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if strings.Contains(line, "--o") {
			return // it would read files of this system
		}
		r, err := parseLine(line)
		if err != nil || r.Help || r.Version || r.dump != "" {
			return
		}
		again, err := parse(&cli.Env{Getenv: func(string) string { return "" }}, r.args())
		if err != nil {
			t.Fatalf("%q: %q: %v", line, r.args(), err)
		}
		if d := cmp.Diff(r.args(), again.args()); d != "" {
			t.Errorf("%q (-first +again):\n%s", line, d)
		}
	})
}

func TestWritePID(t *testing.T) {
	var errOut bytes.Buffer
	env := &cli.Env{Name: "P", Err: &errOut}
	name := filepath.Join(t.TempDir(), "pid")
	remove := writePID(env, name)
	if b, err := os.ReadFile(name); err != nil || len(b) == 0 || bytes.Contains(b, []byte("\n")) {
		t.Errorf("%q, %v", b, err)
	}
	remove()
	if _, err := os.Stat(name); err == nil {
		t.Error("the file stays")
	}
	writePID(env, filepath.Join(name, "no", "such"))()
	if !strings.HasPrefix(errOut.String(), "P: note: the process id is not written: ") {
		t.Errorf("said %q", errOut.String())
	}
}
