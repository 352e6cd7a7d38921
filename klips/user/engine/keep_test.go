package engine_test

import (
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/user/engine"
)

// keptHost is a host with two physical devices.
func keptHost() *klipstest.Host {
	return klipstest.NewHost(new(klipstest.Network), []netip.Addr{netip.MustParseAddr("192.0.2.1")}, "eth0", "eth1")
}

// run starts an engine on a host, takes up the devices that were left, makes ipsec0 and
// ipsec1, and keeps devices. It calls f, and closes the engine.
func run(t *testing.T, h *klipstest.Host, failed func(string, error), f func(e *engine.Engine)) {
	t.Helper()
	e, err := engine.New(h, engine.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if err := e.TakeUp(failed); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"ipsec0", "ipsec1"} {
		if err := e.CreateDevice(t.Context(), d); err != nil && !errors.Is(err, syscall.EEXIST) {
			t.Fatal(err)
		}
	}
	if err := e.KeepDevices(); err != nil {
		t.Fatal(err)
	}
	f(e)
}

func wantLeft(t *testing.T, h *klipstest.Host, want ...engine.LeftLink) {
	t.Helper()
	if got, err := h.LeftLinks(); err != nil || !slices.Equal(got, want) {
		t.Errorf("left are %v, %v, want %v", got, err, want)
	}
}

// A device that was attached outlives its engine. The next engine has it attached as it
// was. A device that was never attached is removed.
func TestDevicesAreTakenUp(t *testing.T) {
	h := keptHost()
	run(t, h, nil, func(e *engine.Engine) {
		if err := e.Attach(t.Context(), "ipsec1", "eth0:3"); err != nil {
			t.Fatal(err)
		}
		if err := h.Link("ipsec1").SetMTU(1234); err != nil {
			t.Fatal(err)
		}
	})
	wantLeft(t, h, engine.LeftLink{Name: "ipsec1", Physical: "eth0", ChosenMTU: 1500})
	run(t, h, nil, func(e *engine.Engine) {
		devices, err := e.Devices(t.Context())
		if err != nil || len(devices) != 2 || devices[0].Physical != "" || devices[1].Physical != "eth0" || devices[1].MTU != 1234 {
			t.Errorf("devices = %+v, %v, want ipsec1 on eth0 with its MTU of 1234", devices, err)
		}
	})
	wantLeft(t, h, engine.LeftLink{Name: "ipsec1", Physical: "eth0", ChosenMTU: 1500})
}

// A command that sets up a tunnel again attaches its device. That succeeds once for a
// device that was taken up, and is refused from then on.
func TestTakenUpGivesWay(t *testing.T) {
	h := keptHost()
	attach := func(e *engine.Engine, physical string, want syscall.Errno) {
		t.Helper()
		err := e.Attach(t.Context(), "ipsec0", physical)
		if want == 0 && err != nil || want != 0 && !errors.Is(err, want) {
			t.Errorf("Attach to %s = %v, want %v", physical, err, want)
		}
	}
	run(t, h, nil, func(e *engine.Engine) { attach(e, "eth0", 0) })
	for _, physical := range []string{"eth0", "eth1"} {
		run(t, h, nil, func(e *engine.Engine) {
			attach(e, physical, 0)
			attach(e, physical, syscall.EBUSY)
			if n := h.Wires(); n != 1 {
				t.Errorf("%d wires are open, want 1", n)
			}
			if mtu, err := h.Link("ipsec0").MTU(); mtu != 1500 {
				t.Errorf("MTU = %d, %v, want 1500 as after any attach", mtu, err)
			}
		})
		wantLeft(t, h, engine.LeftLink{Name: "ipsec0", Physical: physical, ChosenMTU: 1500})
	}
	run(t, h, nil, func(e *engine.Engine) {
		if err := e.Detach(t.Context(), "ipsec0"); err != nil {
			t.Error(err)
		}
		attach(e, "eth0", 0)
		attach(e, "eth0", syscall.EBUSY)
	})
}

// A detached device outlives its engine without an attachment. A deleted device does not,
// and no device does after RemoveDevices.
func TestDevicesAreNotTakenUp(t *testing.T) {
	h := keptHost()
	run(t, h, nil, func(e *engine.Engine) {
		for _, d := range []string{"ipsec0", "ipsec1"} {
			if err := e.Attach(t.Context(), d, "eth0"); err != nil {
				t.Fatal(err)
			}
		}
		if err := e.Detach(t.Context(), "ipsec0"); err != nil {
			t.Error(err)
		}
		if err := e.DeleteDevice(t.Context(), "ipsec1"); err != nil {
			t.Error(err)
		}
	})
	wantLeft(t, h, engine.LeftLink{Name: "ipsec0"})
	run(t, h, nil, func(e *engine.Engine) {
		if err := e.Attach(t.Context(), "ipsec1", "eth0"); err != nil {
			t.Error(err)
		}
		e.RemoveDevices()
		if devices, err := e.Devices(t.Context()); err != nil || len(devices) != 0 {
			t.Errorf("devices = %v, %v, want none", devices, err)
		}
	})
	wantLeft(t, h)
}

// If the physical device of a device is removed before or while an engine runs, the
// engine attaches the device again when the physical device is back.
func TestPhysicalIsGone(t *testing.T) {
	h := keptHost()
	run(t, h, nil, func(e *engine.Engine) {
		if err := e.Attach(t.Context(), "ipsec0", "eth1"); err != nil {
			t.Fatal(err)
		}
		h.TakeDown("eth1")
	})
	wantLeft(t, h, engine.LeftLink{Name: "ipsec0", Physical: "eth1", ChosenMTU: 1500})

	gone := klipstest.NewHost(new(klipstest.Network), nil, "eth0")
	gone.Leave("ipsec0", "eth1")
	told := ""
	run(t, gone, func(device string, err error) {
		told = device
		if !errors.Is(err, syscall.ENXIO) {
			t.Errorf("failed was called with %v, want ENXIO", err)
		}
	}, func(e *engine.Engine) {
		devices, err := e.Devices(t.Context())
		if err != nil || len(devices) != 2 || devices[0].Physical != "" {
			t.Errorf("devices = %v, %v", devices, err)
		}
	})
	if told != "ipsec0" {
		t.Errorf("failed was called for %q, want ipsec0", told)
	}
	wantLeft(t, gone, engine.LeftLink{Name: "ipsec0", Physical: "eth1"})
}

// An engine without KeepDevices leaves no devices.
func TestDevicesGo(t *testing.T) {
	h := keptHost()
	e, err := engine.New(h, engine.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(e.CreateDevice(t.Context(), "ipsec0"), e.Attach(t.Context(), "ipsec0", "eth0"), e.Close()); err != nil {
		t.Fatal(err)
	}
	wantLeft(t, h)
	if h.Link("ipsec0") != nil {
		t.Error("the device is there")
	}
}
