// Soak strains the embedded stack for minutes: UDP and TCP pass in both directions
// between two hosts, while security associations are added, grouped, replaced, expired
// and deleted at random. "make soak" runs it, as root.
//
// The exit status is 0 only if
//   - nothing but ESP and AH (and ARP) was on the wire,
//   - every UDP packet arrived once and whole, except those sent while a group
//     was being run out of its lifetime on purpose or a daemon was dead, and as
//     many as the kernel counts that it dropped for lack of room,
//   - what was recorded before a daemon was killed, with signal 9, and is sent again
//     when it is back with the same keys was refused,
//   - the TCP stream arrived whole,
//   - every change was accepted, and all SAs are gone in the end,
//   - the daemons occupy no more memory, files and threads than after the
//     warm-up, within the bounds that are printed.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/testscripts/bed"
	"github.com/klips-go/ipsec/testscripts/lab"
)

func init() { runtime.LockOSThread() } // stay out of the hosts' namespaces

func main() {
	ipsec := flag.String("ipsec", "bin/ipsec", "the program to strain")
	d := flag.Duration("time", 2*time.Minute, "how long")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the random choices")
	flag.Parse()
	err := lab.Enter()
	if err == nil {
		err = lab.CanTUN()
	}
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		err = soak(ctx, *ipsec, *d, *seed, os.Stdout)
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// roomy enlarges queues in which the kernel would drop packets, so that lost packets
// are lost by the stack, unless the machine is very busy.
func roomy(b *bed.Bed) error {
	for _, h := range b.Hosts {
		// A sender that changes processors lets the fragments of a packet overtake each
		// other on the veth pair; after 64 the kernel drops the packet.
		if err := h.Sysctl("net/ipv4/ipfrag_max_dist", "0"); err != nil {
			return err
		}
		// The TCP stream through a slow cipher fills the queue of ipsec0.
		if err := h.Do(func() error { return setQueue("ipsec0", 16384) }); err != nil {
			return fmt.Errorf("queue of ipsec0: %w", err)
		}
	}
	return nil
}

// setQueue sets the length of a device's queue, in packets.
func setQueue(dev string, n uint32) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq(dev)
	if err != nil {
		return err
	}
	r.SetUint32(n)
	return unix.IoctlIfreq(fd, unix.SIOCSIFTXQLEN, r)
}

// soak strains the stack for the time d and writes the report. The error holds the
// violations.
func soak(ctx context.Context, ipsec string, d time.Duration, seed uint64, out io.Writer) error {
	b, err := bed.Open(ipsec, "soak")
	if err != nil {
		return err
	}
	defer b.Close()
	if err := roomy(b); err != nil {
		return err
	}
	wire, err := watch(b.Hosts[0], "eth0")
	if err != nil {
		return err
	}
	defer wire.close()
	// Check first that the watch detects packets in clear.
	if _, err := b.Hosts[0].Ping(lab.Ping{Dst: addr(bed.Wires[1])}); err != nil {
		return err
	}
	if err := wire.expect("ICMP", 2); err != nil {
		return err
	}

	k := &keys{b: b, rand: rand.New(rand.NewPCG(seed, 0)), exempt: [2]*gate{{}, {}}}
	for way := range k.exempt {
		if err := k.rekey(ctx, way, nil); err != nil {
			return err
		}
	}
	t, err := startTraffic(b, k.exempt)
	if err != nil {
		return err
	}
	warmUp := max(d/5, min(d/2, 3*time.Second))
	begin := time.Now()
	err = k.churn(ctx, begin.Add(warmUp))
	var before, after [2]usage
	if err == nil {
		before, err = measure(b, nil)
	}
	if err == nil {
		err = k.churn(ctx, begin.Add(warmUp+(d-warmUp)/2))
	}
	replayed := 0
	if err == nil {
		replayed, err = k.crash(ctx, k.rand.IntN(2))
	}
	if err == nil {
		err = k.churn(ctx, begin.Add(d))
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	spent := time.Since(begin)
	r := t.stop(b)
	if err != nil {
		r.bad("%v", err)
	} else {
		k.finish(ctx, &r)
		if after, err = measure(b, &before); err != nil {
			r.bad("%v", err)
		}
		for i := range after {
			after[i].judge(&r, i, before[i])
		}
	}
	wire.judge(&r)

	fmt.Fprintf(out, "soak: %v, seed %d\n", spent.Round(time.Second), seed)
	fmt.Fprintf(out, "keys: %d groups made, %d replaced, %d soft limits, %d run out, %d others made, linked and deleted\n",
		k.made, k.replaced, k.soft, k.expired, k.others)
	fmt.Fprintf(out, "a daemon killed and started again: %d packets of before sent once more, all refused\n", replayed)
	r.print(out)
	for i := range after {
		fmt.Fprintf(out, "daemon %d: memory %d -> %d kB (at most %d), files %d -> %d, threads %d -> %d\n", i+1,
			before[i].rss, after[i].rss, before[i].bound(), before[i].files, after[i].files, before[i].threads, after[i].threads)
	}
	return r.err()
}
