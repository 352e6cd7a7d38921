package engine_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/user/engine"
)

// A logbook is the log of an engine.
type logbook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logbook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// lines returns how many lines contain a text.
func (l *logbook) lines(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}

// A physicalWorld is an engine with ipsec0 attached to eth0, and its log.
type physicalWorld struct {
	t    *testing.T
	host *klipstest.Host
	e    *engine.Engine
	log  logbook
}

func newPhysicalWorld(t *testing.T) *physicalWorld {
	t.Helper()
	w := &physicalWorld{t: t, host: keptHost()}
	var err error
	if w.e, err = engine.New(w.host, engine.Config{Log: slog.New(slog.NewTextHandler(&w.log, nil))}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.e.Close() })
	w.must(w.e.KeepDevices())
	w.must(w.e.CreateDevice(t.Context(), "ipsec0"))
	w.must(w.e.Attach(t.Context(), "ipsec0", "eth0"))
	return w
}

func (w *physicalWorld) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// physical returns what ipsec0 is attached to; "": nothing.
func (w *physicalWorld) physical() string {
	w.t.Helper()
	l, err := w.e.Devices(w.t.Context())
	if err != nil || len(l) != 1 {
		w.t.Fatalf("devices are %v, %v", l, err)
	}
	return l[0].Physical
}

// await waits until holds returns true. It waits for long only if the test fails.
func (w *physicalWorld) await(what string, holds func() bool) {
	w.t.Helper()
	for end := time.Now().Add(time.Minute); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("not within a minute: %s; the log is\n%s", what, w.log.text.String())
		}
	}
}

func (w *physicalWorld) awaitPhysical(want string) {
	w.t.Helper()
	w.await("ipsec0 is on "+want, func() bool { return w.physical() == want })
}

// A device whose physical device was down is attached again when that is up, and keeps
// its MTU.
func TestPhysicalComesBack(t *testing.T) {
	w := newPhysicalWorld(t)
	w.must(w.host.Link("ipsec0").SetMTU(1234))
	for n := 1; n <= 3; n++ {
		w.host.TakeDown("eth0")
		if p := w.physical(); p != "" {
			t.Errorf("eth0 is down and ipsec0 is on %q", p)
		}
		w.host.BringUp("eth1") // ipsec0 does not wait for this one
		w.host.BringUp("eth0")
		w.awaitPhysical("eth0")
		w.await("it is logged", func() bool { return w.log.lines("attached again") == n && w.log.lines("down or gone") == n })
	}
	if mtu, err := w.host.Link("ipsec0").MTU(); mtu != 1234 {
		t.Errorf("MTU = %d, %v, want 1234", mtu, err)
	}
	// A command may attach the device that waits, as in KLIPS.
	w.must(w.e.Attach(t.Context(), "ipsec0", "eth0"))
	if err := w.e.Attach(t.Context(), "ipsec0", "eth0"); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("attached twice: %v, want EBUSY", err)
	}
	if n := w.host.Wires(); n != 1 {
		t.Errorf("%d wires are open, want 1", n)
	}
}

// A command that comes before the physical device takes effect.
func TestPhysicalComesBackTooLate(t *testing.T) {
	for _, tt := range []struct {
		what string
		do   func(w *physicalWorld) error
		want string
	}{
		{"detach", func(w *physicalWorld) error {
			if err := w.e.Detach(t.Context(), "ipsec0"); !errors.Is(err, syscall.ENODEV) {
				return err // as in KLIPS: it is attached to nothing
			}
			return nil
		}, ""},
		{"detach all", func(w *physicalWorld) error { return w.e.DetachAll(t.Context()) }, ""},
		{"attach to another", func(w *physicalWorld) error { return w.e.Attach(t.Context(), "ipsec0", "eth1") }, "eth1"},
		{"delete and create", func(w *physicalWorld) error {
			return errors.Join(w.e.DeleteDevice(t.Context(), "ipsec0"), w.e.CreateDevice(t.Context(), "ipsec0"))
		}, ""},
	} {
		t.Run(tt.what, func(t *testing.T) {
			w := newPhysicalWorld(t)
			w.host.TakeDown("eth0")
			w.must(tt.do(w))
			w.host.BringUp("eth0")
			// Another device comes back after it and is attached. So this one would have
			// been attached, too.
			w.must(w.e.CreateDevice(t.Context(), "ipsec1"))
			w.must(w.e.Attach(t.Context(), "ipsec1", "eth0"))
			w.host.TakeDown("eth0")
			w.host.BringUp("eth0")
			w.await("ipsec1 is on eth0 again", func() bool { return w.log.lines("attached again") == 1 })
			l, err := w.e.Devices(t.Context())
			if err != nil || l[0].Physical != tt.want {
				t.Errorf("ipsec0 is on %q, %v, want %q", l[0].Physical, err, tt.want)
			}
		})
	}
}

// An attachment is to a device, even if its name changes.
func TestPhysicalIsRenamed(t *testing.T) {
	w := newPhysicalWorld(t)
	w.host.RenameDevice("eth0", "wan0")
	w.await("it is logged", func() bool { return w.log.lines("has another name") == 1 })
	if p := w.physical(); p != "wan0" {
		t.Errorf("ipsec0 is on %q, want wan0", p)
	}
	// Older kernels rename a device only while it is down.
	w.host.TakeDown("wan0")
	w.host.RenameDevice("wan0", "wan1")
	w.host.AddDevice("wan0", 1500)
	w.host.BringUp("wan1")
	w.awaitPhysical("wan1")
	w.must(w.e.Close())
	wantLeft(t, w.host, engine.LeftLink{Name: "ipsec0", Physical: "wan1", ChosenMTU: 1500})
}

// If a device is removed, the next one with its name replaces it, and the log reports
// that.
func TestPhysicalIsReplaced(t *testing.T) {
	w := newPhysicalWorld(t)
	w.host.RemoveDevice("eth0")
	if p := w.physical(); p != "" {
		t.Errorf("eth0 is gone and ipsec0 is on %q", p)
	}
	w.host.AddDevice("eth0", 1400)
	w.awaitPhysical("eth0")
	w.await("it is logged", func() bool { return w.log.lines("another physical device of the same name") == 1 })
	l, err := w.e.Devices(t.Context())
	if err != nil || l[0].AttMTU != 1400 {
		t.Errorf("the devices are %+v, %v, want an MTU of 1400", l, err)
	}
}

// A device that was left is attached when its physical device appears.
func TestPhysicalComesLater(t *testing.T) {
	h := klipstest.NewHost(new(klipstest.Network), []netip.Addr{netip.MustParseAddr("192.0.2.1")})
	h.Leave("ipsec0", "eth0")
	failed := 0
	run(t, h, func(string, error) { failed++ }, func(e *engine.Engine) {
		w := &physicalWorld{t: t, host: h, e: e}
		w.must(e.DeleteDevice(t.Context(), "ipsec1"))
		if p := w.physical(); p != "" || failed != 1 {
			t.Errorf("ipsec0 is on %q, and %d failures were reported", p, failed)
		}
		h.AddDevice("eth0", 1500)
		w.awaitPhysical("eth0")
		if mtu, err := h.Link("ipsec0").MTU(); mtu != klips.DeviceMTU {
			t.Errorf("MTU = %d, %v, want %d", mtu, err, klips.DeviceMTU)
		}
	})
}
