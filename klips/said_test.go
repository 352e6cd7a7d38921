package klips

import (
	"encoding/json"
	"net/netip"
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
