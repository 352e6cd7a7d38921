package host_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/rtnl"
	"github.com/klips-go/ipsec/klips/user/engine"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/testscripts/lab"
	"github.com/klips-go/ipsec/testscripts/skip"
)

// A receiver that is joined with a device returns when packets are routed into the device, and
// when the device is closed or removed.
func TestJoin(t *testing.T) {
	if err := lab.CanTUN(); err != nil {
		skip.Without(t, skip.TUN, err)
	}
	if !inNamespace(t) {
		return
	}
	n := newNamespace(t)
	r, err := n.host.OpenReceiver(8)
	n.must(err)
	// recv returns when Recv has returned without a packet.
	recv := func() error {
		got, err := r.Recv(packet.NewBuffers(8), make([]int, 8))
		if got != 0 {
			t.Errorf("Recv returns %d packets", got)
		}
		return err
	}
	open := func() engine.Link {
		l, err := n.host.OpenLink("ipsec3")
		n.must(err)
		n.setUp("ipsec3", true)
		n.must(n.conn.AddAddr(context.Background(), rtnl.Addr{Index: n.index("ipsec3"), Prefix: netip.MustParsePrefix("10.1.0.1/24")}))
		return l
	}
	send := func(text string) {
		c, err := net.Dial("udp4", "10.1.0.2:9")
		n.must(err)
		defer c.Close()
		_, err = c.Write([]byte(text))
		n.must(err)
	}
	bufs := packet.NewBuffers(8)
	// poll returns the text of the next packet of send, when there is one.
	poll := func(l engine.Link) string {
		for {
			k, err := l.Poll(bufs)
			n.must(err)
			for i := range k {
				if p := bufs[i].Bytes(); p[0]>>4 == 4 && p[9] == unix.IPPROTO_UDP {
					return string(p[28:])
				}
			}
			if k == 0 {
				n.must(recv())
			}
		}
	}

	l := open()
	r.Join(l)
	for _, text := range []string{"a", "bc"} {
		send(text)
		if got := poll(l); got != text {
			t.Errorf("read %q, want %q", got, text)
		}
	}

	// A device that is closed ends the Recv that waits for it, or begins to.
	waiting := make(chan error, 1)
	untilGone := func() {
		for {
			_ = recv()
			if _, err := l.Poll(bufs); err != nil {
				waiting <- err
				return
			}
		}
	}
	go untilGone()
	n.must(l.Close())
	if err := <-waiting; !errors.Is(err, os.ErrClosed) {
		t.Errorf("Poll of a closed device: %v, want os.ErrClosed", err)
	}
	r.Join(l)
	if err := recv(); err == nil || errors.Is(err, os.ErrClosed) {
		t.Errorf("Recv joined with a closed device: %v, want another error than os.ErrClosed", err)
	}

	// So does one that is removed from the system.
	l = open()
	r.Join(l)
	go untilGone()
	n.must(n.conn.Delete(context.Background(), n.index("ipsec3")))
	if err := <-waiting; !errors.Is(err, os.ErrClosed) {
		t.Errorf("Poll of a removed device: %v, want os.ErrClosed", err)
	}

	// Without a device it waits for its own sockets only, and Close ends that.
	r.Join(nil)
	n.must(recv())
	go func() {
		err := recv()
		for err == nil {
			err = recv()
		}
		waiting <- err
	}()
	r.Close()
	if err := <-waiting; !errors.Is(err, os.ErrClosed) {
		t.Errorf("Recv = %v, want os.ErrClosed", err)
	}
	r.Release()
	r.Join(l) // after the end it does nothing
	l.Close()
}
