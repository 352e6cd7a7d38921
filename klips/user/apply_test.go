package user_test

import (
	"net"
	"net/netip"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user"
	"github.com/klips-go/ipsec/klips/user/control"
)

// A daemon of an older version does not know units. Changes are then made one by one.
func TestApplyOlderDaemon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pfkey.sock")
	ln, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	asked := make(chan pfkey.Type, 100)
	go func() {
		c, err := ln.AcceptUnix()
		if err != nil {
			return
		}
		defer c.Close()
		buf := make([]byte, pfkey.MaxMessage)
		for {
			n, err := c.Read(buf)
			if err != nil || n == 0 {
				close(asked)
				return
			}
			h, _ := pfkey.ParseHeader(buf[:n])
			asked <- h.Type
			var errno syscall.Errno
			switch h.Type {
			case control.TypeBegin, control.TypeEnd:
				errno = syscall.EINVAL
			case pfkey.TypeDelete:
				errno = syscall.ESRCH
			}
			b, _ := pfkey.ErrorReply(h, errno).Marshal()
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	}()
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
