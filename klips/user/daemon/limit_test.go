package daemon

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/klips/user/clock/clocktest"
)

func TestLimits(t *testing.T) {
	var out strings.Builder
	plain := slog.NewTextHandler(&out, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})
	clock := clocktest.New()
	l := newLimits(plain, clock)
	log := slog.New(l)
	wrote := func() string {
		defer out.Reset()
		return out.String()
	}
	lines := func(format string, n int) (s string) {
		for i := range n {
			s += fmt.Sprintf(format+"\n", i)
		}
		return s
	}
	check := func(what, want string) {
		t.Helper()
		if d := cmp.Diff(want, wrote()); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
	}
	other := log.With("by", "other")
	for i := range logBurst {
		log.Warn("refused", "n", i)
	}
	check("up to the limit", lines("level=WARN msg=refused n=%d", logBurst))
	for i := range 500 {
		log.Warn("refused", "n", i)
		other.WithGroup("g").Warn("refused", "n", i)
		log.Debug("seen", "n", i)
	}
	check("above the limit only what is for debugging", lines("level=DEBUG msg=seen n=%d", 500))
	log.Info("stopping")
	check("another text", "level=INFO msg=stopping\n")
	clock.Advance(logInterval - 1)
	check("before the interval ends", "")
	clock.Advance(1)
	check("at its end", "level=WARN msg=\"refused: 1000 more suppressed\"\n")
	log.Warn("refused")
	check("afterwards", "level=WARN msg=refused\n")
	clock.Advance(time.Hour)
	check("when there was no more", "")
	for range logBurst + 3 {
		log.Error("failed")
	}
	wrote()
	l.flush()
	check("at the end of the daemon", "level=ERROR msg=\"failed: 3 more suppressed\"\n")
	clock.Advance(time.Hour)
	check("no line comes twice", "")
	if n := len(l.seen); n != 0 {
		t.Errorf("%d texts are kept", n)
	}
}
