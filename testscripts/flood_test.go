package testscripts

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
)

// flood is the program "flood ADDR:PORT": it sends UDP packets, each from another
// port, until SIGINT. What becomes of them is no concern of its.
func flood() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: flood ADDR:PORT")
		os.Exit(2)
	}
	to, err := net.ResolveUDPAddr("udp", os.Args[1])
	if err != nil {
		fmt.Fprintf(os.Stderr, "flood: %v\n", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	for ctx.Err() == nil {
		c, err := net.DialUDP("udp", nil, to)
		if err != nil {
			continue // no route at the moment
		}
		for range 64 {
			_, _ = c.Write(make([]byte, 64))
		}
		c.Close()
	}
}
