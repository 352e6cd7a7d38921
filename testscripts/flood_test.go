package testscripts

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
)

// flood is the program "flood ADDR:PORT...": it sends UDP packets to each of the
// addresses in turn, 64 at a time, each time from another port, until SIGINT. What
// becomes of them is no concern of its.
func flood() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: flood ADDR:PORT...")
		os.Exit(2)
	}
	var to []*net.UDPAddr
	for _, arg := range os.Args[1:] {
		a, err := net.ResolveUDPAddr("udp", arg)
		if err != nil {
			fmt.Fprintf(os.Stderr, "flood: %v\n", err)
			os.Exit(2)
		}
		to = append(to, a)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	for i := 0; ctx.Err() == nil; i++ {
		c, err := net.DialUDP("udp", nil, to[i%len(to)])
		if err != nil {
			continue // no route at the moment
		}
		for range 64 {
			_, _ = c.Write(make([]byte, 64))
		}
		c.Close()
	}
}
