package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// bufferSize is how many bytes a system call reads or writes at most.
const bufferSize = 1 << 18

// counter is a writer that counts bytes.
type counter struct{ n atomic.Int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

// zeros is a reader of zeros without an end. It relies on its reader's buffer being zero.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// move copies with large reads and writes; without the wrappers io.Copy would take smaller
// buffers of its own.
func move(to io.Writer, from io.Reader) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, bufferSize))
	return err
}

// receiveTCP accepts the streams, and measures them together.
func receiveTCP(addr string, streams int, warmup, measured time.Duration, out io.Writer) error {
	ln, err := net.Listen("tcp", net.JoinHostPort(addr, "0"))
	if err != nil {
		return err
	}
	defer ln.Close()
	fmt.Fprintln(out, ln.Addr())
	var got counter
	ended := make(chan error, streams)
	for range streams {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		defer c.Close()
		go func() { ended <- move(&got, c) }()
	}
	if err := unlessEnded(ended, warmup); err != nil {
		return err
	}
	first, begin := got.n.Load(), time.Now()
	fmt.Fprintln(out, "warm")
	if err := unlessEnded(ended, measured); err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, got.n.Load()-first, time.Since(begin).Nanoseconds())
	return err
}

// unlessEnded waits for the time d. If a stream ends before, it returns an error.
func unlessEnded(ended <-chan error, d time.Duration) error {
	select {
	case err := <-ended:
		return fmt.Errorf("a stream has ended early: %w", errors.Join(io.ErrUnexpectedEOF, err))
	case <-time.After(d):
		return nil
	}
}

// sendTCP opens the streams, and sends until the receiver closes them.
func sendTCP(addr string, streams int) error {
	ended := make(chan error, streams)
	for range streams {
		c, err := net.DialTimeout("tcp", addr, 10*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		go func() { ended <- move(c, zeros{}) }()
	}
	for range streams {
		if err := <-ended; !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
			return err
		}
	}
	return nil
}
