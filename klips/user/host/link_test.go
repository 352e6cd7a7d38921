package host

import (
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/rtnl"
	"github.com/klips-go/ipsec/testscripts/skip"
)

// A device that somebody removes from the system ends its reader, whether that waits
// for a packet just then or not. (Anything but os.ErrClosed concerns one packet: the
// reader goes on, for ever.)
func TestReadRemoved(t *testing.T) {
	runtime.LockOSThread() // never unlocked: the thread goes with the namespace
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		skip.Without(t, skip.Root, err)
	}
	links, err := rtnl.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer links.Close()
	for _, waiting := range []bool{false, true} {
		l, err := openLink("ipsec0")
		if err != nil {
			skip.Without(t, skip.TUN, err)
		}
		read := func() error {
			_, err := l.Read([][]byte{make([]byte, 2000)}, make([]int, 1), 16)
			return err
		}
		done := make(chan error, 1)
		if waiting {
			go func() { done <- read() }()
		}
		at, err := links.Link(t.Context(), "ipsec0")
		if err == nil {
			err = links.Delete(t.Context(), at.Index)
		}
		if err != nil {
			t.Fatal(err)
		}
		if !waiting {
			time.Sleep(50 * time.Millisecond) // the runtime hears of it; without that nothing is tried
			done <- read()
		}
		if err := <-done; !errors.Is(err, os.ErrClosed) {
			t.Errorf("waiting: %v: Read = %v, want os.ErrClosed", waiting, err)
		}
		l.Close()
	}
}
