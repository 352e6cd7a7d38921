// Package httpd serves one page over HTTP/1.1 (RFC 9112), one request on a connection. The
// package net/http would make each start of the program slower.
//
// Whatever clients do, the server needs bounded memory, and each of them holds its place only
// for a bounded time.
package httpd

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// A Page returns a page for a request with a field Accept, which may be empty: its media
// type, and a function that writes it. An error, also one that write returns before it has
// written much, becomes the text of an answer with the status 503. After a later error the
// answer has no end, so that no client takes it for complete.
type Page func(ctx context.Context, accept string) (mediaType string, write func(io.Writer) error, err error)

// A Server serves one page.
type Server struct {
	Path string // of the page: "/metrics"
	Page Page
	// HeadTime is how long a client may take to send a request, and AnswerTime how long an
	// answer may take, with the wait for other pages.
	HeadTime, AnswerTime time.Duration
	// Log, if it is set, gets a line for each answer. Several goroutines call it.
	Log func(line string)
}

const (
	maxConns = 64 // further ones wait for their acceptance
	maxPages = 4  // that are written at once; further ones wait
	// lingerTime is how long a connection waits for the end of its client. Without that
	// wait, an answer to a request that was not read to its end could get lost.
	lingerTime = time.Second
	// pause is how long the server waits after it could not accept a connection, because
	// the system has no more files, for example.
	pause = 100 * time.Millisecond
)

// Serve serves connections until ctx ends, which is no error. It closes the listener.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var conns sync.WaitGroup
	defer conns.Wait()
	defer cancel()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer l.Close()
	places, pages := make(chan struct{}, maxConns), make(chan struct{}, maxPages)
	for {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		c, err := l.Accept()
		if err != nil {
			<-places
			switch {
			case ctx.Err() != nil:
				return nil
			case errors.Is(err, net.ErrClosed):
				return err
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			continue
		}
		conns.Go(func() {
			defer func() { <-places }()
			defer c.Close()
			defer context.AfterFunc(ctx, func() { c.Close() })()
			s.converse(ctx, c, pages)
			s.linger(ctx, c)
		})
	}
}

// converse reads a request and answers it.
func (s *Server) converse(ctx context.Context, c net.Conn, pages chan struct{}) {
	c.SetReadDeadline(time.Now().Add(s.HeadTime))
	w := bufio.NewWriterSize(c, 16<<10)
	var req request
	head, err := readHead(c)
	if err == nil {
		req, err = parse(head)
	}
	end := time.Now().Add(s.AnswerTime)
	c.SetWriteDeadline(end)
	var bad *badRequest
	switch {
	case errors.As(err, &bad):
		s.refuse(w, req, bad.status, bad.text)
		return
	case err != nil:
		return // the client has gone, or is too slow
	case req.method != "GET" && req.method != "HEAD":
		s.refuse(w, req, statusMethod, "only GET and HEAD are answered")
		return
	case req.path != s.Path:
		s.refuse(w, req, statusNotFound, "the only page is "+s.Path)
		return
	}
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	select {
	case pages <- struct{}{}:
		defer func() { <-pages }()
	case <-ctx.Done():
		return
	}
	s.page(ctx, w, req)
}

// page answers with the page.
func (s *Server) page(ctx context.Context, w *bufio.Writer, req request) {
	typ, write, err := s.Page(ctx, req.accept)
	a := answer{w: w, req: req, typ: typ}
	if err == nil {
		err = write(&a)
	}
	switch {
	case err == nil:
		if err = a.end(); err == nil {
			s.log(req, string(statusOK))
		} else {
			s.log(req, err.Error())
		}
	case a.begun:
		s.log(req, err.Error())
	default:
		s.refuse(w, req, statusUnavailable, err.Error())
	}
}

func (s *Server) refuse(w *bufio.Writer, req request, code status, text string) {
	if err := refuse(w, req.method, code, text); err != nil {
		text = err.Error()
	}
	s.log(req, string(code)+": "+text)
}

func (s *Server) log(req request, text string) {
	if s.Log != nil {
		s.Log(req.method + " " + req.path + ": " + text)
	}
}

// linger waits until the client has seen the end of the answer, but not for long.
func (s *Server) linger(ctx context.Context, c net.Conn) {
	if half, ok := c.(interface{ CloseWrite() error }); ctx.Err() == nil && ok && half.CloseWrite() == nil {
		c.SetReadDeadline(time.Now().Add(lingerTime))
		io.Copy(io.Discard, io.LimitReader(c, 1<<20))
	}
}
