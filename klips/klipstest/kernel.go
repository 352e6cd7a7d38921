package klipstest

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips/kernel"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/procfs"
	"github.com/klips-go/ipsec/klips/user"
	"github.com/klips-go/ipsec/klips/user/daemon"
)

// A Kernel is a machine that has KLIPS, as its tools see it: a PF_KEY socket
// that takes what KLIPS takes, tables in a directory that stands for /proc/net,
// and device ioctls. Behind them is the embedded stack on a Host.
type Kernel struct {
	Socket  string // for IPSEC_PFKEY_SOCKET
	ProcNet string // for IPSEC_PROC_NET

	back string // the socket of the stack behind
	mu   sync.Mutex
	own  *user.Client
	t    testing.TB
}

// NewKernel starts a Kernel with two unattached devices ipsec0 and ipsec1, which
// lasts until the test ends.
func NewKernel(t testing.TB, local netip.Addr) *Kernel {
	t.Helper()
	dir, rundir := t.TempDir(), filepath.Join(t.TempDir(), "run")
	k := &Kernel{Socket: filepath.Join(dir, "pf_key"), ProcNet: dir, back: user.SocketPath(rundir), t: t}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- daemon.Run(ctx, daemon.Config{
			Rundir: rundir, Version: "test", Host: NewHost(new(Network), []netip.Addr{local}, "eth0"),
			Log: slog.New(slog.DiscardHandler), Ready: func() { close(ready) },
		})
	}()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	var err error
	if k.own, err = user.Dial(k.back); err != nil {
		t.Fatal(err)
	}
	ln, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: k.Socket, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	var clients sync.WaitGroup
	clients.Go(func() { k.accept(ctx, ln, &clients) })
	t.Cleanup(func() {
		cancel()
		ln.Close()
		clients.Wait()
		k.own.Close()
		if err := <-done; err != nil {
			t.Errorf("the stack behind the kernel: %v", err)
		}
	})
	k.refresh()
	return k
}

// Machine returns the machine for [kernel.New].
func (k *Kernel) Machine() kernel.Machine {
	return kernel.Machine{ProcNet: k.ProcNet, Ioctl: k.Ioctl, Dial: func() (*pfkey.Conn, error) { return pfkey.Dial(k.Socket) }}
}

// Ioctl is a [kernel.Ioctl].
func (k *Kernel) Ioctl(r kernel.Request, virtual, physical string) (err error) {
	ctx := context.Background()
	k.mu.Lock()
	switch r {
	case kernel.SetDev:
		err = k.own.Attach(ctx, virtual, physical)
	case kernel.DelDev:
		err = k.own.Detach(ctx, virtual)
	case kernel.ClearDev:
		err = k.own.DetachAll(ctx)
	default:
		err = syscall.EOPNOTSUPP
	}
	k.mu.Unlock()
	k.refresh()
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

func (k *Kernel) accept(ctx context.Context, ln *net.UnixListener, clients *sync.WaitGroup) {
	for {
		c, err := ln.AcceptUnix()
		if err != nil {
			return
		}
		back, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: k.back, Net: "unixpacket"})
		if err != nil {
			c.Close()
			continue
		}
		context.AfterFunc(ctx, func() { c.Close(); back.Close() })
		clients.Go(func() { defer back.Close(); k.requests(c, back) })
		clients.Go(func() { defer c.Close(); k.replies(back, c) })
	}
}

// requests passes on what KLIPS knows, and refuses the rest.
func (k *Kernel) requests(from, to *net.UnixConn) {
	buf := make([]byte, pfkey.MaxMessage)
	for {
		n, err := from.Read(buf)
		if err != nil || n == 0 {
			return
		}
		if m, err := pfkey.Parse(buf[:n]); err == nil {
			err = pfkey.Check(m) // which knows nothing private
			if err != nil {
				b, _ := pfkey.ErrorReply(m.Header, pfkey.Errno(err)).Marshal()
				_, _ = from.Write(b)
				continue
			}
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// replies passes on all messages; the tables are new before their reader is.
func (k *Kernel) replies(from, to *net.UnixConn) {
	buf := make([]byte, pfkey.MaxMessage)
	for {
		n, err := from.Read(buf)
		if err != nil || n == 0 {
			return
		}
		k.refresh()
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// refresh writes the tables.
func (k *Kernel) refresh() {
	k.mu.Lock()
	defer k.mu.Unlock()
	ctx := context.Background()
	sas, err1 := k.own.SAs(ctx)
	eroutes, err2 := k.own.Eroutes(ctx)
	devices, err3 := k.own.Devices(ctx)
	debug, err4 := k.own.Debug(ctx)
	if errors.Join(err1, err2, err3, err4) != nil {
		return // the test is ending
	}
	for name, write := range map[string]func(io.Writer) error{
		"ipsec_spi":        func(w io.Writer) error { return procfs.WriteSPI(w, sas) },
		"ipsec_spigrp":     func(w io.Writer) error { return procfs.WriteSPIGrp(w, sas) },
		"ipsec_eroute":     func(w io.Writer) error { return procfs.WriteEroute(w, eroutes) },
		"ipsec_tncfg":      func(w io.Writer) error { return procfs.WriteTncfg(w, devices) },
		"ipsec_klipsdebug": func(w io.Writer) error { return procfs.WriteKlipsdebug(w, debug) },
		"ipsec_version":    func(w io.Writer) error { return procfs.WriteVersion(w, "Openswan version: test") },
	} {
		if err := writeTable(filepath.Join(k.ProcNet, name), write); err != nil {
			k.t.Error(err)
		}
	}
}

// writeTable replaces a table in one step.
func writeTable(path string, write func(io.Writer) error) error {
	f, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
