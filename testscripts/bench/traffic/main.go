// Traffic sends or receives TCP streams or small UDP packets, for bench, which runs it on
// the hosts at both ends of a tunnel:
//
//	traffic tcp-receive ADDR STREAMS WARMUP SECONDS
//	traffic tcp-send ADDR:PORT STREAMS
//	traffic udp-receive ADDR
//	traffic udp-send ADDR:PORT RATE SECONDS
//
// A receiver first prints its address with the port. tcp-receive prints "warm" when all
// streams have lasted WARMUP seconds, counts for SECONDS, and prints the bytes and the
// nanoseconds; tcp-send sends until then. udp-receive prints how many packets came when its
// input has ended and the last packets are in. udp-send prints how many it has sent.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "traffic:", err)
		os.Exit(1)
	}
}

// run is the program. Only udp-receive uses in.
func run(args []string, in io.Reader, out io.Writer) error {
	var words []string
	var n []float64
	for i, a := range args {
		if i < 2 {
			words = append(words, a)
			continue
		}
		v, err := strconv.ParseFloat(a, 64)
		if err != nil || !(v >= 0) {
			return fmt.Errorf("bad number %q", a)
		}
		n = append(n, v)
	}
	if len(words) == 2 {
		addr := words[1]
		switch form := fmt.Sprint(words[0], " ", len(n)); form {
		case "tcp-receive 3":
			return receiveTCP(addr, int(n[0]), seconds(n[1]), seconds(n[2]), out)
		case "tcp-send 1":
			return sendTCP(addr, int(n[0]))
		case "udp-receive 0":
			return receiveUDP(addr, in, out)
		case "udp-send 2":
			return sendUDP(addr, n[0], seconds(n[1]), out)
		}
	}
	return errors.New("usage: traffic tcp-receive|tcp-send|udp-receive|udp-send ADDR [NUMBER]")
}

func seconds(v float64) time.Duration { return time.Duration(v * float64(time.Second)) }
