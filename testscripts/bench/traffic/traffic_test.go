package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

const loopback = "127.0.0.1"

// A program is a run of this program.
type program struct {
	out  *bufio.Reader
	done chan error
}

func start(in io.Reader, args ...string) *program {
	r, w := io.Pipe()
	p := &program{bufio.NewReader(r), make(chan error, 1)}
	go func() {
		err := run(args, in, w)
		w.Close()
		p.done <- err
	}()
	return p
}

// line returns the next line of the output.
func (p *program) line(t *testing.T) string {
	t.Helper()
	text, err := p.out.ReadString('\n')
	if err != nil {
		t.Fatalf("the output has ended: %v, %v", err, <-p.done)
	}
	return strings.TrimSpace(text)
}

func TestTCP(t *testing.T) {
	for _, streams := range []string{"1", "3"} {
		in := start(nil, "tcp-receive", loopback, streams, "0.01", "0.02")
		out := start(nil, "tcp-send", in.line(t), streams)
		if text := in.line(t); text != "warm" {
			t.Errorf("second line %q, want warm", text)
		}
		var bytes, ns int64
		text := in.line(t)
		if n, err := fmt.Sscan(text, &bytes, &ns); n != 2 || err != nil || bytes < 0 || ns < 20e6 {
			t.Errorf("result %q, want bytes and at least 20 ms in nanoseconds", text)
		}
		if err := errors.Join(<-in.done, <-out.done); err != nil {
			t.Error(err)
		}
	}
}

// TestEarlyEnd: a stream that ends before the measurement is an error, not a slow stream.
func TestEarlyEnd(t *testing.T) {
	in := start(nil, "tcp-receive", loopback, "1", "600", "600")
	c, err := net.Dial("tcp", in.line(t))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := <-in.done; !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error %v, want %v", err, io.ErrUnexpectedEOF)
	}
}

func TestMove(t *testing.T) {
	const n = 3*bufferSize + 1
	var c counter
	if err := move(&c, io.LimitReader(zeros{}, n)); err != nil || c.n.Load() != n {
		t.Errorf("%d bytes, %v, want %d", c.n.Load(), err, n)
	}
}

func TestUDP(t *testing.T) {
	stdin, end := io.Pipe()
	in := start(stdin, "udp-receive", loopback)
	addr := in.line(t)
	total := 0
	for _, rate := range []string{"0", "1000", "5000"} {
		out := start(nil, "udp-send", addr, rate, "0.02")
		var sent int
		if _, err := fmt.Sscan(out.line(t), &sent); err != nil {
			t.Fatal(err)
		}
		if err := <-out.done; err != nil {
			t.Fatal(err)
		}
		if (sent == 0) != (rate == "0") {
			t.Errorf("%d packets sent at a rate of %s", sent, rate)
		}
		total += sent
	}
	end.Close()
	// The loopback device delivers before the call that sends returns.
	if got, want := in.line(t), fmt.Sprint(total); got != want {
		t.Errorf("received %s packets, want %s", got, want)
	}
	if err := <-in.done; err != nil {
		t.Error(err)
	}
}

func TestUsage(t *testing.T) {
	for _, line := range []string{"", "tcp-receive", "tcp-send " + loopback, "udp-send a:1 x 1", "udp-send a:1 -1 1", "udp-send a:1 NaN 1", "fly a:1 1 1", "udp-receive " + loopback + " 1"} {
		if err := run(strings.Fields(line), nil, io.Discard); err == nil || !strings.Contains(err.Error(), "usage:") && !strings.Contains(err.Error(), "bad number") {
			t.Errorf("traffic %s: %v, want an error about the arguments", line, err)
		}
	}
}
