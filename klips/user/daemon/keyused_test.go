package daemon_test

import (
	"bytes"
	"slices"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user/control"
)

// TestKeyUsed: ADD and UPDATE refuse to give two outbound SAs the same key. The key
// daemon that asked learns which SA has the key; others receive the errno alone.
func TestKeyUsed(t *testing.T) {
	rundir, _ := start(t)
	s, other := open(t, rundir), open(t, rundir)
	if r, _ := other.ask(pfkey.Register(pfkey.SATypeESP)); r.Errno != 0 {
		t.Fatal(r.Errno)
	}
	other.received()
	gcm := func(spi klips.SPI, key byte) *klips.SASpec {
		a := espSpec(spi, key)
		a.Enc, a.Auth, a.AuthKey, a.EncKey = alg.AESGCM, 0, nil, bytes.Repeat([]byte{key}, 36)
		return a
	}
	done := func(what string, m *pfkey.Message) {
		t.Helper()
		if r, _ := s.ask(m); r.Errno != 0 {
			t.Errorf("%s: %v", what, r.Errno)
		}
		other.received()
	}
	refused := func(what string, m *pfkey.Message) {
		t.Helper()
		r, _ := s.ask(m)
		want := []klips.SAID{said(klips.ProtoESP, 0x100)}
		if ids, err := control.SAIDsOf(r); r.Errno != syscall.EKEYREJECTED || err != nil || !slices.Equal(ids, want) || r.KeyEncrypt != nil {
			t.Errorf("%s: %v, want EKEYREJECTED and %v", what, r, want)
		}
		l := other.received()
		if len(l) != 1 {
			t.Fatalf("%s: the others receive %x, want one message", what, l)
		}
		if m, err := pfkey.Parse(l[0]); err != nil || m.Errno != syscall.EKEYREJECTED || len(l[0]) != 16 {
			t.Errorf("%s: the others receive %v, %v, want the header with EKEYREJECTED", what, m, err)
		}
	}
	done("the first", pfkey.AddSA(gcm(0x100, 7)))
	refused("ADD", pfkey.AddSA(gcm(0x101, 7)))
	done("another key", pfkey.AddSA(gcm(0x101, 8)))
	refused("UPDATE", pfkey.UpdateSA(gcm(0x101, 7)))
	done("UPDATE with its own", pfkey.UpdateSA(gcm(0x101, 8)))
	reuse := gcm(0x102, 7)
	reuse.ReuseKey = true
	done("as was asked for", control.AddSA(reuse))
}
