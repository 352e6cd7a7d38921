package pfkey

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
)

var (
	gw     = netip.MustParseAddr("192.1.2.45")
	far    = netip.MustParseAddr("192.1.2.23")
	gw6    = netip.MustParseAddr("2001:db8::45")
	far6   = netip.MustParseAddr("2001:db8::23")
	p2     = netip.MustParseAddr("10.0.0.2")
	desKey = "4043434545464649494a4a4c4c4f4f515152525454575758"
	md5Key = "87658765876587658765876587658765"
)

// byAddr makes go-cmp compare addresses.
var byAddr = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

func said(p klips.Proto, spi klips.SPI, dst netip.Addr) klips.SAID {
	return klips.SAID{Dst: dst, SPI: spi, Proto: p}
}

func selector(src, dst string) klips.Selector {
	return klips.Selector{Src: netip.MustParsePrefix(src), Dst: netip.MustParsePrefix(dst)}
}

func must(t *testing.T) func(*Message, error) *Message {
	return func(m *Message, err error) *Message {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
}

// requests are the messages of testdata/messages.txt as typed requests.
func requests(t *testing.T) map[string]*Message {
	const spi = 0x12345678
	f4 := selector("192.0.2.0/24", "192.0.1.0/24")
	tun, esp := said(klips.ProtoTun, spi, gw), said(klips.ProtoESP, spi, gw)
	chain := []klips.SAID{
		said(klips.ProtoTun, 0x201, p2), said(klips.ProtoComp, 0x202, p2),
		said(klips.ProtoESP, 0x203, p2), said(klips.ProtoAH, 0x204, p2),
	}
	tcp := f4
	tcp.Proto, tcp.DstPort = 6, 80
	var one, rest, most klips.Debug
	for i := range rest {
		rest[i], most[i] = 0xffffffff, 0xffffffff
	}
	one[klips.DebugESP], rest[klips.DebugESP] = 0xffffffff, 0
	most[klips.DebugVerbose] = 0
	return map[string]*Message{
		"spi ESP add": AddSA(&klips.SASpec{
			ID: esp, Src: far, Transform: klips.Transform{Auth: alg.MD5, Enc: alg.TripleDES},
			AuthKey: unhex(t, md5Key), EncKey: unhex(t, desKey),
		}),
		"spi AH add": AddSA(&klips.SASpec{
			ID: said(klips.ProtoAH, spi, gw), Src: far, Transform: klips.Transform{Auth: alg.SHA1},
			AuthKey: unhex(t, md5Key+"87658765"),
		}),
		"spi IPCOMP add": AddSA(&klips.SASpec{
			ID: said(klips.ProtoComp, spi, gw), Src: far, Transform: klips.Transform{Comp: alg.Deflate},
		}),
		"spi IPIP add, IPv4": AddSA(&klips.SASpec{ID: tun, Src: far}),
		"spi IPIP add, IPv6": AddSA(&klips.SASpec{ID: said(klips.ProtoTun, spi, gw6), Src: far6}),
		"spi every optional extension": AddSA(&klips.SASpec{
			ID: tun, Src: far, Window: 32,
			Soft: klips.Limits{Bytes: 1000}, Hard: klips.Limits{Bytes: 2000, Packets: 7},
			NATT: klips.NATT{Type: klips.NATTNonESP, SPort: 4500, DPort: 9000},
			Ref:  5, RefHim: 6, OutIf: 49153,
		}),
		"spi delete":                          DeleteSA(esp),
		"spi clear":                           Flush(),
		"spi get":                             GetSA(esp),
		"spigrp 1 SA":                         Ungroup(tun),
		"spigrp 2 SAs":                        GroupPair(tun, esp),
		"spigrp 3 SAs 1":                      GroupPair(chain[0], chain[1]),
		"spigrp 3 SAs 2":                      GroupPair(chain[1], chain[2]),
		"spigrp 4 SAs":                        GroupPair(chain[2], chain[3]),
		"spigrp 2 SAs, IPv6":                  GroupPair(said(klips.ProtoTun, 0x201, gw6), said(klips.ProtoESP, 0x202, gw6)),
		"spigrp 2 SAs, mixed families":        GroupPair(said(klips.ProtoTun, 0x201, gw6), said(klips.ProtoESP, 0x202, gw)),
		"eroute add":                          AddFlow(klips.Eroute{Selector: f4, ID: tun}, klips.ErouteAdd),
		"eroute add, magic SAID":              AddFlow(klips.Eroute{Selector: f4, ID: klips.Magic(klips.SPITrap)}, klips.ErouteAdd),
		"eroute add with transport selectors": AddFlow(klips.Eroute{Selector: tcp, ID: tun}, klips.ErouteAdd),
		"eroute add, IPv6 flow, IPv4 gateway": AddFlow(klips.Eroute{
			Selector: selector("2001:db8:1::/48", "2001:db8:2::/48"), ID: tun}, klips.ErouteAdd),
		"eroute del":           DelFlow(f4),
		"eroute clear":         ClearFlows(),
		"klipsdebug set one":   Debug(klips.DebugChange{Set: true, Masks: one}),
		"klipsdebug clear one": Debug(klips.DebugChange{Masks: rest}),
		"klipsdebug all":       Debug(klips.DebugChange{Set: true, Masks: most}),
		"klipsdebug none":      Debug(klips.DebugChange{}),
		"tncfg create":         must(t)(Plumb("ipsec1", true)),
		"tncfg delete":         must(t)(Plumb("mast1", false)),
		"tncfg register":       Register(SATypeESP),
	}
}

func TestRequestBytes(t *testing.T) {
	want := dumps(t)
	got := requests(t)
	for name := range want {
		if got[name] == nil {
			t.Errorf("%s: no request for this dump", name)
		}
	}
	for name, m := range got {
		m.Seq, m.PID = uint32(1), 0x1234
		switch name { // the second and third pair of one command
		case "spigrp 3 SAs 2":
			m.Seq = 2
		case "spigrp 4 SAs":
			m.Seq = 3
		}
		b, err := m.Marshal()
		if err != nil {
			t.Errorf("%s: Marshal: %v", name, err)
			continue
		}
		if !bytes.Equal(b, want[name]) {
			t.Errorf("%s: got\n%swant\n%s", name, hex.Dump(b), hex.Dump(want[name]))
		}
		if err := Check(m); err != nil {
			t.Errorf("%s: Check(%v) = %v", name, m, err)
		}
		back, err := Parse(want[name])
		if err != nil {
			t.Errorf("%s: Parse: %v", name, err)
			continue
		}
		if d := cmp.Diff(m, back, byAddr, cmp.Comparer(sameKey)); d != "" {
			t.Errorf("%s: Parse gives another message (-built +parsed):\n%s", name, d)
		}
	}
}

func sameKey(a, b Key) bool { return a.Bits == b.Bits && bytes.Equal(a.Data, b.Data) }

// The four operations differ in one byte.
func TestErouteOps(t *testing.T) {
	base := dumps(t)["eroute add"]
	e := klips.Eroute{Selector: selector("192.0.2.0/24", "192.0.1.0/24"), ID: said(klips.ProtoTun, 0x12345678, gw), PID: 0x1234}
	for op, flags := range map[klips.ErouteOp]byte{
		klips.ErouteAdd: 0, klips.ErouteReplace: 0x02, klips.ErouteAddIn: 0x08, klips.ErouteReplaceIn: 0x0a,
	} {
		want := bytes.Clone(base)
		want[0x1c] = flags
		m := AddFlow(e, op)
		m.Seq, m.PID = 1, 0x1234
		got, err := m.Marshal()
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("AddFlow op %d: %v\n%swant\n%s", op, err, hex.Dump(got), hex.Dump(want))
		}
		back, err := Parse(want)
		if err != nil {
			t.Fatal(err)
		}
		gotE, gotOp, err := back.Eroute()
		if err != nil || gotOp != op || !reflect.DeepEqual(gotE, e) {
			t.Errorf("Eroute() = %+v, %v, %v, want %+v, %v", gotE, gotOp, err, e, op)
		}
	}
}

func TestSASpecRoundTrip(t *testing.T) {
	full := klips.SASpec{
		ID: said(klips.ProtoESP, 0x1000, gw6), Src: far6,
		Transform: klips.Transform{Enc: alg.ChaCha20Poly1305}, EncKey: bytes.Repeat([]byte{7}, 36),
		Window: 64,
		Soft:   klips.Limits{Allocations: 1, Bytes: 2, AddTime: 3, UseTime: 4},
		Hard:   klips.Limits{Allocations: 6, Bytes: 1 << 40, AddTime: 8, UseTime: 9},
		NATT:   klips.NATT{Type: klips.NATTNonESP, SPort: 4500, DPort: 4501},
		Ref:    1, RefHim: 2, OutIf: 49153,
	}
	m := AddSA(&full)
	if err := Check(m); err != nil {
		t.Error(err)
	}
	b, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	clear(b) // the message must not use it any more
	got, err := back.SASpec()
	if err != nil {
		t.Fatal(err)
	}
	back.Clear() // and the specification must not use the message
	if d := cmp.Diff(&full, got, byAddr); d != "" {
		t.Errorf("SASpec() (-want +got):\n%s", d)
	}

	// Fields that KLIPS' messages cannot express.
	full.Window, full.ESN, full.ReuseKey, full.Seq, full.Hard.Packets = 4096, true, true, new(uint64), 5
	plain := AddSA(&full)
	if err := Check(plain); err != nil {
		t.Error(err)
	}
	if plain.SA.Replay != 64 || plain.Private != nil {
		t.Errorf("AddSA = %v, want window 64 and nothing private", plain)
	}
}

// A pointer has the digits of some key by chance; a key has more digits.
var pointers = regexp.MustCompile(`\b0x[0-9a-f]{8,12}\b`)

func TestNoKeysInText(t *testing.T) {
	m := requests(t)["spi ESP add"]
	for _, text := range []string{
		m.String(), sprint("%v", m), sprint("%+v", m), sprint("%#v", m), sprint("%v", *m), sprint("%+v", *m),
		sprint("%x", *m.KeyAuth), sprint("%v", m.KeyAuth), sprint("%s", *m.KeyEncrypt), sprint("%#v", m.KeyEncrypt),
		sprint("%d", *m.KeyAuth),
	} {
		low := pointers.ReplaceAllString(strings.ToLower(text), "a pointer")
		for _, bad := range []string{"8765", "87 65", "135 101", "0x87", "4043", "40 43", "64 67"} {
			if strings.Contains(low, bad) {
				t.Errorf("%q shows key bytes", text)
			}
		}
	}
	if s := m.String(); !strings.Contains(s, "KEY_AUTH(128 bits)") || !strings.Contains(s, "ADDRESS_DST(192.1.2.45)") {
		t.Errorf("String() = %q", s)
	}
	data := m.KeyAuth.Data
	m.Clear()
	if !bytes.Equal(data, make([]byte, 16)) || !bytes.Equal(m.KeyEncrypt.Data, make([]byte, 24)) {
		t.Error("Clear leaves keys")
	}
}

func TestKeysNotInJSON(t *testing.T) {
	m := AddSA(&klips.SASpec{ID: said(klips.ProtoESP, 256, gw), EncKey: []byte("secret secret!!!")})
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if s := string(b); strings.Contains(s, "c2VjcmV0") || strings.Contains(s, "secret") || !strings.Contains(s, `"Bits":128`) {
		t.Errorf("JSON is %s", s)
	}
}
