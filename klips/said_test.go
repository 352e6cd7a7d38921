package klips

import (
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"
	"testing"
)

func TestSAIDText(t *testing.T) {
	type doc struct {
		ID    SAID  `json:"id"`
		Proto Proto `json:"proto"`
	}
	in := doc{SAID{netip.MustParseAddr("2001:db8::1"), 0x113, ProtoTun}, ProtoComp}
	b, err := json.Marshal(in)
	if want := `{"id":"tun0x113@2001:db8::1","proto":"comp"}`; err != nil || string(b) != want {
		t.Fatalf("Marshal = %s, %v, want %s", b, err, want)
	}
	var out doc
	if err := json.Unmarshal(b, &out); err != nil || out != in {
		t.Errorf("Unmarshal(%s) = %v, %v, want %v", b, out, err, in)
	}
	for _, id := range []SAID{{}, {SPI: 0x1201, Proto: ProtoESP}, {SPI: 7, Proto: 255}, Magic(SPIHold), {netip.IPv6Unspecified(), 0, ProtoTun}, {netip.MustParseAddr("10.0.0.1"), 0x999, ProtoInt}} {
		b, _ := id.MarshalText()
		var got SAID
		if err := got.UnmarshalText(b); err != nil || got != id {
			t.Errorf("UnmarshalText(%q) = %v, %v, want %v", b, got, err, id)
		}
	}
	for _, text := range []string{"unk77", "esp"} {
		var p Proto
		if err := p.UnmarshalText([]byte(text)); err != nil || p.String() != text {
			t.Errorf("UnmarshalText(%q) = %v, %v", text, p, err)
		}
	}
	var p Proto
	if err := p.UnmarshalText([]byte("udp")); err == nil {
		t.Errorf("UnmarshalText(udp) = %v", p)
	}
}

// FuzzSAIDText: a parsed SAID or protocol, printed and parsed again, prints the same.
func FuzzSAIDText(f *testing.F) {
	for _, s := range []string{
		"", "esp", "unk77", "tun0x100@192.0.2.1", "ah0x116@2001:db8::1", "unk00x0@<invalid>", "%hold", "%passthrough6",
		"int0x999@10.0.0.1", "esp0x1@::ffff:192.0.2.1", "esp0x1@fe80::1%2", "esp0x100000000@192.0.2.1",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var id, id2 SAID
		if err := id.UnmarshalText([]byte(text)); err == nil {
			b, err := id.MarshalText()
			if err != nil || id2.UnmarshalText(b) != nil || id2.String() != id.String() {
				t.Fatalf("%q is read as %v, and %q as %v, %v", text, id, b, id2, err)
			}
		} else if id != id2 {
			t.Fatalf("%q is read as %v with error %v", text, id, err)
		}
		var p, p2 Proto
		if err := p.UnmarshalText([]byte(text)); err == nil {
			b, err := p.MarshalText()
			if err != nil || p2.UnmarshalText(b) != nil || p2 != p {
				t.Fatalf("%q is read as %v, and %q as %v, %v", text, p, b, p2, err)
			}
		}
	})
}

// addrByHand is the form of addresses in KLIPS' tables: in IPv6 "::" replaces the first run
// of two or more zero groups, group by group.
func addrByHand(a netip.Addr) string {
	switch {
	case !a.IsValid():
		return "<invalid>"
	case a.Is4():
		return a.String()
	}
	b := a.As16()
	var groups []string
	for i := 0; i < 16; i += 2 {
		groups = append(groups, strconv.FormatUint(uint64(b[i])<<8|uint64(b[i+1]), 16))
	}
	for i := range 7 {
		if groups[i] != "0" || groups[i+1] != "0" {
			continue
		}
		end := i + 2
		for end < 8 && groups[end] == "0" {
			end++
		}
		return strings.Join(groups[:i], ":") + "::" + strings.Join(groups[end:], ":")
	}
	return strings.Join(groups, ":")
}

// The texts of SAIDs and addresses are the same, however they are made.
func TestTexts(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 20000 {
		var raw [16]byte
		for i := range raw {
			if rng.IntN(3) == 0 { // many zero groups
				raw[i] = byte(rng.Uint32())
			}
		}
		id := SAID{Dst: netip.AddrFrom16(raw), SPI: SPI(rng.Uint32N(4)), Proto: Proto(rng.Uint32N(110))}
		switch rng.IntN(4) {
		case 0:
			id.Dst = netip.AddrFrom4([4]byte(raw[:]))
		case 1:
			id.Dst, id.SPI = netip.IPv6Unspecified(), 0
		}
		addr := addrByHand(id.Dst)
		if got := FormatAddr(id.Dst); got != addr {
			t.Fatalf("FormatAddr = %q, want %q", got, addr)
		}
		if got := string(AppendAddr([]byte("a "), id.Dst)); got != "a "+addr {
			t.Fatalf("AppendAddr = %q, want %q after what is there", got, addr)
		}
		want := id.Proto.String() + "0x" + strconv.FormatUint(uint64(id.SPI), 16) + "@" + addr
		if id.Proto == ProtoTun && id.SPI == 0 && id.Dst.IsUnspecified() {
			want = "%passthrough6"
			if id.Dst.Is4() {
				want = "%passthrough4"
			}
		}
		if got := id.String(); got != want {
			t.Fatalf("String = %q, want %q", got, want)
		}
		if got, err := id.AppendText([]byte("a ")); string(got) != "a "+want || err != nil {
			t.Fatalf("AppendText = %q, %v, want %q after what is there", got, err, want)
		}
	}
	if got := Magic(SPIHold).String(); got != "%hold" {
		t.Errorf("String = %q, want %%hold", got)
	}
	if got := (SAID{}).String(); got != "unk00x0@<invalid>" {
		t.Errorf("String = %q, want the invalid address", got)
	}
}
