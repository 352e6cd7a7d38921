package engine_test

import (
	"errors"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips/user/engine"
)

// wantDirect checks that ipsec0 is attached to a physical device, directly or not.
func (w *physicalWorld) wantDirect(what, physical string, direct bool) {
	w.t.Helper()
	l, err := w.e.Devices(w.t.Context())
	if err != nil || len(l) != 1 || l[0].Physical != physical || l[0].Direct != direct || (w.host.Direct(physical) == 1) != direct {
		w.t.Errorf("%s: devices are %+v, %v, and %d wires of %s send directly; want %v", what, l, err, w.host.Direct(physical), physical, direct)
	}
}

// A device that sends directly does so until a command detaches it: also after its
// physical device was down or renamed, in the next engine that takes the device up, and
// after a hand-over.
func TestDirectStays(t *testing.T) {
	w := newPhysicalWorld(t)
	w.wantDirect("attached as usual", "eth0", false)
	w.must(w.e.Detach(t.Context(), "ipsec0"))
	w.must(w.e.AttachDirect(t.Context(), "ipsec0", "eth0"))
	w.wantDirect("attached directly", "eth0", true)

	w.host.TakeDown("eth0")
	w.host.BringUp("eth0")
	w.await("it is attached again", func() bool { return w.log.lines("attached again") == 1 })
	w.wantDirect("down and up", "eth0", true)
	w.host.RenameDevice("eth0", "wan0")
	w.awaitPhysical("wan0")
	w.await("its name is kept", func() bool { return w.log.lines("another name") == 1 })

	w.must(w.e.Close())
	wantLeft(t, w.host, engine.LeftLink{Name: "ipsec0", Physical: "wan0", ChosenMTU: 1500, Direct: true})
	again := func() (err error) {
		w.e, err = engine.New(w.host, engine.Config{})
		return err
	}
	w.must(again())
	defer func() { w.e.Close() }()
	w.must(w.e.TakeUp(nil))
	w.must(w.e.KeepDevices())
	w.wantDirect("taken up", "wan0", true)

	w.e = next(t, w.host, engine.Config{}, w.e)
	w.must(w.e.KeepDevices())
	w.wantDirect("handed over", "wan0", true)

	w.must(w.e.Detach(t.Context(), "ipsec0"))
	w.must(w.e.Attach(t.Context(), "ipsec0", "wan0"))
	w.wantDirect("detached, and attached as usual", "wan0", false)
	w.must(w.e.Close())
	wantLeft(t, w.host, engine.LeftLink{Name: "ipsec0", Physical: "wan0", ChosenMTU: 1500})
}

// A host that cannot do it refuses, and nothing is attached.
func TestDirectRefused(t *testing.T) {
	w := newPhysicalWorld(t)
	w.must(w.e.Detach(t.Context(), "ipsec0"))
	w.host.ForbidDirect()
	if err := w.e.AttachDirect(t.Context(), "ipsec0", "eth0"); !errors.Is(err, syscall.EAFNOSUPPORT) {
		t.Errorf("AttachDirect = %v, want EAFNOSUPPORT", err)
	}
	w.wantDirect("refused", "", false)
	if n := w.host.Wires(); n != 0 {
		t.Errorf("%d wires are open, want none", n)
	}
}
