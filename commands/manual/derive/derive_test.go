package derive

import (
	"encoding/hex"
	"testing"

	"github.com/klips-go/ipsec/klips"
)

// TestVectors: keys are derived as by RFC 5869, and as an HKDF in Python derives them.
func TestVectors(t *testing.T) {
	if err := CheckHKDF(); err != nil {
		t.Error(err)
	}
	for _, v := range Vectors() {
		if err := v.Check(); err != nil {
			t.Errorf("%+v: %v", v.SA, err)
		}
		for name, change := range map[string]func(w *Vector){
			"epoch":  func(w *Vector) { w.SA.Epoch++ },
			"master": func(w *Vector) { w.MasterSize++ },
			"end":    func(w *Vector) { w.SA.To = "middle" },
			"keys":   func(w *Vector) { w.Enc, w.Auth = w.Enc+"00", w.Auth+"00" },
		} {
			w := v
			change(&w)
			if w.Check() == nil {
				t.Errorf("%+v with another %s passes", v.SA, name)
			}
		}
	}
	net := SA{klips.ProtoESP, "net", "right", 0x1002, 0}
	if enc, auth, err := net.Keys(master(32), 255*32+1, 20); err == nil || enc != nil || auth != nil {
		t.Errorf("a key that is too long: %x, %x, %v, want an error", enc, auth, err)
	}
}

// TestInfo checks the bytes that distinguish a key, also those of names that could be
// divided in two ways.
func TestInfo(t *testing.T) {
	s := SA{Proto: klips.ProtoESP, Conn: "net", To: "right", SPI: 0x1002}
	const want = "00036573700003656e6300036e657400057269676874000400001002000400000000"
	if got := hex.EncodeToString([]byte(s.info("enc"))); got != want {
		t.Errorf("info = %s, want %s", got, want)
	}
	seen := map[string]SA{}
	for _, proto := range []klips.Proto{klips.ProtoESP, klips.ProtoAH} {
		for _, conn := range []string{"", "a", "aleft", "al", "a left"} {
			for _, to := range []string{"left", "right", "eft"} {
				for _, spi := range []klips.SPI{0x100, 0x10000, 0x1000000} {
					for _, epoch := range []uint32{0, 1, 0x100} {
						for _, use := range []string{"enc", "auth"} {
							s := SA{proto, conn, to, spi, epoch}
							if other, ok := seen[s.info(use)]; ok {
								t.Errorf("%+v and %+v have the same info", s, other)
							}
							seen[s.info(use)] = s
						}
					}
				}
			}
		}
	}
}
