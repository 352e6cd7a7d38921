package stacks_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/procfs"
	"github.com/klips-go/ipsec/klips/stacks"
	"github.com/klips-go/ipsec/klips/user/daemon"
)

// runDaemon runs the embedded stack's daemon on a host in memory with the address
// 192.0.2.1, and returns the directory of its socket.
func runDaemon() (rundir string, stop func()) {
	dir, err := os.MkdirTemp("", "ipsec")
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan struct{})
	rundir = filepath.Join(dir, "run")
	go func() {
		defer close(done)
		h := klipstest.NewHost(new(klipstest.Network), []netip.Addr{netip.MustParseAddr("192.0.2.1")}, "eth0")
		err := daemon.Run(ctx, daemon.Config{Rundir: rundir, Host: h, Version: "test", Log: slog.New(slog.DiscardHandler), Ready: func() { close(ready) }})
		if err != nil {
			panic(err)
		}
	}()
	<-ready
	return rundir, func() {
		cancel()
		<-done
		os.RemoveAll(dir)
	}
}

// openUser runs a daemon, and opens its stack as [ExampleOpen] does.
func openUser() (s klips.Stack, stop func()) {
	rundir, end := runDaemon()
	s, err := stacks.Open(context.Background(), stacks.Config{Stack: "user", RunDir: rundir})
	if err != nil {
		panic(err)
	}
	return s, func() {
		s.Close()
		end()
	}
}

// tunnel returns the changes for an outbound tunnel to 192.0.2.2: IP-in-IP, then ESP.
func tunnel(spi klips.SPI) (group []klips.SAID, changes []klips.Change) {
	here, peer := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	tun := klips.SAID{Dst: peer, SPI: spi, Proto: klips.ProtoTun}
	esp := klips.SAID{Dst: peer, SPI: spi, Proto: klips.ProtoESP}
	return []klips.SAID{tun, esp}, []klips.Change{
		klips.AddSA{SASpec: &klips.SASpec{ID: tun, Src: here}},
		klips.AddSA{SASpec: &klips.SASpec{ID: esp, Src: here, Transform: klips.Transform{Enc: alg.AESGCM},
			EncKey: append(make([]byte, 16), byte(spi), byte(spi>>8), 0, 0)}}, // 16 bytes of key, 4 of salt
		klips.Group{IDs: []klips.SAID{tun, esp}},
	}
}

var flow = klips.Selector{Src: netip.MustParsePrefix("10.1.0.0/16"), Dst: netip.MustParsePrefix("10.2.0.0/16")}

func ExampleOpen() {
	rundir, stop := runDaemon()
	defer stop()
	ctx := context.Background()

	s, err := stacks.Open(ctx, stacks.Config{Stack: "user", RunDir: rundir})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	fmt.Println(s.Info().Name, "has combined modes:", s.Info().Has(klips.CapAEAD))
	// Output:
	// user has combined modes: true
}

// A tunnel is two SAs in a group, and an eroute into it.
func Example_tunnel() {
	s, stop := openUser()
	defer stop()
	ctx := context.Background()

	group, changes := tunnel(0x1000)
	changes = append(changes, klips.SetEroute{Eroute: klips.Eroute{Selector: flow, ID: group[0]}})
	r, err := s.Apply(ctx, changes...)
	fmt.Println(len(r.Outcomes), "changes were made:", err)

	// The second time, the first change is refused.
	_, err = s.Apply(ctx, changes...)
	var refused *klips.OpError
	if errors.As(err, &refused) && errors.Is(err, syscall.EEXIST) {
		fmt.Println("refused:", refused.Op, refused.Object)
	}
	// Output:
	// 4 changes were made: <nil>
	// refused: add SA tun0x1000@192.0.2.2
}

// One snapshot reads the whole state; listings are printed in KLIPS' form.
func Example_listing() {
	s, stop := openUser()
	defer stop()
	ctx := context.Background()
	group, changes := tunnel(0x1000)
	if _, err := s.Apply(ctx, append(changes, klips.SetEroute{Eroute: klips.Eroute{Selector: flow, ID: group[0]}})...); err != nil {
		fmt.Println(err)
		return
	}

	now, err := s.Snapshot(ctx, klips.Want{SAs: true, Eroutes: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	procfs.WriteEroute(os.Stdout, now.Eroutes)
	for _, sa := range now.SAs {
		fmt.Println(sa.ID, sa.Transform.Name(sa.ID.Proto), sa.Dir, sa.Next)
	}
	// Output:
	// 0          10.1.0.0/16        -> 10.2.0.0/16        => tun0x1000@192.0.2.2
	// esp0x1000@192.0.2.2 ESP_AES_GCM out []
	// tun0x1000@192.0.2.2 IPIP out [esp0x1000@192.0.2.2]
}

// Keys are changed without a gap: the new group is made before the eroute leads into
// it, and the old one is removed after that.
func Example_rekey() {
	s, stop := openUser()
	defer stop()
	ctx := context.Background()
	old, changes := tunnel(0x1000)
	if _, err := s.Apply(ctx, append(changes, klips.SetEroute{Eroute: klips.Eroute{Selector: flow, ID: old[0]}})...); err != nil {
		fmt.Println(err)
		return
	}

	fresh, changes := tunnel(0x2000)
	changes = append(changes,
		klips.SetEroute{Eroute: klips.Eroute{Selector: flow, ID: fresh[0]}, Replace: true},
		klips.DeleteSA{ID: old[0]})
	for _, c := range changes {
		fmt.Println(c)
	}
	_, err := s.Apply(ctx, changes...)
	fmt.Println(err)
	// Output:
	// add SA tun0x2000@192.0.2.2
	// add SA esp0x2000@192.0.2.2
	// group tun0x2000@192.0.2.2 esp0x2000@192.0.2.2
	// replace eroute 10.1.0.0/16 -> 10.2.0.0/16 => tun0x2000@192.0.2.2
	// delete SA tun0x1000@192.0.2.2
	// <nil>
}
