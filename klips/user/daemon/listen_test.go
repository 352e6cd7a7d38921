package daemon_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/klipstest"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/user"
	"github.com/klips-go/ipsec/klips/user/control"
)

// patience is how long tests wait for an expected message. Only a failure takes so
// long.
const patience = time.Minute

// A socket is a client that reads every message, as a key daemon does.
type socket struct {
	t   testing.TB
	c   *net.UnixConn
	pid uint32
	seq uint32
}

var lastPID uint32 = 4711

// open connects; every socket uses its own process id in its messages.
func open(t testing.TB, rundir string) *socket {
	t.Helper()
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: user.SocketPath(rundir), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	lastPID++
	s := &socket{t: t, c: c, pid: lastPID}
	s.received() // from now on it gets broadcasts
	return s
}

func (s *socket) read() []byte {
	s.t.Helper()
	_ = s.c.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, pfkey.MaxMessage)
	n, err := s.c.Read(buf)
	if err != nil {
		s.t.Fatalf("read: %v", err)
	}
	return buf[:n]
}

func (s *socket) write(m *pfkey.Message) {
	s.t.Helper()
	s.seq++
	m.Seq, m.PID = s.seq, s.pid
	b, err := m.Marshal()
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.c.Write(b); err != nil {
		s.t.Fatalf("write: %v", err)
	}
}

// ask sends a request and returns its answer, parsed and in wire form. No other message
// may come before it.
func (s *socket) ask(m *pfkey.Message) (*pfkey.Message, []byte) {
	s.t.Helper()
	s.write(m)
	b := s.read()
	r, err := pfkey.Parse(b)
	if err != nil {
		s.t.Fatalf("%v: answer %x: %v", m, b, err)
	}
	if r.Seq != m.Seq || r.PID != m.PID || r.Type != m.Type {
		s.t.Fatalf("%v: answered by %v", m, r)
	}
	return r, b
}

// received returns all messages that have come up to now, in wire form.
func (s *socket) received() (l [][]byte) {
	s.t.Helper()
	m := control.Status()
	s.write(m)
	for {
		b := s.read()
		if h, err := pfkey.ParseHeader(b); err == nil && h.Type == m.Type && h.PID == s.pid {
			return l
		}
		l = append(l, b)
	}
}

// messages returns all messages that have come up to now, one line each.
func (s *socket) messages() (l []string) {
	s.t.Helper()
	for _, b := range s.received() {
		m, err := pfkey.Parse(b)
		if err != nil {
			s.t.Fatalf("received %x: %v", b, err)
		}
		if err := control.CheckReply(m); err != nil {
			s.t.Errorf("received %v: %v", m, err)
		}
		l = append(l, m.String())
	}
	return l
}

var (
	peerAddr = netip.MustParseAddr("192.0.2.2")
	netA     = netip.MustParsePrefix("10.1.0.0/16")
	netB     = netip.MustParsePrefix("10.2.0.0/16")
)

func said(proto klips.Proto, spi klips.SPI) klips.SAID {
	return klips.SAID{Dst: peerAddr, SPI: spi, Proto: proto}
}

func espSpec(spi klips.SPI, key byte) *klips.SASpec {
	return &klips.SASpec{
		ID: said(klips.ProtoESP, spi), Src: local, Window: 64,
		Transform: klips.Transform{Enc: alg.AES, Auth: alg.SHA1},
		EncKey:    bytes.Repeat([]byte{key}, 16), AuthKey: bytes.Repeat([]byte{key}, 20),
	}
}

func tunSpec(spi klips.SPI) *klips.SASpec {
	return &klips.SASpec{ID: said(klips.ProtoTun, spi), Src: local}
}

func trap(spi klips.SPI) klips.Eroute {
	return klips.Eroute{Selector: klips.Selector{Src: netA, Dst: netB}, ID: klips.Magic(spi)}
}

// The receivers of each answer. "all": other clients receive the same bytes; "errno":
// they receive a header with that errno; "asker": they receive nothing.
func TestReceivers(t *testing.T) {
	rundir, _ := start(t)
	asker, a, b := open(t, rundir), open(t, rundir), open(t, rundir)
	a.ask(pfkey.Register(pfkey.SATypeESP))
	asker.received()
	flow := trap(klips.SPITrap)
	plumb := func(name string, create bool) *pfkey.Message {
		m, err := pfkey.Plumb(name, create)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	badAdd := pfkey.AddSA(espSpec(0x2000, 1))
	badAdd.SA.State = klips.Larval
	noKey := pfkey.AddSA(&klips.SASpec{ID: said(klips.ProtoESP, 0x2000), Transform: klips.Transform{Enc: 99}})
	for _, tt := range []struct {
		name string
		m    *pfkey.Message
		to   string
		err  syscall.Errno
	}{
		{"add tun", pfkey.AddSA(tunSpec(0x1001)), "all", 0},
		{"add esp", pfkey.AddSA(espSpec(0x1002, 1)), "all", 0},
		{"add again", pfkey.AddSA(espSpec(0x1002, 1)), "errno", syscall.EEXIST},
		{"add larval", badAdd, "errno", syscall.EINVAL},
		{"add unknown cipher", noKey, "errno", syscall.EPROTO},
		{"group", pfkey.GroupPair(said(klips.ProtoTun, 0x1001), said(klips.ProtoESP, 0x1002)), "all", 0},
		{"group again", pfkey.GroupPair(said(klips.ProtoTun, 0x1001), said(klips.ProtoESP, 0x1002)), "errno", syscall.EEXIST},
		{"group nothing", pfkey.GroupPair(said(klips.ProtoTun, 0x1001), said(klips.ProtoESP, 0x1003)), "errno", syscall.ENOENT},
		{"get", pfkey.GetSA(said(klips.ProtoESP, 0x1002)), "asker", 0},
		{"get nothing", pfkey.GetSA(said(klips.ProtoESP, 0x1003)), "errno", syscall.ESRCH},
		{"ungroup", pfkey.Ungroup(said(klips.ProtoESP, 0x1002)), "all", 0},
		{"delete", pfkey.DeleteSA(said(klips.ProtoESP, 0x1002)), "all", 0},
		{"delete nothing", pfkey.DeleteSA(said(klips.ProtoESP, 0x1002)), "errno", syscall.ESRCH},
		{"update nothing", pfkey.UpdateSA(espSpec(0x1002, 1)), "errno", syscall.ENOENT},
		{"add eroute", pfkey.AddFlow(flow, klips.ErouteAdd), "all", 0},
		{"add eroute again", pfkey.AddFlow(flow, klips.ErouteAdd), "errno", syscall.EEXIST},
		{"replace eroute", pfkey.AddFlow(flow, klips.ErouteReplace), "all", 0},
		{"delete eroute", pfkey.DelFlow(flow.Selector), "all", 0},
		{"delete no eroute", pfkey.DelFlow(flow.Selector), "errno", syscall.ENOENT},
		{"clear eroutes", pfkey.ClearFlows(), "all", 0},
		{"getspi", pfkey.GetSPI(said(klips.ProtoESP, 0), local, 0x5000, 0x5000), "all", 0},
		{"getspi none free", pfkey.GetSPI(said(klips.ProtoESP, 0), local, 0x5000, 0x5000), "errno", syscall.EEXIST},
		{"getspi reserved", pfkey.GetSPI(said(klips.ProtoESP, 0), local, 0, 0x5000), "errno", syscall.EEXIST},
		{"flush", pfkey.Flush(), "all", 0},
		{"debug", pfkey.Debug(klips.DebugChange{Set: true}), "asker", 0},
		{"create", plumb("ipsec3", true), "asker", 0},
		{"create again", plumb("ipsec3", true), "asker", syscall.EEXIST},
		{"remove", plumb("ipsec3", false), "asker", 0},
		{"remove again", plumb("ipsec3", false), "asker", syscall.ENOENT},
		{"register", pfkey.Register(pfkey.SATypeAH), "asker", 0}, // no other client registered
		{"register esp", pfkey.Register(pfkey.SATypeESP), "esp", 0},
		{"register twice", pfkey.Register(pfkey.SATypeESP), "esp", 0},
		{"register nothing", pfkey.Register(pfkey.SATypeUnspec), "errno", syscall.EINVAL},
		{"expire", &pfkey.Message{Header: pfkey.Header{Type: pfkey.TypeExpire, SAType: pfkey.SATypeESP}}, "all", 0},
		{"dump", &pfkey.Message{Header: pfkey.Header{Type: pfkey.TypeDump, SAType: pfkey.SATypeESP}}, "errno", syscall.ENOSYS},
		{"promisc", &pfkey.Message{Header: pfkey.Header{Type: pfkey.TypePromisc}}, "errno", syscall.EINVAL},
		{"acquire", &pfkey.Message{Header: pfkey.Header{Type: pfkey.TypeAcquire, SAType: pfkey.SATypeESP, Errno: syscall.ENOENT}}, "esp", syscall.ENOENT},
		{"acquire for nobody", &pfkey.Message{Header: pfkey.Header{Type: pfkey.TypeAcquire, SAType: pfkey.SATypeComp, Errno: syscall.ENOENT}}, "errno", syscall.EPROTONOSUPPORT},
		{"acquire of a user", pfkey.Acquire(pfkey.Acquisition{Src: netip.AddrPortFrom(local, 0), Dst: netip.AddrPortFrom(local, 0)}), "errno", syscall.EINVAL},
		{"attach", control.Attach("ipsec0", "eth0", false), "asker", 0},
		{"attach again", control.Attach("ipsec0", "eth0", false), "asker", syscall.EBUSY},
		{"detach all", control.DetachAll(), "asker", 0},
		{"list", control.ListTable(control.TableSAs), "asker", 0},
	} {
		r, raw := asker.ask(tt.m)
		if r.Errno != tt.err {
			t.Errorf("%s: errno %v, want %v", tt.name, r.Errno, tt.err)
		}
		if tt.to == "errno" && len(raw) != 16 {
			t.Errorf("%s: the error is %d bytes long, want a header", tt.name, len(raw))
		}
		// KLIPS sends nothing after DEBUG, and repeats an EXPIRE as it came.
		if r.Type < 64 && r.Type != pfkey.TypeDebug && r.Type != pfkey.TypeExpire {
			if err := control.CheckReply(r); err != nil && r.Errno == 0 {
				t.Errorf("%s: %v", tt.name, err)
			}
		}
		for _, l := range []*socket{a, b} {
			var want [][]byte
			if tt.to == "all" || tt.to == "errno" || tt.to == "esp" && l == a {
				want = [][]byte{raw}
			}
			if d := cmp.Diff(want, l.received()); d != "" {
				t.Errorf("%s: others receive something else (-want +got):\n%s", tt.name, d)
			}
		}
		if l := asker.received(); len(l) != 0 {
			t.Errorf("%s: the asker receives %x besides its answer", tt.name, l)
		}
	}
}

// A message that a KLIPS kernel's write() refuses gets an answer, and no other client
// receives one.
func TestNotAMessage(t *testing.T) {
	rundir, _ := start(t)
	asker, other := open(t, rundir), open(t, rundir)
	good, _ := pfkey.ClearFlows().Marshal()
	for _, b := range [][]byte{[]byte("x"), good[:len(good)-8], append(bytes.Clone(good), 0), bytes.Repeat([]byte{0xff}, 16)} {
		if _, err := asker.c.Write(b); err != nil {
			t.Fatal(err)
		}
		if r := asker.read(); len(r) != 16 || r[2] == 0 {
			t.Errorf("%x: answered %x, want a header with an errno", b, r)
		}
	}
	if l := other.received(); len(l) != 0 {
		t.Errorf("others received %x", l)
	}
	// Of a message with a wrong extension all clients receive the errno.
	good[16+2] = 99
	_, _ = asker.c.Write(good)
	if r := asker.read(); len(r) != 16 || syscall.Errno(r[2]) != syscall.EINVAL {
		t.Errorf("answered %x", r)
	}
	if l := other.received(); len(l) != 1 || len(l[0]) != 16 {
		t.Errorf("others received %x, want a header", l)
	}
}

// The longest possible request has an answer that is too long: its sender gets the
// header, and others get nothing, since they have no room for it.
func TestLongAnswer(t *testing.T) {
	rundir, _ := start(t)
	asker, other := open(t, rundir), open(t, rundir)
	m := pfkey.AddSA(tunSpec(0x1001))
	m.IdentSrc = &pfkey.Ident{Type: 2}
	b, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	m.IdentSrc.Text = strings.Repeat("x", pfkey.MaxMessage-len(b)-1)
	if r, raw := asker.ask(m); r.Errno != 0 || len(raw) != 16 {
		t.Errorf("answered %.60v with %d bytes, want a header", r, len(raw))
	}
	if l := other.received(); len(l) != 0 {
		t.Errorf("others received %d bytes", len(l[0]))
	}
	if r, _ := asker.ask(pfkey.GetSA(said(klips.ProtoTun, 0x1001))); r.Errno != 0 {
		t.Errorf("the SA is not there: %v", r.Errno)
	}
}

// When one request makes a group, other clients receive what a KLIPS kernel sends about
// its pairs.
func TestGroupAtOnceIsHeard(t *testing.T) {
	rundir, _ := start(t)
	asker, other := open(t, rundir), open(t, rundir)
	ids := []klips.SAID{said(klips.ProtoTun, 0x1001), said(klips.ProtoESP, 0x1002), said(klips.ProtoESP, 0x1003)}
	asker.ask(pfkey.AddSA(tunSpec(0x1001)))
	asker.ask(pfkey.AddSA(espSpec(0x1002, 1)))
	other.received()
	fails := control.Group(ids)
	if r, _ := asker.ask(fails); r.Errno != syscall.ENOENT || control.ObjectOf(r) != ids[2].String() {
		t.Errorf("answered %v, want ENOENT of %v", r, ids[2])
	}
	want := []string{fmt.Sprintf("X_GRPSA seq=%d pid=%d satype=IPIP errno=2", fails.Seq, fails.PID)}
	if d := cmp.Diff(want, other.messages()); d != "" {
		t.Errorf("the others' messages about a failure (-want +got):\n%s", d)
	}
	asker.ask(pfkey.AddSA(espSpec(0x1003, 1)))
	other.received()
	works := control.Group(ids)
	if r, _ := asker.ask(works); r.Errno != 0 {
		t.Fatalf("answered %v", r)
	}
	want = nil
	for i := range 2 {
		m := pfkey.GroupPair(ids[i], ids[i+1])
		m.Seq, m.PID = works.Seq, works.PID
		want = append(want, m.String())
	}
	if d := cmp.Diff(want, other.messages()); d != "" {
		t.Errorf("the others' messages about a group (-want +got):\n%s", d)
	}
}

// algs formats a list of algorithms.
func algs(s *pfkey.Supported) (l []string) {
	if s == nil {
		return nil
	}
	for _, a := range s.Algs {
		l = append(l, fmt.Sprintf("%d iv=%d %d-%d", a.ID, a.IV, a.MinBits, a.MaxBits))
	}
	return l
}

func TestRegister(t *testing.T) {
	rundir, _ := start(t)
	s := open(t, rundir)
	auth := []string{"252 iv=0 256-256", "7 iv=0 512-512", "6 iv=0 384-384", "5 iv=0 256-256", "3 iv=0 160-160", "2 iv=0 128-128"}
	for _, tt := range []struct {
		satype     pfkey.SAType
		auth, enc  []string
		registered bool
	}{
		{pfkey.SATypeAH, auth, nil, true},
		{pfkey.SATypeESP, auth, []string{"28 iv=64 288-288", "20 iv=64 160-288", "3 iv=64 192-192", "11 iv=0 0-0", "12 iv=128 128-256"}, true},
		{pfkey.SATypeIPIP, nil, []string{"4 iv=0 128-128", "3 iv=0 32-128", "2 iv=0 128-32", "1 iv=0 32-32"}, true},
		{pfkey.SATypeComp, nil, []string{"2 iv=0 1-1"}, true},
		{pfkey.SATypeInt, nil, nil, true},
		{5, nil, nil, true},
		{12, nil, nil, false},
	} {
		r, _ := s.ask(pfkey.Register(tt.satype))
		if (r.Errno == 0) != tt.registered {
			t.Errorf("REGISTER %v: errno %v", tt.satype, r.Errno)
		}
		if d := cmp.Diff([][]string{tt.auth, tt.enc}, [][]string{algs(r.SupportedAuth), algs(r.SupportedEnc)}); d != "" {
			t.Errorf("REGISTER %v (-want +got):\n%s", tt.satype, d)
		}
	}
}

// Every algorithm that is listed as supported can be used.
func TestSupportedIsTrue(t *testing.T) {
	rundir, _ := start(t)
	s := open(t, rundir)
	r, _ := s.ask(pfkey.Register(pfkey.SATypeESP))
	spi := klips.SPI(0x1000)
	add := func(enc alg.Enc, bits uint16, auth alg.Auth, authBits uint16) {
		spi++
		a, _ := s.ask(pfkey.AddSA(&klips.SASpec{
			ID: said(klips.ProtoESP, spi), Transform: klips.Transform{Enc: enc, Auth: auth},
			EncKey: bytes.Repeat([]byte{byte(spi)}, int(bits/8)), AuthKey: make([]byte, authBits/8),
		}))
		if a.Errno != 0 {
			t.Errorf("ADD cipher %d, %d bits, authentication %d, %d bits: %v", enc, bits, auth, authBits, a.Errno)
		}
	}
	for _, e := range r.SupportedEnc.Algs {
		for _, bits := range []uint16{e.MinBits, e.MaxBits} {
			enc := alg.Enc(e.ID)
			if info, _ := enc.Info(); info.AEAD {
				add(enc, bits, 0, 0)
				continue
			}
			for _, a := range r.SupportedAuth.Algs {
				add(enc, bits, alg.Auth(a.ID), a.MaxBits)
			}
		}
	}
}

// udp makes a UDP packet.
func udp(src, dst netip.Addr, sport, dport uint16) []byte {
	p := make([]byte, 20+8+40)
	p[0] = 0x45
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	p[8], p[9] = 64, 17
	copy(p[12:], src.AsSlice())
	copy(p[16:], dst.AsSlice())
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(p[10:], ^uint16(sum+sum>>16))
	binary.BigEndian.PutUint16(p[20:], sport)
	binary.BigEndian.PutUint16(p[22:], dport)
	binary.BigEndian.PutUint16(p[24:], 48)
	return p
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never happened: " + what)
		}
	}
}

// fence is an eroute for a packet that tests send last: when it has been dropped, all
// packets before it have been handled.
var fence = klips.Selector{Src: netip.MustParsePrefix("0.0.0.0/0"), Dst: netip.MustParsePrefix("203.0.113.0/24")}

// through attaches ipsec0 and returns a function that routes a packet into it and waits
// until it has been handled.
func through(t *testing.T, c klipstest.Client, h *klipstest.Host) func(p []byte) {
	t.Helper()
	if err := c.Attach(t.Context(), "ipsec0", "eth0"); err != nil {
		t.Fatal(err)
	}
	if err := c.SetEroute(t.Context(), klips.Eroute{Selector: fence, ID: klips.Magic(klips.SPIDrop)}, klips.ErouteAdd); err != nil {
		t.Fatal(err)
	}
	sent := uint64(0)
	return func(p []byte) {
		t.Helper()
		h.Link("ipsec0").Send(p)
		h.Link("ipsec0").Send(udp(local, fence.Dst.Addr(), 1, 1))
		sent++
		eventually(t, "the packet went its way", func() bool {
			l, err := c.Eroutes(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(l, func(r klips.Eroute) bool { return r.Selector == fence })
			return i >= 0 && l[i].Packets == sent
		})
	}
}

func TestAcquire(t *testing.T) {
	rundir, h := start(t)
	c := dial(t, rundir)
	send := through(t, c, h)
	x, y := netip.MustParseAddr("10.1.0.5"), netip.MustParseAddr("10.2.0.5")
	esp, both, ah, none := open(t, rundir), open(t, rundir), open(t, rundir), open(t, rundir)
	r := trap(klips.SPITrap)
	r.Proto, r.DstPort = 17, 53
	r.IdentSrc = &klips.Ident{Type: 3, ID: 1 << 40, Text: "road@example.org"}
	r.IdentDst = &klips.Ident{Type: 2, Text: "gw.example.org"}
	if err := c.SetEroute(t.Context(), r, klips.ErouteAdd); err != nil {
		t.Fatal(err)
	}

	// No client has registered: the trap stays, and the next packet tries again.
	send(udp(x, y, 1000, 53))
	if l, err := c.Eroutes(t.Context()); err != nil || len(l) != 2 {
		t.Fatalf("eroutes %v, %v, want no hold", l, err)
	}
	for _, s := range []*socket{esp, both, ah} {
		s.received()
	}
	esp.ask(pfkey.Register(pfkey.SATypeESP))
	both.ask(pfkey.Register(pfkey.SATypeESP))
	both.ask(pfkey.Register(pfkey.SATypeAH))
	both.ask(pfkey.Register(pfkey.SATypeESP)) // only one ACQUIRE is sent
	ah.ask(pfkey.Register(pfkey.SATypeAH))
	for _, s := range []*socket{esp, both, ah, none} {
		s.received()
	}
	send(udp(x, y, 1000, 53))
	send(udp(x, y, 1000, 53)) // held
	want := pfkey.Acquire(pfkey.Acquisition{
		Src: netip.AddrPortFrom(x, 0), Dst: netip.AddrPortFrom(y, 53), Proto: 17,
		IdentSrc: &pfkey.Ident{Type: 3, ID: 1 << 40, Text: "road@example.org"},
		IdentDst: &pfkey.Ident{Type: 2, Text: "gw.example.org"},
	})
	want.Seq = 1
	for _, s := range []*socket{esp, both} {
		if d := cmp.Diff([]string{want.String()}, s.messages()); d != "" {
			t.Errorf("a listener for ESP (-want +got):\n%s", d)
		}
	}
	for _, s := range []*socket{ah, none} {
		if l := s.messages(); len(l) != 0 {
			t.Errorf("a client that did not register for ESP receives %v", l)
		}
	}
	// The client has gone and gets no ACQUIRE, so at last there is no hold.
	esp.c.Close()
	both.c.Close()
	from := uint16(1000)
	eventually(t, "nobody is registered", func() bool {
		l, err := c.Eroutes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range l {
			if e.ID == klips.Magic(klips.SPIHold) {
				if err := c.DeleteEroute(t.Context(), e.Selector); err != nil {
					t.Fatal(err)
				}
			}
		}
		from++
		send(udp(x, y, from, 53))
		l, _ = c.Eroutes(t.Context())
		return len(l) == 2
	})
}

func TestExpire(t *testing.T) {
	rundir, h := start(t)
	c := dial(t, rundir)
	send := through(t, c, h)
	registered, plain := open(t, rundir), open(t, rundir)
	registered.ask(pfkey.Register(pfkey.SATypeAH))
	spec := espSpec(0x1002, 7)
	spec.Soft.Bytes, spec.Hard.Bytes = 100, 200
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.AddSA(t.Context(), tunSpec(0x1001)))
	must(c.AddSA(t.Context(), spec))
	must(c.Group(t.Context(), []klips.SAID{said(klips.ProtoTun, 0x1001), spec.ID}))
	must(c.SetEroute(t.Context(), klips.Eroute{Selector: klips.Selector{Src: netA, Dst: netB}, ID: said(klips.ProtoTun, 0x1001)}, klips.ErouteAdd))
	registered.received()
	plain.received()
	before := time.Now().Unix()
	for range 6 {
		send(udp(netip.MustParseAddr("10.1.0.5"), netip.MustParseAddr("10.2.0.5"), 1, 2))
	}
	var first []*pfkey.Message
	for i, s := range []*socket{registered, plain} {
		var l []*pfkey.Message
		for _, b := range s.received() {
			m, err := pfkey.Parse(b)
			must(err)
			l = append(l, m)
		}
		if len(l) != 2 {
			t.Fatalf("received %v, want two EXPIREs", l)
		}
		for j, m := range l {
			if err := control.CheckReply(m); err != nil || m.Type != pfkey.TypeExpire || m.PID != 0 || m.Seq != uint32(j+1) || m.SAType != pfkey.SATypeESP {
				t.Errorf("received %v, %v", m, err)
			}
			// Packets of 68 bytes in a tunnel are 68 bytes of payload.
			if c := m.LifeCurrent; c.Bytes != uint64(68*(2+j)) || c.AddTime < uint64(before)-1 || c.AddTime > uint64(time.Now().Unix()) || c.UseTime < uint64(before)-1 {
				t.Errorf("EXPIRE %d: current %v", j, c)
			}
		}
		if l[0].LifeSoft == nil || l[0].LifeHard != nil || l[0].LifeSoft.Bytes != 100 || l[0].SA.State != klips.Mature {
			t.Errorf("the first is %v, want soft", l[0])
		}
		if l[1].LifeHard == nil || l[1].LifeSoft != nil || l[1].LifeHard.Bytes != 200 {
			t.Errorf("the second is %v, want hard", l[1])
		}
		if i == 0 {
			first = l
		} else if !slices.EqualFunc(first, l, func(a, b *pfkey.Message) bool { return a.String() == b.String() }) {
			t.Errorf("two listeners received different messages: %v and %v", first, l)
		}
	}
}
