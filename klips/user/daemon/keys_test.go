package daemon_test

import (
	"bytes"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user/control"
	"github.com/klips-go/ipsec/klips/user/daemon"
)

// TestKeys: the client that asks gets the keys of the SA, if it is root; other clients and
// the log get nothing of them, and GET has none.
func TestKeys(t *testing.T) {
	log := &lockedBuffer{}
	rundir := startWith(t, daemon.Config{
		Host:  klipstest.NewHost(new(klipstest.Network), []netip.Addr{local}, "eth0"),
		Debug: true, Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	s, other := open(t, rundir), open(t, rundir)
	if r, _ := other.ask(pfkey.Register(pfkey.SATypeESP)); r.Errno != 0 {
		t.Fatal(r.Errno)
	}
	spec := espSpec(0x100, 7)
	auth, enc := slices.Clone(spec.AuthKey), slices.Clone(spec.EncKey)
	if r, _ := s.ask(pfkey.AddSA(spec)); r.Errno != 0 {
		t.Fatal(r.Errno)
	}
	other.received()
	id := said(klips.ProtoESP, 0x100)
	if r, _ := s.ask(pfkey.GetSA(id)); r.Errno != 0 || r.KeyAuth != nil || r.KeyEncrypt != nil {
		t.Errorf("GET: %v, want no keys", r)
	}
	r, _ := s.ask(control.Keys(id))
	switch k := control.KeysOf(r); {
	case os.Geteuid() != 0:
		if r.Errno != syscall.EPERM || k.AuthKey != nil || k.EncKey != nil {
			t.Errorf("KEYS = %v, want EPERM", r)
		}
	case r.Errno != 0 || !bytes.Equal(k.AuthKey, auth) || !bytes.Equal(k.EncKey, enc) || k.Marked:
		t.Errorf("KEYS = %v, want the keys, without marks", r)
	}
	if r, _ := s.ask(control.Keys(said(klips.ProtoESP, 0x101))); r.Errno != syscall.ESRCH && os.Geteuid() == 0 {
		t.Errorf("KEYS of no SA = %v, want ESRCH", r)
	}
	if l := other.received(); len(l) != 0 {
		t.Errorf("the others receive %x", l)
	}
	if strings.Contains(log.String(), string(enc)) || strings.Contains(log.String(), "0707") || strings.Contains(log.String(), `\a\a`) {
		t.Errorf("the log has a key:\n%s", log)
	}
	if os.Geteuid() == 0 && !log.has("keys are given", id.String()) {
		t.Errorf("the log does not name the SA:\n%s", log)
	}
}
