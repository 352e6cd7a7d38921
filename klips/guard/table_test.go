package guard

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/testscripts/skip"
)

// A world is a network namespace with one device, wan0. Tests read what the host sends
// from its other end; what they write there arrives.
type world struct {
	t          *testing.T
	wan        int
	raw4, raw6 int
	table      *Table
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ip := skip.WithoutProgram(t, skip.IP)
	runtime.LockOSThread() // never unlocked: the thread ends with the namespace
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		skip.Without(t, skip.Root, err)
	}
	w := &world{t: t}
	var err error
	if w.wan, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err != nil {
		skip.Without(t, skip.TUN, err)
	}
	t.Cleanup(func() { unix.Close(w.wan) })
	ifr, _ := unix.NewIfreq("wan0")
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(w.wan, unix.TUNSETIFF, ifr); err != nil {
		skip.Without(t, skip.TUN, err)
	}
	for line := range strings.SplitSeq(`link set lo up
link set wan0 addrgenmode none
link set wan0 up
addr add 192.0.2.1/24 dev wan0
addr add 2001:db8::1/64 dev wan0 nodad
route add default dev wan0
-6 route add default dev wan0`, "\n") {
		if out, err := exec.Command(ip, strings.Fields(line)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", line, err, out)
		}
	}
	_ = os.WriteFile("/proc/sys/net/ipv4/conf/wan0/rp_filter", []byte("0"), 0)
	for is6, fd := range map[bool]*int{false: &w.raw4, true: &w.raw6} {
		af := unix.AF_INET
		if is6 {
			af = unix.AF_INET6
		}
		if *fd, err = unix.Socket(af, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(*fd) })
	}
	if w.table, err = Open(); errors.Is(err, ErrNone) {
		skip.Without(t, skip.NFTables, err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.table.Close() })
	return w
}

func (w *world) set(r Rules) {
	w.t.Helper()
	if err := w.table.Set(r); errors.Is(err, ErrNone) {
		skip.Without(w.t, skip.NFTables, err)
	} else if err != nil {
		w.t.Fatal(err)
	}
	if got, err := w.table.Read(); err != nil || !sameRules(got, r.Normal()) {
		w.t.Fatalf("Read() = %+v, %v\nwant %+v", got, err, r.Normal())
	}
}

// refused sends a packet, in or out, and reports whether the table has dropped it. The
// counter must agree, and for a packet sent also the other end of the device.
func (w *world) refused(p []byte, in bool) bool {
	w.t.Helper()
	before := w.counters()
	if in {
		if _, err := unix.Write(w.wan, p); err != nil {
			w.t.Fatal(err)
		}
		after := w.counters() // the host may have sent an answer, so Out is ignored
		if after.In-before.In > 1 {
			w.t.Fatalf("a packet that arrives makes %+v of %+v", after, before)
		}
		return after.In != before.In
	}
	w.drain()
	err := w.send(p)
	if err != nil && !errors.Is(err, unix.EPERM) { // the filter's answer to a dropped packet
		w.t.Fatalf("send %x: %v", p, err)
	}
	left := w.drain()
	after := w.counters()
	if after.In != before.In || int(after.Out-before.Out)+left != 1 {
		w.t.Fatalf("of a packet that is sent %d leave, and %+v becomes %+v\n%x", left, before, after, p)
	}
	return left == 0
}

func (w *world) send(p []byte) error {
	if p[0]>>4 == 4 {
		return unix.Sendto(w.raw4, p, 0, &unix.SockaddrInet4{Addr: [4]byte(p[16:20])})
	}
	return unix.Sendto(w.raw6, p, 0, &unix.SockaddrInet6{Addr: [16]byte(p[24:40])})
}

// drain returns the number of packets that have left.
func (w *world) drain() (n int) {
	b := make([]byte, 1<<16)
	for {
		if _, err := unix.Read(w.wan, b); err != nil {
			return n
		}
		n++
	}
}

func (w *world) counters() Counters {
	w.t.Helper()
	n, err := w.table.Counters()
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// A pkt describes a test's packet.
type pkt struct {
	src, dst     netip.Addr
	proto        uint8
	sport, dport uint16
	later        bool   // it is a later fragment
	body         []byte // instead of ports
	hops         uint8  // 0: 64
}

func (p pkt) bytes() []byte {
	body := p.body
	if body == nil {
		body = make([]byte, 16)
		if !p.later {
			binary.BigEndian.PutUint16(body, p.sport)
			binary.BigEndian.PutUint16(body[2:], p.dport)
		}
	}
	hops := p.hops
	if hops == 0 {
		hops = 64
	}
	if p.src.Is4() {
		h := make([]byte, 20, 20+len(body))
		h[0], h[8], h[9] = 0x45, hops, p.proto
		binary.BigEndian.PutUint16(h[2:], uint16(20+len(body)))
		h[5] = 1 // an identification
		if p.later {
			h[7] = 8 // offset 64
		}
		copy(h[12:], p.src.AsSlice())
		copy(h[16:], p.dst.AsSlice())
		var sum uint32
		for i := 0; i < 20; i += 2 {
			sum += uint32(binary.BigEndian.Uint16(h[i:]))
		}
		for sum>>16 != 0 {
			sum = sum>>16 + sum&0xffff
		}
		binary.BigEndian.PutUint16(h[10:], ^uint16(sum))
		return append(h, body...)
	}
	next := p.proto
	if p.later {
		body = append([]byte{p.proto, 0, 0, 64, 0, 0, 0, 1}, body...)
		next = unix.IPPROTO_FRAGMENT
	}
	h := make([]byte, 40, 40+len(body))
	h[0], h[6], h[7] = 0x60, next, hops
	binary.BigEndian.PutUint16(h[4:], uint16(len(body)))
	copy(h[8:], p.src.AsSlice())
	copy(h[24:], p.dst.AsSlice())
	return append(h, body...)
}

// matches reports whether a flow matches a packet. Of a later fragment only addresses
// and protocol are known: it may match a closed flow, and never matches a passing one.
func (f Flow) matches(p pkt) bool {
	ports := (f.SrcPort == 0 || f.SrcPort == p.sport) && (f.DstPort == 0 || f.DstPort == p.dport)
	if p.later {
		ports = !f.Pass || f.SrcPort == 0 && f.DstPort == 0
	}
	proto := f.Proto == 0 || f.Proto == p.proto
	if f.OfBoth() {
		proto = p.proto == 6 || p.proto == 17
	}
	return f.Src.Contains(p.src) && f.Dst.Contains(p.dst) && proto && ports
}

// refuses returns what the documentation says about a packet between other hosts.
func (r Rules) refuses(p pkt, in bool) bool {
	var closed, pass []Flow
	for _, f := range r.Flows {
		if f.In != in || !f.matches(p) {
			continue
		}
		if f.Pass {
			pass = append(pass, f)
		} else {
			closed = append(closed, f)
		}
	}
	for _, p := range pass {
		narrowest := true
		for _, c := range closed {
			narrowest = narrowest && p.Selector.Within(c.Selector)
		}
		if narrowest {
			return false
		}
	}
	return len(closed) > 0
}

// TestRandom compares the kernel's decisions on random packets of random flows with the
// documentation.
func TestRandom(t *testing.T) {
	w := newWorld(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	nets := [...]string{"10.0.0.0/8", "10.1.0.0/16", "10.1.7.0/24", "10.1.7.9/32", "10.2.0.0/16", "10.2.0.0/17", "10.2.128.0/18", "0.0.0.0/0",
		"fd00::/8", "fd01::/64", "fd01::7:0/112", "fd01::7:9/128", "fd02::/64", "fd02::/65", "fd02::8000:0:0:0/66", "::/0"}
	hosts := [...]string{"10.1.7.9", "10.1.7.8", "10.1.6.1", "10.2.0.1", "10.2.128.1", "10.2.192.1", "10.3.0.1", "198.51.100.1",
		"fd01::7:9", "fd01::7:8", "fd01::6:1", "fd02::1", "fd02::8000:0:0:1", "fd02::c000:0:0:1", "fd03::1", "2001:db8:9::1"}
	protos, ports := [...]uint8{6, 17, 47}, [...]uint16{53, 80}
	some := func() pkt {
		v6 := rnd.IntN(2) * 8
		p := pkt{src: addr(hosts[v6+rnd.IntN(8)]), dst: addr(hosts[v6+rnd.IntN(8)]), proto: protos[rnd.IntN(3)], later: rnd.IntN(8) == 0}
		// In other protocols these bytes are no ports.
		p.sport, p.dport = ports[rnd.IntN(2)], ports[rnd.IntN(2)]
		return p
	}
	refused, let := 0, 0
	for range 25 {
		var r Rules
		for range 1 + rnd.IntN(12) {
			v6 := rnd.IntN(2) * 8
			f := Flow{Selector: klips.Selector{Src: prefix(nets[v6+rnd.IntN(8)]), Dst: prefix(nets[v6+rnd.IntN(8)])}, In: rnd.IntN(2) == 0, Pass: rnd.IntN(3) == 0, ByHand: rnd.IntN(4) == 0}
			if rnd.IntN(2) == 0 {
				if f.Proto = 0; rnd.IntN(3) > 0 {
					f.Proto = protos[rnd.IntN(3)]
				}
				if f.Proto != 47 && rnd.IntN(2) == 0 {
					f.SrcPort = ports[rnd.IntN(2)]
				}
				if f.Proto != 47 && rnd.IntN(2) == 0 {
					f.DstPort = ports[rnd.IntN(2)]
				}
			}
			r.Flows = append(r.Flows, f)
		}
		w.set(r)
		if !r.Closes() {
			continue
		}
		n := r.Normal()
		for range 60 {
			p, in := some(), rnd.IntN(2) == 0
			got, want := w.refused(p.bytes(), in), n.refuses(p, in)
			if got != want {
				t.Fatalf("%+v\npacket %+v, in: %v: refused: %v, want %v", n, p, in, got, want)
			}
			if want {
				refused++
			} else {
				let++
			}
		}
	}
	if refused == 0 || let == 0 {
		t.Errorf("%d packets were refused and %d let pass: nothing was compared", refused, let)
	}
	w.set(Rules{})
}

// quote makes an ICMP error that quotes a packet.
func quote(icmp uint8, q pkt) []byte {
	return append([]byte{icmp, 1, 0, 0, 0, 0, 5, 0}, q.bytes()...)
}

// TestExemptions: packets that the stack itself, its key daemon and the link need pass,
// although a tunnel is for everything; similar packets do not.
func TestExemptions(t *testing.T) {
	w := newWorld(t)
	for _, v := range []struct {
		own, peer, other, net netip.Addr
		all                   string
		icmp                  uint8
		is6                   bool
	}{
		{addr("192.0.2.1"), addr("192.0.2.2"), addr("192.0.2.3"), addr("10.1.0.1"), "0.0.0.0/0", unix.IPPROTO_ICMP, false},
		{addr("2001:db8::1"), addr("2001:db8::2"), addr("2001:db8::3"), addr("fd01::1"), "::/0", unix.IPPROTO_ICMPV6, true},
	} {
		var r Rules
		r.Close(klips.Guard{Selector: sel(v.all, v.all), In: true, Peer: v.peer})
		r.Ports = []uint16{4600}
		w.set(r)
		unreachable, client, server := uint8(3), uint16(68), uint16(67)
		if v.is6 {
			unreachable, client, server = 1, 546, 547
		}
		esp := pkt{src: v.own, dst: v.peer, proto: unix.IPPROTO_ESP}
		came := pkt{src: v.peer, dst: v.own, proto: unix.IPPROTO_ESP}
		natt := pkt{src: v.own, dst: v.peer, proto: unix.IPPROTO_UDP, sport: 4600, dport: 4500}
		type test struct {
			name    string
			in      bool
			p       pkt
			refused bool
		}
		tests := []test{
			{"ESP to the peer", false, esp, false},
			{"AH to the peer", false, pkt{src: v.own, dst: v.peer, proto: unix.IPPROTO_AH}, false},
			{"IPComp to the peer", false, pkt{src: v.own, dst: v.peer, proto: unix.IPPROTO_COMP}, false},
			{"ESP to another", false, pkt{src: v.own, dst: v.other, proto: unix.IPPROTO_ESP}, true},
			{"ESP of another host", false, pkt{src: v.net, dst: v.peer, proto: unix.IPPROTO_ESP}, true},
			{"IKE to the peer", false, pkt{src: v.own, dst: v.peer, proto: unix.IPPROTO_UDP, sport: 500, dport: 500}, false},
			{"IKE to another", false, pkt{src: v.own, dst: v.other, proto: unix.IPPROTO_UDP, sport: 500, dport: 500}, true},
			{"ESP in UDP to the peer", false, natt, false},
			{"UDP from another port", false, pkt{src: v.own, dst: v.peer, proto: unix.IPPROTO_UDP, sport: 4601, dport: 4500}, true},
			{"TCP from the port of IKE", false, pkt{src: v.own, dst: v.peer, proto: unix.IPPROTO_TCP, sport: 500, dport: 500}, true},
			{"a ping to the peer", false, pkt{src: v.own, dst: v.peer, proto: v.icmp, body: []byte{8, 0, 0, 0, 0, 0, 0, 1}}, true},
			{"an error about ESP of the peer", false, pkt{src: v.own, dst: v.peer, proto: v.icmp, body: quote(unreachable, came)}, false},
			{"an error about ESP of another", false, pkt{src: v.own, dst: v.other, proto: v.icmp, body: quote(unreachable, pkt{src: v.other, dst: v.own, proto: unix.IPPROTO_ESP})}, true},
			{"an error about what was in ESP", false, pkt{src: v.own, dst: v.peer, proto: v.icmp, body: quote(unreachable, pkt{src: v.peer, dst: v.own, proto: unix.IPPROTO_UDP, sport: 9, dport: 9})}, true},
			{"DHCP", false, pkt{src: v.own, dst: v.other, proto: unix.IPPROTO_UDP, sport: client, dport: server}, false},
			{"DHCP's ports the other way round", false, pkt{src: v.own, dst: v.other, proto: unix.IPPROTO_UDP, sport: server, dport: client}, true},
			{"forwarded", false, pkt{src: v.net, dst: v.other, proto: unix.IPPROTO_UDP}, true},

			{"ESP of the peer arrives", true, came, false},
			{"ESP of another arrives", true, pkt{src: v.other, dst: v.own, proto: unix.IPPROTO_ESP}, false},
			{"ESP for another host arrives", true, pkt{src: v.peer, dst: v.net, proto: unix.IPPROTO_ESP}, true},
			{"IKE arrives", true, pkt{src: v.other, dst: v.own, proto: unix.IPPROTO_UDP, sport: 9, dport: 500}, false},
			{"ESP in UDP arrives", true, pkt{src: v.peer, dst: v.own, proto: unix.IPPROTO_UDP, sport: 4500, dport: 4600}, false},
			{"a later fragment of it arrives", true, pkt{src: v.peer, dst: v.own, proto: unix.IPPROTO_UDP, later: true}, false},
			{"a later fragment of another arrives", true, pkt{src: v.other, dst: v.own, proto: unix.IPPROTO_UDP, later: true}, true},
			{"clear text arrives", true, pkt{src: v.peer, dst: v.own, proto: unix.IPPROTO_UDP, sport: 9, dport: 9}, true},
			{"an error about our ESP arrives", true, pkt{src: v.other, dst: v.own, proto: v.icmp, body: quote(unreachable, esp)}, false},
			{"an error about our ESP in UDP arrives", true, pkt{src: v.other, dst: v.own, proto: v.icmp, body: quote(unreachable, natt)}, false},
			{"an error about other UDP arrives", true, pkt{src: v.other, dst: v.own, proto: v.icmp, body: quote(unreachable, pkt{src: v.own, dst: v.peer, proto: unix.IPPROTO_UDP, sport: 9, dport: 4500})}, true},
			{"an error about ESP to another arrives", true, pkt{src: v.other, dst: v.own, proto: v.icmp, body: quote(unreachable, pkt{src: v.own, dst: v.other, proto: unix.IPPROTO_ESP})}, true},
			{"DHCP's answer arrives", true, pkt{src: v.other, dst: v.own, proto: unix.IPPROTO_UDP, sport: server, dport: client}, false},
		}
		if v.is6 {
			multicast := addr("ff02::1:ff00:2")
			for _, in := range []bool{false, true} {
				src, dst := v.own, v.other
				if in {
					src, dst = dst, src
				}
				for typ := uint8(133); typ <= 137; typ++ {
					body := make([]byte, 24)
					body[0] = typ
					tests = append(tests,
						test{"neighbour discovery", in, pkt{src: src, dst: dst, proto: v.icmp, body: body, hops: 255}, false},
						test{"forwarded neighbour discovery", in, pkt{src: src, dst: dst, proto: v.icmp, body: body, hops: 254}, true})
				}
			}
			report := make([]byte, 24) // RFC 2710 section 3
			report[0] = 131
			tests = append(tests, test{"who listens to multicast", true, pkt{src: v.other, dst: multicast, proto: v.icmp, body: report, hops: 1}, false})
		}
		for _, tt := range tests {
			if got := w.refused(tt.p.bytes(), tt.in); got != tt.refused {
				t.Errorf("%s, %s: refused: %v, want %v", v.all, tt.name, got, tt.refused)
			}
		}
	}
}

// TestSet: the table changes in one step, the counters continue, and a table without
// closed flows is removed.
func TestSet(t *testing.T) {
	w := newWorld(t)
	var r Rules
	r.Close(klips.Guard{Selector: sel("10.1.0.0/16", "10.2.0.0/16"), In: true})
	w.set(r)
	p := pkt{src: addr("10.1.0.1"), dst: addr("10.2.0.1"), proto: 17}.bytes()
	if !w.refused(p, false) {
		t.Error("the packet passes")
	}
	more := r.Clone()
	more.Close(klips.Guard{Selector: sel("fd01::/64", "fd02::/64")})
	for range 3 {
		w.set(more)
		w.set(r)
	}
	if !w.refused(p, false) || w.counters().Out != 2 {
		t.Errorf("after changes the counters are %+v", w.counters())
	}
	w.set(Rules{Peers: []netip.Addr{addr("192.0.2.2")}})
	if sets, err := w.table.sets(); sets != nil || err != nil {
		t.Errorf("a table with nothing to do is there: %v, %v", sets, err)
	}
	if n := w.counters(); n != (Counters{}) || w.refusedBy(p) {
		t.Errorf("without a table the counters are %+v", n)
	}
	if err := Remove(); err != nil {
		t.Error(err)
	}
	if r, err := Read(); err != nil || !reflect.DeepEqual(r, Rules{}) {
		t.Errorf("Read() = %+v, %v", r, err)
	}
}

// refusedBy reports whether a packet does not leave, whatever the counters are.
func (w *world) refusedBy(p []byte) bool {
	w.drain()
	_ = w.send(p)
	return w.drain() == 0
}

// TestMany: a table can have more flows than fit into one message.
func TestMany(t *testing.T) {
	w := newWorld(t)
	var r Rules
	for i := range 20_000 {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		r.Flows = append(r.Flows, closed(klips.Selector{Src: prefix("10.1.0.0/16"), Dst: netip.PrefixFrom(a, 32)}))
	}
	w.set(r)
	if !w.refused(pkt{src: addr("10.1.0.1"), dst: addr("10.0.78.31"), proto: 17}.bytes(), false) || w.refused(pkt{src: addr("10.1.0.1"), dst: addr("10.0.78.32"), proto: 17}.bytes(), false) {
		t.Error("the last flow is not the last one")
	}
}

// TestWatch reports other programs' changes to the table, but not changes to other
// tables or by the table's own connection.
func TestWatch(t *testing.T) {
	nft, err := exec.LookPath("nft")
	if err != nil {
		skip.Without(t, skip.NFTables, err)
	}
	w := newWorld(t)
	run := func(line string) {
		t.Helper()
		if out, err := exec.Command(nft, strings.Fields(line)...).CombinedOutput(); err != nil {
			t.Fatalf("nft %s: %v: %s", line, err, out)
		}
	}
	var r Rules
	r.Close(klips.Guard{Selector: sel("10.1.0.0/16", "10.2.0.0/16")})
	// Another program's change, reported after the earlier ones.
	noticed := make(chan string, 100)
	stop, err := w.table.Watch(func(err error) {
		l, rerr := w.table.Read()
		switch {
		case err != nil || rerr != nil:
			t.Error(err, rerr)
		case l.Closes():
			noticed <- "there"
		default:
			noticed <- "gone"
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	w.set(r)
	run("add table inet other")
	run("flush table inet other")
	w.set(r)
	run("flush ruleset")
	if got := <-noticed; got != "gone" { // the test's own time limit ends the wait
		t.Errorf("what was done to another table, or by ourselves, is noticed: the table is %s", got)
	}
}

// TestWhole: rules that other programs remove are missed, although the sets exist.
func TestWhole(t *testing.T) {
	nft, err := exec.LookPath("nft")
	if err != nil {
		skip.Without(t, skip.NFTables, err)
	}
	w := newWorld(t)
	var r Rules
	r.Close(klips.Guard{Selector: sel("10.1.0.0/16", "10.2.0.0/16"), In: true})
	p := pkt{src: addr("10.1.0.1"), dst: addr("10.2.0.1"), proto: 17}.bytes()
	for _, line := range []string{"flush table inet klips", "flush chain inet klips out4", "flush chain inet klips out"} {
		w.set(r)
		if ok, err := w.table.Whole(); !ok || err != nil || !w.refusedBy(p) {
			t.Errorf("as it was set it is not whole: %v, %v", ok, err)
		}
		if out, err := exec.Command(nft, strings.Fields(line)...).CombinedOutput(); err != nil {
			t.Fatalf("nft %s: %v: %s", line, err, out)
		}
		if ok, err := w.table.Whole(); ok || err != nil || w.refusedBy(p) {
			t.Errorf("after nft %s it is whole: %v, %v", line, ok, err)
		}
	}
	w.set(Rules{})
	if ok, err := w.table.Whole(); !ok || err != nil {
		t.Errorf("without a table it is not whole: %v, %v", ok, err)
	}
}
