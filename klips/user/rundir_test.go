package user

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
)

// runDir makes a directory that can be a run directory, whatever the umask.
func runDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "run")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestRundir(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	longest := "/" + strings.Repeat("x", 107-len("/")-len("/pfkey.sock"))
	relative := strings.Repeat("x", 107-len(dir)-len("/")-len("/pfkey.sock"))
	for _, tt := range []struct{ set, want string }{
		{"/a/b", "/a/b"},
		{"/a//b/../c/", "/a/c"},
		{"rel", dir + "/rel"},
		{"./rel/", dir + "/rel"},
		{"..", filepath.Dir(dir)},
		{longest, longest},
		{relative, filepath.Join(dir, relative)},
	} {
		if got, err := Rundir(tt.set); got != tt.want || err != nil {
			t.Errorf("Rundir(%q) = %q, %v, want %q", tt.set, got, err, tt.want)
		}
	}
	for _, set := range []string{longest + "x", relative + "x", strings.Repeat("/long", 1000)} {
		_, err := Rundir(set)
		var e *RundirError
		if !errors.As(err, &e) || !errors.Is(err, syscall.ENAMETOOLONG) {
			t.Fatalf("Rundir of %d bytes = %v, want ENAMETOOLONG", len(set), err)
		}
		abs, _ := filepath.Abs(set)
		if e.Fault != klips.FaultRundirLong {
			t.Errorf("Rundir of %d bytes: fault %v", len(set), e.Fault)
		}
		for _, word := range []string{strconv.Itoa(len(abs)) + " bytes", "at most 96 ", abs} {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("Rundir of %d bytes: %v; want %q in it", len(set), err, word)
			}
		}
	}
	own, err := Rundir("")
	if err != nil || own != DefaultRundir && !strings.HasPrefix(own, DefaultRundir+"/netns-") {
		t.Errorf("Rundir() = %q, %v", own, err)
	}
}

// A relative path needs a working directory.
func TestRundirNowhere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PWD", "")
	var e *RundirError
	if _, err := Rundir("rel"); !errors.As(err, &e) || e.Fault != klips.FaultRundirRelative {
		t.Errorf("Rundir = %v, want %v", err, klips.FaultRundirRelative)
	}
	if got, err := Rundir("/abs"); got != "/abs" || err != nil {
		t.Errorf("Rundir(/abs) = %q, %v", got, err)
	}
}

func TestRundirErrorIsOneLine(t *testing.T) {
	e := &RundirError{Path: "/a\nb\x1b[2J", Why: "it is not a directory"}
	if got, want := e.Error(), `"/a\nb\x1b[2J": it is not a directory`; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
}

// Bad directories: none is opened, made or dialed, and the error has the reason.
func TestBadDirectories(t *testing.T) {
	top := t.TempDir()
	in := func(name string) string { return filepath.Join(top, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	mkdir := func(name string, mode os.FileMode) {
		t.Helper()
		must(os.Mkdir(in(name), 0o700))
		must(os.Chmod(in(name), mode))
	}
	mkdir("good", 0o755)
	mkdir("group", 0o770)
	mkdir("others", 0o702)
	mkdir("sticky", os.ModeSticky|0o777)
	must(os.WriteFile(in("file"), nil, 0o600))
	must(os.Symlink("good", in("link")))
	must(os.Symlink("nowhere", in("dangling")))
	bad := []struct {
		path  string
		fault klips.Fault
		word  string // in the error text
		is    error
	}{
		{in("group"), klips.FaultRundirMode, "0770", fs.ErrPermission},
		{in("others"), klips.FaultRundirMode, "0702", fs.ErrPermission},
		{in("sticky"), klips.FaultRundirShared, "1777", fs.ErrPermission},
		{in("file"), klips.FaultRundirKind, "", syscall.ENOTDIR},
		{in("link"), klips.FaultRundirLink, "", syscall.ELOOP},
		{in("link") + "/", klips.FaultRundirLink, "", syscall.ELOOP},
		{in("dangling"), klips.FaultRundirLink, "", syscall.ELOOP},
		{"/" + strings.Repeat("x", 100), klips.FaultRundirLong, "101 bytes", syscall.ENAMETOOLONG},
	}
	if os.Geteuid() == 0 {
		mkdir("foreign", 0o700)
		if err := os.Chown(in("foreign"), 4711, 4711); err == nil { // not in a user namespace
			bad = append(bad, struct {
				path  string
				fault klips.Fault
				word  string
				is    error
			}{in("foreign"), klips.FaultRundirOwner, "uid 4711", fs.ErrPermission})
		}
	}
	for _, tt := range bad {
		_, openErr := OpenDir(tt.path)
		_, makeErr := MakeDir(tt.path)
		_, lockErr := LockDir(t.Context(), tt.path, true)
		_, dialErr := Dial(SocketPath(tt.path))
		for f, err := range map[string]error{"OpenDir": openErr, "MakeDir": makeErr, "LockDir": lockErr, "Dial": dialErr} {
			var e *RundirError
			if !errors.As(err, &e) || e.Fault != tt.fault || !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.word) {
				t.Errorf("%s(%s) = %v, want %v, %q and %v", f, tt.path, err, tt.fault, tt.word, tt.is)
			}
		}
	}
	if _, err := os.Lstat(in("nowhere")); err == nil {
		t.Error("a directory was made where a link leads")
	}

	// A part of the path is a file.
	var e *RundirError
	if _, err := MakeDir(in("file/run")); !errors.As(err, &e) || e.Path != in("file") {
		t.Errorf("MakeDir below a file = %v, want words about the file", err)
	}
	// A missing directory is not a fault.
	for _, path := range []string{in("none"), in("none/run")} {
		if _, err := OpenDir(path); !errors.Is(err, fs.ErrNotExist) || errors.As(err, &e) {
			t.Errorf("OpenDir(%s) = %v, want %v", path, err, fs.ErrNotExist)
		}
		if _, err := Dial(SocketPath(path)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Dial(%s) = %v, want %v", path, err, fs.ErrNotExist)
		}
	}
	// A dangling path does not make LockDir loop for ever.
	if _, err := LockDir(t.Context(), in("dangling/run"), true); err == nil {
		t.Error("LockDir opened a directory behind a link to nowhere")
	}
	d, err := MakeDir(in("new/run"))
	must(err)
	defer d.Close()
	if fi, err := os.Stat(in("new/run")); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("MakeDir made mode %v, %v, want 0700", fi.Mode(), err)
	}
}

// Files of a run directory that have the wrong type.
func TestBadFiles(t *testing.T) {
	victim := filepath.Join(t.TempDir(), "victim")
	const text = "keep me\n"
	for _, tt := range []struct {
		name, word string
		put        func(path string) error
	}{
		{"link", "it is a symbolic link", func(p string) error { return os.Symlink(victim, p) }},
		{"pipe", "it is not a ", func(p string) error { return unix.Mkfifo(p, 0o600) }},
		{"directory", "it is not a ", func(p string) error { return os.Mkdir(p, 0o700) }},
	} {
		if err := os.WriteFile(victim, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{socketFile, heldFile, lockFile, logFile, turnFile} {
			path := runDir(t)
			if err := tt.put(filepath.Join(path, file)); err != nil {
				t.Fatal(err)
			}
			d, err := OpenDir(path)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			errs := map[string]error{}
			switch file {
			case socketFile:
				_, errs["Dial"] = Dial(SocketPath(path))
				_, errs["Listen"] = d.Listen()
			case heldFile:
				_, errs["Dial"] = Dial(HeldPath(path))
				_, errs["ListenHeld"] = d.ListenHeld()
				errs["RemoveHeld"] = d.RemoveHeld()
			case lockFile:
				_, errs["TakeLock"] = d.TakeLock(t.Context())
				_, errs["Holder"] = d.Holder()
				errs["RemoveRest"] = d.RemoveRest()
			case turnFile:
				_, errs["LockDir"] = LockDir(t.Context(), path, true)
			case logFile:
				_, errs["OpenLog"] = d.OpenLog()
			}
			for f, err := range errs {
				var e *RundirError
				if !errors.As(err, &e) || e.Fault != klips.FaultRundirFile || e.Path != filepath.Join(path, file) || !strings.Contains(err.Error(), tt.word) {
					t.Errorf("%s is a %s: %s = %v, want %q", file, tt.name, f, err, tt.word)
				}
			}
			if _, err := os.Lstat(filepath.Join(path, file)); err != nil {
				t.Errorf("%s is a %s: it was removed", file, tt.name)
			}
		}
		if b, err := os.ReadFile(victim); string(b) != text {
			t.Errorf("%s: what the link leads to now is %q, %v", tt.name, b, err)
		}
	}
	// A regular file in the place of the socket.
	path := runDir(t)
	if err := os.WriteFile(SocketPath(path), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(SocketPath(path)); !errors.Is(err, syscall.ENOTSOCK) {
		t.Errorf("Dial of a regular file = %v, want ENOTSOCK", err)
	}
}

// A socket is made in place of one that nobody removed, for its owner only.
func TestListen(t *testing.T) {
	path := runDir(t)
	d, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for socket, listen := range map[string]func() (*net.UnixListener, error){SocketPath(path): d.Listen, HeldPath(path): d.ListenHeld} {
		for range 2 {
			ln, err := listen()
			if err != nil {
				t.Fatal(err)
			}
			if fi, err := os.Lstat(socket); err != nil || fi.Mode().Perm() != 0o600 {
				t.Errorf("%s: mode %v, %v, want 0600", socket, fi.Mode(), err)
			}
			ln.Close()
		}
	}
	d.RemoveFiles(true)
	for range 2 {
		if err := d.RemoveHeld(); err != nil {
			t.Error(err)
		}
	}
	if l, _ := os.ReadDir(path); len(l) != 0 {
		t.Errorf("left: %v", l)
	}
}
