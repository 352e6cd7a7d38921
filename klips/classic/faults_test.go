package classic_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/classic"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/procfs"
)

// odd is a kernel that answers each request as a test specifies, on a machine with its
// tables in dir.
type odd struct {
	*classic.Stack
	dir string
}

func oddKernel(t *testing.T, answer func(m *pfkey.Message) []*pfkey.Message) odd {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	ln, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		c, err := ln.AcceptUnix()
		if err != nil {
			return
		}
		defer c.Close()
		buf := make([]byte, pfkey.MaxMessage)
		for {
			n, err := c.Read(buf)
			if err != nil || n == 0 {
				return
			}
			m, err := pfkey.Parse(buf[:n])
			if err != nil {
				t.Error(err)
				return
			}
			for _, a := range answer(m) {
				b, err := a.Marshal()
				if err != nil {
					t.Error(err)
				}
				if _, err := c.Write(b); err != nil {
					return
				}
			}
		}
	}()
	s := classic.New(classic.Machine{ProcNet: dir, Dial: func() (*pfkey.Conn, error) { return pfkey.Dial(path) }})
	s.SetTimeout(time.Minute) // only a test of silence waits so long
	t.Cleanup(func() { s.Close() })
	return odd{s, dir}
}

func tun(spi klips.SPI) klips.SAID {
	return klips.SAID{Dst: netip.MustParseAddr("192.0.2.77"), SPI: spi, Proto: klips.ProtoTun}
}

func TestSilence(t *testing.T) {
	s := oddKernel(t, func(*pfkey.Message) []*pfkey.Message { return nil })
	s.SetTimeout(time.Millisecond)
	err := s.ClearSAs(t.Context())
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "KLIPS does not answer") {
		t.Errorf("ClearSAs = %v, want that KLIPS does not answer", err)
	}
}

func TestOtherAnswers(t *testing.T) {
	var late *pfkey.Message
	s := oddKernel(t, func(m *pfkey.Message) (out []*pfkey.Message) {
		other := pfkey.ErrorReply(m.Header, syscall.ENOENT)
		other.PID++
		if late != nil {
			out = append(out, late, late) // twice, and too late
		}
		late = pfkey.ErrorReply(m.Header, syscall.EEXIST)
		return append(out, other, pfkey.Ack(m.Header))
	})
	for range 3 {
		if err := s.ClearSAs(t.Context()); err != nil {
			t.Errorf("ClearSAs = %v", err)
		}
	}
}

func TestUnavailable(t *testing.T) {
	for _, c := range []struct {
		errno syscall.Errno
		want  klips.Fault
	}{
		{syscall.EAFNOSUPPORT, klips.FaultNoPFKey},
		{syscall.EPERM, klips.FaultPFKeyRights},
		{syscall.EACCES, klips.FaultPFKeyRights},
		{syscall.EPROTONOSUPPORT, klips.FaultPFKeyVersion},
		{syscall.ENOBUFS, klips.FaultPFKeyMemory},
		{syscall.EMFILE, klips.FaultFiles},
		{syscall.ECONNREFUSED, klips.FaultSocketSilent},
		{syscall.EIO, klips.FaultNone},
	} {
		s := classic.New(classic.Machine{ProcNet: t.TempDir(), Dial: func() (*pfkey.Conn, error) { return nil, &net.OpError{Op: "socket", Err: c.errno} }})
		err := s.ClearSAs(t.Context())
		var u *klips.UnavailableError
		if !errors.As(err, &u) || u.Fault != c.want || u.Error() == "" || !errors.Is(err, c.errno) {
			t.Errorf("ClearSAs without a socket (%v) = %v, want %v", c.errno, err, c.want)
		}
	}
}

func TestOpen(t *testing.T) {
	_, err := os.Stat("/proc/net/ipsec_version")
	klipsHere := err == nil
	for _, c := range []struct {
		config classic.Config
		found  bool
	}{{classic.Config{}, klipsHere}, {classic.Config{ProcNet: "/nowhere"}, true}, {classic.Config{PFKeySocket: "/nowhere"}, true}} {
		_, err := classic.Open(c.config)
		var u *klips.UnavailableError
		if c.found != (err == nil) || !c.found && (!errors.As(err, &u) || !errors.Is(err, fs.ErrNotExist)) {
			t.Errorf("Open with %+v = %v", c.config, err)
		}
	}
	_, err = classic.Open(classic.Config{PFKeySocket: "/" + strings.Repeat("x", 107)})
	var u *klips.UnavailableError
	if !errors.As(err, &u) || u.Fault != klips.FaultSocketPath || !errors.Is(err, syscall.ENAMETOOLONG) || !strings.Contains(u.Why, "108 bytes, and at most 107 ") {
		t.Errorf("Open with a long path = %v, want %v with both lengths", err, klips.FaultSocketPath)
	}
}

func TestTables(t *testing.T) {
	s := oddKernel(t, func(*pfkey.Message) []*pfkey.Message { return nil })
	if _, err := s.SAs(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("SAs without a table = %v, want ErrNotExist", err)
	}
	text := "no newline\tat end \x01" + strings.Repeat("x", 5000)
	if err := os.WriteFile(filepath.Join(s.dir, "ipsec_spi"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := s.Table(t.Context(), "ipsec_spi"); err != nil || string(b) != text {
		t.Errorf("Table = %d bytes, %v, want those of the file", len(b), err)
	}
}

func TestIfreq(t *testing.T) {
	b, err := classic.Ifreq(classic.SetDev, "ipsec0", "eth0")
	want := slices.Concat([]byte("ipsec0"), make([]byte, 10), []byte{0xf0, 0x89, 0, 0}, []byte("eth0"), make([]byte, 16))
	if err != nil || !slices.Equal(b, want) {
		t.Errorf("Ifreq = %x, %v, want %x", b, err, want)
	}
	for _, names := range [][2]string{{"ipsec0", "abcdefghijkl"}, {"ipsec01234567890", "eth0"}} {
		if _, err := classic.Ifreq(classic.SetDev, names[0], names[1]); !errors.Is(err, syscall.ENAMETOOLONG) {
			t.Errorf("Ifreq(%q) = %v, want ENAMETOOLONG", names, err)
		}
	}
}

func TestEncapIfreq(t *testing.T) {
	b, err := classic.EncapIfreq("ipsec0", 0x01020304, klips.NATTNonESP)
	want := slices.Concat([]byte("ipsec0"), make([]byte, 10), []byte{4, 3, 2, 1}, []byte{2, 0, 0, 0}, make([]byte, 16))
	if err != nil || !slices.Equal(b, want) {
		t.Errorf("EncapIfreq = %x, %v, want %x", b, err, want)
	}
	if b, err = classic.EncapIfreq("ipsec63", 3, klips.NATTNonIKE); err != nil || b[16] != 3 || b[20] != 1 || string(b[:8]) != "ipsec63\x00" {
		t.Errorf("EncapIfreq = %x, %v", b, err)
	}
	for _, c := range []struct {
		name   string
		socket int
		want   error
	}{{"ipsec01234567890", 3, syscall.ENAMETOOLONG}, {"ipsec0", -1, syscall.EBADF}, {"ipsec0", 1 << 31, syscall.EBADF}} {
		if _, err := classic.EncapIfreq(c.name, c.socket, klips.NATTNonESP); !errors.Is(err, c.want) {
			t.Errorf("EncapIfreq(%q, %d) = %v, want %v", c.name, c.socket, err, c.want)
		}
	}
}

// Here uses the directories that the Config names.
func TestHere(t *testing.T) {
	for _, c := range []struct{ net, sys, wantNet, wantSys string }{
		{"", "", "/proc/net", "/proc/sys/net/ipsec"},
		{"/tables", "", "/tables", ""},
		{"/tables", "/knobs", "/tables", "/knobs"},
		{"", "/knobs", "/proc/net", "/knobs"},
	} {
		config := classic.Config{ProcNet: c.net, ProcSys: c.sys}
		m, err := classic.Here(config)
		if err != nil || m.ProcNet != c.wantNet || m.ProcSys != c.wantSys {
			t.Errorf("Here with %+v = %q, %q, %v", config, m.ProcNet, m.ProcSys, err)
		}
	}
}

// DetachAll may name any existing device.
func TestDetachAll(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "ipsec_tncfg"))
	if err == nil {
		err = errors.Join(procfs.WriteTncfg(f, []klips.Device{{Name: "ipsec3"}}), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	var asked []string
	s := classic.New(classic.Machine{ProcNet: dir, Ioctl: func(_ classic.Request, virtual, _ string) error {
		asked = append(asked, virtual)
		if virtual == "ipsec0" {
			return syscall.ENODEV
		}
		return nil
	}})
	if err := s.DetachAll(t.Context()); err != nil || !slices.Equal(asked, []string{"ipsec0", "ipsec3"}) {
		t.Errorf("DetachAll = %v, asked %v", err, asked)
	}
}
