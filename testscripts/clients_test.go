package testscripts

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// These programs use a tunnel as ordinary programs do: with the sockets of the standard
// library, and without any knowledge of IPsec.

// exit ends a program; err is nil, or why it has failed.
func exit(name string, err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
	os.Exit(0)
}

var errUsage = errors.New("wrong arguments; doc.go describes them")

// content returns n bytes that cannot be compressed.
func content(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b)
	return b
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// web is the program "web ADDR:PORT", an HTTP server. GET /N returns N bytes; PUT returns
// the sum of its body.
func web() {
	if len(os.Args) != 2 {
		exit("web", errUsage)
	}
	s := http.Server{Addr: os.Args[1], Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			h := sha256.New()
			if _, err := io.Copy(h, r.Body); err == nil {
				fmt.Fprint(w, hex.EncodeToString(h.Sum(nil)))
			}
			return
		}
		n, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		_, _ = w.Write(content(n))
	})}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, func() { s.Close() })
	err := s.ListenAndServe()
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	exit("web", err)
}

// transfer is the program "transfer ADDR:PORT BYTES": it gets so many bytes from web, puts
// them there, and compares the sums.
func transfer() {
	if len(os.Args) != 3 {
		exit("transfer", errUsage)
	}
	n, err := strconv.Atoi(os.Args[2])
	if err == nil {
		err = transferBoth("http://"+os.Args[1]+"/", n)
	}
	if err == nil {
		fmt.Printf("%d bytes both ways\n", n)
	}
	exit("transfer", err)
}

func transferBoth(url string, n int) error {
	want := content(n)
	do := func(method, url string, body io.Reader) ([]byte, error) {
		r, err := http.NewRequest(method, url, body)
		if err != nil {
			return nil, err
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			return nil, err
		}
		defer answer.Body.Close()
		return io.ReadAll(answer.Body)
	}
	got, err := do(http.MethodGet, url+strconv.Itoa(n), nil)
	if err != nil {
		return err
	}
	if sum(got) != sum(want) {
		return fmt.Errorf("%d bytes come, other ones than the %d that the server has", len(got), n)
	}
	got, err = do(http.MethodPut, url, bytes.NewReader(want))
	if err == nil && string(got) != sum(want) {
		err = fmt.Errorf("the server has got other bytes: their sum is %q", got)
	}
	return err
}

// talk is the program "talk [-df] [-each] tcp|udp ADDR:PORT TIMES BYTES...": it sends
// messages of so many bytes, one after the other, and waits for the answer to each.
func talk() {
	df := flag.Bool("df", false, "")
	each := flag.Bool("each", false, "")
	flag.Parse()
	if flag.NArg() < 4 {
		exit("talk", errUsage)
	}
	network, addr := flag.Arg(0), flag.Arg(1)
	times, err := strconv.Atoi(flag.Arg(2))
	var c net.Conn
	dial := func() {
		if err == nil {
			c, err = (&net.Dialer{Control: func(network, _ string, c syscall.RawConn) error {
				if !*df {
					return nil
				}
				return errors.Join(c.Control(func(fd uintptr) { err = dontFragment(int(fd), network) }), err)
			}}).Dial(network, addr)
		}
	}
	dial()
	for _, arg := range flag.Args()[3:] {
		var size int
		if err == nil {
			size, err = strconv.Atoi(arg)
		}
		for range times {
			if *each && err == nil {
				c.Close()
				dial()
			}
			if err == nil {
				err = say(c, content(size))
			}
		}
		switch {
		case errors.Is(err, unix.EMSGSIZE):
			err = nil
			fmt.Printf("%d bytes: too long\n", size)
		case err == nil:
			fmt.Printf("%d bytes: %d answers\n", size, times)
		}
	}
	exit("talk", err)
}

// dontFragment sets DF, or keeps an IPv6 sender from cutting datagrams, as QUIC does (RFC
// 9000 section 14).
func dontFragment(fd int, network string) error {
	if strings.HasSuffix(network, "6") {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
}

// say sends a message and reads the answer, which must be the same.
func say(c net.Conn, message []byte) error {
	if _, err := c.Write(message); err != nil {
		return err
	}
	_ = c.SetReadDeadline(time.Now().Add(dialTime))
	answer := make([]byte, len(message))
	if _, err := io.ReadFull(c, answer); err != nil {
		return err
	}
	if !bytes.Equal(answer, message) {
		return fmt.Errorf("the answer to %d bytes is another one", len(message))
	}
	return nil
}
