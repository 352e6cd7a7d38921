package user_test

import (
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user"
	"github.com/klips-go/ipsec/klips/user/control"
)

// olderDaemon is a daemon for one client, as answer has it. It returns the path of its
// socket. It calls ended, unless that is nil, when the client has gone.
func olderDaemon(t *testing.T, answer func(request *pfkey.Message, send func(*pfkey.Message) error) error, ended func()) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "pfkey.sock")
	ln, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		c, err := ln.AcceptUnix()
		if err != nil {
			return
		}
		defer c.Close()
		if ended != nil {
			defer ended()
		}
		send := func(m *pfkey.Message) error {
			b, err := m.Marshal()
			if err == nil {
				_, err = c.Write(b)
			}
			return err
		}
		for buf := make([]byte, pfkey.MaxMessage); ; {
			n, err := c.Read(buf)
			if err != nil || n == 0 {
				return
			}
			m, err := pfkey.Parse(buf[:n])
			if err != nil || answer(m, send) != nil {
				return
			}
		}
	}()
	return path
}

// A daemon of an older version does not know units. Changes are then made one by one.
func TestApplyOlderDaemon(t *testing.T) {
	asked := make(chan pfkey.Type, 100)
	path := olderDaemon(t, func(m *pfkey.Message, send func(*pfkey.Message) error) error {
		asked <- m.Type
		var errno syscall.Errno
		switch m.Type {
		case control.TypeBegin, control.TypeEnd:
			errno = syscall.EINVAL
		case pfkey.TypeDelete:
			errno = syscall.ESRCH
		}
		return send(pfkey.ErrorReply(m.Header, errno))
	}, func() { close(asked) })
	c, err := user.Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	id := klips.SAID{Dst: netip.MustParseAddr("192.0.2.1"), SPI: 0x100, Proto: klips.ProtoTun}
	r, err := c.Apply(t.Context(), klips.ClearEroutes{}, klips.ClearSAs{}, klips.DeleteSA{ID: id}, klips.ClearSAs{})
	if len(r.Outcomes) != 2 || err == nil {
		t.Errorf("%d outcomes, %v", len(r.Outcomes), err)
	}
	c.Close()
	flushes := 0
	for typ := range asked {
		if typ == pfkey.TypeFlush {
			flushes++
		}
	}
	if flushes != 1 {
		t.Errorf("%d FLUSH were sent, want the one before the change that is refused", flushes)
	}
}

// A daemon of an older version knows units, but no bundles. It gets one request in each
// datagram.
func TestApplyWithoutBundles(t *testing.T) {
	path := olderDaemon(t, func(m *pfkey.Message, send func(*pfkey.Message) error) error {
		return send(pfkey.Ack(m.Header))
	}, nil)
	c, err := user.Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	changes := slices.Repeat([]klips.Change{klips.ClearEroutes{}, klips.ClearSAs{}}, 100)
	if r, err := c.Apply(t.Context(), changes...); err != nil || len(r.Outcomes) != len(changes) {
		t.Errorf("%d outcomes, %v; want %d", len(r.Outcomes), err, len(changes))
	}
}
