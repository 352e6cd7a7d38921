package guard

import (
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/testscripts/skip"
)

// tun adds a virtual device, and returns its other end.
func (w *world) tun(name string) (fd int) {
	w.t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		skip.Without(w.t, skip.TUN, err)
	}
	w.t.Cleanup(func() { unix.Close(fd) })
	ifr, _ := unix.NewIfreq(name)
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		w.t.Fatal(err)
	}
	w.ip("link set " + name + " up")
	return fd
}

func (w *world) ip(line string) {
	w.t.Helper()
	if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
		w.t.Fatalf("ip %s: %v: %s", line, err, out)
	}
}

// TestHide: ICMP errors that quote a packet from a virtual device do not leave by
// another device. Errors about other packets do.
func TestHide(t *testing.T) {
	for _, v := range []struct {
		own, far, other netip.Addr
		route           string
		icmp            uint8
		errors          []uint8
		echo            uint8
	}{
		{addr("192.0.2.1"), addr("10.2.0.1"), addr("10.2.0.2"), "route add 10.2.0.1/32 dev ipsec0", unix.IPPROTO_ICMP, []uint8{3, 4, 5, 11, 12}, 0},
		{addr("2001:db8::1"), addr("fd02::1"), addr("fd02::2"), "-6 route add fd02::1/128 dev ipsec0", unix.IPPROTO_ICMPV6, []uint8{1, 2, 3, 4}, 129},
	} {
		w := newWorld(t)
		ipsec0 := w.tun("ipsec0")
		w.set(Rules{Hide: true})
		send := func(typ uint8, q pkt) (left bool) {
			t.Helper()
			return !w.refusedBy(pkt{src: v.own, dst: q.src, proto: v.icmp, body: quote(typ, q)}.bytes())
		}
		arrive := func(p pkt) {
			t.Helper()
			if _, err := unix.Write(ipsec0, p.bytes()); err != nil {
				t.Fatal(err)
			}
		}
		about := pkt{src: v.far, dst: v.own, proto: unix.IPPROTO_UDP, sport: 9, dport: 53}
		want := Counters{}
		check := func(what string, got, left bool) {
			t.Helper()
			if got != left {
				t.Errorf("%v, %s: it leaves: %v, want %v", v.own, what, got, left)
			}
			if !left {
				want.Quotes++
			}
			if n := w.counters(); n != want {
				t.Errorf("%v, %s: the counters are %+v, want %+v", v.own, what, n, want)
				want = n
			}
		}
		unreachable := v.errors[0]
		check("nothing has come", send(unreachable, about), true)
		w.refused(about.bytes(), true) // in clear
		w.drain()
		check("it came in clear", send(unreachable, about), true)
		arrive(pkt{src: v.far, dst: v.own, proto: 200}) // the kernel answers with an error
		want = w.counters()
		if want.Quotes != 1 {
			t.Errorf("%v: of the kernel's errors %d were dropped, want 1", v.own, want.Quotes)
		}
		for _, typ := range v.errors {
			check("it came protected", send(typ, about), false)
		}
		check("another port", send(unreachable, pkt{src: v.far, dst: v.own, proto: unix.IPPROTO_TCP}), false)
		check("another host", send(unreachable, pkt{src: v.other, dst: v.own, proto: unix.IPPROTO_UDP}), true)
		check("ESP", send(unreachable, pkt{src: v.far, dst: v.own, proto: unix.IPPROTO_ESP}), true)
		check("an echo reply", send(v.echo, about), true)
		check("the error itself", !w.refusedBy(pkt{src: v.own, dst: v.far, proto: v.icmp, body: quote(unreachable, about)[:8]}.bytes()), true)
		// A forwarded error, too
		check("a router's error", !w.refusedBy(pkt{src: v.other, dst: v.far, proto: v.icmp, body: quote(unreachable, about)}.bytes()), false)

		// Other rules change nothing about that.
		r := Rules{Hide: true}
		r.Close(klips.Guard{Selector: sel("10.7.0.0/16", "10.8.0.0/16")})
		w.set(r)
		check("with a flow", send(unreachable, about), false)
		w.set(Rules{Hide: true})
		check("without a flow", send(unreachable, about), false)

		// Through the tunnel it leaves.
		w.ip(v.route)
		if w.drain(); send(unreachable, about) || w.counters() != want {
			t.Errorf("%v: an error that leaves by ipsec0 leaves by wan0, or is counted: %+v", v.own, w.counters())
		}
	}
}

// TestHideMany: if more hosts are heard than the table remembers, no errors leave.
func TestHideMany(t *testing.T) {
	w := newWorld(t)
	ipsec0 := w.tun("ipsec0")
	w.set(Rules{Hide: true})
	about := pkt{src: addr("10.2.0.1"), dst: addr("192.0.2.1"), proto: unix.IPPROTO_UDP, dport: 53}
	e := pkt{src: about.dst, dst: about.src, proto: unix.IPPROTO_ICMP, body: quote(3, about)}.bytes()
	for i := range maxHeard + 1 {
		if i == maxHeard && w.refusedBy(e) {
			t.Error("an error about a packet in clear is dropped")
		}
		p := pkt{src: netip.AddrFrom4([4]byte{10, 3 + byte(i>>16), byte(i >> 8), byte(i)}), dst: addr("192.0.2.9"), proto: 200}
		if _, err := unix.Write(ipsec0, p.bytes()); err != nil {
			t.Fatal(err)
		}
	}
	if !w.refusedBy(e) {
		t.Error("an error leaves, although its host may be one of those that are not remembered")
	}
	six := pkt{src: addr("fd02::1"), dst: addr("2001:db8::1"), proto: unix.IPPROTO_UDP}
	if w.refusedBy(pkt{src: six.dst, dst: six.src, proto: unix.IPPROTO_ICMPV6, body: quote(1, six)}.bytes()) {
		t.Error("an error about IPv6 is dropped")
	}
}
