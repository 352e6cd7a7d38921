package httpd

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"
)

// An answer writes the answer to a request. What a page writes is kept until it is too much;
// so an error at the beginning of a page can still become the status of the answer.
type answer struct {
	w      *bufio.Writer
	req    request
	typ    string // media type
	begun  bool   // the status has been written
	held   []byte
	chunks bool
}

// maxHeld is how much of a page is kept before the status is written, in bytes.
const maxHeld = 64 << 10

// Write writes a part of the page.
func (a *answer) Write(p []byte) (int, error) {
	if !a.begun && len(a.held)+len(p) <= maxHeld {
		a.held = append(a.held, p...)
		return len(p), nil
	}
	if err := a.begin(); err != nil {
		return 0, err
	}
	return len(p), a.body(p)
}

// begin writes the head of the answer and what was kept. Without a length, the end of a page
// is known from the chunks (RFC 9112 section 7.1), or to older clients from the end of the
// connection.
func (a *answer) begin() error {
	if a.begun {
		return nil
	}
	a.begun, a.chunks = true, a.req.minor != '0'
	head(a.w, statusOK, a.typ)
	if a.chunks {
		fmt.Fprint(a.w, "Transfer-Encoding: chunked\r\n")
	}
	fmt.Fprint(a.w, "\r\n")
	held := a.held
	a.held = nil
	return a.body(held)
}

func (a *answer) body(p []byte) (err error) {
	switch {
	case a.req.method == "HEAD" || len(p) == 0:
	case a.chunks:
		fmt.Fprintf(a.w, "%x\r\n", len(p))
		a.w.Write(p)
		_, err = a.w.WriteString("\r\n")
	default:
		_, err = a.w.Write(p)
	}
	return err
}

// end ends a page that is complete.
func (a *answer) end() error {
	if err := a.begin(); err != nil {
		return err
	}
	if a.chunks && a.req.method != "HEAD" {
		fmt.Fprint(a.w, "0\r\n\r\n")
	}
	return a.w.Flush()
}

// refuse answers with a status and one line of text.
func refuse(w *bufio.Writer, method string, s status, text string) error {
	text += "\n"
	head(w, s, "text/plain; charset=utf-8")
	if s == statusMethod {
		fmt.Fprint(w, "Allow: GET, HEAD\r\n")
	}
	fmt.Fprintf(w, "Content-Length: %d\r\n\r\n", len(text))
	if method != "HEAD" {
		io.WriteString(w, text)
	}
	return w.Flush()
}

// head writes the first lines of an answer, without the empty one at their end.
func head(w io.Writer, s status, typ string) {
	date := strings.Replace(time.Now().UTC().Format(time.RFC1123), "UTC", "GMT", 1)
	fmt.Fprintf(w, "HTTP/1.1 %s\r\nDate: %s\r\nContent-Type: %s\r\nConnection: close\r\n", s, date, typ)
}
