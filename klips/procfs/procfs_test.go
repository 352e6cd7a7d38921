package procfs

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/klipstest/recorded"
)

var byAddr = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

// A table is one of the line tables: trip parses it and writes it again.
var tables = map[string]func(in string) (string, error){
	"spi":        trip(ParseSPI, WriteSPI),
	"eroute":     trip(ParseEroute, WriteEroute),
	"tncfg":      trip(ParseTncfg, WriteTncfg),
	"klipsdebug": trip(ParseKlipsdebug, WriteKlipsdebug),
	"version":    trip(ParseVersion, WriteVersion),
	"spigrp":     trip(parseGroupSAs, WriteSPIGrp),
}

func trip[T any](parse func(io.Reader) (T, error), write func(io.Writer, T) error) func(string) (string, error) {
	return func(in string) (string, error) {
		v, err := parse(strings.NewReader(in))
		var unread *UnreadError
		if err != nil && !errors.As(err, &unread) {
			return "", err
		}
		var out bytes.Buffer
		if werr := write(&out, v); werr != nil {
			err = werr
		}
		return out.String(), err
	}
}

// parseGroupSAs makes SAs that have only groups.
func parseGroupSAs(r io.Reader) ([]klips.SA, error) {
	groups, err := ParseSPIGrp(r)
	if groups == nil {
		return nil, err
	}
	sas := make([]klips.SA, len(groups))
	for i, g := range groups {
		sas[i].ID, sas[i].Next = g[0], g[1:]
	}
	return sas, err
}

func TestFixtures(t *testing.T) {
	for _, name := range []string{"spi", "spigrp", "eroute", "tncfg", "klipsdebug"} {
		want, err := os.ReadFile(filepath.Join("testdata", "ipsec_"+name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := tables[name](string(want))
		if err != nil {
			t.Errorf("ipsec_%s: %v", name, err)
			continue
		}
		if d := cmp.Diff(strings.SplitAfter(string(want), "\n"), strings.SplitAfter(got, "\n")); d != "" {
			t.Errorf("ipsec_%s (-recorded +written):\n%s", name, d)
		}
	}
}

// Every recorded line of a KLIPS kernel's tables.
func TestRecordedTables(t *testing.T) {
	jiffies := regexp.MustCompile(` jiffies=\d+`)
	seen := map[string]map[string]bool{}
	check := func(id string, l recorded.Tables) {
		for name, lines := range l {
			if seen[name] == nil {
				seen[name] = map[string]bool{}
			}
			for _, line := range lines {
				want := jiffies.ReplaceAllString(line, "") + "\n"
				if seen[name][want] {
					continue
				}
				seen[name][want] = true
				if name == "klipsdebug" {
					continue // one record of nine lines, below
				}
				got, err := tables[name](line + "\n")
				if err != nil || got != want {
					t.Errorf("%s: ipsec_%s: %v\n%q, want\n%q", id, name, err, got, want)
				}
			}
			if name == "klipsdebug" {
				want := strings.Join(lines, "\n") + "\n"
				if got, err := tables[name](want); err != nil || got != want {
					t.Errorf("%s: ipsec_%s: %v\n%q, want\n%q", id, name, err, got, want)
				}
			}
		}
	}
	for q := range recorded.Sequences(t) {
		for _, s := range q.Steps {
			if !q.Quirk {
				check(q.ID, s.Tables)
			}
		}
	}
	for x := range recorded.Exchanges(t) {
		if x.Quirk {
			continue
		}
		check(x.ID, x.Tables)
		for _, e := range x.Events {
			if !e.Quirk {
				check(x.ID, e.Tables)
			}
		}
	}
	for name, want := range map[string]int{"spi": 1500, "spigrp": 500, "eroute": 500, "tncfg": 10, "klipsdebug": 15} {
		if len(seen[name]) < want {
			t.Errorf("ipsec_%s: %d different lines, want %d at least", name, len(seen[name]), want)
		}
	}
}

func TestOtherGenerations(t *testing.T) {
	dir := filepath.Join(recorded.ProcNet(t), "full")
	open := func(name string) *os.File {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	sas, err := ParseSPI(open("ipsec_spi"))
	if err != nil || len(sas) < 3 {
		t.Errorf("ParseSPI = %d, %v", len(sas), err)
	}
	groups, err := ParseSPIGrp(open("ipsec_spigrp"))
	if err != nil || len(groups) < 3 {
		t.Errorf("ParseSPIGrp = %d, %v", len(groups), err)
	}
	eroutes, err := ParseEroute(open("ipsec_eroute"))
	if err != nil || len(eroutes) < 5 {
		t.Fatalf("ParseEroute = %v, %v", eroutes, err)
	}
	if e := eroutes[1]; e.Proto != 6 || e.DstPort != 25 || e.SrcPort != 0 || e.ID.String() != "esp0x130@192.168.2.120" {
		t.Errorf("eroute with a port is %+v", e)
	}
	// The old table always has ports, so the 0 after the gateway is a protocol.
	if e := eroutes[2]; e.Proto != 0 || e.ID.Dst != netip.MustParseAddr("3058:4::5") || e.ID.SPI != 0x130 {
		t.Errorf("IPv6 eroute of an old table is %+v", e)
	}
	if devices, err := ParseTncfg(open("ipsec_tncfg")); err != nil || len(devices) != 3 {
		t.Errorf("ParseTncfg = %v, %v", devices, err)
	}
	if d, err := ParseKlipsdebug(open("ipsec_klipsdebug")); err != nil || d[klips.DebugTunnel] != 0x10 {
		t.Errorf("ParseKlipsdebug = %v, %v", d, err)
	}
}

// A bad line is reported with its number and its text, and the lines around it are
// parsed.
func TestBroken(t *testing.T) {
	const good = "esp0x1@10.9.0.2 ESP_3DES: dir=out life(c,s,h)= \n"
	long := strings.Repeat("x", 5000)
	for _, tt := range []struct {
		table, in string
		line      int
	}{
		{"spi", good + "esp0x1@10.9.0.2", 2},
		{"spi", good + "\n" + "esp0x1@10.9.0.2 ESP_3D\n", 3},
		{"spi", "esp0x1@10.9.0.2 ESP_3DES:\n", 1},
		{"spi", "esp0x1@10.9.0.2 ESP_3DES: dir=out src=10.9.0\n", 1},
		{"spi", "esp0x1@10.9.0.2 ESP_3DES: dir=out life(c,s,h)=bytes(1,2\n", 1},
		{"spi", "esp0x1@10.9.0.2 ESP_3DES: dir=out life(c,s,h)=bytes(1,2)\n", 1},
		{"spi", "esp0x1@10.9.0.2 ESP_3DES: life(c,s,h)= refc\n", 1},
		{"spi", "esp0x1@10.9.0.2 ESP_3DES: dir=up life(c,s,h)=\n", 1},
		{"spi", "esp0x1@10.9.0.2 ESP_3DES: iv=0x123 life(c,s,h)=\n", 1},
		{"spi", "esp0x1@10.9.0.2 ESP_3DES: ooowin=99999999999 life(c,s,h)=\n", 1},
		{"spi", "esp0x1@10.9.0.2 AH_HMAC_MD5: life(c,s,h)=\n", 1},
		{"spi", "esp0x1@10.9.0.2 ESP_ROT13: life(c,s,h)=\n", 1},
		{"spi", "esp0x1@10.9.0.2 ESP_3DES: outif=eth0:0 life(c,s,h)=\n", 1},
		{"spi", "esp0x1@ ESP_3DES: life(c,s,h)=\n", 1},
		{"spi", long + "\n" + good, 1},
		{"spi", good + "\a\tTAB \x01\x02" + long, 2},
		{"spigrp", "esp0x1@1.2.3.4 \nesp0x1@1.2.3.4 tun0x2@1.2.3", 2},
		{"spigrp", "esp0x1@1.2.3.4 " + long + "\n", 1},
		{"eroute", "0          10.1.0.0/16        -> 10.2.0.0/16        => \n", 1},
		{"eroute", "0          10.1.0.0/16        -> 10.2.0.0/16        => tun0x1002@10.9.0\n", 1},
		{"eroute", "0          10.1.0.0/33        -> 10.2.0.0/16        => %pass\n", 1},
		{"eroute", "0          10.1.0.0           -> 10.2.0.0/16        => %pass\n", 1},
		{"eroute", "x          10.1.0.0/16        -> 10.2.0.0/16        => %pass\n", 1},
		{"eroute", "0          10.1.0.0/16        -> 2001:db8::/32      => %pass\n", 1},
		{"eroute", "0          10.1.0.0/16:70000  -> 10.2.0.0/16        => %pass:6\n", 1},
		{"eroute", "0          [2001:db8::/32     -> 2001:db8::/32      => %pass:6\n", 1},
		{"eroute", "0          10.1.0.0/16        -> 10.2.0.0/16        => %pass more\n", 1},
		{"eroute", long, 1},
		{"tncfg", "ipsec0 -> NULL mtu=0(0) -> 0\nipsec1 -> NULL mtu=0(\n", 2},
		{"tncfg", "ipsec0 -> NULL mtu=0(0) -> 0\nipse\n", 2},
		{"tncfg", "ipsec0 -> NULL mtu=0(0) ->\n", 1},
		{"tncfg", "ipsec0 -> NULL mtu=x(0) -> 0\n", 1},
		{"klipsdebug", "debug_esp=00000000.\ndebug_ah=0000\n", 2},
		{"klipsdebug", "debug_esp=0000000x.\n", 1},
		{"klipsdebug", "debug_esp=100000000.\n", 1},
		{"klipsdebug", long, 1},
		{"spi", good + strings.Repeat("y", 1<<20), 2},
		{"eroute", "0          10.1.0.0/16        -> 10.2.0.0/16        => %pass\n" + // both in KLIPS' form
			"0          [049:9::600]0:0:0/72 ->                    => %drop:6\n", 2},
	} {
		lines := strings.Split(strings.TrimSuffix(tt.in, "\n"), "\n")
		rest := strings.Join(slices.Delete(slices.Clone(lines), tt.line-1, tt.line), "\n")
		want, err := tables[tt.table](rest)
		if err != nil {
			t.Fatalf("ipsec_%s %.80q: %v", tt.table, rest, err)
		}
		out, err := tables[tt.table](tt.in)
		var e *UnreadError
		if !errors.As(err, &e) || len(e.Lines) != 1 || e.Lines[0].Number != tt.line || e.Lines[0].Table != "ipsec_"+tt.table ||
			e.Lines[0].Text != lines[tt.line-1] {
			t.Errorf("ipsec_%s %.80q = %.80q, %v, want an UnreadError of line %d", tt.table, tt.in, out, err, tt.line)
			continue
		}
		if out != want {
			t.Errorf("ipsec_%s %.80q: read %.80q, want the other lines %.80q", tt.table, tt.in, out, want)
		}
		if len(err.Error()) > 200 || strings.ContainsAny(err.Error(), "\a\x01\t\n") {
			t.Errorf("ipsec_%s: error text %q", tt.table, err)
		}
	}
	failing := io.MultiReader(strings.NewReader(good), iotestErr{})
	if _, err := ParseSPI(failing); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("ParseSPI of a reader that fails = %v", err)
	}
}

type iotestErr struct{}

func (iotestErr) Read([]byte) (int, error)  { return 0, io.ErrNoProgress }
func (iotestErr) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func TestTolerant(t *testing.T) {
	in := "ah0x100@1.2.3.4 AH_ID9: dir=in  src=1.2.3.5 new_thing=5 alen=128 seq=-1 life(c,s,h)=alloc(2,0,0)what(1,2,3)" +
		"bytes(-244,0,0) natencap=na refcount=-1 outif=mast3:1"
	sas, err := ParseSPI(strings.NewReader(in)) // and no newline
	if err != nil {
		t.Fatal(err)
	}
	want := []klips.SA{{
		ID: klips.SAID{Dst: netip.MustParseAddr("1.2.3.4"), SPI: 0x100, Proto: klips.ProtoAH}, State: klips.Mature,
		Dir: klips.Inbound, Src: netip.MustParseAddr("1.2.3.5"), Transform: klips.Transform{Auth: 9},
		Seq: 0xffffffff, RefCount: -1, OutIf: 40963,
		Life: klips.Life{Allocations: klips.Counter{Count: 2}, Bytes: klips.Counter{Below: 244}},
	}}
	if d := cmp.Diff(want, sas, byAddr); d != "" {
		t.Errorf("ParseSPI (-want +got):\n%s", d)
	}
	var out bytes.Buffer
	if err := WriteSPI(&out, sas); err != nil {
		t.Fatal(err)
	}
	line := "ah0x100@1.2.3.4 AH_ID9: dir=in  src=1.2.3.5 seq=4294967295 alen=128 " +
		"life(c,s,h)=alloc(2,0,0)bytes(18446744073709551372,0,0)addtime(0,0,0) " +
		"natencap=none natsport=0 natdport=0 refcount=-1 ref=0 refhim=0 outif=mast3:1\n"
	if out.String() != line {
		t.Errorf("WriteSPI = %q, want %q", out.String(), line)
	}

	// Freed memory in a KLIPS kernel's list, after a shared follower was removed.
	groups, err := ParseSPIGrp(strings.NewReader("esp0x1004@10.9.0.2 unk00x0@<invalid> \n"))
	if err != nil || len(groups) != 1 || len(groups[0]) != 2 || groups[0][1] != (klips.SAID{}) {
		t.Errorf("ParseSPIGrp = %v, %v", groups, err)
	}
}

func TestWriteSPI(t *testing.T) {
	a := netip.MustParseAddr
	sa := klips.SA{
		ID: klips.SAID{Dst: a("2001:db8::2"), SPI: 0x1234, Proto: klips.ProtoTun}, Src: a("2001:db8:0:1::1"),
		Flags:  klips.FlagInFlow | klips.FlagPFS,
		Policy: &klips.InboundPolicy{Src: netip.MustParsePrefix("10.0.0.0/8"), Dst: netip.MustParsePrefix("::/0")},
		Dir:    klips.Inbound, RefCount: 3, Ref: 7, OutIf: 49153,
		Seq: 5, Window: 64, // not listed: a tun SA has neither cipher nor authenticator
		NATT: klips.NATT{Type: klips.NATTNonESP, SPort: 4500, DPort: 4501},
	}
	// A limit makes an unused dimension appear; a count of 1 alone does not.
	sa.Life.UseTime.Soft = 60
	sa.Life.Packets.Count = 1
	sa.Life.Bytes = klips.Counter{Count: 1, Hard: 9}
	esp := klips.SA{
		ID: klips.SAID{Dst: a("192.1.2.45"), SPI: 0x12345678, Proto: klips.ProtoESP}, Src: a("192.1.2.23"),
		Transform: klips.Transform{Enc: alg.AES, Auth: alg.SHA256},
		IV:        []byte{0, 1, 0xab}, Window: 32, Seq: 1 << 33, Bitmap: 1<<64 - 1,
		AuthKeyBits: 256, EncKeyBits: 128, AuthErrs: 1, SizeErrs: 2, PadErrs: 3, ReplayErrs: 4, MaxSeqDiff: 5,
		Used: true, Idle: 90*time.Second + time.Millisecond*900,
	}
	comp := klips.SA{
		ID:        klips.SAID{Dst: a("192.1.2.45"), SPI: 0x100, Proto: klips.ProtoComp},
		Transform: klips.Transform{Comp: alg.Deflate}, Uncompressed: 10, Compressed: 5,
	}
	ah := klips.SA{
		ID:        klips.SAID{Dst: a("192.1.2.45"), SPI: 0x101, Proto: klips.ProtoAH},
		Transform: klips.Transform{Auth: alg.SHA1}, Window: 4096, ESN: true, Seq: 1<<64 - 1,
	}
	both := klips.SA{
		ID: klips.SAID{Dst: a("ff02::5"), SPI: 0x100, Proto: klips.ProtoAH}, Dir: klips.Both, Src: a("::"),
		Transform: klips.Transform{Auth: alg.SHA1},
	}
	want := `tun0x1234@2001:db8::2 IPIP: dir=in  src=2001:db8:0:1::1 policy=10.0.0.0/8->::/0 flags=0x8<> life(c,s,h)=bytes(1,0,9)addtime(0,0,0)usetime(0,60,0) natencap=nonesp natsport=4500 natdport=4501 refcount=3 ref=7 refhim=0 outif=ipsec1:0
esp0x12345678@192.1.2.45 ESP_AES_HMAC_SHA2_256: dir=out src=192.1.2.23 iv_bits=24bits iv=0x0001ab ooowin=32 ooo_errs=4 seq=8589934592 bit=0xffffffffffffffff max_seq_diff=5 alen=256 aklen=256 auth_errs=1 eklen=128 encr_size_errs=2 encr_pad_errs=3 life(c,s,h)=addtime(0,0,0)usetime(0,0,0) idle=90 natencap=none natsport=0 natdport=0 refcount=0 ref=0 refhim=0
comp0x100@192.1.2.45 COMP_DEFLATE: dir=out life(c,s,h)=addtime(0,0,0) ratio=10:5 natencap=none natsport=0 natdport=0 refcount=0 ref=0 refhim=0
ah0x101@192.1.2.45 AH_HMAC_SHA1: dir=out ooowin=4096 seq=18446744073709551615 flags=0x400<> alen=160 life(c,s,h)=addtime(0,0,0) natencap=none natsport=0 natdport=0 refcount=0 ref=0 refhim=0
ah0x100@ff02::5 AH_HMAC_SHA1: dir=both src=:: alen=160 life(c,s,h)=addtime(0,0,0) natencap=none natsport=0 natdport=0 refcount=0 ref=0 refhim=0
`
	var out bytes.Buffer
	if err := WriteSPI(&out, []klips.SA{sa, esp, comp, ah, both}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.Split(want, "\n"), strings.Split(out.String(), "\n")); d != "" {
		t.Errorf("WriteSPI (-want +got):\n%s", d)
	}
	if l, err := ParseSPI(&out); err != nil || len(l) != 5 || l[4].Dir != klips.Both {
		t.Errorf("ParseSPI = %+v, %v, want the last for both directions", l, err)
	}
}

// TestPolicy: an inbound policy with a protocol or ports is written after KLIPS'
// fields, and parsed again.
func TestPolicy(t *testing.T) {
	const before, after = "esp0x100@192.0.2.2 ESP_AES: dir=in  src=192.0.2.1 policy=", " life(c,s,h)=addtime(0,0,0) natencap=none natsport=0 natdport=0 refcount=0 ref=0 refhim=0\n"
	p4, p6 := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8::/64")
	for text, want := range map[string]klips.InboundPolicy{
		"192.0.2.1/32->192.0.2.1/32":                           {Src: p4, Dst: p4},
		"192.0.2.1/32->192.0.2.1/32,proto=1":                   {Src: p4, Dst: p4, Proto: 1},
		"192.0.2.1/32:1000->192.0.2.1/32:7,proto=17":           {Src: p4, Dst: p4, Proto: 17, SrcPort: 1000, DstPort: 7},
		"192.0.2.1/32->192.0.2.1/32:7,proto=17":                {Src: p4, Dst: p4, Proto: 17, DstPort: 7},
		"[2001:db8::/64]:1000->2001:db8::/64,proto=6":          {Src: p6, Dst: p6, Proto: 6, SrcPort: 1000},
		"[2001:db8::/64]:65535->[2001:db8::/64]:65535,proto=6": {Src: p6, Dst: p6, Proto: 6, SrcPort: 65535, DstPort: 65535},
		"2001:db8::/64->2001:db8::/64,proto=58":                {Src: p6, Dst: p6, Proto: 58},
	} {
		line := before + text + after
		sas, err := ParseSPI(strings.NewReader(line))
		if err != nil || len(sas) != 1 || sas[0].Policy == nil || *sas[0].Policy != want {
			t.Errorf("%s is read as %v, %v", text, sas, err)
			continue
		}
		var b strings.Builder
		if err := WriteSPI(&b, sas); err != nil || b.String() != line {
			t.Errorf("%v is written as %q, %v; want %q", want, b.String(), err, line)
		}
	}
	for _, text := range []string{"", "->", "192.0.2.1/32->", "->192.0.2.1/32", "192.0.2.1/32->192.0.2.1/32,proto=256", "192.0.2.1/32->192.0.2.1/32:,proto=17", "192.0.2.1/32:65536->192.0.2.1/32"} {
		if sas, err := ParseSPI(strings.NewReader(before + text + after)); err == nil {
			t.Errorf("%q is read as %v", text, sas)
		}
	}
}

// TestFlagESN: extended sequence numbers are a bit of the flags in the table, and a
// field of their own in klips.SA.
func TestFlagESN(t *testing.T) {
	line := func(flags string) string {
		return "ah0x101@192.1.2.45 AH_HMAC_SHA1: dir=out ooowin=64" + flags + " alen=160 life(c,s,h)=addtime(0,0,0) natencap=none natsport=0 natdport=0 refcount=0 ref=0 refhim=0\n"
	}
	for _, tt := range []struct {
		flags string
		esn   bool
		want  uint32
	}{
		{"", false, 0},
		{" flags=0x8<>", false, klips.FlagInFlow},
		{" flags=0x400<>", true, 0},
		{" flags=0x408<>", true, klips.FlagInFlow},
	} {
		sas, err := ParseSPI(strings.NewReader(line(tt.flags)))
		if err != nil || len(sas) != 1 {
			t.Fatalf("%q: %v", tt.flags, err)
		}
		if sas[0].ESN != tt.esn || sas[0].Flags != tt.want {
			t.Errorf("%q: ESN %v, flags %#x, want %v, %#x", tt.flags, sas[0].ESN, sas[0].Flags, tt.esn, tt.want)
		}
		var out strings.Builder
		if err := WriteSPI(&out, sas); err != nil || out.String() != line(tt.flags) {
			t.Errorf("%q is written as %q, %v", tt.flags, out.String(), err)
		}
	}
}

func TestTransformNames(t *testing.T) {
	auths := []alg.Auth{0, 2, 3, 5, 6, 7, 252, 8, 255}
	encs := []alg.Enc{0, 3, 11, 12, 20, 28, 252, 253, 6, 255}
	for _, p := range []klips.Proto{klips.ProtoTun, klips.ProtoESP, klips.ProtoAH} {
		for _, a := range auths {
			for _, e := range encs {
				if p == klips.ProtoAH && e != 0 {
					continue // AH has no cipher
				}
				if p != klips.ProtoAH && e == 0 && (a == 8 || a == 255) {
					continue // an unknown authenticator alone is parsed as a cipher
				}
				want := klips.Transform{Auth: a, Enc: e}
				got, err := parseTransform([]byte(want.Name(p)), p)
				if err != nil || got != want {
					t.Errorf("parseTransform(%q) = %+v, %v, want %+v", want.Name(p), got, err, want)
				}
			}
		}
	}
	for _, want := range []klips.Transform{{}, {Comp: 2}, {Comp: 3}, {Comp: 0xff}} {
		got, err := parseTransform([]byte(want.Name(klips.ProtoComp)), klips.ProtoComp)
		if err != nil || got != want {
			t.Errorf("parseTransform(%q) = %+v, %v, want %+v", want.Name(klips.ProtoComp), got, err, want)
		}
	}
	if got, err := parseTransform([]byte("AH_ID252"), klips.ProtoAH); err != nil || got.Auth != alg.SHA256Trunc {
		t.Errorf("parseTransform(AH_ID252) = %+v, %v", got, err)
	}
}

// TestErouteAlso: further SAs follow KLIPS' fields. Their destination shows what is a
// protocol.
func TestErouteAlso(t *testing.T) {
	said := func(dst string, spi klips.SPI) klips.SAID {
		return klips.SAID{Dst: netip.MustParseAddr(dst), SPI: spi, Proto: klips.ProtoTun}
	}
	v4 := klips.Eroute{
		Selector: klips.Selector{Src: netip.MustParsePrefix("10.1.0.0/16"), Dst: netip.MustParsePrefix("10.2.0.0/16")},
		ID:       said("192.0.2.2", 0x1000), Also: []klips.SAID{said("192.0.2.2", 0x1003), said("192.0.2.2", 0x1002)}, Packets: 7,
	}
	v6 := klips.Eroute{
		Selector: klips.Selector{Src: netip.MustParsePrefix("::/0"), Dst: netip.MustParsePrefix("2001:db8::/32"), Proto: 6},
		ID:       said("2001:db8::1", 0x1000), Also: []klips.SAID{said("2001:db8::1", 0x1001)},
	}
	long := v6 // the same text up to the first blank after the SAID
	long.Proto, long.ID, long.Also = 0, said("2001:db8::1:6", 0x1000), []klips.SAID{said("2001:db8::1:6", 0x1001)}
	const want = `7          10.1.0.0/16        -> 10.2.0.0/16        => tun0x1000@192.0.2.2 also tun0x1003@192.0.2.2 tun0x1002@192.0.2.2
0          ::/0               -> 2001:db8::/32      => tun0x1000@2001:db8::1:6 also tun0x1001@2001:db8::1
0          ::/0               -> 2001:db8::/32      => tun0x1000@2001:db8::1:6 also tun0x1001@2001:db8::1:6
`
	all := []klips.Eroute{v4, v6, long}
	var out bytes.Buffer
	if err := WriteEroute(&out, all); err != nil || out.String() != want {
		t.Errorf("WriteEroute = %v,\n%swant\n%s", err, out.String(), want)
	}
	if got, err := ParseEroute(&out); err != nil || !reflect.DeepEqual(got, all) {
		t.Errorf("ParseEroute = %+v, %v, want %+v", got, err, all)
	}
	for _, end := range []string{"tun0x1@10.0.0.1 also", "tun0x1@10.0.0.1 also ", "tun0x1@10.0.0.1 and tun0x2@10.0.0.1", "tun0x1@10.0.0.1 also tun0x2", "tun0x1@10.0.0.1 tun0x2@10.0.0.1"} {
		if got, err := ParseEroute(strings.NewReader("0 10.1.0.0/16 -> 10.2.0.0/16 => " + end)); err == nil {
			t.Errorf("%q is read as %+v", end, got)
		}
	}
}

func TestEroutePorts(t *testing.T) {
	e := klips.Eroute{
		Selector: klips.Selector{Src: netip.MustParsePrefix("2001:db8:1::/48"), Dst: netip.MustParsePrefix("::/0"),
			Proto: 6, SrcPort: 1024, DstPort: 80},
		ID: klips.SAID{Dst: netip.MustParseAddr("2001:db8::1"), SPI: 0x1000, Proto: klips.ProtoTun}, Packets: 12345678901,
	}
	want := "12345678901 [2001:db8:1::/48]:1024 -> [::/0]:80          => tun0x1000@2001:db8::1:6\n"
	var out bytes.Buffer
	if err := WriteEroute(&out, []klips.Eroute{e}); err != nil || out.String() != want {
		t.Errorf("WriteEroute = %q, %v, want %q", out.String(), err, want)
	}
	got, err := ParseEroute(&out)
	if err != nil || len(got) != 1 || !reflect.DeepEqual(got[0], e) {
		t.Errorf("ParseEroute = %+v, %v, want %+v", got, err, e)
	}
	for _, tt := range []struct {
		target string
		proto  uint8
		dst    string
	}{
		{"tun0x1@10.0.0.1", 0, "10.0.0.1"},
		{"tun0x1@10.0.0.1:58", 58, "10.0.0.1"},
		{"tun0x1@fd00::2", 0, "fd00::2"},
		{"tun0x1@fd00::2:58", 0, "fd00::2:58"}, // ambiguous
		{"tun0x1@1:2:3:4:5:6:7:8:58", 58, "1:2:3:4:5:6:7:8"},
		{"tun0x1@fd00:::17", 17, "fd00::"},
	} {
		got, err := ParseEroute(strings.NewReader("0 fd01::/64 -> fd02::/64 => " + tt.target))
		if err != nil || len(got) != 1 || got[0].Proto != tt.proto || got[0].ID.Dst != netip.MustParseAddr(tt.dst) {
			t.Errorf("ParseEroute of %s = %+v, %v, want %s, protocol %d", tt.target, got, err, tt.dst, tt.proto)
		}
	}
	// The existing SAs resolve ambiguous lines.
	long, short := klips.SAID{Dst: netip.MustParseAddr("fd00::2:58"), SPI: 1, Proto: klips.ProtoTun}, klips.SAID{Dst: netip.MustParseAddr("fd00::2"), SPI: 1, Proto: klips.ProtoTun}
	for _, tt := range []struct {
		sas   []klips.SAID
		id    klips.SAID
		proto uint8
	}{
		{nil, long, 0}, {[]klips.SAID{long}, long, 0}, {[]klips.SAID{long, short}, long, 0}, {[]klips.SAID{short}, short, 58},
	} {
		parse := ParseErouteKnowing(func(id klips.SAID) bool { return slices.Contains(tt.sas, id) })
		got, err := parse(strings.NewReader("0 10.1.0.0/16 -> 10.2.0.0/16 => tun0x1@fd00::2:58"))
		if err != nil || len(got) != 1 || got[0].ID != tt.id || got[0].Proto != tt.proto {
			t.Errorf("with %v: %+v, %v, want %v, protocol %d", tt.sas, got, err, tt.id, tt.proto)
		}
	}
	if s := FlowEnd(e.Src, 1024); s != "[2001:db8:1::/48]:1024" {
		t.Errorf("FlowEnd = %q", s)
	}
}

func TestJoinGroups(t *testing.T) {
	groups, err := ParseSPIGrp(strings.NewReader("tun0x1@1.2.3.4 esp0x2@1.2.3.4 \nesp0x2@1.2.3.4 \nah0x9@1.2.3.4 esp0x8@1.2.3.4 \n"))
	if err != nil {
		t.Fatal(err)
	}
	sas := []klips.SA{{ID: groups[1][0]}, {ID: groups[0][0]}, {ID: klips.SAID{SPI: 77}, Next: groups[0]}}
	JoinGroups(sas, groups)
	if len(sas[0].Next) != 0 || len(sas[1].Next) != 1 || sas[1].Next[0] != sas[0].ID || len(sas[2].Next) != 0 {
		t.Errorf("JoinGroups gives %v, %v, %v", sas[0].Next, sas[1].Next, sas[2].Next)
	}
}

// The SAID at the start of an unreadable line is reported if it can be parsed.
func TestUnreadID(t *testing.T) {
	for line, want := range map[string]string{
		"esp0x200@10.9.0.2 ESP_ROT13: dir=out life(c,s,h)=": "esp0x200@10.9.0.2",
		" tun0x201@10.9.0.2":          "tun0x201@10.9.0.2",
		"unk00x0@<invalid> IPIP: x":   "unk00x0@<invalid>",
		"esp0x200 ESP_3DES: dir=out ": "unk00x0@<invalid>",
	} {
		var e *UnreadError
		if _, err := ParseSPI(strings.NewReader(line)); !errors.As(err, &e) || e.Lines[0].ID.String() != want {
			t.Errorf("ParseSPI(%q) = %v, want the SAID %s", line, err, want)
		}
	}
}

func TestNetDev(t *testing.T) {
	const heading = "Inter-|   Receive                                                |  Transmit\n" +
		" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n"
	in := heading +
		"    lo:    100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0\n" +
		"ipsec0:    192       3    5    6    0     0          0         0      522       4    7    8    0     0       0          0\n" +
		"ipsec1:18446744073709551615 3 5 6 0 0 0 0 522 4 7\n" + // truncated
		"eth0:1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n" // as Linux 2.4 wrote large numbers
	got, err := ParseNetDev(strings.NewReader(in))
	var e *UnreadError
	if !errors.As(err, &e) || len(e.Lines) != 1 || e.Lines[0].Number != 5 || e.Lines[0].Table != "dev" {
		t.Errorf("ParseNetDev = %v, want an UnreadError of line 5", err)
	}
	want := map[string]klips.DeviceStats{
		"lo":     {RxBytes: 100, RxPackets: 1, TxBytes: 100, TxPackets: 1},
		"ipsec0": {RxBytes: 192, RxPackets: 3, RxErrors: 5, RxDropped: 6, TxBytes: 522, TxPackets: 4, TxErrors: 7, TxDropped: 8},
		"eth0":   {RxBytes: 1, RxPackets: 2, RxErrors: 3, RxDropped: 4, TxBytes: 9, TxPackets: 10, TxErrors: 11, TxDropped: 12},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("ParseNetDev (-want +got):\n%s", d)
	}
}

func TestVersion(t *testing.T) {
	if v, err := ParseVersion(strings.NewReader("\n \n")); err == nil {
		t.Errorf("ParseVersion of nothing = %q", v)
	}
	var out bytes.Buffer
	if err := WriteVersion(&out, "Libreswan version: 3.32"); err != nil || out.String() != "Libreswan version: 3.32\n" {
		t.Errorf("WriteVersion = %q, %v", out.String(), err)
	}
	if v, err := ParseVersion(&out); v != "Libreswan version: 3.32" || err != nil {
		t.Errorf("ParseVersion = %q, %v", v, err)
	}
}

func TestLargeTable(t *testing.T) {
	const n = 50000
	eroutes := make([]klips.Eroute, n)
	for i := range eroutes {
		eroutes[i] = klips.Eroute{
			Selector: klips.Selector{
				Src: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 32),
				Dst: netip.MustParsePrefix("2001:db8:0:1::/64"),
			},
			ID: klips.SAID{Dst: netip.MustParseAddr("2001:db8::9"), SPI: klips.SPI(i + 0x100), Proto: klips.ProtoESP},
		}
		eroutes[i].Dst = eroutes[i].Src
	}
	var out bytes.Buffer
	if err := WriteEroute(&out, eroutes); err != nil {
		t.Fatal(err)
	}
	got, err := ParseEroute(&out)
	if err != nil || len(got) != n || !reflect.DeepEqual(got[n-1], eroutes[n-1]) {
		t.Errorf("ParseEroute = %d eroutes, %v", len(got), err)
	}
	if per := testing.AllocsPerRun(3, func() { WriteEroute(io.Discard, eroutes) }); per > 10 {
		t.Errorf("WriteEroute of %d eroutes makes %v allocations", n, per)
	}
	if err := WriteEroute(iotestErr{}, eroutes); err != io.ErrShortWrite {
		t.Errorf("WriteEroute to a full disk = %v", err)
	}
	sas := make([]klips.SA, n)
	for i := range sas {
		sas[i] = klips.SA{ID: eroutes[i].ID, Src: eroutes[i].Src.Addr(), Transform: klips.Transform{Enc: alg.AES, Auth: alg.SHA1}}
	}
	if per := testing.AllocsPerRun(3, func() { WriteSPI(io.Discard, sas) }); per > 20 {
		t.Errorf("WriteSPI of %d SAs makes %v allocations", n, per)
	}
	if err := WriteSPI(iotestErr{}, sas[:1]); err != io.ErrShortWrite {
		t.Errorf("WriteSPI to a full disk = %v", err)
	}
}

func BenchmarkWriteEroute(b *testing.B) {
	e := make([]klips.Eroute, 1000)
	for i := range e {
		e[i] = klips.Eroute{Selector: klips.Selector{Src: netip.MustParsePrefix("10.1.0.0/16"), Dst: netip.MustParsePrefix("10.2.0.0/16")},
			ID: klips.SAID{Dst: netip.MustParseAddr("10.9.0.2"), SPI: 0x1000, Proto: klips.ProtoTun}}
	}
	b.ReportAllocs()
	for b.Loop() {
		WriteEroute(io.Discard, e)
	}
}
