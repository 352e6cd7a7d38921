package testscripts

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/testscripts/lab"
)

// A lane is one UDP port between the embedded stack and the kernel, with SAs of its own
// in both directions.
type lane struct {
	name   string
	n      int
	family int // of the inner and the outer packets: 0 is IPv4, 1 is IPv6
	xforms []xform
}

// laneSizes are the lengths of the datagrams, without the UDP header.
var laneSizes = []int{1, 8, 1201, 1500, 2900, 20000}

// lanes returns a lane for each algorithm, mode and family.
func lanes() (l []*lane) {
	for _, tunnel := range [...]bool{true, false} {
		for family := range 2 {
			mode := "transport"
			if tunnel {
				mode = "tunnel"
			}
			add := func(name string, xforms ...xform) {
				if tunnel {
					xforms = append([]xform{{proto: "tun"}}, xforms...)
				}
				l = append(l, &lane{fmt.Sprintf("%s/%d/%s", mode, 4+2*family, name), len(l), family, xforms})
			}
			// Over IPv4 the kernel pads AH to 8 bytes unless a flag of its state is set.
			ah := func(j int) xform {
				x := ahXform(j)
				if family == 0 {
					x.ours += " --align8"
				}
				return x
			}
			for i, e := range encAlgs {
				add(e.name, espXform(i, 1))
			}
			for j, a := range authAlgs {
				add("esp-"+a.name, espXform(2, j))
				add("ah-"+a.name, ah(j))
			}
			for k, a := range aeadAlgs {
				add(a.name, aeadXform(k, testKey(a.bits)))
			}
			add("udp", inUDP(espXform(2, 1), family))
			add("esp+ah", espXform(2, 1), ah(1))
			add("comp+esp", xform{proto: "comp", ours: "--comp deflate", kernel: "comp deflate "}, espXform(2, 1))
		}
	}
	return l
}

func (l *lane) tunnel() bool { return l.xforms[0].proto == "tun" }

func (l *lane) port() int { return 10000 + l.n }

// spi returns the SPI of the i-th SA of a direction. It fits a CPI of IPComp.
func (l *lane) spi(toKernel bool, i int) string {
	n := 0x1000 + 16*l.n + i
	if toKernel {
		n += 8
	}
	return fmt.Sprintf("0x%x", n)
}

// spiKey replaces the end of a combined mode's key with an SPI: only one SA may send with
// such a key (RFC 4106 section 2).
func (x xform) spiKey(spi string) xform {
	if x.auth == "-" {
		key := x.encKey[:len(x.encKey)-4] + spi[2:]
		x.ours, x.kernel = strings.ReplaceAll(x.ours, x.encKey, key), strings.ReplaceAll(x.kernel, x.encKey, key)
	}
	return x
}

func (l *lane) ends(a, b *side) (src, dst string) {
	if l.tunnel() {
		return a.inner[l.family], b.inner[l.family]
	}
	return a.outer[l.family], b.outer[l.family]
}

// ours returns the lines for ipsec batch.
func (l *lane) ours(ours, kernel *side) (lines []string) {
	for _, way := range [2][2]*side{{ours, kernel}, {kernel, ours}} {
		src, dst := way[0].outer[l.family], way[1].outer[l.family]
		var group []string
		for i, x := range l.xforms {
			spi := l.spi(way[1] == kernel, i)
			opts := x.spiKey(spi).ours
			switch {
			case x.proto == "tun":
				opts = [2]string{"--ip4", "--ip6"}[l.family] + " --dst " + dst
			case x.proto != "comp":
				opts += " --replay_window 64"
			}
			group = append(group, x.proto+spi+"@"+dst)
			lines = append(lines, fmt.Sprintf("spi --said %s --src %s %s", group[i], src, opts))
		}
		if len(group) > 1 {
			lines = append(lines, "spigrp --said "+strings.Join(group, " "))
		}
		if way[0] == ours {
			s, d := l.ends(ours, kernel)
			lines = append(lines, fmt.Sprintf("eroute --add --eraf %s --src %s --dst %s --transport-proto udp --src-port %d --dst-port %[4]d --said %s",
				[2]string{"inet", "inet6"}[l.family], hostPrefix(s), hostPrefix(d), l.port(), group[0]))
		}
	}
	return lines
}

// kernel returns the lines for ip -batch.
func (l *lane) kernel(ours, kernel *side) (lines []string) {
	for _, way := range [2][2]*side{{ours, kernel}, {kernel, ours}} {
		src, dst := way[0].outer[l.family], way[1].outer[l.family]
		dir, mode, templates := "in", "transport", ""
		if way[0] == kernel {
			dir = "out"
		}
		for i, x := range l.xforms {
			if x.proto == "tun" {
				mode = "tunnel"
				continue
			}
			spi, level := l.spi(dir == "in", i), ""
			if x.proto == "comp" && dir == "in" {
				level = " level use" // datagrams that do not get smaller arrive uncompressed
			}
			lines = append(lines, fmt.Sprintf("xfrm state add src %s dst %s proto %s spi %s reqid %d mode %s %s",
				src, dst, x.proto, spi, 1+l.n, mode, x.spiKey(spi).kernel))
			templates += fmt.Sprintf(" tmpl src %s dst %s proto %s reqid %d mode %s%s", src, dst, x.proto, 1+l.n, mode, level)
			mode = "transport"
		}
		s, d := l.ends(way[0], way[1])
		lines = append(lines, fmt.Sprintf("xfrm policy add src %s dst %s proto %d sport %d dport %[4]d dir %s%s",
			hostPrefix(s), hostPrefix(d), unix.IPPROTO_UDP, l.port(), dir, templates)) // a guest has no names of protocols
	}
	return lines
}

// socket opens the lane's end on a host: a UDP socket with this port at both ends.
func (l *lane) socket(from, to *side) (fd int, err error) {
	src, dst := l.ends(from, to)
	err = from.Do(func() error {
		if fd, err = unix.Socket([2]int{unix.AF_INET, unix.AF_INET6}[l.family], unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		if err = unix.Bind(fd, sockaddr(src, l.port())); err == nil {
			err = unix.Connect(fd, sockaddr(dst, l.port()))
		}
		if err != nil {
			unix.Close(fd)
		}
		return err
	})
	return fd, err
}

func sockaddr(addr string, port int) unix.Sockaddr {
	a := netip.MustParseAddr(addr)
	if a.Is4() {
		return &unix.SockaddrInet4{Port: port, Addr: a.As4()}
	}
	return &unix.SockaddrInet6{Port: port, Addr: a.As16()}
}

// carry sends a datagram from one socket to another. It fails if the datagram does not
// arrive as it was sent.
func carry(from, to int, datagram []byte, giveUp func() bool) error {
	if _, err := unix.Write(from, datagram); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	n, last := 0, false
	for pause := lab.FirstPause; n == 0; pause = min(2*pause, time.Second) {
		var err error
		if n, err = unix.Poll([]unix.PollFd{{Fd: int32(to), Events: unix.POLLIN}}, int(pause.Milliseconds())); err != nil && err != unix.EINTR {
			return err
		}
		if n == 0 && last {
			return errNoAnswer
		}
		last = n == 0 && giveUp() // what came before that is still read
	}
	buf := make([]byte, 1<<16)
	n, err := unix.Read(to, buf)
	switch {
	case err != nil:
		return fmt.Errorf("receive: %w", err)
	case !bytes.Equal(buf[:n], datagram):
		return fmt.Errorf("%d bytes arrive, other ones than the %d that were sent", n, len(datagram))
	}
	return nil
}

// TestInteropMatrix: datagrams of all sizes pass in both directions between the embedded
// stack and the kernel with every algorithm that both have, in tunnel and transport mode,
// over IPv4 and IPv6. No optional setting of the kernel is used.
func TestInteropMatrix(t *testing.T) {
	need(t, "root", "tun", "esp")
	ours, kernel := interopHosts(t)
	all := lanes()
	var forUs, forKernel []string
	for _, l := range all {
		forUs = append(forUs, l.ours(ours, kernel)...)
		forKernel = append(forKernel, l.kernel(ours, kernel)...)
	}
	file := filepath.Join(t.TempDir(), "batch")
	if err := os.WriteFile(file, []byte(strings.Join(forUs, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := ipsecHere(os.Getenv("IPSEC_RUNDIR"), "batch", file); err != nil {
		t.Fatal(err)
	}
	mustRun(t, kernel.Host, strings.Join(forKernel, "\n")+"\n", "ip -batch -")
	t.Logf("%d lanes are set up in %v", len(all), time.Since(start))
	start = time.Now()
	sent := 0
	giveUp := func() bool { return lab.Idle(ours.Host, kernel.Host) }
	for _, l := range all {
		t.Run(l.name, func(t *testing.T) {
			var ends [2]int
			for i, way := range [2][2]*side{{ours, kernel}, {kernel, ours}} {
				fd, err := l.socket(way[0], way[1])
				if err != nil {
					t.Fatal(err)
				}
				defer unix.Close(fd)
				ends[i] = fd
			}
			for _, size := range laneSizes {
				for i, from := range [...]*side{ours, kernel} {
					datagram := make([]byte, size)
					for j := range datagram {
						datagram[j] = byte(j*j/7 + j + size + l.n + i)
					}
					if err := carry(ends[i], ends[1-i], datagram, giveUp); err != nil {
						t.Errorf("%s sends %d bytes: %v", from.Name, size, err)
					}
					sent++
				}
			}
		})
	}
	t.Logf("%d datagrams in %v", sent, time.Since(start))
}

// TestMatrix: the matrix has all algorithms that the kernel has too.
func TestMatrix(t *testing.T) {
	var text strings.Builder
	for _, l := range lanes() {
		for _, x := range l.xforms {
			fmt.Fprintln(&text, x.kernel)
		}
	}
	for _, a := range alg.Auths() {
		if r, _ := a.Info(); r.Kernel != "" && !strings.Contains(text.String(), fmt.Sprintf("auth-trunc %s %s %d", r.Kernel, testKey(r.KeyBits[0]), 8*r.ICV)) {
			t.Errorf("no lane for %v", a)
		}
	}
	for _, e := range alg.Encs() {
		r, _ := e.Info()
		for _, bits := range r.KeyBits {
			key := testKey(bits)
			if bits == 0 {
				key = `""`
			}
			if r.Kernel != "" && !strings.Contains(text.String(), r.Kernel+" "+key) {
				t.Errorf("no lane for %v with %d bits", e, bits)
			}
		}
	}
	for _, c := range alg.Comps() {
		if r, _ := c.Info(); r.Kernel != "" && !strings.Contains(text.String(), "comp "+r.Kernel) {
			t.Errorf("no lane for %v", c)
		}
	}
}
