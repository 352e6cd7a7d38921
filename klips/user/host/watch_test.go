package host_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/rtnl"
	"github.com/klips-go/ipsec/klips/user/engine"
	"github.com/klips-go/ipsec/klips/user/host"
	"github.com/klips-go/ipsec/klips/user/packet"
	"github.com/klips-go/ipsec/testscripts/lab"
	"github.com/klips-go/ipsec/testscripts/skip"
)

// patience is how long a test waits for an expected event. Only a fault takes so long.
const patience = time.Minute

// alone marks a test that runs in its own network namespace.
const alone = "IPSEC_HOST_TEST"

// inNamespace runs the calling test in another process with its own network namespace,
// because a Host uses that of its process. It returns true in that process.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv(alone) == t.Name() {
		return true
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), alone+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	switch {
	case errors.Is(err, os.ErrPermission):
		skip.Without(t, skip.Root, err)
	case err != nil:
		t.Fatalf("%v\n%s", err, out)
	case strings.Contains(string(out), "--- SKIP"):
		skip.Without(t, skip.Root, string(out))
	case !strings.Contains(string(out), "--- PASS: "+t.Name()):
		t.Fatalf("it has not run:\n%s", out)
	}
	return false
}

// A namespace is the machine of a test that runs alone.
type namespace struct {
	t    *testing.T
	conn *rtnl.Conn
	host *host.Host
}

func newNamespace(t *testing.T) *namespace {
	t.Helper()
	n := &namespace{t: t}
	var err error
	if n.conn, err = rtnl.Dial(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.conn.Close() })
	n.add("eth0")
	if n.host, err = host.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.host.Close() })
	return n
}

func (n *namespace) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

// add makes a device.
func (n *namespace) add(name string) {
	n.t.Helper()
	n.must(n.conn.Add(context.Background(), rtnl.Spec{Name: name, Kind: "veth", Up: true}))
}

func (n *namespace) index(name string) int {
	n.t.Helper()
	ifi, err := net.InterfaceByName(name)
	n.must(err)
	return ifi.Index
}

// ioctl changes a device.
func (n *namespace) ioctl(name string, request uint, set func(*unix.Ifreq)) {
	n.t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	n.must(err)
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(name)
	n.must(err)
	set(ifr)
	n.must(unix.IoctlIfreq(fd, request, ifr))
}

func (n *namespace) setUp(name string, up bool) {
	n.t.Helper()
	n.ioctl(name, unix.SIOCSIFFLAGS, func(r *unix.Ifreq) {
		if up {
			r.SetUint16(unix.IFF_UP)
		}
	})
}

// rename gives a device that is down another name.
func (n *namespace) rename(name, to string) {
	n.t.Helper()
	n.must(exec.Command("ip", "link", "set", name, "name", to).Run())
}

// needIP skips a test that renames devices if the program ip is missing.
func needIP(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("ip"); err != nil {
		skip.Without(t, skip.IP, err)
	}
}

func (n *namespace) setMTU(name string, mtu uint32) {
	n.t.Helper()
	n.ioctl(name, unix.SIOCSIFMTU, func(r *unix.Ifreq) { r.SetUint32(mtu) })
}

// wait waits for a condition that events bring about.
func (n *namespace) wait(what string, holds func() bool) {
	n.t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			n.t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// A wire is an open device; its channel receives a value when the device is lost.
type wire struct {
	engine.Wire
	lost, renamed chan struct{}
}

func (n *namespace) open(name string) *wire {
	n.t.Helper()
	lost, renamed := make(chan struct{}, 10), make(chan struct{}, 10)
	w, err := n.host.OpenWire(name, engine.WireEvents{
		Lost: func() { lost <- struct{}{} }, Renamed: func() { renamed <- struct{}{} }, Resized: func() {}, Rerouted: func() {},
	})
	n.must(err)
	n.t.Cleanup(func() { w.Close() })
	return &wire{w, lost, renamed}
}

// told waits until the wire has reported that its device is lost.
func (w *wire) told(t *testing.T, what string) {
	t.Helper()
	select {
	case <-w.lost:
	case <-time.After(patience):
		t.Fatalf("not reported within %v: %s", patience, what)
	}
}

// once checks that a wire was lost only once.
func (w *wire) once(t *testing.T, what string) {
	t.Helper()
	if n := len(w.lost); n != 0 {
		t.Errorf("reported %d times more: %s", n, what)
	}
}

// Addresses are the host's from when they are added until they are removed.
func TestAddresses(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	n := newNamespace(t)
	a4, a6 := netip.MustParsePrefix("192.0.2.7/24"), netip.MustParsePrefix("2001:db8::7/64")
	for a, want := range map[string]bool{"127.0.0.1": true, "127.200.3.4": true, "192.0.2.7": false, "2001:db8::7": false, "0.0.0.0": false} {
		if n.host.IsLocal(netip.MustParseAddr(a)) != want {
			t.Errorf("%s is local: %v, want %v", a, !want, want)
		}
	}
	for _, a := range []netip.Prefix{a4, a6} {
		n.must(n.conn.AddAddr(context.Background(), rtnl.Addr{Index: n.index("eth0"), Prefix: a}))
		n.wait(a.String()+" is local", func() bool { return n.host.IsLocal(a.Addr()) })
	}
	if n.host.IsLocal(netip.MustParseAddr("192.0.2.8")) {
		t.Error("another address of the subnet is local")
	}
	gone := make(chan netip.Addr, 10)
	n.host.OnMoved(func(l []netip.Addr) {
		for _, a := range l {
			gone <- a
		}
	})
	n.must(n.conn.Delete(context.Background(), n.index("eth0")))
	for _, a := range []netip.Prefix{a4, a6} {
		n.wait(a.String()+" is not local", func() bool { return !n.host.IsLocal(a.Addr()) })
	}
	for told := map[netip.Addr]bool{}; !told[a4.Addr()] || !told[a6.Addr()]; {
		select {
		case a := <-gone:
			if told[a] {
				t.Errorf("reported twice that %v was removed", a)
			}
			told[a] = true
		case <-time.After(patience):
			t.Fatalf("reported within %v: only %v", patience, told)
		}
	}
}

// The MTU of the route to a peer is that of the table, at most that of the device, and is read
// again after a change.
func TestRouteMTU(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	needIP(t)
	n := newNamespace(t)
	ip := func(line string) { t.Helper(); n.must(exec.Command("ip", strings.Fields(line)...).Run()) }
	ip("addr add 192.0.2.1/24 dev eth0")
	ip("addr add 2001:db8::1/64 nodad dev eth0")
	rerouted := make(chan struct{}, 100)
	w, err := n.host.OpenWire("eth0", engine.WireEvents{Rerouted: func() { rerouted <- struct{}{} }, Resized: func() {}})
	n.must(err)
	defer w.Close()
	want := func(what, to string, mtu int) {
		t.Helper()
		n.wait(what, func() bool { return w.RouteMTU(netip.MustParseAddr(to)) == mtu })
	}
	for _, f := range []struct{ family, peer, gateway string }{{"-4", "198.51.100.2", "192.0.2.254"}, {"-6", "2001:db8:5::2", "2001:db8::fe"}} {
		want("there is no route", f.peer, 1500)
		for len(rerouted) > 0 {
			<-rerouted
		}
		ip(f.family + " route add " + f.peer + " via " + f.gateway + " dev eth0 mtu 1400")
		select {
		case <-rerouted:
		case <-time.After(patience):
			t.Fatal("a new route was not reported")
		}
		want("a route with an MTU", f.peer, 1400)
		ip(f.family + " route change " + f.peer + " via " + f.gateway + " dev eth0 mtu 9000")
		want("an MTU that is larger than that of the device", f.peer, 1500)
		ip(f.family + " route change " + f.peer + " via " + f.gateway + " dev eth0 mtu lock 1300")
		want("an MTU that is locked", f.peer, 1300)
		ip(f.family + " route add " + f.peer + " via " + f.gateway + " dev eth0 mtu 1350 table 7")
		want("a route in a table without a rule", f.peer, 1300)
		ip(f.family + " rule add to " + f.peer + " table 7")
		want("a rule for that table", f.peer, 1350)
		ip(f.family + " rule del to " + f.peer + " table 7")
		want("the rule is gone", f.peer, 1300)
		ip(f.family + " route del " + f.peer)
		want("the route is gone", f.peer, 1500)
	}
	n.setMTU("eth0", 1400)
	want("the device has less", "192.0.2.2", 1400)
}

// The function of OnMoved is called for an address and for a default route that is
// added, changed or removed.
func TestMoved(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	needIP(t)
	n := newNamespace(t)
	moved := make(chan struct{}, 100)
	n.host.OnMoved(func([]netip.Addr) { moved <- struct{}{} })
	hears := func(line string) {
		t.Helper()
		n.must(exec.Command("ip", strings.Fields(line)...).Run())
		select {
		case <-moved:
		case <-time.After(patience):
			t.Fatalf("not reported within %v: ip %s", patience, line)
		}
	}
	hears("addr add 192.0.2.1/24 dev eth0")
	hears("addr add 2001:db8::1/64 nodad dev eth0")
	for i, line := range []string{
		"route add default via 192.0.2.254", "route replace default via 192.0.2.253", "route del default",
		"-6 route add default via 2001:db8::fe", "-6 route del default",
	} {
		// A new address marks the end of earlier events.
		mark := netip.MustParsePrefix(fmt.Sprintf("198.51.100.%d/32", i+1))
		n.must(n.conn.AddAddr(context.Background(), rtnl.Addr{Index: n.index("lo"), Prefix: mark}))
		n.wait("the mark is local", func() bool { return n.host.IsLocal(mark.Addr()) })
		for <-moved; len(moved) > 0; <-moved {
		}
		hears(line)
	}
}

// A wire has the current MTU of its device, and its opener is notified once when the
// device goes down or is removed.
func TestDevices(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	n := newNamespace(t)
	n.add("eth1")
	n.add("eth2")
	w, alias, other, closed := n.open("eth0"), n.open("eth0:2"), n.open("eth1"), n.open("eth0")
	if w.Name() != "eth0" || alias.Name() != "eth0" || w.Index() != n.index("eth0") || w.MTU() != 1500 {
		t.Errorf("device %s, %s of index %d with MTU %d", w.Name(), alias.Name(), w.Index(), w.MTU())
	}
	n.must(closed.Close())
	n.setMTU("eth0", 1400)
	n.wait("the MTU is 1400", func() bool { return w.MTU() == 1400 && alias.MTU() == 1400 })
	if other.MTU() != 1500 {
		t.Errorf("another device has MTU %d, want 1500", other.MTU())
	}
	n.setUp("eth0", false)
	w.told(t, "eth0 is down")
	alias.told(t, "eth0 is down")
	n.setUp("eth0", true)
	n.setMTU("eth0", 1300)
	n.wait("it is up again", func() bool { return w.MTU() == 1300 })
	w.once(t, "it was down once")
	n.setUp("eth0", false)
	w.told(t, "eth0 is down again")
	n.must(n.conn.Delete(context.Background(), n.index("eth1")))
	other.told(t, "eth1 is gone")
	w.once(t, "it was down already")
	closed.once(t, "it was closed")

	// A device that is down when it is opened is not lost before it was up.
	n.setUp("eth2", false)
	down := n.open("eth2")
	n.setMTU("eth0", 1200)
	n.setUp("eth0", true)
	n.wait("it is up again", func() bool { return w.MTU() == 1200 })
	down.once(t, "it has never been up")
	n.setUp("eth2", true)
	n.setMTU("eth2", 1100)
	n.wait("it is up", func() bool { return down.MTU() == 1100 })
	n.setUp("eth2", false)
	down.told(t, "eth2 is down")
}

// A wire stays with its device when that is renamed.
func TestRename(t *testing.T) {
	needIP(t)
	if !inNamespace(t) {
		return
	}
	n := newNamespace(t)
	w := n.open("eth0")
	index := w.Index()
	n.setUp("eth0", false)
	w.told(t, "eth0 is down")
	n.rename("eth0", "wan0")
	n.setUp("wan0", true)
	select {
	case <-w.renamed:
	case <-time.After(patience):
		t.Fatalf("not reported within %v that it was renamed", patience)
	}
	if w.Name() != "wan0" || w.Index() != index {
		t.Errorf("device %s of index %d, want wan0 of index %d", w.Name(), w.Index(), index)
	}
}

// A wait for a device ends once when the device is up: under another name if it was
// renamed, or with another device of its name if it was removed.
func TestWhenUp(t *testing.T) {
	needIP(t)
	if !inNamespace(t) {
		return
	}
	n := newNamespace(t)
	n.add("eth1")
	up := make(chan string, 10)
	wait := func(name string, index int) (stop func()) {
		return n.host.WhenUp(name, index, func(name string) { up <- name })
	}
	want := func(name string) {
		t.Helper()
		select {
		case got := <-up:
			if got != name {
				t.Errorf("%s is up, want %s", got, name)
			}
		case <-time.After(patience):
			t.Fatalf("not reported within %v that %s is up", patience, name)
		}
	}
	wait("eth0", n.index("eth0"))
	want("eth0")

	n.setUp("eth0", false)
	wait("eth0", n.index("eth0"))
	wait("eth0", n.index("eth0"))() // and stop waiting
	n.rename("eth0", "wan0")
	n.add("eth0") // not the awaited device
	n.setUp("wan0", true)
	want("wan0")

	index := n.index("eth0")
	n.must(n.conn.Delete(context.Background(), index))
	wait("eth0", index)
	n.add("eth0")
	want("eth0")
	if len(up) != 0 {
		t.Errorf("%s is reported, too", <-up)
	}
}

func TestNoDevice(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	n := newNamespace(t)
	for _, name := range []string{"nosuch0", "nosuch0:1", ""} {
		if w, err := n.host.OpenWire(name, engine.WireEvents{}); !errors.Is(err, unix.ENXIO) {
			t.Errorf("OpenWire(%q) = %v, %v, want ENXIO", name, w, err)
		}
	}
}

// A TUN device has its name and MTU, has only one owner, and is removed when it is
// closed.
func TestLink(t *testing.T) {
	if err := lab.CanTUN(); err != nil {
		skip.Without(t, skip.TUN, err)
	}
	if !inNamespace(t) {
		return
	}
	n := newNamespace(t)
	l, err := n.host.OpenLink("ipsec7")
	n.must(err)
	if mtu, err := l.MTU(); l.Name() != "ipsec7" || mtu != 1500 || err != nil {
		t.Errorf("device %s with MTU %d, %v", l.Name(), mtu, err)
	}
	n.must(l.SetMTU(16260))
	if ifi, err := net.InterfaceByName("ipsec7"); err != nil || ifi.MTU != 16260 {
		t.Errorf("the system has %+v, %v, want an MTU of 16260", ifi, err)
	}
	if b, err := os.ReadFile("/proc/sys/net/ipv6/conf/ipsec7/addr_gen_mode"); err == nil && strings.TrimSpace(string(b)) != "1" {
		t.Errorf("the kernel makes up addresses: addr_gen_mode is %s", b)
	}
	if two, err := n.host.OpenLink("ipsec7"); !errors.Is(err, unix.EBUSY) {
		t.Errorf("a second time: %v, %v, want EBUSY", two, err)
	}
	if x, err := n.host.OpenLink("eth0"); err == nil {
		t.Errorf("another device was taken over: %v", x)
	}
	if x, err := n.host.OpenLink("a name that is too long"); err == nil {
		t.Errorf("a name that is too long: %v", x)
	}
	n.must(l.Close())
	if ifi, err := net.InterfaceByName("ipsec7"); err == nil {
		t.Errorf("after Close there is %+v", ifi)
	}
}

// A kept TUN device outlives its link, keeps its physical device, and is taken up
// again. Another program's device is not.
func TestLeftLinks(t *testing.T) {
	if err := lab.CanTUN(); err != nil {
		skip.Without(t, skip.TUN, err)
	}
	if !inNamespace(t) {
		return
	}
	n := newNamespace(t)
	left := func(want ...engine.LeftLink) {
		t.Helper()
		if l, err := n.host.LeftLinks(); err != nil || !slices.Equal(l, want) {
			t.Errorf("LeftLinks = %v, %v, want %v", l, err, want)
		}
	}
	open := func(name string) engine.Link {
		t.Helper()
		l, err := n.host.OpenLink(name)
		n.must(err)
		return l
	}
	one, two := open("ipsec1"), open("ipsec0")
	n.must(one.Keep("eth0", 1438, true))
	n.must(two.Keep("", 0, false))
	n.must(one.SetMTU(1300))
	left() // they are in use
	if removed, err := host.RemoveLeft(); removed != nil || err != nil {
		t.Errorf("RemoveLeft = %v, %v, want that links in use stay", removed, err)
	}
	index := n.index("ipsec1")
	n.must(one.Close())
	left(engine.LeftLink{Name: "ipsec1", Physical: "eth0", ChosenMTU: 1438, Direct: true})
	n.must(two.Close())
	left(engine.LeftLink{Name: "ipsec0"}, engine.LeftLink{Name: "ipsec1", Physical: "eth0", ChosenMTU: 1438, Direct: true})

	one = open("ipsec1")
	if mtu, err := one.MTU(); mtu != 1300 || err != nil || n.index("ipsec1") != index {
		t.Errorf("another device was taken up, with MTU %d, %v", mtu, err)
	}
	if x, err := n.host.OpenLink("ipsec1"); !errors.Is(err, unix.EBUSY) {
		t.Errorf("a second time: %v, %v, want EBUSY", x, err)
	}
	n.must(one.Remove())
	left(engine.LeftLink{Name: "ipsec0"})
	if removed, err := host.RemoveLeft(); !slices.Equal(removed, []string{"ipsec0"}) || err != nil {
		t.Errorf("RemoveLeft = %v, %v, want ipsec0", removed, err)
	}
	for _, name := range []string{"ipsec0", "ipsec1"} {
		if ifi, err := net.InterfaceByName(name); err == nil {
			t.Errorf("there is %+v", ifi)
		}
	}

	other := open("ipsec0")
	n.must(other.Keep("eth0", 0, false))
	n.must(n.conn.SetAlias(context.Background(), n.index("ipsec0"), "of somebody else"))
	n.must(other.Close())
	left()
	if x, err := n.host.OpenLink("ipsec0"); !errors.Is(err, unix.EBUSY) {
		t.Errorf("another's device: %v, %v, want EBUSY", x, err)
	}
	if removed, err := host.RemoveLeft(); removed != nil || err != nil {
		t.Errorf("RemoveLeft = %v, %v, want that another's device stays", removed, err)
	}
}

// Packets routed into a TUN device after one process has closed it and before the next
// one opens it reach the next one, if it inherits the descriptor.
func TestInherit(t *testing.T) {
	if err := lab.CanTUN(); err != nil {
		skip.Without(t, skip.TUN, err)
	}
	if !inNamespace(t) {
		return
	}
	n := newNamespace(t)
	l, err := n.host.OpenLink("ipsec3")
	n.must(err)
	n.must(l.Keep("eth0", 0, false))
	n.setUp("ipsec3", true)
	n.must(n.conn.AddAddr(context.Background(), rtnl.Addr{Index: n.index("ipsec3"), Prefix: netip.MustParsePrefix("10.1.0.1/24")}))
	r, err := n.host.OpenReceiver(8)
	n.must(err)
	fds, err := n.host.Descriptors()
	n.must(err)
	n.must(l.Close())
	r.Close()
	r.Release()
	c, err := net.Dial("udp4", "10.1.0.2:9")
	n.must(err)
	defer c.Close()
	const texts = "abcdefgh"
	for i := range texts {
		_, err := c.Write([]byte{texts[i]})
		n.must(err)
	}

	h, err := host.Inherit(fds)
	n.must(err)
	defer h.Close()
	if left, err := h.LeftLinks(); left != nil || err != nil {
		t.Errorf("left are %v, %v, want none", left, err)
	}
	l, err = h.OpenLink("ipsec3")
	n.must(err)
	defer l.Remove()
	got := ""
	bufs := packet.NewBuffers(128)
	for len(got) < len(texts) {
		k, err := l.Read(bufs)
		n.must(err)
		for i := range k {
			p := bufs[i].Bytes()
			if p[0]>>4 == 4 && p[9] == unix.IPPROTO_UDP {
				got += string(p[28:])
			}
		}
	}
	if got != texts {
		t.Errorf("read %q, want %q", got, texts)
	}
	r, err = h.OpenReceiver(8)
	n.must(err)
	r.Close()
	r.Release()
	if _, err := h.OpenLink("ipsec3"); !errors.Is(err, unix.EBUSY) {
		t.Errorf("opened twice: %v, want EBUSY", err)
	}
}

// Open succeeds in a namespace without devices, and Close ends watching.
func TestOpenAndClose(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	for range 3 {
		h, err := host.Open()
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
		if !h.IsLocal(netip.MustParseAddr("127.0.0.1")) {
			t.Error("127.0.0.1 is not local")
		}
	}
}
