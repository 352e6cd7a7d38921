package httpd

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]request{
		"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n":                                {"GET", "/metrics", '1', ""},
		"GET /metrics HTTP/1.0\r\n\r\n":                                           {"GET", "/metrics", '0', ""},
		"HEAD /metrics?x=1 HTTP/1.1\nhost:\n\n":                                   {"HEAD", "/metrics", '1', ""},
		"\r\nGET / HTTP/1.9\r\nHost: h\r\naccept: a;q=1\r\nAccept:\t b \r\n\r\nx": {"GET", "/", '9', "a;q=1,b"},
		"GET http://h:1/metrics?x HTTP/1.1\r\nHost: h\r\n\r\n":                    {"GET", "/metrics", '1', ""},
		"GET http://h HTTP/1.1\r\nHost: h\r\n\r\n":                                {"GET", "/", '1', ""},
		"GET /a://b HTTP/1.1\r\nHost: h\r\n\r\n":                                  {"GET", "/a://b", '1', ""},
	} {
		for _, r := range []io.Reader{strings.NewReader(text), iotest.OneByteReader(strings.NewReader(text))} {
			head, err := readHead(r)
			if err != nil {
				t.Errorf("%q: %v", text, err)
				continue
			}
			if got, err := parse(head); err != nil || got != want {
				t.Errorf("%q = %+v, %v, want %+v", text, got, err, want)
			}
		}
	}
}

func TestParseRefused(t *testing.T) {
	for text, want := range map[string]status{
		"GET /\r\n\r\n":                                             statusBad,
		"GET  / HTTP/1.1\r\nHost: h\r\n\r\n":                        statusBad,
		"GET / HTTP/1.1 \r\nHost: h\r\n\r\n":                        statusBad,
		"GET / HTTP/11\r\nHost: h\r\n\r\n":                          statusBad,
		"GET / HTTP/x.1\r\nHost: h\r\n\r\n":                         statusBad,
		"G(T / HTTP/1.1\r\nHost: h\r\n\r\n":                         statusBad,
		"GET / HTTP/2.0\r\nHost: h\r\n\r\n":                         statusVersion,
		"GET / HTTP/1.1\r\n\r\n":                                    statusBad,
		"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n":              statusBad,
		"GET / HTTP/1.1\r\nHost : a\r\n\r\n":                        statusBad,
		"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n":                   statusBad,
		"GET / HTTP/1.1\r\nHost: a\r\nx\r\n\r\n":                    statusBad,
		"\r\n\r\n":                                                  statusBad,
		"GET /" + strings.Repeat("a", maxHead) + " HTTP/1.1\r\n":    statusTooLarge,
		"GET / HTTP/1.1\r\nHost: " + strings.Repeat("\r\nx:", 4000): statusTooLarge,
	} {
		head, err := readHead(strings.NewReader(text))
		if err == nil {
			_, err = parse(head)
		}
		var bad *badRequest
		if !errors.As(err, &bad) || bad.status != want {
			t.Errorf("%.60q: %v, want %s", text, err, want)
		}
	}
	if _, err := readHead(strings.NewReader("GET / HTTP/1.1\r\nHost: a\r\n")); err != io.EOF {
		t.Errorf("a head without an end: %v", err)
	}
}

// FuzzParse: no request makes the parser panic. What it accepts means the same as to net/http,
// if that accepts it, too.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"GET /metrics HTTP/1.1\r\nHost: h\r\nAccept: text/plain\r\n\r\n", "HEAD http://h/metrics?x HTTP/1.0\n\n",
		"\r\nGET / HTTP/1.1\r\nHost:\r\nAccept: a\r\nAccept: b\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		head, err := readHead(bytes.NewReader(text))
		if err != nil {
			return
		}
		got, err := parse(head)
		if err != nil {
			return
		}
		want, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(text)))
		if err != nil {
			return
		}
		if got.method != want.Method || int(got.minor-'0') != want.ProtoMinor {
			t.Errorf("%q = %+v, net/http reads %s HTTP/1.%d", text, got, want.Method, want.ProtoMinor)
		}
		if path := want.URL.EscapedPath(); strings.HasPrefix(want.RequestURI, "/") && want.URL.RawPath == "" && !strings.ContainsAny(want.RequestURI, "#%") && got.path != path && got.path != want.URL.Path {
			t.Errorf("%q is for %q, net/http reads %q", text, got.path, path)
		}
	})
}
