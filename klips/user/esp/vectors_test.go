package esp

import (
	"strings"
	"testing"

	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// TestVectors: packets are sealed and opened as RFCs and other programs do it.
func TestVectors(t *testing.T) {
	for _, v := range Vectors() {
		if err := v.Check(); err != nil {
			t.Errorf("%s: %v", v.Source, err)
		}
	}
}

// TestWrongVectors: Check finds a difference in each part of a vector.
func TestWrongVectors(t *testing.T) {
	flip := func(s string, at int) string {
		i := at
		if at < 0 {
			i = len(s) + at
		}
		return s[:i] + string("123456789abcdef0"[strings.IndexByte("0123456789abcdef", s[i])]) + s[i+1:]
	}
	for _, v := range Vectors() {
		wrong := map[string]Vector{}
		for name, change := range map[string]func(w *Vector){
			"sealed packet":      func(w *Vector) { w.Wire = flip(w.Wire, -1) },
			"clear packet":       func(w *Vector) { w.Clear = flip(w.Clear, -1) },
			"IV":                 func(w *Vector) { w.IV = flip(w.IV, 0) },
			"SPI":                func(w *Vector) { w.SPI++ },
			"sequence number":    func(w *Vector) { w.Seq++ },
			"encryption key":     func(w *Vector) { w.EncKey = flip(w.EncKey, 1) },
			"authentication key": func(w *Vector) { w.AuthKey = flip(w.AuthKey, 0) },
			"algorithm":          func(w *Vector) { w.Transform.Auth = alg.AuthNone; w.Transform.Enc = alg.EncNone },
		} {
			switch {
			case name == "IV" && v.IV == "", name == "encryption key" && v.EncKey == "", name == "authentication key" && v.AuthKey == "":
				continue
			}
			w := v
			change(&w)
			wrong[name] = w
		}
		for name, w := range wrong {
			if err := w.Check(); err == nil {
				t.Errorf("%s with another %s passes", v.Source, name)
			}
		}
	}
}

func open(o *Opener, b *packet.Buffer, h *packet.Header) (bool, error) { return openAs(o, b, h, 0) }

func openAs(o *Opener, b *packet.Buffer, h *packet.Header, seq uint64) (bool, error) {
	if err := o.Verify(b, h, seq); err != nil {
		return false, err
	}
	return o.Open(b, h)
}
