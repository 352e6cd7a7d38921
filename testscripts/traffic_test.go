package testscripts

import (
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/testscripts/lab"
)

// outcome ends a command that may be negated.
func outcome(ts *testscript.TestScript, neg bool, what string, err error) {
	switch {
	case err != nil && !neg:
		ts.Fatalf("%v", err)
	case err == nil && neg:
		ts.Fatalf("%s succeeded", what)
	case err != nil:
		fmt.Fprintln(ts.Stderr(), err)
	}
}

func cmdPing(ts *testscript.TestScript, neg bool, args []string) {
	var p lab.Ping
	var src string
	fs := flag.NewFlagSet("ping", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.IntVar(&p.Count, "c", 1, "")
	fs.DurationVar(&p.Interval, "i", 0, "")
	fs.IntVar(&p.Size, "s", 56, "")
	fs.StringVar(&src, "I", "", "")
	fs.BoolVar(&p.DF, "df", false, "")
	fs.IntVar(&p.TOS, "Q", 0, "")
	if err := fs.Parse(args); err != nil || fs.NArg() < 2 || fs.NArg() > 2 && neg {
		ts.Fatalf("usage: ping [-c N] [-i PAUSE] [-s BYTES] [-I SRC] [-df] [-Q TOS] NAME ADDR [PROG ARG...]")
	}
	var err error
	p.Dst, err = netip.ParseAddr(fs.Arg(1))
	ts.Check(err)
	if src != "" {
		p.Src, err = netip.ParseAddr(src)
		ts.Check(err)
	}
	h := host(ts, fs.Arg(0))
	if fs.NArg() > 2 {
		ts.Check(pingDuring(ts, h, p, fs.Args()[2:]))
		return
	}
	if neg {
		p.GiveUp = idle(ts)
	}
	replies, err := h.Ping(p)
	if neg && len(replies) > 0 {
		ts.Fatalf("%d of %d requests were answered", len(replies), p.Count)
	}
	if len(replies) > 0 {
		fmt.Fprintf(ts.Stdout(), "%d of %d answered, %d bytes\n", len(replies), p.Count, replies[0].Bytes)
	}
	outcome(ts, neg, "ping", err)
}

// pingDuring sends p.Count requests or more: before, while and after a program runs. Its
// outputs are those of the command.
func pingDuring(ts *testscript.TestScript, h *lab.Host, p lab.Ping, prog []string) error {
	began, ended, pinged := make(chan struct{}), make(chan struct{}), make(chan struct{})
	begin := sync.OnceFunc(func() { close(began) })
	least, sent, after := p.Count, 1, 0 // after: how many were sent after the end
	p.Count = 1
	p.More = func() bool {
		begin()
		select {
		case <-ended:
			if after > 0 && sent >= least {
				return false
			}
			after++
		default:
		}
		sent++
		return true
	}
	var replies []lab.Reply
	var lost error
	go func() {
		defer close(pinged)
		replies, lost = h.Ping(p)
	}()
	select {
	case <-began:
	case <-pinged: // no request could be sent
		return lost
	}
	err := ts.Exec(prog[0], prog[1:]...)
	close(ended)
	<-pinged
	ts.Logf("[%d requests answered]", len(replies))
	return errors.Join(lost, err)
}

// idle returns a function that reports whether the script's hosts are idle. A check
// that no packet arrives ends then, and not after some time.
func idle(ts *testscript.TestScript) func() bool {
	var hosts []*lab.Host
	for _, h := range worldOf(ts).hosts {
		hosts = append(hosts, h)
	}
	return func() bool { return lab.Idle(hosts...) }
}

// cmdAwait repeats a program until it succeeds.
func cmdAwait(ts *testscript.TestScript, args []string) {
	if err := lab.Await(func() bool { return ts.Exec(args[0], args[1:]...) == nil }); err != nil {
		ts.Fatalf("await %s: %v", strings.Join(args, " "), err)
	}
}

// cmdMemGroup creates a control group and passes its directory to programs as
// $MEMGROUP.
func cmdMemGroup(ts *testscript.TestScript, args []string) {
	bytes, err := strconv.ParseUint(args[0], 10, 64)
	ts.Check(err)
	dir, remove, err := lab.MemoryGroup(bytes)
	ts.Check(err)
	ts.Setenv("MEMGROUP", dir)
	ts.Defer(func() { ts.Check(remove()) })
}

func cmdServe(ts *testscript.TestScript, args []string) {
	stop, err := serveEcho(host(ts, args[0]), args[1], args[2])
	ts.Check(err)
	w := worldOf(ts)
	w.closers = append(w.closers, stop)
}

// serveEcho sends each message to an address back until stop is called.
func serveEcho(h *lab.Host, network, addr string) (stop func(), err error) {
	err = h.Do(func() error {
		if network == "udp" {
			c, err := net.ListenPacket("udp", addr)
			if err != nil {
				return err
			}
			stop = func() { c.Close() }
			go func() {
				b := make([]byte, 65536)
				for {
					n, from, err := c.ReadFrom(b)
					if errors.Is(err, net.ErrClosed) {
						return
					}
					if err == nil {
						c.WriteTo(b[:n], from)
					}
				}
			}()
			return nil
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		stop = func() { l.Close() }
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() { io.Copy(c, c); c.Close() }()
			}
		}()
		return nil
	})
	return stop, err
}

func cmdDial(ts *testscript.TestScript, neg bool, args []string) {
	fs := flag.NewFlagSet("dial", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	times := fs.Int("x", 1, "")
	if err := fs.Parse(args); err != nil || fs.NArg() != 4 {
		ts.Fatalf("usage: dial [-x TIMES] NAME tcp|udp ADDR:PORT TEXT")
	}
	var giveUp func() bool
	if neg {
		giveUp = idle(ts)
	}
	answer, err := dial(host(ts, fs.Arg(0)), fs.Arg(1), fs.Arg(2), strings.Repeat(fs.Arg(3), *times), giveUp)
	switch {
	case err == nil && *times > 1:
		fmt.Fprintln(ts.Stdout(), len(answer), "bytes")
	case err == nil:
		fmt.Fprintln(ts.Stdout(), answer)
	}
	outcome(ts, neg, "dial", err)
}

// dialTime is how long dial may take. Only a failure takes so long.
const dialTime = time.Minute

// errNoAnswer is the error of dial if no answer arrives.
var errNoAnswer = errors.New("no answer")

// dial sends text and reads the same number of bytes, until giveUp, if not nil, returns
// true. The socket is opened on the host's thread, so that it belongs to the host.
func dial(h *lab.Host, network, addr, text string, giveUp func() bool) (string, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return "", err
	}
	typ := unix.SOCK_STREAM
	if network == "udp" {
		typ = unix.SOCK_DGRAM
	}
	af, sa := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: int(to.Port()), Addr: [4]byte{}})
	if to.Addr().Is4() {
		sa.(*unix.SockaddrInet4).Addr = to.Addr().As4()
	} else {
		af, sa = unix.AF_INET6, &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	}
	var fd int
	err = h.Do(func() error {
		if fd, err = unix.Socket(af, typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
			return err
		}
		if err = unix.Connect(fd, sa); err != nil && err != unix.EINPROGRESS {
			unix.Close(fd)
			return fmt.Errorf("connect: %w", err)
		}
		return nil
	})
	var answer []byte
	if err == nil {
		answer, err = exchange(fd, []byte(text), giveUp)
		unix.Close(fd)
	}
	if err != nil {
		return "", fmt.Errorf("dial %s %s: %w", network, addr, err)
	}
	return string(answer), nil
}

// exchange sends text on a non-blocking socket and reads the same number of bytes. It
// does both at the same time, because the buffers may be too small for the whole text.
func exchange(fd int, text []byte, giveUp func() bool) (answer []byte, err error) {
	answer = make([]byte, 0, len(text))
	end, pause := time.Now().Add(dialTime), lab.FirstPause
	for len(answer) < cap(answer) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if len(text) > 0 {
			p[0].Events |= unix.POLLOUT
		}
		n, err := unix.Poll(p, int(pause.Milliseconds()))
		if n == 0 {
			pause = min(2*pause, time.Second)
		}
		if err == unix.EINTR || err == nil && n == 0 && (giveUp == nil || !giveUp()) && time.Now().Before(end) {
			continue
		}
		if err == nil && n == 0 { // answers that came before giveUp returned true have been read
			n, err = unix.Poll(p, 0)
		}
		switch {
		case err != nil:
			return nil, err
		case n == 0:
			return nil, fmt.Errorf("%w after %d bytes", errNoAnswer, len(answer))
		}
		if p[0].Revents&(unix.POLLIN|unix.POLLERR|unix.POLLHUP) != 0 {
			m, err := unix.Read(fd, answer[len(answer):cap(answer)])
			switch {
			case err == unix.EAGAIN || err == unix.EINTR:
			case err != nil:
				return nil, fmt.Errorf("receive: %w", err)
			case m == 0:
				return nil, fmt.Errorf("receive: %w after %d bytes", io.ErrUnexpectedEOF, len(answer))
			default:
				answer = answer[:len(answer)+m]
			}
		}
		if len(text) > 0 && p[0].Revents&unix.POLLOUT != 0 {
			m, err := unix.Write(fd, text)
			if err != nil && err != unix.EAGAIN && err != unix.EINTR {
				return nil, fmt.Errorf("send: %w", err)
			}
			text = text[max(m, 0):]
		}
	}
	return answer, nil
}

func cmdForge(ts *testscript.TestScript, args []string) {
	dst, err := netip.ParseAddr(args[1])
	ts.Check(err)
	proto := number(ts, args[2])
	payload, err := hex.DecodeString(strings.ReplaceAll(args[3], "_", ""))
	ts.Check(err)
	ts.Check(host(ts, args[0]).Do(func() error {
		af, sa := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Addr: [4]byte{}})
		if dst.Is4() {
			sa.(*unix.SockaddrInet4).Addr = dst.As4()
		} else {
			to := &unix.SockaddrInet6{Addr: dst.As16()}
			if dst.Zone() != "" {
				dev, err := net.InterfaceByName(dst.Zone())
				if err != nil {
					return err
				}
				to.ZoneId = uint32(dev.Index)
			}
			af, sa = unix.AF_INET6, to
		}
		fd, err := unix.Socket(af, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, payload, 0, sa)
	}))
}

// cmdKnock sends one message to a SOCK_SEQPACKET socket and prints the answer: hex, or
// "closed" or "silent".
func cmdKnock(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: knock SOCKET HEX")
	}
	msg, err := hex.DecodeString(strings.ReplaceAll(args[1], "_", ""))
	ts.Check(err)
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: ts.MkAbs(args[0]), Net: "unixpacket"})
	if err == nil {
		defer c.Close()
		_, err = c.Write(msg)
	}
	if err == nil {
		b := make([]byte, 65536)
		quiet, end, pause := idle(ts), time.Now().Add(time.Minute), lab.FirstPause
		n := 0
		for silent := false; ; {
			c.SetReadDeadline(time.Now().Add(pause))
			pause = min(2*pause, time.Second)
			if n, err = c.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) || silent {
				break
			}
			// Read once more: an answer may have come just before the hosts were idle.
			silent = quiet() || time.Now().After(end)
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			fmt.Fprintln(ts.Stdout(), "silent")
		case err != nil || n == 0:
			fmt.Fprintln(ts.Stdout(), "closed")
		default:
			fmt.Fprintln(ts.Stdout(), hex.EncodeToString(b[:n]))
		}
		err = nil
	}
	outcome(ts, neg, "knock", err)
}

// cmdReplay sends the frames of a capture again from a device.
func cmdReplay(ts *testscript.TestScript, args []string) {
	times := 1
	if len(args) == 4 {
		n, err := strconv.Atoi(args[3])
		ts.Check(err)
		times = n
	}
	frames, link := readCapture(ts, args[2])
	if link != lab.LinkEthernet {
		ts.Fatalf("%s is not of an ethernet", args[2])
	}
	ts.Check(host(ts, args[0]).Do(func() error {
		ifi, err := net.InterfaceByName(args[1])
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for i := 0; i < times; i++ {
			for _, f := range frames {
				if err := unix.Sendto(fd, f.Data, 0, &unix.SockaddrLinklayer{Ifindex: ifi.Index}); err != nil {
					return err
				}
			}
		}
		return nil
	}))
}
