package lab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/testscripts/skip"
)

func TestMain(m *testing.M) {
	// An ordinary user gets a user namespace. Without one, the tests that need hosts
	// are skipped.
	_ = Enter()
	os.Exit(m.Run())
}

// pair creates two hosts with a cable.
func pair(t *testing.T) (a, b *Host) {
	t.Helper()
	var hosts [2]*Host
	for i, name := range []string{"a", "b"} {
		h, err := NewHost(name, Private())
		if errors.Is(err, os.ErrPermission) {
			skip.Without(t, skip.Root, err)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { h.Close() })
		hosts[i] = h
	}
	a, b = hosts[0], hosts[1]
	if err := Cable(a, "eth0", b, "eth0"); err != nil {
		t.Fatal(err)
	}
	for h, addrs := range map[*Host][]string{a: {"10.0.0.1/24", "fd00::1/64"}, b: {"10.0.0.2/24", "fd00::2/64"}} {
		for _, p := range addrs {
			if err := h.AddAddr("eth0", netip.MustParsePrefix(p)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return a, b
}

func TestPingAndCapture(t *testing.T) {
	a, b := pair(t)
	var file bytes.Buffer
	c, err := b.Capture("eth0", &file)
	if err != nil {
		t.Fatal(err)
	}
	if c.Link != LinkEthernet {
		t.Errorf("link type = %d, want %d", c.Link, LinkEthernet)
	}
	for _, dst := range []string{"10.0.0.2", "fd00::2"} {
		replies, err := a.Ping(Ping{Dst: netip.MustParseAddr(dst), Count: 2, Size: 1000})
		if err != nil || len(replies) != 2 {
			t.Fatalf("ping %s = %v, %v, want 2 replies", dst, replies, err)
		}
	}
	c.Stop()
	frames, err := c.Frames()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range frames {
		if !IsHousekeeping(c.Link, f.Data) {
			got = append(got, Summary(c.Link, f.Data))
		}
	}
	want := `10.0.0.1 > 10.0.0.2 ICMP echo request seq=1 len=1028
10.0.0.2 > 10.0.0.1 ICMP echo reply seq=1 len=1028
10.0.0.1 > 10.0.0.2 ICMP echo request seq=2 len=1028
10.0.0.2 > 10.0.0.1 ICMP echo reply seq=2 len=1028
fd00::1 > fd00::2 ICMP6 echo request seq=1 len=1048
fd00::2 > fd00::1 ICMP6 echo reply seq=1 len=1048
fd00::1 > fd00::2 ICMP6 echo request seq=2 len=1048
fd00::2 > fd00::1 ICMP6 echo reply seq=2 len=1048`
	if g := strings.Join(got, "\n"); g != want {
		t.Errorf("captured\n%s\nwant\n%s", g, want)
	}
	if frames[len(frames)-1].Out == frames[len(frames)-2].Out {
		t.Error("request and reply have the same direction")
	}
	size := 24
	for _, f := range frames {
		size += 16 + len(f.Data)
	}
	if file.Len() != size || binary.LittleEndian.Uint32(file.Bytes()) != 0xa1b2c3d4 {
		t.Errorf("pcap file of %d bytes begins with %x, want %d bytes", file.Len(), file.Bytes()[:4], size)
	}
}

func TestPingErrors(t *testing.T) {
	a, b := pair(t)
	if err := a.AddRoute(Route{Dst: netip.MustParsePrefix("10.9.0.0/16"), Via: netip.MustParseAddr("10.0.0.2"), Dev: "eth0"}); err != nil {
		t.Fatal(err)
	}
	if err := b.Sysctl("net.ipv4.ip_forward", "1"); err != nil {
		t.Fatal(err)
	}
	idle := func() bool { return Idle(a, b) }
	ping := Ping{Dst: netip.MustParseAddr("10.9.0.1"), GiveUp: idle}
	var err error
	_ = Await(func() bool {
		_, err = a.Ping(ping)
		return !errors.Is(err, ErrNoReply) // the kernel limits the rate of these errors, for all hosts together
	})
	if err == nil || !strings.Contains(err.Error(), "network unreachable") {
		t.Errorf("ping through a router without a route: %v, want network unreachable", err)
	}
	if err := b.Sysctl("net.ipv4.icmp_echo_ignore_all", "1"); err != nil {
		t.Fatal(err)
	}
	if _, err = a.Ping(Ping{Dst: netip.MustParseAddr("10.0.0.2"), GiveUp: idle}); !errors.Is(err, ErrNoReply) {
		t.Errorf("ping of a silent host: %v, want %v", err, ErrNoReply)
	}
	if _, err = a.Ping(Ping{Dst: netip.MustParseAddr("10.8.0.1")}); err == nil {
		t.Error("ping without a route succeeded")
	}
}

// TestProgram: a program that is started on a host is in its namespaces, and ends when
// the host is closed.
func TestProgram(t *testing.T) {
	a, b := pair(t)
	dir := t.TempDir()
	hosts := dir + "/hosts"
	if err := os.WriteFile(hosts, []byte("10.0.0.2 gw2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := NewHost("c", Bind(hosts, "/etc/hosts"), Tmpfs(dir))
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.Output(exec.Command("sh", "-c", "cat /etc/hosts; cat /proc/sys/kernel/hostname; ls "+dir+"; wc -l < /proc/net/dev"))
	if want := "10.0.0.2 gw2\nc\n3\n"; err != nil || out != want {
		t.Errorf("in c: %q, %v, want %q", out, err, want)
	}
	if data, _ := os.ReadFile("/etc/hosts"); strings.Contains(string(data), "gw2") {
		t.Error("the bind mount is seen from outside")
	}
	sleep := exec.Command("sleep", "100")
	if err := c.Start(sleep); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := sleep.Wait(); err == nil {
		t.Error("the program ended by itself")
	}
	if err := c.Do(func() error { return nil }); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Do after Close = %v, want %v", err, os.ErrClosed)
	}
	if a.HasDevice("eth1") || !b.HasDevice("eth0") {
		t.Error("HasDevice is wrong")
	}
}

// TestIdle: a host is not idle while a process on it works. It is idle when all
// processes sleep.
func TestIdle(t *testing.T) {
	a, b := pair(t)
	work := exec.Command("sh", "-c", "while :; do :; done")
	if err := b.Start(work); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if Idle(a, b) {
			t.Fatal("idle while a process works")
		}
	}
	if !Idle(a) { // other hosts are ignored
		if err := Await(func() bool { return Idle(a) }); err != nil {
			t.Fatalf("a host without processes is never idle: %v", err)
		}
	}
	work.Process.Kill()
	work.Wait()
	sleep := exec.Command("sleep", "1000")
	if err := b.Start(sleep); err != nil {
		t.Fatal(err)
	}
	if err := Await(func() bool { return Idle(a, b) }); err != nil {
		t.Fatalf("not idle while all processes sleep: %v", err)
	}
	sleep.Process.Kill()
	sleep.Wait()
}

func TestLayers(t *testing.T) {
	icmp := []byte{8, 0, 0, 0, 0, 7, 0, 3}
	ip4 := func(proto byte, frag uint16, payload []byte) []byte {
		b := make([]byte, 20, 20+len(payload))
		b[0], b[8], b[9] = 0x45, 64, proto
		binary.BigEndian.PutUint16(b[2:], uint16(20+len(payload)))
		binary.BigEndian.PutUint16(b[6:], frag)
		copy(b[12:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
		return append(b, payload...)
	}
	ip6 := func(next byte, payload []byte) []byte {
		b := make([]byte, 40, 40+len(payload))
		b[0], b[6] = 0x60, next
		binary.BigEndian.PutUint16(b[4:], uint16(len(payload)))
		b[8], b[23], b[24], b[39] = 0xfd, 1, 0xfd, 2
		return append(b, payload...)
	}
	esp := []byte{0, 0, 1, 0x15, 0, 0, 0, 9, 1, 2, 3, 4}
	ah := append([]byte{50, 4, 0, 0, 0, 0, 1, 0x16, 0, 0, 0, 9}, make([]byte, 12)...)
	tests := []struct {
		name string
		in   []byte
		want string
	}{
		{"icmp", ip4(1, 0, icmp), "10.0.0.1 > 10.0.0.2 ICMP echo request seq=3 len=28"},
		{"ah esp", ip4(51, 0, append(ah, esp...)), "10.0.0.1 > 10.0.0.2 AH(spi=0x116,seq=9) ESP(spi=0x115,seq=9) len=56"},
		{"4in6", ip6(4, ip4(1, 0, icmp)), "fd00::1 > fd00::2 10.0.0.1 > 10.0.0.2 ICMP echo request seq=3 len=68"},
		{"6in4", ip4(41, 0, ip6(17, []byte{1, 0xf4, 1, 0xf4, 0, 8, 0, 0})), "10.0.0.1 > 10.0.0.2 fd00::1 > fd00::2 UDP 500 > 500 len=68"},
		{"comp", ip6(108, []byte{4, 0, 0x12, 0x34, 5}), "fd00::1 > fd00::2 COMP(cpi=0x1234,next=4) len=45"},
		{"first fragment", ip4(50, 0x2000, esp), "10.0.0.1 > 10.0.0.2 frag(off=0,len=12,more) ESP(spi=0x115,seq=9) len=32"},
		{"last fragment", ip4(50, 185, esp), "10.0.0.1 > 10.0.0.2 frag(off=1480,len=12) len=32"},
		{"cut", ip4(51, 0, ah[:20]), "10.0.0.1 > 10.0.0.2 short protocol=51 len=40"},
		{"empty", nil, "short packet"},
	}
	for _, tt := range tests {
		if got := Summary(LinkRaw, tt.in); got != tt.want {
			t.Errorf("%s: Summary = %q, want %q", tt.name, got, tt.want)
		}
	}
}

func FuzzLayers(f *testing.F) {
	f.Add([]byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 8, 0, 0, 0, 0, 0, 0, 0})
	f.Add(append([]byte{0x60, 0, 0, 0, 0, 12, 51, 64}, make([]byte, 44)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		Summary(LinkRaw, b)
		Summary(LinkEthernet, b)
		IsHousekeeping(LinkEthernet, b)
	})
}
