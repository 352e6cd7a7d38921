package testscripts

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
)

// flood is the program "flood [-count FILE] ADDR:PORT...". It sends UDP packets to each
// of the addresses in turn, 64 at a time, each time from another port, until SIGINT. It
// ignores errors. FILE holds how often it has begun with the first address, also when
// there was no route.
func flood() {
	name := flag.String("count", "", "")
	flag.Parse()
	if flag.NArg() < 1 {
		fmt.Fprintln(os.Stderr, "usage: flood [-count FILE] ADDR:PORT...")
		os.Exit(2)
	}
	var to []*net.UDPAddr
	for _, arg := range flag.Args() {
		a, err := net.ResolveUDPAddr("udp", arg)
		if err != nil {
			fmt.Fprintf(os.Stderr, "flood: %v\n", err)
			os.Exit(2)
		}
		to = append(to, a)
	}
	var count *os.File
	if *name != "" {
		var err error
		if count, err = os.Create(*name); err != nil {
			fmt.Fprintf(os.Stderr, "flood: %v\n", err)
			os.Exit(1)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	for i := 0; ctx.Err() == nil; i++ {
		if i%len(to) == 0 && count != nil {
			fmt.Fprintf(writerAt{count}, "%-19d\n", i/len(to)) // of constant length, so that a reader never finds a part of a number
		}
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

// A writerAt always writes at the beginning of a file.
type writerAt struct{ f *os.File }

func (w writerAt) Write(b []byte) (int, error) { return w.f.WriteAt(b, 0) }
