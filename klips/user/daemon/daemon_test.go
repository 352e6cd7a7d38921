package daemon_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user"
	"github.com/klips-go/ipsec/klips/user/clock/clocktest"
	"github.com/klips-go/ipsec/klips/user/control"
	"github.com/klips-go/ipsec/klips/user/daemon"
	"github.com/klips-go/ipsec/klips/user/engine"
)

var local = netip.MustParseAddr("192.0.2.1")

// start runs a daemon on a host in memory until the test ends.
func start(t testing.TB) (rundir string, h *klipstest.Host) {
	t.Helper()
	return startOn(t, new(klipstest.Network), local)
}

// startOn runs a daemon on a host in memory, connected to a network.
func startOn(t testing.TB, n *klipstest.Network, addr netip.Addr) (rundir string, h *klipstest.Host) {
	t.Helper()
	h = klipstest.NewHost(n, []netip.Addr{addr}, "eth0")
	return startWith(t, daemon.Config{Host: h}), h
}

// startAt runs a daemon with a clock that the test advances.
func startAt(t testing.TB, log *slog.Logger) (rundir string, h *klipstest.Host, c *clocktest.Clock) {
	t.Helper()
	h = klipstest.NewHost(new(klipstest.Network), []netip.Addr{local}, "eth0")
	c = clocktest.New()
	return startWith(t, daemon.Config{Host: h, Clock: c, Log: log}), h, c
}

// startWith runs a daemon until the test ends.
func startWith(t testing.TB, c daemon.Config) (rundir string) {
	t.Helper()
	// The daemon makes the directory itself, whatever the umask of the test.
	c.Rundir, c.Version = filepath.Join(t.TempDir(), "run"), "test"
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	ready := make(chan struct{})
	c.Ready = func() { close(ready) }
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- daemon.Run(ctx, c) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
		if l, _ := os.ReadDir(c.Rundir); len(l) != 0 {
			t.Errorf("left behind: %v", l)
		}
	})
	return c.Rundir
}

func dial(t *testing.T, rundir string) klipstest.Client {
	t.Helper()
	c, err := klipstest.Dial(user.SocketPath(rundir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestContract(t *testing.T) {
	klipstest.TestStack(t, func(t *testing.T) klipstest.Bench {
		rundir, h := start(t)
		return klipstest.Bench{Stack: dial(t, rundir), Local: local, Physical: "eth0", Count: h.CountDrop}
	})
}

func TestGroupNamesTheSAAtFault(t *testing.T) {
	rundir, _ := start(t)
	c := dial(t, rundir)
	a := klips.SAID{Dst: netip.MustParseAddr("10.0.0.2"), SPI: 0x113, Proto: klips.ProtoTun}
	b := klips.SAID{Dst: a.Dst, SPI: 0x115, Proto: klips.ProtoESP}
	if err := c.AddSA(t.Context(), &klips.SASpec{ID: a, Src: local}); err != nil {
		t.Fatal(err)
	}
	err := c.Group(t.Context(), []klips.SAID{a, b})
	var op *klips.OpError
	if !errors.As(err, &op) || op.Object != b.String() || !errors.Is(err, syscall.ENOENT) {
		t.Errorf("Group = %v, want ENOENT of %v", err, b)
	}
}

func TestSecondDaemon(t *testing.T) {
	rundir, h := start(t)
	err := daemon.Run(t.Context(), daemon.Config{Rundir: rundir, Host: h, Log: slog.New(slog.DiscardHandler)})
	var running *user.Running
	if !errors.As(err, &running) || running.PID != os.Getpid() {
		t.Errorf("Run = %v, want Running with pid %d", err, os.Getpid())
	}
	if _, err := dial(t, rundir).Status(t.Context()); err != nil {
		t.Errorf("the first one does not answer any more: %v", err)
	}
}

func TestStop(t *testing.T) {
	rundir, _ := start(t)
	c := dial(t, rundir)
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the socket is gone", func() bool {
		c, err := klipstest.Dial(user.SocketPath(rundir))
		if err == nil {
			c.Close()
		}
		return errors.Is(err, fs.ErrNotExist)
	})
}

// Garbage gets an errno, and the daemon goes on.
func TestGarbage(t *testing.T) {
	rundir, _ := start(t)
	raw, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: user.SocketPath(rundir), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	good, _ := pfkey.ClearFlows().Marshal()
	short := bytes.Clone(good)
	for i, g := range []struct {
		b    []byte
		want syscall.Errno
	}{
		{[]byte("x"), syscall.EMSGSIZE},
		{bytes.Repeat([]byte{0xff}, 16), syscall.EINVAL},
		{bytes.Repeat([]byte{2}, 500), syscall.EMSGSIZE},
		{short[:len(short)-8], syscall.EMSGSIZE},
		{append(bytes.Clone(good), 0), syscall.EMSGSIZE},
		{[]byte{2, 10, 0, 3, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0}, syscall.ENOSYS}, // DUMP
		{[]byte{2, 3, 0, 3, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0}, syscall.EINVAL},  // ADD of nothing
		{[]byte{2, 200, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0}, syscall.EINVAL},
		{make([]byte, 60000), syscall.EINVAL},
	} {
		if _, err := raw.Write(g.b); err != nil {
			t.Fatalf("%d: write: %v", i, err)
		}
		_ = raw.SetReadDeadline(time.Now().Add(patience))
		buf := make([]byte, 1000)
		n, err := raw.Read(buf)
		if err != nil {
			t.Fatalf("%d: read: %v", i, err)
		}
		// The header's third byte is the errno (RFC 2367 section 2.1).
		if n < 16 || syscall.Errno(buf[2]) != g.want {
			t.Errorf("%d: answered %x, want errno %v", i, buf[:n], g.want)
		}
	}
	if err := dial(t, rundir).ClearSAs(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// A client that never reads its answers does not delay other clients.
func TestSlowClient(t *testing.T) {
	rundir, _ := start(t)
	c := dial(t, rundir)
	for spi := range klips.SPI(2000) {
		id := klips.SAID{Dst: netip.MustParseAddr("10.0.0.2"), SPI: 0x1000 + spi, Proto: klips.ProtoTun}
		if err := c.AddSA(t.Context(), &klips.SASpec{ID: id, Src: local}); err != nil {
			t.Fatal(err)
		}
	}
	slow := open(t, rundir)
	for range 5 {
		slow.write(control.ListTable(control.TableSAs))
	}
	if l, err := c.SAs(t.Context()); err != nil || len(l) != 2000 {
		t.Errorf("SAs = %d of them, %v", len(l), err)
	}
}

func TestManyClients(t *testing.T) {
	rundir, _ := start(t)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			c, err := klipstest.Dial(user.SocketPath(rundir))
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			for j := range 50 {
				id := klips.SAID{Dst: netip.MustParseAddr("10.0.0.2"), SPI: klips.SPI(0x1000 + 100*i + j), Proto: klips.ProtoTun}
				if err := c.AddSA(context.Background(), &klips.SASpec{ID: id, Src: local}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if l, err := dial(t, rundir).SAs(t.Context()); err != nil || len(l) != 1000 {
		t.Errorf("SAs = %d of them, %v", len(l), err)
	}
}

func TestNobodyElse(t *testing.T) {
	rundir, _ := start(t)
	fi, err := os.Stat(user.SocketPath(rundir))
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("socket mode %v, %v; want 0600", fi.Mode(), err)
	}
	if fi, err := os.Stat(filepath.Join(rundir, "klipsd.pid")); err != nil || fi.Mode().Perm()&0o077 != 0 {
		t.Errorf("pid file mode %v, %v", fi.Mode(), err)
	}
}

// Devices that were attached stay when the daemon ends, unless a client has asked it to
// stop.
func TestDevicesStay(t *testing.T) {
	stays := engine.LeftLink{Name: "ipsec0", Physical: "eth0", ChosenMTU: 1500}
	for _, test := range []struct {
		name string
		end  func(c klipstest.Client) error
		want []engine.LeftLink
	}{
		{"Stop", func(c klipstest.Client) error { return c.Stop(t.Context()) }, nil},
		{"Leave", func(c klipstest.Client) error { return c.Leave(t.Context()) }, []engine.LeftLink{stays}},
		{"the end of its context", nil, []engine.LeftLink{stays}},
	} {
		h := klipstest.NewHost(new(klipstest.Network), []netip.Addr{local}, "eth0")
		for range 2 { // the second daemon takes up the devices of the first
			ctx, cancel := context.WithCancel(t.Context())
			ready, done := make(chan struct{}), make(chan error, 1)
			c := daemon.Config{Rundir: t.TempDir(), Host: h, Log: slog.New(slog.DiscardHandler), Ready: func() { close(ready) }}
			go func() { done <- daemon.Run(ctx, c) }()
			select {
			case <-ready:
			case err := <-done:
				t.Fatal(err)
			}
			k := dial(t, c.Rundir)
			if err := k.Attach(t.Context(), "ipsec0", "eth0"); err != nil {
				t.Error(err)
			}
			if test.end == nil {
				cancel()
			} else if err := test.end(k); err != nil {
				t.Error(err)
			}
			if err := <-done; err != nil {
				t.Errorf("Run = %v", err)
			}
			cancel()
			if left, err := h.LeftLinks(); err != nil || !slices.Equal(left, test.want) {
				t.Errorf("after %s %v are left, %v, want %v", test.name, left, err, test.want)
			}
		}
	}
}
