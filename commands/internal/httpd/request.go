package httpd

import (
	"bytes"
	"io"
	"strings"
)

// maxHead is how long the head of a request may be, in bytes.
const maxHead = 8 << 10

// A request is the head of a request. A body is not read: no method that is answered has one.
type request struct {
	method string
	path   string // without a query
	minor  byte   // of the version 1.x, as a digit
	accept string // all fields Accept, with commas
}

// A status is the code and the reason of an answer.
type status string

// The answers.
const (
	statusOK          status = "200 OK"
	statusBad         status = "400 Bad Request"
	statusNotFound    status = "404 Not Found"
	statusMethod      status = "405 Method Not Allowed"
	statusTooLarge    status = "431 Request Header Fields Too Large"
	statusUnavailable status = "503 Service Unavailable"
	statusVersion     status = "505 HTTP Version Not Supported"
)

// A badRequest is the error of a request that cannot be read, with the answer to it.
type badRequest struct {
	status status
	text   string
}

func (e *badRequest) Error() string { return e.text }

// readHead reads from r to the end of the head: an empty line. It may read more.
func readHead(r io.Reader) ([]byte, error) {
	buf := make([]byte, 0, maxHead)
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if end := headEnd(buf); end >= 0 {
			return buf[:end], nil
		}
		switch {
		case len(buf) == cap(buf):
			return nil, &badRequest{statusTooLarge, "the head of the request is too long"}
		case err != nil:
			return nil, err
		}
	}
}

// headEnd returns the length of the head without its empty line, -1 if that did not come yet.
// A line may end without a carriage return (RFC 9112 section 2.2).
func headEnd(b []byte) int {
	for i := 0; i < len(b); {
		n := bytes.IndexByte(b[i:], '\n')
		if n < 0 {
			return -1
		}
		if line := bytes.TrimSuffix(b[i:i+n], []byte("\r")); len(line) == 0 && i > 0 {
			return i
		}
		i += n + 1
	}
	return -1
}

// parse parses a head (RFC 9112 sections 3 and 5).
func parse(head []byte) (r request, err error) {
	lines := strings.Split(string(head), "\n")
	for i := range lines {
		lines[i] = strings.TrimSuffix(lines[i], "\r")
	}
	if lines[0] == "" && len(lines) > 1 {
		lines = lines[1:] // one empty line before a request is ignored, section 2.2
	}
	if err := r.requestLine(lines[0]); err != nil {
		return r, err
	}
	hosts := 0
	for _, line := range lines[1:] {
		if line == "" { // the last line ended here
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !isToken(name) || strings.ContainsAny(value, "\r\x00") {
			return r, &badRequest{statusBad, "a field of the request is not valid"}
		}
		value = strings.Trim(value, " \t")
		switch {
		case strings.EqualFold(name, "host"):
			hosts++
		case strings.EqualFold(name, "accept") && r.accept != "":
			r.accept += "," + value
		case strings.EqualFold(name, "accept"):
			r.accept = value
		}
	}
	if hosts > 1 || hosts == 0 && r.minor != '0' {
		return r, &badRequest{statusBad, "a request has one field Host"}
	}
	return r, nil
}

func (r *request) requestLine(line string) error {
	method, rest, _ := strings.Cut(line, " ")
	target, version, ok := strings.Cut(rest, " ")
	if !ok || !isToken(method) || target == "" {
		return &badRequest{statusBad, "the request does not begin with a method, a path and a version"}
	}
	digits, ok := strings.CutPrefix(version, "HTTP/")
	if !ok || len(digits) != 3 || digits[1] != '.' || !isDigit(digits[0]) || !isDigit(digits[2]) {
		return &badRequest{statusBad, "the request has no version"}
	}
	if digits[0] != '1' {
		return &badRequest{statusVersion, "the version is HTTP/1.1"}
	}
	r.method, r.minor = method, digits[2]
	// The absolute form is for proxies, and each server accepts it (section 3.2.2).
	if _, after, ok := strings.Cut(target, "://"); ok && target[0] != '/' {
		_, path, _ := strings.Cut(after, "/")
		target = "/" + path
	}
	r.path, _, _ = strings.Cut(target, "?")
	return nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// isToken reports whether text is a token (RFC 9110 section 5.6.2).
func isToken(text string) bool {
	for i := range len(text) {
		c := text[i]
		if !isDigit(c) && (c|0x20 < 'a' || c|0x20 > 'z') && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return text != ""
}
