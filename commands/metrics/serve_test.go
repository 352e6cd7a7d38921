package metrics

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/commands/internal/openmetrics"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/serial"
	"github.com/klips-go/ipsec/testscripts/scrape"
)

// A host is what the server finds on its machine.
type host struct {
	mu    sync.Mutex
	stack serial.Doer
	err   error // of opening it
}

func (h *host) set(stack serial.Doer, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stack, h.err = stack, err
}

func (h *host) open(context.Context) (klips.Stack, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return nil, h.err
	}
	return serial.New(h.stack), nil
}

// A named is a stack with a name.
type named struct {
	full
	name string
}

func (n *named) Name() string { return n.name }

// serveAt serves the metrics of a host until stop, and returns the first line of the output
// and what is on standard error.
func serveAt(t *testing.T, h *host, args ...string) (line string, stderr func() string, stop func() error) {
	t.Helper()
	r, w := io.Pipe()
	var log syncBuffer
	env := &cli.Env{Name: "ipsec metrics", Out: w, Err: &log, Stack: h.open, Version: func() string { return "1.2.3" }, Getenv: func(string) string { return "" }}
	cmd, err := command(env, args)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- cmd.Run(ctx, env); w.Close() }()
	line, err = bufio.NewReader(r).ReadString('\n')
	if err != nil {
		cancel()
		t.Fatalf("%v: %v, %s", args, <-done, log.String())
	}
	return strings.TrimSuffix(line, "\n"), log.String, func() error { cancel(); return <-done }
}

type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// fetch gets the metrics over a Unix socket.
func fetch(t *testing.T, path, accept string) (status int, typ, body string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", path) }}}
	r, err := http.NewRequest("GET", "http://localhost/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", accept)
	a, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return a.StatusCode, a.Header.Get("Content-Type"), string(b)
}

// TestServe: a server outlives its stack, and does not take another one for it.
func TestServe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	h := &host{err: &klips.UnavailableError{Why: "no daemon runs"}}
	line, stderr, stop := serveAt(t, h, "--debug", "--listen", "unix:"+path)
	if want := "serving /metrics on unix:" + path; line != want {
		t.Errorf("printed %q, want %q", line, want)
	}
	if !strings.Contains(stderr(), "note: there are no metrics yet: ") {
		t.Errorf("standard error has %q", stderr())
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("the socket: %v, %v", info.Mode(), err)
	}
	const accept = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
	for _, c := range []struct {
		stack  serial.Doer
		err    error
		accept string
		status int
		body   string
	}{
		{nil, h.err, accept, 503, "no daemon runs"},
		{&named{name: "user"}, nil, accept, 200, `ipsec_stack_info{stack="user"`},
		{&named{name: "user"}, nil, "", 200, "ipsec_sas 9\n"},
		{&named{name: "xfrm"}, nil, accept, 503, "stack user has gone"},
		{nil, errors.New("it has gone"), accept, 503, "it has gone\n"},
		{&named{name: "user"}, nil, accept, 200, "# EOF\n"},
		{&clitest.Stack{ListErr: syscall.EPERM}, nil, accept, 503, "has gone"},
	} {
		h.set(c.stack, c.err)
		status, typ, body := fetch(t, path, c.accept)
		if status != c.status || !strings.Contains(body, c.body) {
			t.Errorf("status %d, %s, want %d, %q", status, body, c.status, c.body)
		}
		if status != 200 {
			continue
		}
		form := openmetrics.Prometheus
		if c.accept != "" {
			form = openmetrics.OpenMetrics
			if _, err := scrape.Parse(body); err != nil {
				t.Error(err)
			}
		}
		if typ != form.ContentType() {
			t.Errorf("type %q, want %q", typ, form.ContentType())
		}
	}
	if err := stop(); err != nil {
		t.Errorf("the end: %v", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
	if !strings.Contains(stderr(), "debug: GET /metrics: 200 OK\n") {
		t.Errorf("standard error has %q", stderr())
	}
}

// TestPort: the kernel can choose the port, and the command prints it.
func TestPort(t *testing.T) {
	line, _, stop := serveAt(t, &host{stack: &full{}}, "--listen", "127.0.0.1:0")
	addr, ok := strings.CutPrefix(line, "serving /metrics on 127.0.0.1:")
	if !ok || addr == "0" {
		t.Errorf("printed %q", line)
	}
	a, err := http.Get("http://127.0.0.1:" + addr + "/metrics")
	if err != nil || a.StatusCode != 200 {
		t.Errorf("%v, %v", a, err)
	}
	if err == nil {
		a.Body.Close()
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// TestWrongStack: the server ends at once if the environment names a stack that does not
// exist.
func TestWrongStack(t *testing.T) {
	r := clitest.Run(App(), clitest.World{StackErr: cli.Usagef("IPSEC_STACK: unknown stack x")}, "--listen", "127.0.0.1:0")
	if r.Status != cli.ExitUsage || r.Out != "" {
		t.Errorf("status %d, %q, printed %q", r.Status, r.Err, r.Out)
	}
}

func TestParsePlace(t *testing.T) {
	for text, want := range map[string]string{
		":9471": "127.0.0.1:9471", "127.0.0.1:1": "127.0.0.1:1", "[::1]:65535": "[::1]:65535", "0.0.0.0:0": "0.0.0.0:0",
		"[fe80::1%eth0]:80": "[fe80::1%eth0]:80", "gw1:9": "10.1.1.1:9", "unix:/run/a:b": "unix:/run/a:b", "unix:x": "unix:x",
		"unix:" + strings.Repeat("x", 107): "unix:" + strings.Repeat("x", 107),
	} {
		if p, err := parsePlace(text, clitest.Names); err != nil || p.String() != want {
			t.Errorf("parsePlace(%q) = %v, %v, want %s", text, p, err, want)
		}
	}
	for text, want := range map[string]string{
		"": "want [HOST]:PORT", "9471": "want [HOST]:PORT", "::1:80": "want [HOST]:PORT", "unix:": "has no path",
		":": "not a TCP port", ":x": "not a TCP port", ":65536": "not a TCP port", ":-1": "not a TCP port",
		"nohost:1": "host nohost: not a numeric IPv4 or IPv6 address", "unix:" + strings.Repeat("x", 108): "the path has 108 bytes",
	} {
		p, err := parsePlace(text, clitest.Names)
		var usage *cli.UsageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), want) {
			t.Errorf("parsePlace(%q) = %v, %v, want %q", text, p, err, want)
		}
	}
	for _, args := range [][]string{{"--listen"}, {"--listen", "x"}, {"--listen", ":1", "--listen", ":2"}} {
		if r := clitest.Run(App(), clitest.World{}, args...); r.Status != cli.ExitUsage || r.Opened || r.Out != "" {
			t.Errorf("metrics %q: status %d, opened %v, %q", args, r.Status, r.Opened, r.Out)
		}
	}
}

func TestListen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "socket")
	served, err := place{path: path}.listen()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	for text, want := range map[string]string{
		"unix:" + path:                         "another program serves there",
		"unix:" + file:                         "a file that is no socket",
		"unix:" + filepath.Join(dir, "none/x"): "the folder does not exist",
		tcp.Addr().String():                    "another program has this port",
		"203.0.113.77:0":                       "this host does not have the address",
	} {
		p, err := parsePlace(text, nil)
		if err != nil {
			t.Fatal(err)
		}
		l, err := p.listen()
		if err == nil {
			l.Close()
		}
		if prefix := "--listen " + text + ": "; err == nil || !strings.HasPrefix(err.Error(), prefix+want) {
			t.Errorf("listen at %s: %v, want %s%s", text, err, prefix, want)
		}
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("the file that is no socket: %v", err)
	}

	// A server that is killed leaves its socket.
	served.(*net.UnixListener).SetUnlinkOnClose(false)
	served.Close()
	l, err := place{path: path}.listen()
	if err != nil {
		t.Fatalf("a socket that is left: %v", err)
	}
	l.Close()
}

func TestFormFor(t *testing.T) {
	for accept, want := range map[string]openmetrics.Form{
		"":    openmetrics.Prometheus,
		"*/*": openmetrics.Prometheus,
		"text/plain;version=0.0.4;q=0.3,*/*;q=0.1":                                               openmetrics.Prometheus,
		"application/openmetrics-text":                                                           openmetrics.OpenMetrics,
		"text/plain, APPLICATION/openmetrics-text; Version=\"1.0.0\" ;charset=utf-8":             openmetrics.OpenMetrics,
		"application/openmetrics-text;version=1.0.0;q=0":                                         openmetrics.Prometheus,
		"application/openmetrics-text;version=1.0.0;q=2":                                         openmetrics.Prometheus,
		"application/openmetrics-text;version=2.0.0":                                             openmetrics.Prometheus,
		"application/openmetrics-text;version=0.0.1,application/openmetrics-text;version=1.0.0":  openmetrics.OpenMetrics,
		"application/openmetrics-text;q=0.4,text/plain;version=0.0.4;q=0.5":                      openmetrics.Prometheus,
		"application/openmetrics-text;q=0.4,text/plain;version=1.0.0;q=0.5,text/plain;q=nan;;=,": openmetrics.OpenMetrics,
	} {
		if got := formFor(accept); got != want {
			t.Errorf("formFor(%q) = %d, want %d", accept, got, want)
		}
	}
}

// FuzzPlace: no value of the option makes the parser panic, and a place in the form of the
// option is the same place.
func FuzzPlace(f *testing.F) {
	for _, text := range []string{":9471", "[::1]:1", "[fe80::1%eth0]:80", "gw1:9", "unix:/run/x", "1.2.3.4:65536", "[:", "unix:"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePlace(text, clitest.Names)
		if err != nil {
			return
		}
		if again, err := parsePlace(p.String(), nil); err != nil || again != p {
			t.Errorf("%q is %v, which is %v, %v", text, p, again, err)
		}
	})
}

// FuzzFormFor: no field of a client makes the parser panic, and nobody who does not name
// OpenMetrics gets it.
func FuzzFormFor(f *testing.F) {
	f.Add("application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2")
	f.Add("text/plain;q=;;=,,")
	f.Fuzz(func(t *testing.T, accept string) {
		if formFor(accept) == openmetrics.OpenMetrics && !strings.Contains(strings.ToLower(accept), "application/openmetrics-text") {
			t.Errorf("%q gets OpenMetrics", accept)
		}
	})
}
