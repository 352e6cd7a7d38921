package testscripts

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/klips/classic/classictest"
	klipsmodule "github.com/klips-go/ipsec/klips/classic/classictest/module"
	"github.com/klips-go/ipsec/testscripts/lab"
)

// TestOnKLIPS: the commands that explain answer about the classic module. A double stands for
// it: tables, a PF_KEY socket, and a device of a namespace in place of its own.
func TestOnKLIPS(t *testing.T) {
	need(t, "root", "ip")
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	gw1, gw2 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	k := classictest.NewKernel(t, gw1)
	k.Module(func(m *klipsmodule.Module) {
		if errno := m.Attach("ipsec0", "eth0"); errno != 0 {
			t.Fatal(errno)
		}
	})
	for name, value := range map[string]string{
		"IPSEC_STACK": "klips", "IPSEC_PFKEY_SOCKET": k.Socket, "IPSEC_PROC_NET": k.ProcNet, "IPSEC_PROC_SYS": k.ProcSys,
		"IPSEC_STATEDIR": t.TempDir(), "IPSEC_RUNDIR": t.TempDir(),
	} {
		t.Setenv(name, value)
	}
	var hosts [2]*lab.Host
	for i, name := range []string{"klips", "peer"} {
		h, err := lab.NewHost(name)
		check(err)
		t.Cleanup(func() { h.Close() })
		hosts[i] = h
	}
	h := hosts[0]
	check(lab.Cable(h, "eth0", hosts[1], "eth0"))
	check(lab.Cable(h, "ipsec0", hosts[1], "ipsec0"))
	mustRun(t, h, "", "ip link set ipsec0 arp off") // as that of KLIPS
	check(h.AddAddr("eth0", netip.MustParsePrefix("192.0.2.1/24")))
	check(h.AddAddr("lo", netip.MustParsePrefix("10.1.0.1/32")))

	// answer runs a command, and checks that its output has the lines.
	answer := func(line string, status int, lines ...string) string {
		t.Helper()
		f := strings.Fields(line)
		cmd := exec.Command(f[0], f[1:]...)
		out, err := h.Output(cmd)
		if cmd.ProcessState == nil {
			t.Fatalf("%s: %v", line, err)
		}
		if got := cmd.ProcessState.ExitCode(); got != status {
			t.Errorf("%s: status %d, want %d: %v\n%s", line, got, status, err, out)
		}
		for _, want := range lines {
			if !regexp.MustCompile("(?m)" + want).MatchString(out) {
				t.Errorf("%s: no line %s in\n%s", line, want, out)
			}
		}
		if strings.Contains(out, "01020304") || strings.Contains(out, "11121314") {
			t.Errorf("%s shows a key:\n%s", line, out)
		}
		return out
	}
	trace := "ipsec trace 10.1.0.1 10.2.0.1"
	answer(trace, 4, `^dropped: .*: the kernel has no route to 10\.2\.0\.1 `)
	check(h.AddRoute(lab.Route{Dst: netip.MustParsePrefix("10.2.0.0/24"), Dev: "ipsec0", Src: netip.MustParseAddr("10.1.0.1")}))
	answer(trace, 4, `^dropped: .*: it is routed into ipsec0, and no eroute takes it \[no-eroute\]$`)
	for _, pair := range [][2]netip.Addr{{gw1, gw2}, {gw2, gw1}} {
		src, dst := pair[0].String(), pair[1].String()
		mustRun(t, h, "",
			"ipsec spi --said tun0x101@"+dst+" --ip4 --src "+src+" --dst "+dst,
			"ipsec spi --said esp0x102@"+dst+" --src "+src+" --esp aes128-sha1 --replay_window 64 --enckey 0x0102030405060708090a0b0c0d0e0f10 --authkey 0x1112131415161718191a1b1c1d1e1f2021222324",
			"ipsec spigrp --said tun0x101@"+dst+" esp0x102@"+dst)
	}
	mustRun(t, h, "", "ipsec eroute --add --src 10.1.0.0/24 --dst 10.2.0.0/24 --said tun0x101@192.0.2.2")
	answer(trace, 0, `^protected: .*: it goes to 192\.0\.2\.2 through tun0x101@192\.0\.2\.2, esp0x102@192\.0\.2\.2$`, `^  size .* fit into the MTU 1500 of the way`)
	answer("ipsec mtu 10.2.0.1", 0, `^packets from 10\.1\.0\.1 to 10\.2\.0\.1 go through tun0x101@192\.0\.2\.2 esp0x102@192\.0\.2\.2`, `^the longest packet without fragments has 1438 bytes`)
	answer("ipsec why", 0, `^no packet was dropped; ipsec trace shows what happens to one$`)
	answer("ipsec metrics", 0, `^ipsec_sa_info\{said="esp0x102@192\.0\.2\.1",direction="in"`, `^# EOF$`)
	answer("ipsec export ip-xfrm", 0, `^xfrm state add src 192\.0\.2\.1 dst 192\.0\.2\.2 proto esp spi 0x00000102 `)
	answer("ipsec algs aes", 0, `aes`)
	answer("ipsec verify", 0, `^ok +stack: klips, `)
	answer("ipsec barf", 0, `esp0x102@192\.0\.2\.1`)

	// The module has counted errors of the inbound SA.
	table := filepath.Join(k.ProcNet, "ipsec_spi")
	text, err := os.ReadFile(table)
	check(err)
	line := regexp.MustCompile(`(?m)^esp0x102@192\.0\.2\.1 .*$`).FindString(string(text))
	if line == "" {
		t.Fatalf("no SA in\n%s", text)
	}
	check(os.WriteFile(table, []byte(strings.Replace(string(text), line, strings.Replace(line, " eklen=", " auth_errs=3 eklen=", 1), 1)), 0o600))
	answer("ipsec why", 0, `^bad-icv: 3 packets: esp0x102@192\.0\.2\.1: the integrity check failed`)
	check(os.WriteFile(table, text, 0o600))

	// A monitor reports what changes, and a capture what is routed into the device.
	until := func(line, want string, event func()) {
		t.Helper()
		f := strings.Fields(line)
		cmd := exec.Command(f[0], f[1:]...)
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		check(h.Start(cmd))
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		var err error
		if lab.Await(func() bool {
			event()
			select {
			case err = <-ended:
				return true
			default:
				return false
			}
		}) != nil {
			_ = cmd.Process.Kill()
			<-ended
			t.Fatalf("%s: it has not ended within a minute:\n%s", line, &out)
		}
		if err != nil || !regexp.MustCompile("(?m)"+want).MatchString(out.String()) {
			t.Errorf("%s: %v, no line %s in\n%s", line, err, want, &out)
		}
	}
	until("ipsec monitor --only sa-removed --count 1", `sa-removed esp0x300@192\.0\.2\.2$`, func() {
		mustRun(t, h, "", "ipsec spi --said esp0x300@192.0.2.2 --src 192.0.2.1 --esp aes128-sha1 --enckey 0x0102030405060708090a0b0c0d0e0f10 --authkey 0x1112131415161718191a1b1c1d1e1f2021222324",
			"ipsec spi --said esp0x300@192.0.2.2 --del")
	})
	until("ipsec capture --count 1 --dst 10.2.0.1", `ipsec0 out 10\.1\.0\.1:\d+ -> 10\.2\.0\.1:9 udp 33 bytes: eroute .*; group tun0x101@192\.0\.2\.2, esp0x102@192\.0\.2\.2$`, func() {
		if err := h.Do(func() error {
			c, err := net.Dial("udp", "10.2.0.1:9")
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write([]byte("hello"))
			return err
		}); err != nil {
			t.Fatal(err)
		}
	})
}
