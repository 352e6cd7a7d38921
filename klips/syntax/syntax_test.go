package syntax

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
)

func TestParseNumber(t *testing.T) {
	const max32 = 0xffffffff
	for _, c := range []struct {
		in   string
		base int
		max  uint64
		want uint64
		err  string // a part of it; empty: none
	}{
		{"0", 0, max32, 0, ""},
		{"256", 0, max32, 256, ""},
		{"0400", 0, max32, 256, ""},
		{"0x100", 0, max32, 256, ""},
		{"0XfF", 0, max32, 255, ""},
		{"0x0000000100", 0, max32, 256, ""},
		{"ff", 16, max32, 255, ""},
		{"010", 10, max32, 10, ""},
		{"18446744073709551615", 0, ^uint64(0), ^uint64(0), ""},
		{"18446744073709551616", 0, ^uint64(0), 0, "too large"},
		{"0xffffffff", 0, max32, max32, ""},
		{"0x100000000", 0, max32, 0, "too large, at most 0xffffffff"},
		{"040000000000", 0, max32, 0, "too large"},
		{"0x00000000000000001", 0, max32, 0, "16 hex digits"},
		{"65536", 0, 65535, 0, "at most 65535"},
		{"", 0, max32, 0, "empty"},
		{"0x", 0, max32, 0, `'x' is no octal digit`},
		{"08", 0, max32, 0, `'8' is no octal digit`},
		{"-1", 0, max32, 0, `'-' is no decimal digit`},
		{" 1", 0, max32, 0, `' '`},
		{"1 ", 0, max32, 0, `' '`},
		{"0x1g", 0, max32, 0, `'g' is no hex digit`},
		{"0x100", 16, max32, 0, `'x' is no hex digit`},
		{"١", 0, max32, 0, `'١'`},
	} {
		got, err := ParseNumber(c.in, c.base, c.max)
		if got != c.want || !errorHas(err, c.err) {
			t.Errorf("ParseNumber(%q, %d, %d) = %d, %v, want %d, %q", c.in, c.base, c.max, got, err, c.want, c.err)
		}
	}
}

// errorHas reports whether err says part; an empty part wants no error.
func errorHas(err error, part string) bool {
	if part == "" {
		return err == nil
	}
	var e *Error
	return errors.As(err, &e) && strings.Contains(err.Error(), part)
}

func TestParseAddr(t *testing.T) {
	for _, c := range []struct {
		in   string
		f    Family
		want string // empty: refused
		err  string
	}{
		{"10.0.0.1", FamilyAny, "10.0.0.1", ""},
		{"10", Family4, "10.0.0.0", ""},
		{"10.", Family4, "10.0.0.0", ""},
		{"1.2.3.", FamilyAny, "1.2.3.0", ""},
		{"001.010.003.004", Family4, "1.10.3.4", ""},
		{"0x0a000001", Family4, "10.0.0.1", ""},
		{"0h0100000A", Family4, "10.0.0.1", ""},
		{"0x0a000001", FamilyAny, "", "not a numeric IPv4 or IPv6 address"},
		{"0x0a0000zz", Family4, "", `'z' is no hex digit`},
		{"256.1.1.1", Family4, "", "byte 1 of a dotted decimal address is above 255"},
		{"99999999999999999999", Family4, "", "byte 1 of a dotted decimal address is above 255"},
		{"1.2.3.4.", Family4, "", "more than four bytes"},
		{"1.2.3.4x", Family4, "", "after byte 4"},
		{"1.2.x", Family4, "", "'x' in dotted"},
		{"1.2..4", Family4, "", "empty byte"},
		{"1.2.3.4/32", Family4, "", "'/' after byte 4"},
		{"1.2.3.4", Family6, "", "an IPv4 address where"},
		{"::1", Family4, "", "no colon"},
		{"", Family4, "", "empty"},
		{"%any", Family4, "", "'%'"},
		{"::", FamilyAny, "::", ""},
		{"::1", Family6, "::1", ""},
		{"FE80::1", Family6, "fe80::1", ""},
		{"1::", Family6, "1::", ""},
		{"1:2:3:4:5:6:7:8", Family6, "1:2:3:4:5:6:7:8", ""},
		{"1:2::3:4", Family6, "1:2::3:4", ""},
		{"1:2:3:4:5:6::", Family6, "1:2:3:4:5:6::", ""},
		{"1:2:3:4:5:6:7::", Family6, "", "single zero group"},
		{"::2:3:4:5:6:7:8", Family6, "", "single zero group"},
		{"1:2:3:4::5:6:7", Family6, "", "single zero group"},
		{"1:2:3:4:5:6:7:8::", Family6, "", "more than eight"},
		{"::1:2:3:4:5:6:7:8", Family6, "", "more than eight"},
		{"1:2:3:4:5:6:7:8:9", Family6, "", "more than eight"},
		{"1:2:3", Family6, "", "this one 3"},
		{":", Family6, "", "single colon"},
		{":1::2", Family6, "", "begin with a single colon"},
		{"1::2:", Family6, "", "end with a single colon"},
		{":::", Family6, "", "more than one ::"},
		{"1:::2", Family6, "", "more than one ::"},
		{"1::2::3", Family6, "", "more than one ::"},
		{"12345::", Family6, "", "four hex digits"},
		{"g::", Family6, "", "'g'"},
		{"fe80::1%eth0", Family6, "", "zone"},
		{"::1.2.3.4", Family6, "", "not dotted"},
		{"::ffff:102:304", Family6, "", "write 1.2.3.4"},
		{"[::1]", Family6, "", "'['"},
		{"gw1", Family4, "10.1.1.1", ""},
		{"GW1", FamilyAny, "10.1.1.1", ""},
		{"gw6", Family6, "3049:1::1", ""},
		{"gw6", Family4, "", "failed: no such host"},
		{"gw1!", Family4, "", `'!'`},
		{"3com", Family4, "", "looking it up"},
		{"mapped", FamilyAny, "192.0.2.9", ""},
		{"mapped", Family6, "", "no IPv6 address"},
	} {
		got, err := ParseAddr(c.in, c.f, func(name string, f Family) (netip.Addr, error) {
			if name == "mapped" { // a possible result of a careless resolver
				return netip.MustParseAddr("::ffff:192.0.2.9"), nil
			}
			return goldenResolver(name, f)
		})
		want := netip.Addr{}
		if c.want != "" {
			want = netip.MustParseAddr(c.want)
		}
		if got != want || !errorHas(err, c.err) {
			t.Errorf("ParseAddr(%q, %v) = %v, %v, want %v, %q", c.in, c.f, got, err, want, c.err)
		}
	}
	if _, err := ParseAddr("gw1", Family4, nil); !errorHas(err, "not a numeric IPv4 address") {
		t.Errorf("ParseAddr(gw1) without resolver = %v", err)
	}
}

func TestParseSAID(t *testing.T) {
	v4, v6 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")
	for _, c := range []struct {
		in   string
		want klips.SAID
		err  string
	}{
		{"tun0x113@10.0.0.1", klips.SAID{Dst: v4, SPI: 0x113, Proto: klips.ProtoTun}, ""},
		{"tun.113@10.0.0.1", klips.SAID{Dst: v4, SPI: 0x113, Proto: klips.ProtoTun}, ""},
		{"tun275@10.0.0.1", klips.SAID{Dst: v4, SPI: 0x113, Proto: klips.ProtoTun}, ""},
		{"tun113@10.0.0.1", klips.SAID{Dst: v4, SPI: 0x71, Proto: klips.ProtoTun}, ""},
		{"tun0423@10.0.0.1", klips.SAID{Dst: v4, SPI: 0x113, Proto: klips.ProtoTun}, ""},
		{"tun:113@2001:db8::1", klips.SAID{Dst: v6, SPI: 0x113, Proto: klips.ProtoTun}, ""},
		{"tun0x113@2001:db8::1", klips.SAID{Dst: v6, SPI: 0x113, Proto: klips.ProtoTun}, ""},
		{"ESP0X12345678@10.0.0.1", klips.SAID{Dst: v4, SPI: 0x12345678, Proto: klips.ProtoESP}, ""},
		{"comp.0000000000000abc@10.0.0.1", klips.SAID{Dst: v4, SPI: 0xabc, Proto: klips.ProtoComp}, ""},
		{"ah0@0", klips.SAID{Dst: netip.IPv4Unspecified(), SPI: 0, Proto: klips.ProtoAH}, ""},
		{"ah0x100@0x0a000001", klips.SAID{Dst: v4, SPI: 0x100, Proto: klips.ProtoAH}, ""},
		{"int0x999@10.0.0.1", klips.SAID{Dst: v4, SPI: 0x999, Proto: klips.ProtoInt}, ""},
		{"%pass", klips.Magic(klips.SPIPass), ""},
		{"%drop", klips.Magic(klips.SPIDrop), ""},
		{"%reject", klips.Magic(klips.SPIReject), ""},
		{"%hold", klips.Magic(klips.SPIHold), ""},
		{"%trap", klips.Magic(klips.SPITrap), ""},
		{"%trapsubnet", klips.Magic(klips.SPITrapSubnet), ""},
		{"%passthrough", klips.SAID{Dst: netip.IPv4Unspecified(), SPI: 0, Proto: klips.ProtoTun}, ""},
		{"%passthrough4", klips.SAID{Dst: netip.IPv4Unspecified(), SPI: 0, Proto: klips.ProtoTun}, ""},
		{"%passthrough6", klips.SAID{Dst: netip.IPv6Unspecified(), SPI: 0, Proto: klips.ProtoTun}, ""},
		{"esp.115@gw2", klips.SAID{Dst: netip.MustParseAddr("10.2.2.2"), SPI: 0x115, Proto: klips.ProtoESP}, ""},
		{"esp0x115@gw2", klips.SAID{Dst: netip.MustParseAddr("10.2.2.2"), SPI: 0x115, Proto: klips.ProtoESP}, ""},
		{"esp:115@gw6", klips.SAID{Dst: netip.MustParseAddr("3049:1::1"), SPI: 0x115, Proto: klips.ProtoESP}, ""},
		{"esp0x115@gw6", klips.SAID{}, "for an IPv6 host write esp:115@…"},
		{"", klips.SAID{}, "empty"},
		{"%PASS", klips.SAID{}, "unknown % name"},
		{"%unk-999", klips.SAID{}, "unknown % name"},
		{"esp0x100", klips.SAID{}, "no @"},
		{"icmp.100@10.0.0.1", klips.SAID{}, "begins with"},
		{"@10.0.0.1", klips.SAID{}, "begins with"},
		{" esp0x100@10.0.0.1", klips.SAID{}, "begins with"},
		{"esp@10.0.0.1", klips.SAID{}, "no SPI between esp and @"},
		{"esp.@10.0.0.1", klips.SAID{}, "no SPI"},
		{"espp9@10.0.0.1", klips.SAID{}, "SPI: 'p' is no"},
		{"esp.0x100@10.0.0.1", klips.SAID{}, "SPI: 'x'"},
		{"esp0x100000100@10.0.0.1", klips.SAID{}, "SPI: too large, at most 0xffffffff"},
		{"esp.100000000@10.0.0.1", klips.SAID{}, "SPI: too large"},
		{"tun.113@2001:db8::1", klips.SAID{}, "write tun:113@"},
		{"tun:113@10.0.0.1", klips.SAID{}, "IPv6 one is wanted"},
		{"tun.113@", klips.SAID{}, "destination: empty"},
		{"tun.113@1.2.3.4@5", klips.SAID{}, "'@' after byte 4"},
	} {
		got, err := ParseSAID(c.in, goldenResolver)
		if got != c.want || !errorHas(err, c.err) {
			t.Errorf("ParseSAID(%q) = %v, %v, want %v, %q", c.in, got, err, c.want, c.err)
		}
	}
}

func TestParseSubnet(t *testing.T) {
	for _, c := range []struct {
		in   string
		f    Family
		want string
		err  string
	}{
		{"10.1.2.3/8", FamilyAny, "10.0.0.0/8", ""},
		{"10/8", FamilyAny, "10.0.0.0/8", ""},
		{"10.0.0.0/008", FamilyAny, "10.0.0.0/8", ""},
		{"10.1.2.3/255.255.0.0", FamilyAny, "10.1.0.0/16", ""},
		{"10.1.2.3/0xffff0000", FamilyAny, "10.1.0.0/16", ""},
		{"10.1.2.3/0h0000ffff", FamilyAny, "10.1.0.0/16", ""},
		{"10.1.2.3/0hffff0000", FamilyAny, "", "ones after zeros"},
		{"10.1.2.3/0.0.0.0", FamilyAny, "0.0.0.0/0", ""},
		{"1.2.3.4/32", Family4, "1.2.3.4/32", ""},
		{"2001:db8::1/64", FamilyAny, "2001:db8::/64", ""},
		{"::1/0", Family6, "::/0", ""},
		{"%default", Family4, "0.0.0.0/0", ""},
		{"%default", Family6, "::/0", ""},
		{"%default", FamilyAny, "", "needs an address family"},
		{"gw1/32", FamilyAny, "10.1.1.1/32", ""},
		{"", Family4, "", "empty"},
		{"10.0.0.0", Family4, "", "no / in subnet"},
		{"10.0.0.0/", Family4, "", "no prefix length"},
		{"10.0.0.0/33", Family4, "", "above 32"},
		{"10.0.0.0/255", Family4, "", "above 32"},
		{"10.0.0.0/99999999999999999999", Family4, "", "above 32"},
		{"10.0.0.0/255.0.255.0", Family4, "", "ones after zeros"},
		{"10.0.0.0/+8", Family4, "", "mask:"},
		{"10.0.0.0/gw1", Family4, "", "mask:"},
		{"10.0.0.0/8:80", Family4, "", "no port"},
		{"10.0.0.0/8", Family6, "", "IPv6 one is wanted"},
		{"2001:db8::/129", Family6, "", "above 128"},
		{"2001:db8::/ffff::", Family6, "", "not a mask"},
		{"2001:db8::/64:80", Family6, "", "no port"},
		{"2001:db8::/0x40", Family6, "", "decimal prefix length"},
		{"2001:db8::/64", Family4, "", "no colon"},
	} {
		got, err := ParseSubnet(c.in, c.f, goldenResolver)
		if p, perr := ParsePrefix(c.in, c.f, goldenResolver); p.Masked() != got || (perr == nil) != (err == nil) {
			t.Errorf("ParsePrefix(%q) = %v, %v, want %v with host bits", c.in, p, perr, got)
		}
		want := netip.Prefix{}
		if c.err == "" {
			want = netip.MustParsePrefix(c.want)
		}
		if got != want || !errorHas(err, c.err) {
			t.Errorf("ParseSubnet(%q, %v) = %v, %v, want %v, %q", c.in, c.f, got, err, want, c.err)
		}
	}
}

func TestParseKey(t *testing.T) {
	for _, c := range []struct {
		in   string
		want []byte
		err  string
	}{
		{"0x12AB", []byte{0x12, 0xab}, ""},
		{"0X12_34", []byte{0x12, 0x34}, ""},
		{"0s/+8A", []byte{0xff, 0xef, 0x00}, ""},
		{"0SAA==", []byte{0}, ""},
		{"0tabc", []byte("abc"), ""},
		{"0T_", []byte("_"), ""},
		{"", nil, "must begin with"},
		{"0", nil, "must begin with"},
		{"x1", nil, "must begin with"},
		{"0b11", nil, "must begin with"},
		{"0x", nil, "nothing after the 0x"},
		{"0s", nil, "nothing after the 0s"},
		{"0t", nil, "nothing after the 0t"},
		{"0x1", nil, "odd number"},
		{"0x12_3", nil, "odd number"},
		{"0x1_2", nil, "character 4 is no hex"},
		{"0x_12", nil, "underscore at character 3"},
		{"0x12__34", nil, "underscore at character 6"},
		{"0x12_", nil, "ends with an underscore"},
		{"0xzz", nil, "character 3 is no hex"},
		{"0x12 34", nil, "character 5 is no hex"},
		{"0sAAA", nil, "no multiple of four"},
		{"0sAAB=", nil, "padding"},
		{"0sAA AA", nil, "character 5"},
		{"0sAAAA\n", nil, "character 7"},
		{"0sA===", nil, "character 4"},
		{"0s*AAA", nil, "character 3"},
	} {
		got, err := ParseKey(c.in)
		if !bytes.Equal(got, c.want) || !errorHas(err, c.err) {
			t.Errorf("ParseKey(%q) = %x, %v, want %x, %q", c.in, got, err, c.want, c.err)
		}
	}
}

func TestParseESP(t *testing.T) {
	tr := func(e alg.Enc, a alg.Auth) klips.Transform { return klips.Transform{Enc: e, Auth: a} }
	for _, c := range []struct {
		in   string
		want klips.Transform
		bits int
		err  string
	}{
		{"3des-md5-96", tr(alg.TripleDES, alg.MD5), 0, ""},
		{"3des-sha1-96", tr(alg.TripleDES, alg.SHA1), 0, ""},
		{"3des", tr(alg.TripleDES, alg.AuthNone), 0, ""},
		{"3des-none", tr(alg.TripleDES, alg.AuthNone), 0, ""},
		{"3des-sha2_256", tr(alg.TripleDES, alg.SHA256), 0, ""},
		{"aes128-sha1", tr(alg.AES, alg.SHA1), 128, ""},
		{"AES128-SHA1", tr(alg.AES, alg.SHA1), 128, ""},
		{"aes-sha1-96", tr(alg.AES, alg.SHA1), 0, ""},
		{"aes-256-sha1", tr(alg.AES, alg.SHA1), 256, ""},
		{"aes_cbc128-sha1", tr(alg.AES, alg.SHA1), 128, ""},
		{"aes192-hmac_md5", tr(alg.AES, alg.MD5), 192, ""},
		{"aes256-sha2_256", tr(alg.AES, alg.SHA256), 256, ""},
		{"aes256-sha256", tr(alg.AES, alg.SHA256), 256, ""},
		{"aes256-sha2_256-96", tr(alg.AES, alg.SHA256Trunc), 256, ""},
		{"aes256-sha2_256_96", tr(alg.AES, alg.SHA256Trunc), 256, ""},
		{"aes256-sha384", tr(alg.AES, alg.SHA384), 256, ""},
		{"aes256-sha2_512", tr(alg.AES, alg.SHA512), 256, ""},
		{"aes128-none", tr(alg.AES, alg.AuthNone), 128, ""},
		{"null-md5", tr(alg.Null, alg.MD5), 0, ""},
		{"null-sha1", tr(alg.Null, alg.SHA1), 0, ""},
		{"aes-gcm", tr(alg.AESGCM, alg.AuthNone), 0, ""},
		{"aes128-gcm", tr(alg.AESGCM, alg.AuthNone), 160, ""},
		{"aes192-gcm", tr(alg.AESGCM, alg.AuthNone), 224, ""},
		{"aes256-gcm", tr(alg.AESGCM, alg.AuthNone), 288, ""},
		{"aes_gcm128-null", tr(alg.AESGCM, alg.AuthNone), 160, ""},
		{"aes_gcm_c128-null", tr(alg.AESGCM, alg.AuthNone), 160, ""},
		{"aes_gcm_16_256", tr(alg.AESGCM, alg.AuthNone), 288, ""},
		{"aesgcm256", tr(alg.AESGCM, alg.AuthNone), 288, ""},
		{"aes256gcm16", tr(alg.AESGCM, alg.AuthNone), 288, ""},
		{"chacha20-poly1305", tr(alg.ChaCha20Poly1305, alg.AuthNone), 288, ""},
		{"chacha20_poly1305", tr(alg.ChaCha20Poly1305, alg.AuthNone), 288, ""},
		{"3DES-MD5-96", klips.Transform{}, 0, "lower case: 3des-md5-96"},
		{"", klips.Transform{}, 0, "unknown cipher"},
		{"aes", klips.Transform{}, 0, "write aes-sha2_256"},
		{"aes128", klips.Transform{}, 0, "write aes128-sha2_256"},
		{"null", klips.Transform{}, 0, "no authentication named"},
		{"null-none", klips.Transform{}, 0, "protects nothing"},
		{"null-null", klips.Transform{}, 0, "unknown authentication"},
		{"aes128-", klips.Transform{}, 0, "after the last hyphen"},
		{"aes129-sha1", klips.Transform{}, 0, "128, 192 or 256"},
		{"3des168-md5", klips.Transform{}, 0, "takes no key length"},
		{"aes128-foo", klips.Transform{}, 0, "unknown authentication"},
		{"aes128-md5_128", klips.Transform{}, 0, "unknown authentication"},
		{"aes128 sha1", klips.Transform{}, 0, "unknown cipher"},
		{"aesx-sha1", klips.Transform{}, 0, "unknown cipher"},
		{"aes12-8-gcm", klips.Transform{}, 0, "128, 192 or 256"},
		{"aes_gcm_a-128-null", klips.Transform{}, 0, "unknown authentication"},
		{"blowfish-md5", klips.Transform{}, 0, "unknown cipher"},
	} {
		got, bits, err := ParseESP(c.in)
		if got != c.want || bits != c.bits || !errorHas(err, c.err) {
			t.Errorf("ParseESP(%q) = %+v, %d, %v, want %+v, %d, %q", c.in, got, bits, err, c.want, c.bits, c.err)
		}
	}
}

func TestParseAHComp(t *testing.T) {
	for in, want := range map[string]alg.Auth{
		"hmac-md5-96": alg.MD5, "hmac-sha1-96": alg.SHA1,
		"hmac-sha2-256-128": alg.SHA256, "hmac-sha2_256": alg.SHA256, "sha256": alg.SHA256,
		"hmac-sha2-256-96": alg.SHA256Trunc, "hmac-sha2-384-192": alg.SHA384, "hmac-sha2-512-256": alg.SHA512,
	} {
		if got, err := ParseAH(in); got != want || err != nil {
			t.Errorf("ParseAH(%q) = %v, %v, want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "none", "3des", "HMAC-MD5-96", "hmac-sha1-96 ", "hmac-ripemd-160-96"} {
		if got, err := ParseAH(in); err == nil {
			t.Errorf("ParseAH(%q) = %v, want an error", in, got)
		}
	}
	for in, want := range map[string]alg.Comp{"deflate": alg.Deflate, "lzs": alg.LZS, "deflat": alg.CompNone, "LZS": alg.CompNone} {
		if got, err := ParseComp(in); got != want || (err == nil) != (want != alg.CompNone) {
			t.Errorf("ParseComp(%q) = %v, %v, want %v", in, got, err, want)
		}
	}
}

// TestAlgNames checks that the names in the lists can be parsed, and that keys of the
// described lengths are accepted.
func TestAlgNames(t *testing.T) {
	seen := map[klips.Transform]bool{}
	id := klips.SAID{Dst: netip.MustParseAddr("10.0.0.1"), SPI: 0x100, Proto: klips.ProtoESP}
	for _, n := range ESPNames() {
		tr, bits, err := ParseESP(n.Name)
		if err != nil {
			t.Errorf("ParseESP(%q): %v", n.Name, err)
			continue
		}
		seen[tr] = true
		auth, _ := tr.Auth.Info()
		enc, _ := tr.Enc.Info()
		if bits == 0 {
			bits = enc.KeyBits[0]
		}
		if err := CheckKeys(id, tr, make([]byte, auth.KeyBits[0]/8), make([]byte, bits/8)); err != nil {
			t.Errorf("CheckKeys of %s: %v", n.Name, err)
		}
	}
	if len(seen) != 17 {
		t.Errorf("ESPNames name only %d transforms", len(seen))
	}
	id.Proto = klips.ProtoAH
	for _, n := range AHNames() {
		a, err := ParseAH(n.Name)
		if err != nil {
			t.Errorf("ParseAH(%q): %v", n.Name, err)
		}
		info, _ := a.Info()
		if err := CheckKeys(id, klips.Transform{Auth: a}, make([]byte, info.KeyBits[0]/8), nil); err != nil {
			t.Errorf("CheckKeys of %s: %v", n.Name, err)
		}
	}
	for _, n := range CompNames() {
		if _, err := ParseComp(n.Name); err != nil {
			t.Errorf("ParseComp(%q): %v", n.Name, err)
		}
	}
	want := map[string]string{
		"3des-md5-96":       "192-bit encryption key, 128-bit authentication key",
		"3des":              "192-bit encryption key",
		"aes128-sha1":       "128-bit encryption key, 160-bit authentication key",
		"null-md5":          "128-bit authentication key",
		"aes256-gcm":        "288-bit encryption key (256 bits and 32 bits of salt)",
		"chacha20-poly1305": "288-bit encryption key (256 bits and 32 bits of salt)",
	}
	got := map[string]string{}
	for _, n := range ESPNames() {
		if want[n.Name] != "" {
			got[n.Name] = n.KeyHelp
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("key help (-want +got):\n%s", d)
	}
}

func TestCheckKeys(t *testing.T) {
	k := func(n int) []byte { return bytes.Repeat([]byte{0x5a}, n) }
	for _, c := range []struct {
		p         klips.Proto
		t         klips.Transform
		auth, enc []byte
		err       string
	}{
		{klips.ProtoESP, klips.Transform{Enc: alg.TripleDES, Auth: alg.MD5}, k(16), k(24), ""},
		{klips.ProtoESP, klips.Transform{Enc: alg.TripleDES}, nil, k(24), ""},
		{klips.ProtoESP, klips.Transform{Enc: alg.AES, Auth: alg.SHA1}, k(20), k(24), ""},
		{klips.ProtoESP, klips.Transform{Enc: alg.Null, Auth: alg.SHA1}, k(20), nil, ""},
		{klips.ProtoESP, klips.Transform{Enc: alg.AESGCM}, nil, k(20), ""},
		{klips.ProtoAH, klips.Transform{Auth: alg.SHA512}, k(64), nil, ""},
		{klips.ProtoTun, klips.Transform{}, nil, nil, ""},
		{klips.ProtoComp, klips.Transform{Comp: alg.Deflate}, nil, nil, ""},
		{klips.ProtoESP, klips.Transform{Enc: alg.AES, Auth: alg.SHA1}, k(20), k(20), "aes wants an encryption key of 16, 24 or 32 bytes; the one given has 20 bytes"},
		{klips.ProtoESP, klips.Transform{Enc: alg.TripleDES, Auth: alg.MD5}, nil, k(24), "hmac-md5 wants an authentication key of 16 bytes; none was given"},
		{klips.ProtoESP, klips.Transform{Enc: alg.AESGCM}, nil, k(16), "20, 28 or 36 bytes, the last 4 of them salt"},
		{klips.ProtoESP, klips.Transform{Enc: alg.TripleDES}, k(16), k(24), "authentication key of 16 bytes was given, but"},
		{klips.ProtoESP, klips.Transform{Enc: alg.Null, Auth: alg.SHA1}, k(20), k(1), "encryption key of 1 byte was given, but"},
		{klips.ProtoESP, klips.Transform{Enc: alg.AESGCM, Auth: alg.SHA1}, k(20), k(20), "authenticates by itself"},
		{klips.ProtoESP, klips.Transform{Auth: alg.SHA1}, k(20), nil, "may be null"},
		{klips.ProtoESP, klips.Transform{Enc: alg.Null}, nil, nil, "protects nothing"},
		{klips.ProtoESP, klips.Transform{Enc: 99, Auth: alg.SHA1}, k(20), nil, "unknown encryption algorithm 99"},
		{klips.ProtoAH, klips.Transform{Auth: 99}, k(20), nil, "unknown authentication algorithm 99"},
		{klips.ProtoAH, klips.Transform{}, nil, nil, "need an authentication"},
		{klips.ProtoAH, klips.Transform{Auth: alg.MD5, Enc: alg.AES}, k(16), k(16), "do not encrypt"},
		{klips.ProtoTun, klips.Transform{}, k(16), nil, "authentication key of 16 bytes was given"},
		{klips.ProtoTun, klips.Transform{Auth: alg.MD5}, k(16), nil, "no authentication and no encryption"},
		{klips.ProtoInt, klips.Transform{}, nil, nil, "no protocol"},
	} {
		err := CheckKeys(klips.SAID{Proto: c.p}, c.t, c.auth, c.enc)
		if !errorHas(err, c.err) {
			t.Errorf("CheckKeys(%v, %+v, %d bytes, %d bytes) = %v, want %q", c.p, c.t, len(c.auth), len(c.enc), err, c.err)
		}
		if err != nil && strings.Contains(strings.ToLower(err.Error()), "5a") {
			t.Errorf("the message shows the key: %v", err)
		}
	}
}

// TestNames: the name of a transform is parsed to the transform and the length of its key,
// for all algorithms.
func TestNames(t *testing.T) {
	ciphers := 0
	for _, e := range alg.Encs() {
		info, _ := e.Info()
		auths := append(alg.Auths(), alg.AuthNone)
		if info.AEAD {
			auths = []alg.Auth{alg.AuthNone}
		}
		for _, a := range auths {
			for _, bits := range info.KeyBits {
				want := klips.Transform{Enc: e, Auth: a}
				name, ok := ESPName(want, bits)
				if !ok {
					if e != alg.Null || a != alg.AuthNone { // that protects nothing
						t.Errorf("ESPName(%v, %d): there is none", want, bits)
					}
					continue
				}
				ciphers++
				got, n, err := ParseESP(name)
				if err != nil || got != want || n != 0 && n != bits {
					t.Errorf("ESPName(%v, %d) = %s, which is %v, %d, %v", want, bits, name, got, n, err)
				}
				if n == 0 && len(info.KeyBits) > 1 {
					t.Errorf("ESPName(%v, %d) = %s, without a length", want, bits, name)
				}
			}
		}
	}
	if ciphers < 30 {
		t.Errorf("only %d transforms were named", ciphers)
	}
	if name, ok := ESPName(klips.Transform{Enc: 253, Auth: alg.SHA1}, 256); ok {
		t.Errorf("ESPName of twofish = %s", name)
	}
	for _, a := range alg.Auths() {
		name, ok := AHName(a)
		if got, err := ParseAH(name); !ok || err != nil || got != a {
			t.Errorf("AHName(%v) = %s, which is %v, %v", a, name, got, err)
		}
	}
	if name, ok := AHName(alg.AuthNone); ok {
		t.Errorf("AHName of none = %s", name)
	}
}
