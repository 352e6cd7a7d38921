package nlxfrm

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/testscripts/skip"
)

func hexKey(s string) Key {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// recorded are requests of ip(8) on a little-endian machine: the command line, then the
// message's type, flags and data.
type recorded struct {
	command    string
	typ, flags uint64
	data       []byte
}

func readRecorded(t *testing.T) (all []recorded) {
	t.Helper()
	text, err := os.ReadFile("testdata/requests.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range strings.Split(strings.TrimSpace(string(text)), "\n\n") {
		command, message, _ := strings.Cut(entry, "\n")
		f := strings.Fields(message)
		if len(f) != 3 {
			t.Fatalf("entry %q", entry)
		}
		r := recorded{command: strings.TrimPrefix(command, "# ")}
		if r.typ, err = strconv.ParseUint(f[0], 0, 16); err != nil {
			t.Fatal(err)
		}
		if r.flags, err = strconv.ParseUint(f[1], 0, 16); err != nil {
			t.Fatal(err)
		}
		if f[2] != "-" {
			r.data = hexKey(f[2])
		}
		all = append(all, r)
	}
	return all
}

// skipUnlessRecorded skips the test on a machine whose byte order differs from that of
// the recording.
func skipUnlessRecorded(t *testing.T) {
	if native.Uint16([]byte{1, 0}) != 1 || saInfoLen != 224 {
		skip.Without(t, skip.LittleEndian, "the bytes would differ")
	}
}

var (
	v4a, v4b = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	v6a, v6b = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	key16    = "00112233445566778899aabbccddeeff"
	key20    = "000102030405060708090a0b0c0d0e0f10111213"
	key32    = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
)

func aesSHA1(spi uint32) *State {
	return &State{ID: ID{v4b, spi, 50}, Src: v4a,
		Crypt: &Algorithm{"cbc(aes)", hexKey(key16)}, Auth: &AuthAlgorithm{"hmac(sha1)", 96, hexKey(key20)}}
}

// goldenRequests are the same requests, made by this package, in the same order.
func goldenRequests() []Request {
	pfx := netip.MustParsePrefix
	var r []Request
	s := aesSHA1(0x100)
	s.ReqID, s.ReplayWindow = 7, 32
	r = append(r, AddState(s))
	r = append(r, AddState(&State{ID: ID{v6b, 0x101, 50}, Src: v6a, Mode: ModeTunnel,
		Flags: FlagNoPMTUDisc | FlagAFUnspec | FlagESN, ReplayESN: NewReplayESN(1024),
		AEAD: &AEADAlgorithm{"rfc4106(gcm(aes))", 128, hexKey(key16 + "01020304")}}))
	r = append(r, AddState(&State{ID: ID{v4b, 0x102, 51}, Src: v4a, Flags: FlagAlign4,
		Auth: &AuthAlgorithm{"hmac(sha256)", 128, hexKey(key32)}, ExtraFlags: ExtraOSeqMayWrap | ExtraDontEncapDSCP}))
	r = append(r, AddState(&State{ID: ID{v4b, 0x103, 108}, Src: v4a, Mode: ModeTunnel, Comp: "deflate"}))
	r = append(r, AddState(&State{ID: ID{v4b, 0x104, 50}, Src: v4a, Mode: ModeTunnel,
		Crypt: &Algorithm{"cbc(des3_ede)", hexKey(key16 + "0011223344556677")}, Auth: &AuthAlgorithm{"hmac(md5)", 96, hexKey(key16)},
		Encap: &Encap{EncapESPInUDP, 4500, 4501, netip.MustParseAddr("198.51.100.7")}}))
	// ip(8) parses "0x" as a key of two letters.
	r = append(r, AddState(&State{ID: ID{v4b, 0x105, 50}, Src: v4a, ReqID: 9, Mark: Mark{0x10, 0xff}, IfID: 0x4b,
		Crypt: &Algorithm{"ecb(cipher_null)", Key("0x")}, Auth: &AuthAlgorithm{"hmac(sha1)", 96, hexKey(key20)},
		Limits: Limits{50, 60, 70, 80, 10, 20, 30, 40}}))
	s = aesSHA1(0x106)
	// ip(8) swaps the bytes of this number on input and output; the kernel does not.
	s.Seq, s.ReplayWindow, s.Replay = 0x55000000, 8, &Replay{OutSeq: 0x10, Seq: 0x20}
	s.Selector = Selector{Src: pfx("10.0.0.0/8"), Dst: pfx("10.1.0.0/16"), Proto: 6, SrcPort: 80, SrcPortMask: 0xffff, DstPort: 1024, DstPortMask: 0xffff}
	r = append(r, AddState(s))
	s = aesSHA1(0x107)
	s.Offload, s.TFCPad, s.OutputMark = &Offload{1, OffloadInbound}, 64, Mark{0x20, 0xf0}
	r = append(r, AddState(s))
	s = aesSHA1(0x108)
	s.Flags = FlagESN
	s.ReplayESN = &ReplayESN{OutSeq: 6, OutSeqHigh: 2, Seq: 5, SeqHigh: 1, Window: 64, Bitmap: make([]uint32, 2)}
	r = append(r, UpdateState(s))
	r = append(r, DeleteState(ID{v4b, 0x105, 50}, Mark{0x10, 0xff}))
	r = append(r, getState(ID{v6b, 0xfffffffe, 51}, Mark{}))
	r = append(r, dumpStates(0), dumpStates(50))
	out := &Policy{Selector: Selector{Src: pfx("10.0.0.0/8"), Dst: pfx("10.1.0.0/16")}, Dir: DirOut, Priority: 1000, Templates: []Template{
		{ID: ID{Dst: v4b, Proto: 108}, Src: v4a, Mode: ModeTunnel, ReqID: 3},
		{ID: ID{v4b, 0x100, 50}, Src: v4a, ReqID: 4}}}
	r = append(r, AddPolicy(out))
	fwd := &Policy{Selector: Selector{Src: pfx("fd00::/16"), Dst: pfx("fd01::1/128"), Proto: 17, SrcPort: 53, SrcPortMask: 0xffff, DstPort: 5353, DstPortMask: 0xffff},
		Dir: DirFwd, Action: Block, Priority: 5, IfID: 0x4b4c4950, Mark: Mark{7, 0xffffffff}}
	r = append(r, AddPolicy(fwd))
	r = append(r, UpdatePolicy(&Policy{Selector: Selector{Src: pfx("0.0.0.0/0"), Dst: pfx("0.0.0.0/0"), IfIndex: 1}, Priority: 2147483649,
		Limits: Limits{HardAddSeconds: 99, HardPackets: 3}, Flags: PolicyICMP | PolicyLocalOK,
		Templates: []Template{{ID: ID{Dst: netip.IPv4Unspecified(), Proto: 51}, Mode: ModeBEET}}}))
	k := out.Key()
	k.Mark, k.IfID = Mark{7, 0xf}, 3
	r = append(r, DeletePolicy(k), DeletePolicy(PolicyKey{Index: 9, Dir: DirOut, Selector: Selector{Family: FamilyIPv4}}), getPolicy(fwd.Key()))
	r = append(r, AddPolicy(&Policy{Selector: Selector{Src: pfx("10.1.0.0/16"), Dst: pfx("10.0.0.0/8")}, Priority: 1000, Templates: []Template{
		{ID: ID{Dst: v4a, Proto: 108}, Src: v4b, Mode: ModeTunnel, ReqID: 3, Optional: true},
		{ID: ID{Dst: v4a, Proto: 50}, Src: v4b, ReqID: 4}}}))
	r = append(r, dumpPolicies())
	r = append(r, AddState(&State{ID: ID{v4b, 0x109, 50}, Src: v4a, Mode: ModeTunnel, ReqID: 257, IfID: 1, SADir: SAOut, Processor: 4,
		AEAD: &AEADAlgorithm{"rfc4106(gcm(aes))", 128, hexKey(key16 + "01020304")}}))
	return append(r, AddState(&State{ID: ID{v6b, 0x10a, 51}, Src: v6a, ReqID: 9, ReplayWindow: 32, SADir: SAIn,
		Auth: &AuthAlgorithm{"hmac(sha256)", 128, hexKey(key32)}}))
}

// headLen is the length of the struct that a request starts with.
func headLen(typ uint64, flags uint64) int {
	switch {
	case flags&0x300 == 0x300:
		return 0
	case typ == msgNewSA || typ == msgUpdSA:
		return saInfoLen
	case typ == msgDelSA || typ == msgGetSA:
		return userSAIDLen
	case typ == msgNewPolicy || typ == msgUpdPolicy:
		return policyInfoLen
	}
	return policyIDLen
}

// attrMap returns the attributes of a message by type.
func attrMap(t *testing.T, b []byte) map[uint16]string {
	t.Helper()
	m := map[uint16]string{}
	var err error
	for typ, p := range attrs(b, &err) {
		if _, ok := m[typ]; ok {
			t.Errorf("attribute %d is there twice", typ)
		}
		m[typ] = hex.EncodeToString(p)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestRecordedRequests(t *testing.T) {
	skipUnlessRecorded(t)
	ours, theirs := goldenRequests(), readRecorded(t)
	if len(ours) != len(theirs) {
		t.Fatalf("%d requests, %d recorded", len(ours), len(theirs))
	}
	// iproute2 adds without need: the source when it names a state, and a filter of
	// dumps that matches all.
	const attrSrcAddr, attrAddressFilter = 13, 26
	for i, want := range theirs {
		t.Run(want.command[:min(len(want.command), 70)], func(t *testing.T) {
			got := ours[i]
			if got.err != nil {
				t.Fatal(got.err)
			}
			if uint64(got.typ) != want.typ || uint64(got.flags) != want.flags {
				t.Errorf("type %#x flags %#x, want %#x %#x", uint16(got.typ), uint16(got.flags), want.typ, want.flags)
			}
			n := headLen(want.typ, want.flags)
			if len(got.data) < n || !bytes.Equal(got.data[:n], want.data[:n]) {
				t.Errorf("head\n%x, want\n%x", got.data, want.data[:n])
			}
			wantAttrs := attrMap(t, want.data[n:])
			if n == userSAIDLen {
				delete(wantAttrs, attrSrcAddr)
			}
			delete(wantAttrs, attrAddressFilter)
			gotAttrs := attrMap(t, got.data[n:])
			if len(wantAttrs[attrReplayESNVal]) == 2*replayESNLen {
				// iproute2 leaves out the bitmap, which the kernel reads as zeros.
				wantAttrs[attrReplayESNVal] += strings.Repeat("0", len(gotAttrs[attrReplayESNVal])-2*replayESNLen)
			}
			if d := cmp.Diff(wantAttrs, gotAttrs); d != "" {
				t.Errorf("attributes (-want +got):\n%s", d)
			}
		})
	}
}
