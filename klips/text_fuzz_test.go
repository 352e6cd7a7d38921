package klips

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
)

// FuzzParseSAID: what was read, written and read again is the same SAID, in
// both forms of writing.
func FuzzParseSAID(f *testing.F) {
	for _, s := range []string{
		"tun0x113@10.0.0.1", "esp.115@10.0.0.1", "ah:116@2001:db8::1", "ESP275@1::", "comp0423@0",
		"%pass", "%passthrough6", "%trapsubnet", "int0x999@::", "int.100@1.2.3.4", "tun0@0x7f000001", "esp.115@gw2",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := ParseSAID(text, nil)
		if err != nil {
			if id != (SAID{}) {
				t.Fatalf("ParseSAID(%q) = %v with error %v", text, id, err)
			}
			return
		}
		if !id.Dst.IsValid() || id.Dst.Is4In6() || id.Dst.Zone() != "" {
			t.Fatalf("ParseSAID(%q) has destination %v", text, id.Dst)
		}
		want := id
		if _, magic := id.magicString(); magic && id.Proto == ProtoInt {
			want.Dst = netip.IPv4Unspecified() // magic names have no destination
		}
		for _, s := range []string{id.String(), id.Dotted()} {
			if got, err := ParseSAID(s, nil); err != nil || got != want {
				t.Fatalf("ParseSAID(%q) = %v, ParseSAID(%q) = %v, %v", text, id, s, got, err)
			}
		}
	})
}

// FuzzParseAddr: what was read agrees with net/netip wherever netip can read
// the text too, and survives being written.
func FuzzParseAddr(f *testing.F) {
	for _, s := range []string{"10.0.0.1", "10", "1.2.3.", "::", "1:2::3:4", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "0x0a000001", "0h0a000001", "fe80::1%2", "::1.2.3.4"} {
		f.Add(s, uint8(0))
		f.Add(s, uint8(1))
		f.Add(s, uint8(2))
	}
	f.Fuzz(func(t *testing.T, text string, fam uint8) {
		want, oracleErr := netip.ParseAddr(text)
		a, err := ParseAddr(text, Family(fam%3), nil)
		if err != nil {
			return
		}
		if oracleErr == nil && a != want {
			t.Fatalf("ParseAddr(%q) = %v, netip says %v", text, a, want)
		}
		if oracleErr != nil && strings.Contains(text, ":") {
			t.Fatalf("ParseAddr(%q) = %v, netip refuses it: %v", text, a, oracleErr)
		}
		if back, err := ParseAddr(FormatAddr(a), FamilyOf(a), nil); err != nil || back != a {
			t.Fatalf("ParseAddr(%q) = %v, read back as %v, %v", text, a, back, err)
		}
	})
}

// FuzzParseSubnet: results have no host bits and survive being written.
func FuzzParseSubnet(f *testing.F) {
	for _, s := range []string{"10/8", "10.1.2.3/255.255.0.0", "10.1.2.3/0xff000000", "%default", "2001:db8::1/64", "::/0", "1.2.3.4/33", "1.2.3.4/8:80"} {
		f.Add(s, uint8(0))
		f.Add(s, uint8(2))
	}
	f.Fuzz(func(t *testing.T, text string, fam uint8) {
		p, err := ParseSubnet(text, Family(fam%3), nil)
		if err != nil {
			return
		}
		if !p.IsValid() || p != p.Masked() {
			t.Fatalf("ParseSubnet(%q) = %v, which has host bits", text, p)
		}
		if back, err := ParseSubnet(p.String(), FamilyAny, nil); err != nil || back != p {
			t.Fatalf("ParseSubnet(%q) = %v, read back as %v, %v", text, p, back, err)
		}
	})
}

// FuzzParseKey: hex keys agree with encoding/hex, and no message holds any part
// of four characters of the key.
func FuzzParseKey(f *testing.F) {
	for _, s := range []string{"0x12_34", "0X12AB", "0s/+8A", "0sAAB=", "0tsecret", "0x1g", "0x12__34", "0sQUJD\n", "0xdeadbeefdeadbeeg"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		key, err := ParseKey(text)
		if err != nil {
			if key != nil {
				t.Fatalf("ParseKey gave a key with an error")
			}
			// The messages' own words are not taken from the key.
			msg := strings.Map(func(r rune) rune {
				if '0' <= r && r <= '9' {
					return r
				}
				return ' '
			}, err.Error())
			for _, number := range strings.Fields(msg) {
				if len(number) > 3 && strings.Contains(text, number) {
					t.Fatalf("the message %q may hold a part of the key", err)
				}
			}
			return
		}
		if len(key) == 0 {
			t.Fatalf("ParseKey(%q) is empty", text)
		}
		if text[1] == 'x' {
			want, err := hex.DecodeString(strings.ReplaceAll(text[2:], "_", ""))
			if err != nil || !bytes.Equal(key, want) {
				t.Fatalf("ParseKey(%q) = %x, want %x, %v", text, key, want, err)
			}
		}
	})
}

// FuzzParseESP: no text makes it panic, and what it reads is a transform that
// keys exist for.
func FuzzParseESP(f *testing.F) {
	for _, n := range ESPNames() {
		f.Add(n.Name)
	}
	f.Add("aes_gcm_c-128-null")
	f.Fuzz(func(t *testing.T, name string) {
		tr, bits, err := ParseESP(name)
		if err != nil {
			return
		}
		auth, ok1 := tr.Auth.Info()
		enc, ok2 := tr.Enc.Info()
		if !ok1 || !ok2 {
			t.Fatalf("ParseESP(%q) = %+v, which is unknown", name, tr)
		}
		if bits == 0 {
			bits = enc.KeyBits[0]
		}
		if err := CheckKeys(SAID{Proto: ProtoESP}, tr, make([]byte, auth.KeyBits[0]/8), make([]byte, bits/8)); err != nil {
			t.Fatalf("ParseESP(%q) = %+v, %d bits: %v", name, tr, bits, err)
		}
	})
}
