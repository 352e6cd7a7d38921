package classictest

import (
	"context"
	"errors"
	"maps"
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
	"github.com/klips-go/ipsec/klips/classic"
	"github.com/klips-go/ipsec/klips/classic/classictest/module"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// A Kernel is a machine with KLIPS: a PF_KEY socket, a directory of tables instead of
// /proc/net, a directory of knobs instead of /proc/sys/net/ipsec, and device ioctls. It
// uses package module, which has all faults of the real one.
//
// A unix socket replaces AF_KEY. The result of write(2) comes as a message, even if
// KLIPS sends none. The tables are updated before the answer is sent. Only Advance
// changes the time.
type Kernel struct {
	Socket  string // for IPSEC_PFKEY_SOCKET
	ProcNet string // for IPSEC_PROC_NET
	ProcSys string // for IPSEC_PROC_SYS: icmp, inbound_policy_check and tos

	t testing.TB

	mu      sync.Mutex // guards the fields below
	module  *module.Module
	uptime  time.Duration
	written map[string]string // the tables as written to ProcNet
	clients map[*client]struct{}
	hook    func(n int, msg *pfkey.Message, m *module.Module)
	asked   int // messages since the hook was set
}

// NewKernel starts a Kernel on a machine with one address and one physical device,
// eth0 with an MTU of 1500. It has two unattached devices ipsec0 and ipsec1, and
// lasts until the test ends.
func NewKernel(t testing.TB, local netip.Addr) *Kernel {
	t.Helper()
	dir, sys := t.TempDir(), t.TempDir()
	k := &Kernel{
		Socket: filepath.Join(dir, "socket"), ProcNet: dir, ProcSys: sys, t: t,
		written: map[string]string{}, clients: map[*client]struct{}{},
	}
	k.module = module.New(func() time.Duration { return k.uptime })
	k.module.AddAddr(local)
	k.module.SetPhysical("eth0", 1500)
	for name, value := range map[string]string{"icmp": "0\n", "inbound_policy_check": "1\n", "tos": "1\n"} {
		if err := os.WriteFile(filepath.Join(sys, name), []byte(value), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "ipsec"), 0o755); err != nil {
		t.Fatal(err)
	}
	k.Module(func(*module.Module) {}) // writes the tables
	ln, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: k.Socket, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { k.accept(ctx, ln, &running) })
	t.Cleanup(func() {
		cancel()
		ln.Close()
		running.Wait()
	})
	return k
}

// Module lets f read and change the module, like another program, and updates the
// tables.
func (k *Kernel) Module(f func(*module.Module)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f(k.module)
	k.refresh()
}

// Hook makes f see each message before it is carried out; f may change the module, like
// another process. The first message has n 1. nil ends it.
func (k *Kernel) Hook(f func(n int, msg *pfkey.Message, m *module.Module)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.hook, k.asked = f, 0
}

// Advance advances the time.
func (k *Kernel) Advance(d time.Duration) {
	k.Module(func(*module.Module) { k.uptime += d })
}

// Machine returns the machine for [classic.New].
func (k *Kernel) Machine() classic.Machine {
	return classic.Machine{
		ProcNet: k.ProcNet, ProcSys: k.ProcSys, Ioctl: k.Ioctl, Encap: k.Encap,
		Dial: func() (*pfkey.Conn, error) { return pfkey.Dial(k.Socket) },
	}
}

// Encap is a [classic.EncapIoctl].
func (k *Kernel) Encap(virtual string, socket int, form klips.NATTType) error {
	return k.ioctl(func(m *module.Module) syscall.Errno { return m.Encap(virtual, socket, form) })
}

// Ioctl is a [classic.Ioctl].
func (k *Kernel) Ioctl(r classic.Request, virtual, physical string) error {
	return k.ioctl(func(m *module.Module) syscall.Errno {
		switch r {
		case classic.SetDev:
			return m.Attach(virtual, physical)
		case classic.DelDev:
			return m.Detach(virtual)
		case classic.ClearDev:
			return m.DetachAll(virtual)
		}
		return syscall.EOPNOTSUPP
	})
}

func (k *Kernel) ioctl(f func(*module.Module) syscall.Errno) error {
	var errno syscall.Errno
	k.Module(func(m *module.Module) { errno = f(m) })
	if errno != 0 {
		return errno
	}
	return nil
}

// A client is a process with an open PF_KEY socket.
type client struct {
	conn   *net.UnixConn
	socket *module.Socket
	queue  chan struct{} // has one element while out may not be empty
	out    [][]byte      // queued messages; guarded by Kernel.mu
}

func (k *Kernel) accept(ctx context.Context, ln *net.UnixListener, running *sync.WaitGroup) {
	for {
		conn, err := ln.AcceptUnix()
		if err != nil {
			return
		}
		c := &client{conn: conn, queue: make(chan struct{}, 1)}
		k.Module(func(m *module.Module) {
			c.socket = m.Open(0)
			k.clients[c] = struct{}{}
		})
		ctx, cancel := context.WithCancel(ctx)
		context.AfterFunc(ctx, func() { conn.Close() })
		running.Go(func() { k.send(ctx, c) })
		running.Go(func() {
			defer cancel()
			k.receive(c)
			k.Module(func(*module.Module) {
				c.socket.Close()
				delete(k.clients, c)
			})
		})
	}
}

// receive carries out a client's requests until it disconnects.
func (k *Kernel) receive(c *client) {
	buf := make([]byte, pfkey.MaxMessage)
	for {
		n, err := c.conn.Read(buf)
		if err != nil || n == 0 {
			return
		}
		k.ask(c, buf[:n])
	}
}

// ask carries out one message and distributes the sockets' messages.
func (k *Kernel) ask(c *client, b []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked++
	if msg, err := pfkey.Parse(b); err == nil && k.hook != nil {
		k.hook(k.asked, msg, k.module)
	}
	errno := c.socket.Write(b)
	k.refresh()
	h, _ := pfkey.ParseHeader(b)
	answered := false
	for o := range k.clients {
		for m, ok := o.socket.Read(); ok; m, ok = o.socket.Read() {
			o.out = append(o.out, m)
			if r, err := pfkey.ParseHeader(m); o == c && err == nil {
				answered = answered || r.Type == h.Type && r.Seq == h.Seq && r.PID == h.PID
			}
		}
	}
	if !answered {
		answer, err := pfkey.ErrorReply(h, errno).Marshal()
		if err != nil {
			k.t.Error(err)
		}
		c.out = append(c.out, answer)
	}
	for o := range k.clients {
		select {
		case o.queue <- struct{}{}:
		default:
		}
	}
}

// send sends a client's queued messages until it disconnects. The queue is unlimited: a
// slow client delays no other.
func (k *Kernel) send(ctx context.Context, c *client) {
	for {
		select {
		case <-c.queue:
		case <-ctx.Done():
			return
		}
		k.mu.Lock()
		out := c.out
		c.out = nil
		k.mu.Unlock()
		for _, m := range out {
			if _, err := c.conn.Write(m); err != nil {
				return
			}
		}
	}
}

// refresh writes the tables that have changed. The caller holds the lock.
func (k *Kernel) refresh() {
	tables := k.module.Tables()
	for _, name := range slices.Sorted(maps.Keys(tables)) {
		if text, ok := k.written[name]; ok && text == tables[name] {
			continue
		}
		k.written[name] = tables[name]
		if err := writeTable(filepath.Join(k.ProcNet, name), tables[name]); err != nil {
			k.t.Error(err)
		}
	}
}

// writeTable replaces a table in one step.
func writeTable(path, text string) error {
	f, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
