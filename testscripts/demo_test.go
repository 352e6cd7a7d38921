package testscripts

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/marks"
	"github.com/klips-go/ipsec/testscripts/lab"
)

// buildDemo builds the demonstration and the tool in a directory that all users may
// read.
func buildDemo(t *testing.T) (demo, ipsec string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "demo")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := buildStatic("build", "-o", dir+"/", "../cmd/ipsec", "./demo"); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "demo"), filepath.Join(dir, "ipsec")
}

func TestDemo(t *testing.T) {
	need(t, "root", "tun")
	demo, ipsec := buildDemo(t)
	before, _ := os.ReadDir(marks.DefaultDir) // it need not be there
	out, err := exec.Command(demo, "-ipsec", ipsec).CombinedOutput()
	checkDemo(t, string(out), err)
	if after, _ := os.ReadDir(marks.DefaultDir); len(after) != len(before) {
		t.Errorf("the demonstration leaves sequence marks: %v", after)
	}

	t.Run("user", func(t *testing.T) {
		need(t, "userns")
		h, err := lab.NewHost("machine", lab.Bind(tunForAll(t), "/dev/net/tun"))
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		cmd := asNobody(demo, "-ipsec", ipsec)
		text, err := h.Output(cmd)
		checkDemo(t, text, err)
	})
	t.Run("no tun", func(t *testing.T) {
		need(t, "userns")
		empty := filepath.Join(t.TempDir(), "tun")
		if err := os.WriteFile(empty, nil, 0); err != nil {
			t.Fatal(err)
		}
		h, err := lab.NewHost("machine", lab.Bind(empty, "/dev/net/tun"))
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		text, err := h.Output(asNobody(demo, "-ipsec", ipsec))
		if err == nil || strings.Count(text, "\n") != 1 || !strings.Contains(text, "/dev/net/tun") {
			t.Errorf("demo without TUN devices: %v, %q, want one line about /dev/net/tun", err, text)
		}
	})
	t.Run("broken tool", func(t *testing.T) {
		text, err := exec.Command(demo, "-ipsec", "/bin/true").CombinedOutput()
		if err == nil {
			t.Errorf("the demonstration of a tool that does nothing succeeds:\n%s", text)
		}
	})
	t.Run("interrupt", func(t *testing.T) { interruptDemo(t, demo, ipsec) })
}

func checkDemo(t *testing.T, out string, err error) {
	t.Helper()
	want := []string{
		"# ipsec spigrp inet gw2 0x113 tun inet gw2 0x115 esp inet gw2 0x116 ah\n",
		"\n    192.0.2.1 > 192.0.2.2 AH(spi=0x116,seq=1) ESP(spi=0x115,seq=1) len=",
		"holds IP-in-IP: 10.1.0.1 > 10.2.0.1 ICMP echo request seq=1",
		"each AH around ESP around IP-in-IP, none clear.\n",
		"# ipsec up --config net.conf net\n",
		"each ESP, none clear.\n",
	}
	for _, w := range want {
		if !strings.Contains(out, w) {
			err = errors.Join(err, errors.New("no "+w))
		}
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// interruptDemo interrupts the demonstration in the middle: it must end with an error
// and leave no daemons or files.
func interruptDemo(t *testing.T, demo, ipsec string) {
	tmp := t.TempDir()
	cmd := exec.Command(demo, "-ipsec", ipsec)
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var seen []byte
	for buf := make([]byte, 4096); !bytes.Contains(seen, []byte("spigrp inet gw2")); {
		n, err := pipe.Read(buf)
		if err != nil {
			t.Fatalf("the demonstration ended early: %v\n%s%s", err, seen, &stderr)
		}
		seen = append(seen, buf[:n]...)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		var rest bytes.Buffer
		rest.ReadFrom(pipe)
		done <- cmd.Wait()
	}()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(stderr.String(), "interrupted") {
			t.Errorf("after an interrupt: %v, %q", err, &stderr)
		}
	case <-time.After(time.Minute):
		cmd.Process.Kill()
		t.Fatal("does not end")
	}
	if left, _ := os.ReadDir(tmp); len(left) > 0 {
		t.Errorf("%v is left behind", left)
	}
	exes, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, exe := range exes {
		if path, _ := os.Readlink(exe); path == ipsec {
			t.Errorf("a daemon is left behind: %s", exe)
		}
	}
}

// tunForAll creates a TUN device node that all users may open, as on most
// distributions.
func tunForAll(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tun")
	if err := unix.Mknod(path, unix.S_IFCHR, int(unix.Mkdev(10, 200))); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// asNobody returns a command that runs as an ordinary user.
func asNobody(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, Pdeathsig: syscall.SIGKILL}
	return cmd
}
