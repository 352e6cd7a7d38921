package alg

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// Each row has all required fields, and no two rows have the same name.
func TestRows(t *testing.T) {
	names := map[string]string{}
	check := func(kind, id string, i Info) {
		t.Helper()
		if i.Word == "" || i.Listing == "" || len(i.KeyBits) == 0 || len(i.Names) == 0 || i.Title == "" || i.Setkey == "" ||
			(i.RFC == 0) != (id == "hmac-sha2-256-96") {
			t.Errorf("%s %s: %+v", kind, id, i)
		}
		for _, n := range append([]string{"word " + i.Word, "listing " + i.Listing, "title " + i.Title}, i.Names...) {
			if other, ok := names[kind+n]; ok {
				t.Errorf("%s %s and %s have the name %s", kind, id, other, n)
			}
			names[kind+n] = id
			if slices.Contains(i.Names, n) && (n != strings.ToLower(n) || strings.Contains(n, "_")) {
				t.Errorf("%s %s: the name %q is not in lower case with hyphens", kind, id, n)
			}
		}
	}
	for _, a := range Auths() {
		i, ok := a.Info()
		check("auth", a.String(), i)
		if !ok || a == AuthNone || i.ICV == 0 || i.Hash < 8*i.ICV || i.Usage == "" {
			t.Errorf("%v: %+v", a, i)
		}
		if b, ok := AuthNamed(i.Names[0]); !ok || b != a {
			t.Errorf("AuthNamed(%q) = %v, %v", i.Names[0], b, ok)
		}
	}
	for _, e := range Encs() {
		i, ok := e.Info()
		check("enc", e.String(), i)
		if !ok || e == EncNone || i.Block == 0 || i.AEAD != (i.ICV > 0) {
			t.Errorf("%v: %+v", e, i)
		}
		if b := EncOfSetkey(i.Setkey); b != e {
			t.Errorf("EncOfSetkey(%q) = %v, want %v", i.Setkey, b, e)
		}
	}
	for _, c := range Comps() {
		i, ok := c.Info()
		check("comp", c.String(), i)
		if b, named := CompNamed(i.Names[0]); !ok || !named || b != c {
			t.Errorf("CompNamed(%q) = %v, %v", i.Names[0], b, named)
		}
		if b := CompOfSetkey(i.Setkey); b != c {
			t.Errorf("CompOfSetkey(%q) = %v, want %v", i.Setkey, b, c)
		}
	}
	for _, name := range []string{"", "rot13"} {
		if e, c := EncOfSetkey(name), CompOfSetkey(name); e != EncNone || c != CompNone {
			t.Errorf("of setkey %q: %v and %v", name, e, c)
		}
	}
	for _, none := range []func() (Info, bool){AuthNone.Info, EncNone.Info, CompNone.Info} {
		if i, ok := none(); !ok || i.Word != "none" || i.KeyBits[0] != 0 || i.Kernel != "" {
			t.Errorf("none: %+v, %v", i, ok)
		}
	}
	if i, ok := Enc(77).Info(); ok || i.Word != "" {
		t.Errorf("an unknown one: %+v", i)
	}
}

// In JSON an algorithm is its word, or its number if it is unknown; numbers are
// accepted too.
func TestJSON(t *testing.T) {
	type transform struct {
		Auth Auth `json:"auth"`
		Enc  Enc  `json:"enc"`
		Comp Comp `json:"comp"`
	}
	for text, want := range map[string]transform{
		`{"auth":"hmac-sha1","enc":"aes","comp":"none"}`:             {SHA1, AES, CompNone},
		`{"auth":"none","enc":"chacha20-poly1305","comp":"deflate"}`: {AuthNone, ChaCha20Poly1305, Deflate},
		`{"auth":"hmac-sha2-256-96","enc":"none","comp":"lzs"}`:      {SHA256Trunc, EncNone, LZS},
		`{"auth":"9","enc":"253","comp":"255"}`:                      {9, 253, 255},
	} {
		b, err := json.Marshal(want)
		if err != nil || string(b) != text {
			t.Errorf("%+v is %s, %v; want %s", want, b, err, text)
		}
		var got transform
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s is %+v, %v; want %+v", text, got, err, want)
		}
	}
	var got transform
	if err := json.Unmarshal([]byte(`{"auth":3,"enc":12,"comp":2}`), &got); err != nil || got != (transform{SHA1, AES, Deflate}) {
		t.Errorf("numbers: %+v, %v", got, err)
	}
	for _, bad := range []string{`{"auth":"rot13"}`, `{"enc":256}`, `{"comp":-1}`, `{"enc":[]}`, `{"auth":"` + strings.Repeat("x", 1000) + `"}`} {
		if err := json.Unmarshal([]byte(bad), &got); err == nil || len(err.Error()) > 100 {
			t.Errorf("%.40s: %v", bad, err)
		}
	}
}

func FuzzJSON(f *testing.F) {
	f.Add([]byte(`"aes"`))
	f.Add([]byte(`12`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var e Enc
		if e.UnmarshalJSON(b) != nil {
			return
		}
		again, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		var same Enc
		if err := same.UnmarshalJSON(again); err != nil || same != e {
			t.Errorf("%s is %d, and %s is %d, %v", b, e, again, same, err)
		}
	})
}
