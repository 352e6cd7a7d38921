package daemon_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user"
	"github.com/klips-go/ipsec/klips/user/control"
)

// Limits of the daemon, see idle.go.
const (
	maxClients   = 256
	maxListeners = 192
	idleTimeout  = 5 * time.Minute
	idleInterval = time.Minute
)

// ended reports whether the daemon has closed the connection. It waits as long as for
// any message.
func (s *socket) ended() bool {
	s.t.Helper()
	_ = s.c.SetReadDeadline(time.Now().Add(patience))
	for {
		n, err := s.c.Read(make([]byte, pfkey.MaxMessage))
		if n == 0 || err != nil {
			return n == 0 && err == nil || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)
		}
	}
}

// A buffer is a log that daemons write while a test reads it.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// lines returns the lines that contain a word.
func (b *buffer) lines(word string) (l []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for line := range strings.Lines(b.b.String()) {
		if strings.Contains(line, word) {
			l = append(l, line)
		}
	}
	return l
}

// However many idle clients there are, new clients find room: the one that was idle
// longest is closed first. The log does not fill.
func TestManyIdleClients(t *testing.T) {
	var log buffer
	rundir, _, clock := startAt(t, slog.New(slog.NewTextHandler(&log, nil)))
	var idle []*socket
	for range maxClients {
		idle = append(idle, open(t, rundir))
		clock.Advance(time.Millisecond)
	}
	idle[0].received() // the first one is not idle now, so the second one is idle longest
	clock.Advance(time.Millisecond)
	const more = 40
	for range more {
		c := open(t, rundir)
		clock.Advance(time.Millisecond)
		c.ask(control.Status())
	}
	for i, s := range idle[1 : 1+more] {
		if !s.ended() {
			t.Fatalf("client %d is still there", i+1)
		}
	}
	for _, i := range []int{0, 1 + more, maxClients - 1} {
		idle[i].received() // fails if it was closed
	}
	if l := log.lines("too many clients"); len(l) != 10 {
		t.Errorf("%d lines of %d clients that went: %q", len(l), more, l)
	}
	clock.Advance(time.Minute)
	if l := log.lines("30 more suppressed"); len(l) != 1 || !strings.Contains(l[0], "too many clients") {
		t.Errorf("after a minute the log has %q", log.lines(""))
	}
	// The daemon can still be stopped.
	if err := dial(t, rundir).Stop(t.Context()); err != nil {
		t.Errorf("Stop = %v", err)
	}
}

// A client that only waits is closed after a while; a client that listens or asks is
// not.
func TestIdleClientIsClosed(t *testing.T) {
	rundir, _, clock := startAt(t, nil)
	idle, listener, asker := open(t, rundir), open(t, rundir), open(t, rundir)
	listener.ask(pfkey.Register(pfkey.SATypeESP))
	c := dial(t, rundir)
	if _, err := c.SAs(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		clock.Advance(idleTimeout / 5)
		asker.received()
	}
	if !idle.ended() {
		t.Error("an idle client is still there")
	}
	// A command that waited long for its next line can go on.
	if err := c.AddSA(t.Context(), tunSpec(0x1001)); err != nil {
		t.Errorf("AddSA after a long time: %v", err)
	}
	if l := listener.messages(); len(l) != 1 {
		t.Errorf("the listener received %v, want one ADD", l)
	}
	if l := asker.messages(); len(l) != 1 {
		t.Errorf("the client that asks received %v, want one ADD", l)
	}
}

// A client that asks and does not read the answer counts as idle.
func TestSlowClientIsClosed(t *testing.T) {
	rundir, _, clock := startAt(t, nil)
	c := dial(t, rundir)
	for spi := range klips.SPI(2000) {
		if err := c.AddSA(t.Context(), tunSpec(0x1000+spi)); err != nil {
			t.Fatal(err)
		}
	}
	slow := open(t, rundir)
	for range 5 {
		slow.write(control.ListTable(control.TableSAs))
	}
	clock.Advance(idleTimeout + idleInterval)
	if !slow.ended() {
		t.Error("it is still there")
	}
}

// Listeners cannot take all places.
func TestManyListeners(t *testing.T) {
	rundir, _, _ := startAt(t, nil)
	var last *socket
	for range maxListeners {
		last = open(t, rundir)
		if r, _ := last.ask(pfkey.Register(pfkey.SATypeAH)); r.Errno != 0 {
			t.Fatal(r.Errno)
		}
	}
	if r, _ := last.ask(pfkey.Register(pfkey.SATypeComp)); r.Errno != 0 {
		t.Errorf("a listener registers for more: %v", r.Errno)
	}
	s := open(t, rundir)
	if r, _ := s.ask(pfkey.Register(pfkey.SATypeComp)); r.Errno != syscall.ENOBUFS {
		t.Errorf("one listener too many: %v, want ENOBUFS", r.Errno)
	}
	for range maxClients {
		open(t, rundir)
	}
	last.c.Close()
	eventually(t, "there is room for a listener", func() bool {
		r, _ := open(t, rundir).ask(pfkey.Register(pfkey.SATypeIPIP))
		return r.Errno == 0
	})
	if _, err := klipstest.Dial(user.SocketPath(rundir)); err != nil {
		t.Error(err)
	}
}
