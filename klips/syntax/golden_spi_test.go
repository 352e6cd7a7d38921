package syntax

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/klipstest/recorded"
)

func TestGoldenSpi(t *testing.T) {
	accepted, refused := 0, 0
	eachGolden(t, "spi", func(c *recorded.Command) {
		r := Resolver(nil)
		if c.Impl != recorded.Libreswan332 {
			r = goldenResolver
		}
		keys := []string{c.Option("--authkey"), c.Option("--enckey"), c.Option("--iv")}
		if f := c.Fault; f != nil {
			switch f.Kind {
			case recorded.FaultValue:
				refused++
				spiFault(t, c, r)
			case recorded.FaultKey:
				refused++
				if !slices.ContainsFunc(keys, func(k string) bool { return refusedKey(c, k) }) {
					t.Errorf("%s %q: all keys were read, the original refused %s", c.ID, c.Args, f.Option)
				}
			}
			return
		}
		if len(c.Messages) != 1 || c.Exit != 0 {
			return
		}
		m := extensions(t, c, 0)
		if text := c.Option("--said"); text != "" && m[6] != nil {
			accepted++
			checkGoldenSAID(t, c, m, text, r)
		}
		for i, k := range keys[:2] {
			ext := m[uint16(8+i)]
			if ext == nil || k == "" {
				continue
			}
			accepted++
			got, err := ParseKey(k)
			if err != nil {
				t.Errorf("%s: ParseKey of a key the original took: %v", c.ID, err)
				continue
			}
			bits := int(binary.LittleEndian.Uint16(ext[4:]))
			if want := ext[8 : 8+bits/8]; !bytes.Equal(got, want) {
				t.Errorf("%s: ParseKey(%q) = %x, sent as %x", c.ID, k, got, want)
			}
		}
		if name := c.Option("--esp"); name != "" && m[1] != nil {
			tr, bits, err := ParseESP(name)
			if err != nil {
				if !unsupportedESP(name) {
					t.Errorf("%s: ParseESP(%q): %v, but the original took it", c.ID, name, err)
				}
				return
			}
			accepted++
			auth, enc := alg.Auth(m[1][10]), alg.Enc(m[1][11])
			if tr.Auth != auth || tr.Enc != enc {
				t.Errorf("%s: ParseESP(%q) = %+v, sent as auth %d enc %d", c.ID, name, tr, auth, enc)
			}
			if key, _ := ParseKey(keys[1]); bits != 0 && len(key)*8 != bits && !aead(tr) && c.Env["KLIPS_PROC"] != "nosupp" {
				t.Errorf("%s: ParseESP(%q) demands %d bits, the original took %d", c.ID, name, bits, len(key)*8)
			}
		}
	})
	t.Logf("%d accepted, %d refused", accepted, refused)
	if accepted < 500 || refused < 100 {
		t.Errorf("only %d accepted and %d refused texts were compared", accepted, refused)
	}
}

// spiFault checks that the address or SAID that spi refused is refused, in one of the
// families in which spi may have parsed it.
func spiFault(t *testing.T, c *recorded.Command, r Resolver) {
	t.Helper()
	text := c.Fault.Text
	var err error
	if c.Fault.Option == "--said" {
		if c.Impl == recorded.Openswan300 && text != strings.ToLower(text) {
			return // the later generation accepts capitals
		}
		_, err = ParseSAID(text, r)
	} else {
		f, _ := ParseFamily(c.Option("--af"))
		fams := []Family{f, FamilyAny}
		for _, a := range c.Args {
			switch a {
			case "--ip6":
				fams = append(fams, Family6)
			case "--ip4":
				fams = append(fams, Family4)
			}
		}
		if text := c.Option("--said"); text != "" {
			id, _ := ParseSAID(text, r)
			fams = append(fams, FamilyOf(id.Dst))
		}
		for _, fam := range fams {
			if _, err = ParseAddr(text, fam, r); err != nil {
				break
			}
		}
	}
	if err == nil {
		t.Errorf("%s %q: %s %q was read, the original refused it", c.ID, c.Args, c.Fault.Option, text)
	}
}

// refusedKey reports whether a key is refused, or is one that only the later generation
// accepts.
func refusedKey(c *recorded.Command, k string) bool {
	_, err := ParseKey(k)
	return err != nil || c.Impl == recorded.Openswan300 && len(k) > 1 && (k[1] == 'X' || k[1] == 'S' || k[1] == 'T')
}

func aead(t klips.Transform) bool {
	i, _ := t.Enc.Info()
	return i.AEAD
}

// unsupportedESP matches names of ciphers that no stack here has.
func unsupportedESP(name string) bool {
	for _, s := range []string{"ctr", "ccm", "twofish", "serpent", "camellia", ";modp", " aes"} {
		if strings.Contains(name, s) {
			return true
		}
	}
	return false
}

// TestGoldenESPRefused compares ParseESP with the --esp names that both older
// generations refuse; the exceptions are later abilities.
func TestGoldenESPRefused(t *testing.T) {
	type verdict struct{ taken, refused bool }
	seen := map[string]*verdict{}
	eachGolden(t, "spi", func(c *recorded.Command) {
		name := c.Option("--esp")
		if c.Impl == recorded.Libreswan332 || name == "" || strings.HasPrefix(name, "--") {
			return
		}
		v := seen[name]
		if v == nil {
			v = new(verdict)
			seen[name] = v
		}
		if c.Exit == 0 {
			v.taken = true
		} else if f := c.Fault; f != nil && f.Kind == recorded.FaultAlgorithm && f.Option == "--esp" && f.Text == name {
			v.refused = true
		}
	})
	later := map[string]bool{
		"3des-sha1": true, "null-sha1": true, // refused for their keys
		"aes_gcm_c128-null": true, "aes128-none": true, "aes128-sha1-96": true, "aes_gcm256": true, "chacha20_poly1305": true,
	}
	n := 0
	for name, v := range seen {
		_, _, err := ParseESP(name)
		switch {
		case v.refused && !v.taken && err == nil && !later[name]:
			t.Errorf("ParseESP(%q) succeeded, but all originals refuse it", name)
		case v.taken && err != nil && !unsupportedESP(name):
			t.Errorf("ParseESP(%q): %v, but an original takes it", name, err)
		}
		n++
	}
	if n < 40 {
		t.Errorf("only %d names were compared", n)
	}
}
