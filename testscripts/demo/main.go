// Demo shows the main job of ipsec with real packets: two gateways, security
// associations with keys from files, three of them in a group, and a ping through the
// group. "make demo" runs it.
//
// It needs only the built binary, and neither ip nor ping. It works in its own network
// namespaces, so nothing on the machine changes. It runs as root, or as a user who may
// make user namespaces and open /dev/net/tun. The exit status is 0 only if the ping was
// answered and everything on the wire was protected.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/klips-go/ipsec/testscripts/lab"
)

func init() {
	// The main thread must not enter the hosts' namespaces.
	runtime.LockOSThread()
}

func main() {
	ipsec := flag.String("ipsec", "bin/ipsec", "the program to show")
	flag.Parse()
	os.Exit(run(*ipsec))
}

func run(ipsec string) int {
	fail := func(err error) int {
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		return 1
	}
	path, err := filepath.Abs(ipsec)
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		return fail(err)
	}
	if err := lab.Enter(); err != nil {
		return fail(fmt.Errorf("cannot make network namespaces: %w; run as root", err))
	}
	if err := lab.CanTUN(); err != nil {
		return fail(fmt.Errorf("%w: the virtual devices ipsecN are TUN devices; try 'modprobe tun', run as root, or give that device to the container or chroot", err))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	s := &show{ctx: ctx, ipsec: path, out: os.Stdout, espKeys: map[uint32][]byte{}}
	err = s.play()
	s.cleanUp()
	if ctx.Err() != nil {
		return fail(fmt.Errorf("interrupted; everything is removed"))
	}
	if err != nil {
		return fail(err)
	}
	return 0
}
