package syntax

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
)

// hexRun is the part of a key that no message may contain.
var hexRun = regexp.MustCompile(`[0-9A-Fa-f]{8}`)

// checkError checks the error for a text: a *Error whose message is one line of
// printable characters without eight successive hex digits of the text, because users
// sometimes put a key into a wrong argument.
func checkError(t *testing.T, text string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	var e *Error
	msg := err.Error()
	if !errors.As(err, &e) || strings.IndexFunc(msg, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0 {
		t.Fatalf("%q: message %q of %T", text, msg, err)
	}
	for _, limit := range []string{"0xffffffff", "4294967295", "18446744073709551615", "0xffffffffffffffff"} {
		msg = strings.ReplaceAll(msg, limit, "")
	}
	for at := range len(msg) {
		if run := hexRun.FindString(msg[at:min(at+8, len(msg))]); run != "" && strings.Contains(text, run) {
			t.Fatalf("%q: message %q shows %q of it", text, msg, run)
		}
	}
}

// FuzzParseWords parses numbers, and names of algorithms, protocols and families.
func FuzzParseWords(f *testing.F) {
	for _, s := range []string{"0x1234", "077", "18446744073709551616", "12345678", "esp", "inet6", "hmac-sha1-96", "sha2_256", "deflate", ""} {
		f.Add(s, uint8(0))
		f.Add(s, uint8(16))
	}
	f.Fuzz(func(t *testing.T, text string, base uint8) {
		n, err := ParseNumber(text, []int{0, 8, 10, 16}[base%4], 1<<32-1)
		checkError(t, text, err)
		if err != nil && n != 0 || n > 1<<32-1 {
			t.Fatalf("ParseNumber(%q) = %d, %v", text, n, err)
		}
		_, err = ParseFamily(text)
		checkError(t, text, err)
		if p, err := ParseProto(text); err == nil && p.String() != text {
			t.Fatalf("ParseProto(%q) = %v", text, p)
		} else {
			checkError(t, text, err)
		}
		auth, err := ParseAH(text)
		checkError(t, text, err)
		if info, ok := auth.Info(); err == nil && (!ok || auth == alg.AuthNone || len(info.KeyBits) == 0) {
			t.Fatalf("ParseAH(%q) = %v, which has no keys", text, auth)
		}
		comp, err := ParseComp(text)
		checkError(t, text, err)
		if err == nil && comp == alg.CompNone {
			t.Fatalf("ParseComp(%q) is none", text)
		}

	})
}

// FuzzParseSAID: a parsed SAID, printed and parsed again, is the same SAID, in both
// printed forms.
func FuzzParseSAID(f *testing.F) {
	for _, s := range []string{
		"tun0x113@10.0.0.1", "esp.115@10.0.0.1", "ah:116@2001:db8::1", "ESP275@1::", "comp0423@0",
		"%pass", "%passthrough6", "%trapsubnet", "int0x999@::", "int.100@1.2.3.4", "tun0@0x7f000001", "esp.115@gw2",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := ParseSAID(text, nil)
		checkError(t, text, err)
		if err != nil {
			if id != (klips.SAID{}) {
				t.Fatalf("ParseSAID(%q) = %v with error %v", text, id, err)
			}
			return
		}
		if !id.Dst.IsValid() || id.Dst.Is4In6() || id.Dst.Zone() != "" {
			t.Fatalf("ParseSAID(%q) has destination %v", text, id.Dst)
		}
		want := id
		if id.Proto == klips.ProtoInt && strings.HasPrefix(id.String(), "%") {
			want.Dst = netip.IPv4Unspecified() // shunts have no destination
		}
		for _, s := range []string{id.String(), id.Dotted()} {
			if got, err := ParseSAID(s, nil); err != nil || got != want {
				t.Fatalf("ParseSAID(%q) = %v, ParseSAID(%q) = %v, %v", text, id, s, got, err)
			}
		}
	})
}

// FuzzParseAddr: the result agrees with net/netip if netip can parse the text too, and
// is the same after it is printed and parsed again.
func FuzzParseAddr(f *testing.F) {
	for _, s := range []string{"10.0.0.1", "10", "1.2.3.", "::", "1:2::3:4", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "0x0a000001", "0h0a000001", "fe80::1%2", "::1.2.3.4"} {
		f.Add(s, uint8(0))
		f.Add(s, uint8(1))
		f.Add(s, uint8(2))
	}
	f.Fuzz(func(t *testing.T, text string, fam uint8) {
		want, oracleErr := netip.ParseAddr(text)
		a, err := ParseAddr(text, Family(fam%3), nil)
		checkError(t, text, err)
		if err != nil {
			return
		}
		if oracleErr == nil && a != want {
			t.Fatalf("ParseAddr(%q) = %v, netip says %v", text, a, want)
		}
		if oracleErr != nil && strings.Contains(text, ":") {
			t.Fatalf("ParseAddr(%q) = %v, netip refuses it: %v", text, a, oracleErr)
		}
		if back, err := ParseAddr(klips.FormatAddr(a), FamilyOf(a), nil); err != nil || back != a {
			t.Fatalf("ParseAddr(%q) = %v, read back as %v, %v", text, a, back, err)
		}
	})
}

// FuzzParseSubnet: results have no host bits, and are the same after they are printed
// and parsed again.
func FuzzParseSubnet(f *testing.F) {
	for _, s := range []string{"10/8", "10.1.2.3/255.255.0.0", "10.1.2.3/0xff000000", "%default", "2001:db8::1/64", "::/0", "1.2.3.4/33", "1.2.3.4/8:80"} {
		f.Add(s, uint8(0))
		f.Add(s, uint8(2))
	}
	f.Fuzz(func(t *testing.T, text string, fam uint8) {
		p, err := ParseSubnet(text, Family(fam%3), nil)
		checkError(t, text, err)
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

// FuzzParseKey: hex keys agree with encoding/hex, and no message contains four
// successive characters of the key.
func FuzzParseKey(f *testing.F) {
	for _, s := range []string{"0x12_34", "0X12AB", "0s/+8A", "0sAAB=", "0tsecret", "0x1g", "0x12__34", "0sQUJD\n", "0xdeadbeefdeadbeeg"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		key, err := ParseKey(text)
		checkError(t, text, err)
		if err != nil {
			if key != nil {
				t.Fatalf("ParseKey gave a key with an error")
			}
			// The message's own words are not parts of the key.
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

// FuzzParseESP: no text makes it panic, and the parsed transform has possible keys.
func FuzzParseESP(f *testing.F) {
	for _, n := range ESPNames() {
		f.Add(n.Name)
	}
	f.Add("aes_gcm_c-128-null")
	f.Fuzz(func(t *testing.T, name string) {
		tr, bits, err := ParseESP(name)
		checkError(t, name, err)
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
		if err := CheckKeys(klips.SAID{Proto: klips.ProtoESP}, tr, make([]byte, auth.KeyBits[0]/8), make([]byte, bits/8)); err != nil {
			t.Fatalf("ParseESP(%q) = %+v, %d bits: %v", name, tr, bits, err)
		}
	})
}
