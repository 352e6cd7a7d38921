package httpd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// start serves a page until the test ends, and returns the address. Times are so long that
// only a fault takes them.
func start(t *testing.T, s *Server) string {
	t.Helper()
	if s.Path == "" {
		s.Path = "/metrics"
	}
	if s.HeadTime == 0 {
		s.HeadTime = time.Minute
	}
	if s.AnswerTime == 0 {
		s.AnswerTime = time.Minute
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return l.Addr().String()
}

// text returns a page of some text.
func text(lines ...string) Page {
	return func(_ context.Context, accept string) (string, func(io.Writer) error, error) {
		return "text/plain; accept=" + accept, func(w io.Writer) error {
			for _, l := range lines {
				if _, err := io.WriteString(w, l); err != nil {
					return err
				}
			}
			return nil
		}, nil
	}
}

// do sends a request and returns the answer with its body.
func do(t *testing.T, method, url string) (*http.Response, string, error) {
	t.Helper()
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "x/y")
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	body, err := io.ReadAll(a.Body)
	return a, string(body), err
}

func TestServer(t *testing.T) {
	long := slices.Repeat([]string{strings.Repeat("x", 1000) + "\n"}, 1000)
	for name, c := range map[string]struct {
		method, path string
		page         Page
		status       int
		body         string
	}{
		"short": {"GET", "/metrics", text("a\n", "", "b\n"), 200, "a\nb\n"},
		"empty": {"GET", "/metrics?x=1", text(), 200, ""},
		"long":  {"GET", "/metrics", text(long...), 200, strings.Join(long, "")},
		"head":  {"HEAD", "/metrics", text(long...), 200, ""},
		"other": {"GET", "/", text("a"), 404, "the only page is /metrics\n"},
		"post":  {"POST", "/metrics", text("a"), 405, "only GET and HEAD are answered\n"},
		"no stack": {"GET", "/metrics", func(context.Context, string) (string, func(io.Writer) error, error) {
			return "", nil, errors.New("no stack")
		}, 503, "no stack\n"},
		"late": {"GET", "/metrics", func(context.Context, string) (string, func(io.Writer) error, error) {
			return "a/b", func(w io.Writer) error { io.WriteString(w, "beginning"); return errors.New("it ended") }, nil
		}, 503, "it ended\n"},
	} {
		addr := start(t, &Server{Page: c.page})
		a, body, err := do(t, c.method, "http://"+addr+c.path)
		if err != nil || a.StatusCode != c.status || body != c.body {
			t.Errorf("%s: %v, status %d, %.100q, want %d, %.100q", name, err, a.StatusCode, body, c.status, c.body)
		}
		typ := "text/plain; charset=utf-8"
		if c.status == 200 {
			typ = "text/plain; accept=x/y"
		}
		if got := a.Header.Get("Content-Type"); got != typ || !a.Close {
			t.Errorf("%s: type %q, want %q; closes: %v", name, got, typ, a.Close)
		}
		if _, err := http.ParseTime(a.Header.Get("Date")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if allow := a.Header.Get("Allow"); (allow == "GET, HEAD") != (c.status == 405) {
			t.Errorf("%s: Allow %q", name, allow)
		}
	}
}

// talk sends bytes and returns all that comes back.
func talk(t *testing.T, addr, send string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, send); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestOldClient: a client of HTTP/1.0 gets the page without chunks.
func TestOldClient(t *testing.T) {
	got := talk(t, start(t, &Server{Page: text("page\n")}), "GET /metrics HTTP/1.0\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") || !strings.HasSuffix(got, "\r\n\r\npage\n") || strings.Contains(got, "chunked") {
		t.Errorf("answer %q", got)
	}
}

// TestBadRequest: a request that is not valid gets an answer, also if it was not read to its
// end.
func TestBadRequest(t *testing.T) {
	lines := make(chan string, 1)
	addr := start(t, &Server{Page: text("page\n"), Log: func(l string) { lines <- l }})
	for send, want := range map[string]string{
		"hello\r\n\r\n": "HTTP/1.1 400 ",
		"GET /metrics HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("x", 3*maxHead): "HTTP/1.1 431 ",
		"GET /metrics HTTP/3.1\r\n\r\n":                                            "HTTP/1.1 505 ",
	} {
		if got := talk(t, addr, send); !strings.HasPrefix(got, want) {
			t.Errorf("%.40q: answer %.60q, want %s", send, got, want)
		}
		if got := <-lines; !strings.Contains(got, want[len("HTTP/1.1 "):]) {
			t.Errorf("%.40q: logged as %q", send, got)
		}
	}
}

// TestCutShort: a page that fails after its beginning has no end.
func TestCutShort(t *testing.T) {
	addr := start(t, &Server{Page: func(context.Context, string) (string, func(io.Writer) error, error) {
		return "a/b", func(w io.Writer) error {
			w.Write(make([]byte, 2*maxHeld))
			return errors.New("it ended")
		}, nil
	}})
	if a, _, err := do(t, "GET", "http://"+addr+"/metrics"); a.StatusCode != 200 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("status %d, %v, want an answer that is cut short", a.StatusCode, err)
	}
}

// TestSilentClients: clients that send nothing, as many as have a place, are put out, and
// others get the page.
func TestSilentClients(t *testing.T) {
	addr := start(t, &Server{Page: text("page\n"), HeadTime: 50 * time.Millisecond})
	for range maxConns {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if _, body, err := do(t, "GET", "http://"+addr+"/metrics"); err != nil || body != "page\n" {
		t.Errorf("%v, %q", err, body)
	}
}

// TestSlowClients: clients that do not read their pages, as many as can be written at once,
// are put out, and others get the page.
func TestSlowClients(t *testing.T) {
	endless := func(w io.Writer) error {
		for {
			if _, err := w.Write(make([]byte, maxHeld)); err != nil {
				return err
			}
		}
	}
	begun := make(chan bool, maxPages)
	addr := start(t, &Server{AnswerTime: 200 * time.Millisecond, Page: func(_ context.Context, accept string) (string, func(io.Writer) error, error) {
		if accept == "x/y" {
			return "a/b", func(w io.Writer) error { _, err := io.WriteString(w, "page\n"); return err }, nil
		}
		begun <- true
		return "a/b", endless, nil
	}})
	for range maxPages {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprint(c, "GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n")
		<-begun
	}
	for try := 0; ; try++ {
		// A client that waits for longer than an answer may take is put out, too.
		r, err := http.NewRequest("GET", "http://"+addr+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", "x/y")
		a, err := http.DefaultClient.Do(r)
		if err == nil {
			body, err := io.ReadAll(a.Body)
			a.Body.Close()
			if err == nil && string(body) == "page\n" {
				return
			}
		}
		if try == 100 {
			t.Fatalf("no page after %d requests: %v", try, err)
		}
	}
}

// TestEnd: when the context ends, pages that are being written end, too.
func TestEnd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	waits := make(chan bool)
	s := &Server{Path: "/", HeadTime: time.Minute, AnswerTime: time.Minute, Page: func(ctx context.Context, _ string) (string, func(io.Writer) error, error) {
		close(waits)
		<-ctx.Done()
		return "", nil, ctx.Err()
	}}
	done := make(chan error)
	go func() { done <- s.Serve(ctx, l) }()
	busy, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	busy.SetReadDeadline(time.Now().Add(time.Minute))
	fmt.Fprint(busy, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	<-waits
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := io.ReadAll(busy); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is still there")
	}
}
