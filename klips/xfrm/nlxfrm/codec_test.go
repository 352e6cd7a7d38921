package nlxfrm

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// same compares objects; empty and missing lists are equal.
var same = []cmp.Option{cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}

func genAddr(t *rapid.T, family uint16, what string) netip.Addr {
	n := 4
	if family == FamilyIPv6 {
		n = 16
	}
	a, _ := netip.AddrFromSlice(rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, what))
	return a
}

func genFamily(t *rapid.T) uint16 {
	return rapid.SampledFrom([]uint16{FamilyIPv4, FamilyIPv6}).Draw(t, "family")
}

func genSelector(t *rapid.T) Selector {
	f := genFamily(t)
	u16 := func(s string) uint16 { return rapid.Uint16().Draw(t, s) }
	prefix := func(s string) netip.Prefix {
		a := genAddr(t, f, s)
		return netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(t, s))
	}
	return Selector{Family: f, Dst: prefix("dst"), Src: prefix("src"), DstPort: u16("dport"), DstPortMask: u16("dmask"),
		SrcPort: u16("sport"), SrcPortMask: u16("smask"), Proto: rapid.Uint8().Draw(t, "proto"),
		IfIndex: rapid.Int32().Draw(t, "ifindex"), User: rapid.Uint32().Draw(t, "user")}
}

func genID(t *rapid.T, family uint16) ID {
	return ID{genAddr(t, family, "id"), rapid.Uint32().Draw(t, "spi"), rapid.Uint8().Draw(t, "proto")}
}

func genLimits(t *rapid.T) (l Limits) {
	for _, f := range l.fields() {
		*f = rapid.Uint64Range(0, unlimited-1).Draw(t, "limit")
	}
	return l
}

func genKey(t *rapid.T) Key { return rapid.SliceOfN(rapid.Byte(), 0, 70).Draw(t, "key") }

func genMark(t *rapid.T) Mark {
	return Mark{rapid.Uint32().Draw(t, "mark"), rapid.Uint32().Draw(t, "mask")}
}

func genCurrent(t *rapid.T) Current {
	u := func(s string) uint64 { return rapid.Uint64().Draw(t, s) }
	return Current{u("bytes"), u("packets"), u("add"), u("use")}
}

func genESN(t *rapid.T) *ReplayESN {
	u := func(s string) uint32 { return rapid.Uint32().Draw(t, s) }
	r := NewReplayESN(rapid.Uint32Range(0, MaxWindow).Draw(t, "window"))
	for i := range r.Bitmap {
		r.Bitmap[i] = u("word")
	}
	r.OutSeq, r.OutSeqHigh, r.Seq, r.SeqHigh = u("oseq"), u("oseqhi"), u("seq"), u("seqhi")
	return r
}

// maybe draws whether an attribute is present.
func maybe(t *rapid.T, what string) bool { return rapid.Bool().Draw(t, "has "+what) }

func genState(t *rapid.T) *State {
	f := genFamily(t)
	s := &State{ID: genID(t, f), Src: genAddr(t, f, "src"), Family: f, Selector: genSelector(t),
		Mode: Mode(rapid.Uint8().Draw(t, "mode")), ReqID: rapid.Uint32().Draw(t, "reqid"), Seq: rapid.Uint32().Draw(t, "seq"),
		Flags: rapid.Uint8().Draw(t, "flags"), ReplayWindow: rapid.Uint8().Draw(t, "window"), Limits: genLimits(t), Mark: genMark(t),
		IfID: rapid.Uint32().Draw(t, "ifid"), ExtraFlags: rapid.Uint32().Draw(t, "extra"), TFCPad: rapid.Uint32().Draw(t, "tfc")}
	name := rapid.StringMatching(`[a-z(),0-9-]{1,63}`)
	if maybe(t, "crypt") {
		s.Crypt = &Algorithm{name.Draw(t, "name"), genKey(t)}
	}
	if maybe(t, "auth") {
		s.Auth = &AuthAlgorithm{name.Draw(t, "name"), rapid.Uint32().Draw(t, "trunc"), genKey(t)}
	}
	if maybe(t, "aead") {
		s.AEAD = &AEADAlgorithm{name.Draw(t, "name"), rapid.Uint32().Draw(t, "icv"), genKey(t)}
	}
	if maybe(t, "comp") {
		s.Comp = name.Draw(t, "name")
	}
	if maybe(t, "encap") {
		s.Encap = &Encap{Type: rapid.Uint16().Draw(t, "type"), SrcPort: rapid.Uint16().Draw(t, "port"), DstPort: rapid.Uint16().Draw(t, "port")}
		if a := genAddr(t, f, "oa"); !a.IsUnspecified() {
			s.Encap.Original = a
		}
	}
	if maybe(t, "output mark") {
		s.OutputMark = genMark(t)
	}
	if maybe(t, "offload") {
		s.Offload = &Offload{rapid.Int32().Draw(t, "ifindex"), rapid.Uint8().Draw(t, "flags")}
	}
	if maybe(t, "direction") {
		s.SADir = SADir(rapid.Uint8().Draw(t, "direction"))
	}
	if maybe(t, "processor") {
		s.Processor = rapid.Uint32().Draw(t, "processor")
	}
	if maybe(t, "current") {
		s.Current = genCurrent(t)
	}
	if maybe(t, "esn") {
		s.ReplayESN = genESN(t)
	} else if maybe(t, "replay") {
		s.Replay = &Replay{rapid.Uint32().Draw(t, "oseq"), rapid.Uint32().Draw(t, "seq"), rapid.Uint32().Draw(t, "bitmap")}
	}
	return s
}

func genPolicy(t *rapid.T) *Policy {
	p := &Policy{Selector: genSelector(t), Dir: Dir(rapid.Uint8().Draw(t, "dir")), Action: Action(rapid.Uint8().Draw(t, "action")),
		Priority: rapid.Uint32().Draw(t, "priority"), Index: rapid.Uint32().Draw(t, "index"), Flags: rapid.Uint8().Draw(t, "flags"),
		Share: rapid.Uint8().Draw(t, "share"), Type: PolicyType(rapid.Uint8().Draw(t, "type")), Mark: genMark(t),
		IfID: rapid.Uint32().Draw(t, "ifid"), Limits: genLimits(t)}
	for range rapid.IntRange(0, MaxTemplates).Draw(t, "templates") {
		f := genFamily(t)
		p.Templates = append(p.Templates, Template{ID: genID(t, f), Src: genAddr(t, f, "src"), Family: f,
			ReqID: rapid.Uint32().Draw(t, "reqid"), Mode: Mode(rapid.Uint8().Draw(t, "mode")), Share: rapid.Uint8().Draw(t, "share"),
			Optional: rapid.Bool().Draw(t, "optional"), CryptAlgs: rapid.Uint32Range(0, 1<<31).Draw(t, "algs")})
	}
	if maybe(t, "offload") {
		p.Offload = &Offload{rapid.Int32().Draw(t, "ifindex"), rapid.Uint8().Draw(t, "flags")}
	}
	return p
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genState(t)
		b, err := s.encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseState(b)
		if d := cmp.Diff(s, got, same...); err != nil || d != "" {
			t.Fatalf("state (-want +got): %v\n%s", err, d)
		}
		if cap(b) != saInfoLen+s.attrsLen() {
			t.Fatalf("the encoding grew from %d to %d bytes", saInfoLen+s.attrsLen(), cap(b))
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		p := genPolicy(t)
		b, err := p.encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := parsePolicy(b)
		if d := cmp.Diff(p, got, same...); err != nil || d != "" {
			t.Fatalf("policy (-want +got): %v\n%s", err, d)
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		f := genFamily(t)
		c := genCurrent(t)
		a := &AE{ID: genID(t, f), Src: genAddr(t, f, "src"), ReqID: rapid.Uint32().Draw(t, "reqid"), Mark: genMark(t), Current: &c, ReplayESN: genESN(t)}
		b, err := a.encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseAE(b)
		if d := cmp.Diff(a, got, same...); err != nil || d != "" {
			t.Fatalf("AE (-want +got): %v\n%s", err, d)
		}
	})
}

// TestRefused: an object that cannot be encoded is EINVAL before it reaches the kernel.
func TestRefused(t *testing.T) {
	state := func(f func(*State)) Request { s := aesSHA1(1); f(s); return AddState(s) }
	policy := func(f func(*Policy)) Request {
		p := &Policy{Selector: Selector{Dst: netip.MustParsePrefix("10.0.0.0/8")}}
		f(p)
		return AddPolicy(p)
	}
	for _, tt := range []struct {
		name string
		r    Request
		want string
	}{
		{"mixed families", state(func(s *State) { s.Src = v6a }), "not of family 2"},
		{"zone", state(func(s *State) { s.Dst, s.Src = netip.MustParseAddr("fe80::1%eth0"), netip.Addr{} }), "zone"},
		{"no name", state(func(s *State) { s.Crypt.Name = "" }), "1 to 63 bytes"},
		{"long name", state(func(s *State) { s.Auth.Name = strings.Repeat("x", 64) }), "1 to 63 bytes"},
		{"long key", state(func(s *State) { s.Auth.Key = make(Key, maxKeyLen+1) }), "key of 4097 bytes"},
		{"window", state(func(s *State) { s.ReplayESN = NewReplayESN(MaxWindow + 1) }), "at most 4096 packets"},
		{"original address", state(func(s *State) { s.Encap = &Encap{Original: v6a} }), "not of family 2"},
		{"selector", state(func(s *State) { s.Selector = Selector{Family: FamilyIPv6, Dst: netip.MustParsePrefix("10.0.0.0/8")} }), "selector"},
		{"no destination", DeleteState(ID{SPI: 1, Proto: 50}, Mark{}), "destination"},
		{"templates", policy(func(p *Policy) { p.Templates = make([]Template, MaxTemplates+1) }), "7 templates"},
		{"template", policy(func(p *Policy) { p.Templates = []Template{{ID: ID{Dst: v4a}, Src: v6a}} }), "template"},
	} {
		if tt.r.err == nil || !strings.Contains(tt.r.err.Message, tt.want) {
			t.Errorf("%s: error %v, want %q in it", tt.name, tt.r.err, tt.want)
		}
	}
}

func TestKeysAreHidden(t *testing.T) {
	s := aesSHA1(1)
	s.AEAD = &AEADAlgorithm{"gcm", 128, hexKey(key32)}
	r := AddState(s)
	text, err := json.Marshal([]any{s, r})
	if err != nil {
		t.Fatal(err)
	}
	shown := string(text)
	for _, v := range []any{s, *s, *s.Crypt, *s.Auth, *s.AEAD, s.Crypt.Key, r, &r} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
			shown += fmt.Sprintf(verb, v) + "\n"
		}
	}
	for _, secret := range []string{"aabbcc", "170 187", "0xaa", "qrvM", "6a6b", "0c0d0e", "12 13 14", "DA0O"} {
		if strings.Contains(strings.ToLower(shown), strings.ToLower(secret)) {
			t.Errorf("%q shows a key:\n%s", secret, shown)
		}
	}
	r.Clear()
	s.ClearKeys()
	for _, k := range []Key{s.Crypt.Key, s.Auth.Key, s.AEAD.Key} {
		for _, b := range k {
			if b != 0 {
				t.Fatal("a key was not cleared")
			}
		}
	}
}

func TestTruncated(t *testing.T) {
	for _, r := range goldenRequests() {
		parse := func(b []byte) (err error) {
			switch r.typ {
			case msgNewSA, msgUpdSA:
				_, err = parseState(b)
			case msgNewPolicy, msgUpdPolicy:
				_, err = parsePolicy(b)
			default:
				return ErrMalformed
			}
			return err
		}
		// A message may end where an attribute ends.
		ends := map[int]bool{}
		head := headLen(uint64(r.typ), uint64(r.flags))
		for i := head; i < len(r.data); i += int(native.Uint16(r.data[i:])+3) &^ 3 {
			ends[i] = true
			for pad := 1; pad < 4; pad++ {
				ends[i-pad] = i > head
			}
		}
		for n := range r.data {
			if err := parse(r.data[:n]); !errors.Is(err, ErrMalformed) && !(err == nil && ends[n]) {
				t.Errorf("%v: %d of %d bytes: error %v, want %v", r, n, len(r.data), err, ErrMalformed)
			}
		}
	}
}

// A template without a family gets the selector's, and its addresses are of that
// family, as in the kernel.
func TestTemplateWithoutFamily(t *testing.T) {
	for _, c := range []struct {
		name     string
		selector uint16
		dst, src netip.Addr
		want     uint16
	}{
		{"IPv4", FamilyIPv4, v4a, v4b, FamilyIPv4},
		{"IPv6", FamilyIPv6, v6a, v6b, FamilyIPv6},
		{"no addresses", FamilyIPv6, netip.IPv6Unspecified(), netip.IPv6Unspecified(), FamilyIPv6},
		{"none at all", FamilyUnspec, netip.Addr{}, netip.Addr{}, FamilyUnspec},
		{"a family that is none", 0x3030, netip.Addr{}, netip.Addr{}, 0x3030},
	} {
		p := Policy{Selector: Selector{Family: c.selector}, Templates: []Template{{ID: ID{Dst: c.dst, SPI: 7, Proto: 50}, Src: c.src}}}
		b, err := p.encode()
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		native.PutUint16(b[policyInfoLen+attrHeadLen+24:], FamilyUnspec)
		got, err := parsePolicy(b)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		want := Template{ID: ID{Dst: c.dst, SPI: 7, Proto: 50}, Src: c.src, Family: c.want}
		if d := cmp.Diff([]Template{want}, got.Templates, same...); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
}
