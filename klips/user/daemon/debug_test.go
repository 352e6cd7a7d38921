package daemon_test

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/user/daemon"
)

// A lockedBuffer is a log.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// has reports whether one line contains all texts.
func (l *lockedBuffer) has(texts ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
lines:
	for line := range strings.Lines(l.b.String()) {
		for _, t := range texts {
			if !strings.Contains(line, t) {
				continue lines
			}
		}
		return true
	}
	return false
}

// The log has a line for each message, with its header alone. With Config.Debug all
// areas are on from the start.
func TestDebugLog(t *testing.T) {
	for _, debug := range []bool{false, true} {
		log := &lockedBuffer{}
		rundir := startWith(t, daemon.Config{
			Host:  klipstest.NewHost(new(klipstest.Network), []netip.Addr{local}, "eth0"),
			Debug: debug, Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		})
		c := dial(t, rundir)
		got, err := c.Debug(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if on := got[klips.DebugPFKey] != 0; on != debug || got[klips.DebugVerbose] != 0 {
			t.Errorf("with Debug %v the masks are %x", debug, got)
		}
		spec := &klips.SASpec{ID: klips.SAID{Dst: local, SPI: 0x100, Proto: klips.ProtoESP},
			Transform: klips.Transform{Enc: alg.AES}, EncKey: []byte("Sixteen bytes!!!")}
		if err := c.AddSA(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		if err := c.AddSA(t.Context(), spec); err == nil {
			t.Fatal("the same SA can be made twice")
		}
		if got := log.has("area=pfkey", "msg=request", "type=ADD"); got != debug {
			t.Errorf("with Debug %v the log has the request: %v", debug, got)
		}
		if got := log.has("area=pfkey", "msg=answer", "type=ADD", "errno=", "exists"); got != debug {
			t.Errorf("with Debug %v the log has the refusal: %v", debug, got)
		}
		if log.has("Sixteen") || log.has("5369787465656e") {
			t.Error("the log has a key")
		}
	}
}
