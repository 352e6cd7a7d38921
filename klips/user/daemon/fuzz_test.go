package daemon_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user"
	"github.com/klips-go/ipsec/klips/user/control"
	"github.com/klips-go/ipsec/klips/user/daemon"
)

// Every message gets one answer, with its own numbers. A listener receives only whole
// messages of KLIPS, without keys. The daemon goes on.
func FuzzMessages(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s)
	}
	rundir, _ := start(f)
	templates := templates()
	f.Fuzz(func(t *testing.T, program []byte) {
		sender, listener := open(t, rundir), open(t, rundir)
		listener.ask(pfkey.Register(pfkey.SATypeESP))
		sender.received()
		for _, step := range steps(templates, program) {
			if step.m == nil {
				continue
			}
			if _, err := sender.c.Write(step.m); err != nil {
				t.Fatal(err)
			}
			checkAnswer(t, step.m, sender.read)
			if l := sender.received(); len(l) != 0 {
				t.Fatalf("%x: besides the answer came %x", step.m, l)
			}
		}
		for _, b := range listener.received() {
			checkBroadcast(t, b)
		}
		sender.c.Close()
		listener.c.Close()
		clearTables(t, rundir)
	})
}

// checkAnswer reads the answer to a message; read returns the next message.
func checkAnswer(t *testing.T, m []byte, read func() []byte) {
	t.Helper()
	for {
		r := read()
		checkWhole(t, m, r)
		if len(m) < 16 || m[0] != 2 {
			return // the header was unreadable
		}
		if r[1] != m[1] || string(r[8:16]) != string(m[8:16]) {
			t.Fatalf("%x: answered %x, which has other numbers", m, r)
		}
		a, err := pfkey.Parse(r)
		if err != nil && pfkey.Type(m[1]) != 0 && (m[1] < 20 || m[1] >= 64 && m[1] <= 70) {
			t.Fatalf("%x: answered %x: %v", m, r, err)
		}
		if err != nil || !more(a) {
			return
		}
	}
}

// checkWhole checks that an answer has a header with its length.
func checkWhole(t *testing.T, m, r []byte) {
	t.Helper()
	if len(r) < 16 || r[0] != 2 || len(r) != 8*int(binary.NativeEndian.Uint16(r[4:])) {
		t.Fatalf("%x: answered %x", m, r)
	}
}

// more reports whether a message is followed by another one of the same answer:
// a listing goes on until a message without data.
func more(m *pfkey.Message) bool {
	return m.Type == control.TypeList && m.Errno == 0 && len(m.Private) > 1 // TABLE, and DATA
}

// checkBroadcast checks a message that its reader did not ask for.
func checkBroadcast(t *testing.T, b []byte) {
	t.Helper()
	m, err := pfkey.Parse(b)
	if err != nil {
		t.Fatalf("received %x: %v", b, err)
	}
	if m.Type >= 64 || m.KeyAuth != nil || m.KeyEncrypt != nil {
		t.Errorf("received %v", m)
	}
	if err := control.CheckReply(m); err != nil && m.Errno == 0 && m.Type != pfkey.TypeExpire {
		t.Errorf("received %v: %v", m, err)
	}
}

// clearTables empties the daemon's tables, and checks that they are as at the start.
func clearTables(t *testing.T, rundir string) {
	t.Helper()
	ctx := t.Context()
	c, err := klipstest.Dial(user.SocketPath(rundir))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	devices, err := c.Devices(ctx)
	errs := []error{err, c.ClearSAs(ctx), c.ClearEroutes(ctx), c.DetachAll(ctx), c.SetDebug(ctx, klips.DebugChange{Set: true})}
	for _, d := range devices {
		if !slices.Contains([]string{"ipsec0", "ipsec1"}, d.Name) {
			errs = append(errs, c.DeleteDevice(ctx, d.Name))
		}
	}
	for _, name := range []string{"ipsec0", "ipsec1"} {
		if !slices.ContainsFunc(devices, func(d klips.Device) bool { return d.Name == name }) {
			errs = append(errs, c.CreateDevice(ctx, name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		t.Fatalf("afterwards: %v", err)
	}
	s, err := c.Status(ctx)
	if err != nil || s.SAs != 0 || s.Eroutes != 0 || len(s.Devices) != 2 || s.Devices[0].Physical != "" || s.Devices[1].Physical != "" {
		t.Fatalf("afterwards there are %d SAs, %d eroutes and devices %v, %v", s.SAs, s.Eroutes, s.Devices, err)
	}
}

// FuzzBundles sends each program as one bundle. Every message gets one answer, in order. The
// daemon goes on.
func FuzzBundles(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s)
	}
	rundir, _ := start(f)
	templates := templates()
	f.Fuzz(func(t *testing.T, program []byte) {
		s := open(t, rundir)
		s.ask(control.Begin())
		var bundle []byte
		for _, step := range steps(templates, program) {
			bundle = append(bundle, step.m...)
		}
		if len(bundle) == 0 || len(bundle) > pfkey.MaxMessage {
			return
		}
		if _, err := s.c.Write(bundle); err != nil {
			t.Fatal(err)
		}
		var left []byte // of the datagram that was read last
		next := func() (r []byte) {
			if len(left) == 0 {
				left = s.read()
			}
			r, left = pfkey.Split(left)
			return r
		}
		for len(bundle) > 0 {
			var m []byte
			m, bundle = pfkey.Split(bundle)
			checkAnswer(t, m, next)
		}
		if len(left) != 0 {
			t.Fatalf("after the answers came %x", left)
		}
		s.c.Close()
		clearTables(t, rundir)
	})
}

// maxAhead is how many requests a client sends without reading an answer; all of
// their answers fit its socket.
const maxAhead = 6

// A talker is a client that sends several requests before it reads their answers.
type talker struct {
	*socket
	asked [][]byte // requests without an answer yet
}

// send sends a request, with numbers of its own if it is long enough for them.
func (k *talker) send(m []byte) {
	k.t.Helper()
	if len(k.asked) == maxAhead {
		k.readAnswers()
	}
	if len(m) >= 16 {
		k.seq++
		binary.NativeEndian.PutUint32(m[8:], k.seq)
		binary.NativeEndian.PutUint32(m[12:], k.pid)
	}
	if _, err := k.c.Write(m); err != nil {
		k.t.Fatal(err)
	}
	k.asked = append(k.asked, m)
}

// readAnswers reads until all requests have their answers, which come in order.
// Broadcasts may come between them.
func (k *talker) readAnswers() {
	t := k.t.(*testing.T)
	t.Helper()
	for len(k.asked) > 0 {
		m, r := k.asked[0], k.read()
		checkWhole(t, m, r)
		switch {
		case len(m) < 16 || m[0] != 2: // the answer has no numbers
			if string(r[8:16]) != "\x00\x00\x00\x00\x00\x00\x00\x00" {
				checkBroadcast(t, r)
				continue
			}
		case binary.NativeEndian.Uint32(r[12:]) != k.pid:
			checkBroadcast(t, r)
			continue
		case r[1] != m[1] || string(r[8:16]) != string(m[8:16]):
			t.Fatalf("%x: answered %x, which has other numbers", m, r)
		}
		if a, err := pfkey.Parse(r); err == nil && more(a) {
			continue
		}
		k.asked = k.asked[1:]
	}
}

// FuzzConversation has several clients at once. Each request gets its answer, in the
// order of the requests; a client may close its connection at any time; and the tables
// are consistent at the end.
func FuzzConversation(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s)
	}
	clients := make(connected, 1)
	clients <- 0
	rundir := startWith(f, daemon.Config{Host: klipstest.NewHost(new(klipstest.Network), []netip.Addr{local}, "eth0"), Clients: clients.change})
	templates := templates()
	f.Fuzz(func(t *testing.T, program []byte) {
		var talkers [3]*talker
		for i := range talkers {
			talkers[i] = &talker{socket: open(t, rundir)}
		}
		for _, step := range steps(templates, program) {
			k := talkers[step.client%len(talkers)]
			switch {
			case step.m != nil:
				k.send(step.m)
			case step.await:
				k.readAnswers()
			case step.reopen:
				k.c.Close()
				talkers[step.client%len(talkers)] = &talker{socket: open(t, rundir)}
			}
		}
		for _, k := range talkers {
			k.readAnswers()
		}
		// The daemon still carries out what those have asked that did not wait for an answer.
		clients.await(t, len(talkers))
		checkTables(t, rundir)
		for i, k := range talkers {
			if i > 0 {
				k.c.Close()
				continue
			}
			// The daemon ends the connection of a client that sends no more.
			if err := k.c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			drain(t, k.c)
		}
		clearTables(t, rundir)
	})
}

// connected has the number of connected clients.
type connected chan int

func (c connected) change(n int) { c <- <-c + n }

// await waits until n clients are connected.
func (c connected) await(t *testing.T, n int) {
	t.Helper()
	end := time.After(patience)
	for {
		now := <-c
		c <- now
		if now == n {
			return
		}
		select {
		case <-end:
			t.Fatalf("%d clients are connected, want %d", now, n)
		case <-time.After(time.Millisecond):
		}
	}
}

// drain reads to the end of a connection.
func drain(t *testing.T, c *net.UnixConn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	buf := make([]byte, pfkey.MaxMessage)
	for {
		n, err := c.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("the daemon keeps the connection of a client that has gone")
		}
		if n == 0 || errors.Is(err, io.EOF) || err != nil {
			return
		}
	}
}

// checkTables checks that the tables agree with each other. No other client may change
// them meanwhile.
func checkTables(t *testing.T, rundir string) {
	t.Helper()
	ctx := context.Background()
	c := dial(t, rundir)
	sas, err := c.SAs(ctx)
	eroutes, err2 := c.Eroutes(ctx)
	status, err3 := c.Status(ctx)
	if err := errors.Join(err, err2, err3); err != nil {
		t.Fatal(err)
	}
	if len(sas) != status.SAs || len(eroutes) != status.Eroutes {
		t.Errorf("%d SAs and %d eroutes are listed, the status is %d and %d", len(sas), len(eroutes), status.SAs, status.Eroutes)
	}
	known := map[klips.SAID]klips.SA{}
	before := map[klips.SAID]klips.SAID{}
	for _, sa := range sas {
		if _, twice := known[sa.ID]; twice {
			t.Errorf("%v is listed twice", sa.ID)
		}
		known[sa.ID] = sa
	}
	for _, sa := range sas {
		if len(sa.Next) > 0 {
			next := sa.Next[0]
			if _, ok := known[next]; !ok {
				t.Errorf("%v is followed by %v, which is not there", sa.ID, next)
			}
			if other, twice := before[next]; twice {
				t.Errorf("%v follows both %v and %v", next, other, sa.ID)
			}
			before[next] = sa.ID
		}
		one, err := c.GetSA(ctx, sa.ID)
		if sa.State == klips.Larval && errors.Is(err, syscall.ENOENT) {
			continue
		}
		same := []cmp.Option{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty(), cmpopts.IgnoreFields(klips.SA{}, "Life")}
		if d := cmp.Diff(sa, one, same...); err != nil || d != "" {
			t.Errorf("%v is not what the listing has: %v\n%s", sa.ID, err, d)
		}
	}
	seen := map[klips.Selector]bool{}
	for _, r := range eroutes {
		if seen[r.Selector] {
			t.Errorf("two eroutes have %v", r.Selector)
		}
		seen[r.Selector] = true
	}
}
