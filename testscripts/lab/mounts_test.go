package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inChroot marks the process that TestChroot starts.
const inChroot = "LAB_TEST_CHROOT"

// TestChroot: hosts have their own mounts also in a plain chroot, whose root is not a
// mount point, and a file can be bound to a new name. None of this is visible outside,
// although the mount of the root is shared.
func TestChroot(t *testing.T) {
	if os.Getenv(inChroot) != "" {
		h, err := NewHost("inside", Bind("/names", "/etc/hosts"), Tmpfs("/run"))
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		if err := h.Do(func() error {
			for _, file := range []string{"/etc/hosts", "/etc/other", "/etc/folder/file", "/etc/link"} {
				text, err := os.ReadFile(file)
				if err != nil {
					return err
				}
				fmt.Printf("%s: %s\n", file, text)
			}
			left, err := os.ReadDir("/run")
			fmt.Println("/run:", left)
			return err
		}); err != nil {
			t.Error(err)
		}
		return
	}
	pair(t) // skips if hosts cannot be created
	self := filepath.Join(t.TempDir(), "self")
	build := exec.Command("go", "test", "-c", "-o", self, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // the chroot has no C library
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	h, err := NewHost("outside", Private())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	base := t.TempDir()
	root := filepath.Join(base, "root")
	var mounts []byte
	err = h.Do(func() error {
		if err := mountTmpfs(base); err != nil {
			return err
		}
		if err := unix.Mount("", base, "", unix.MS_SHARED, ""); err != nil {
			return err
		}
		for _, dir := range []string{"proc", "tmp", "run/full", "etc/folder"} {
			if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
				return err
			}
		}
		for name, text := range map[string]string{"names": "10.0.0.2 gw2", "etc/other": "kept", "etc/folder/file": "kept too", "self": string(program)} {
			if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o755); err != nil {
				return err
			}
		}
		if err := os.Symlink("other", filepath.Join(root, "etc/link")); err != nil {
			return err
		}
		return unix.Mount("proc", filepath.Join(root, "proc"), "proc", 0, "")
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/self", "-test.run=^TestChroot$")
	cmd.Dir = "/"
	cmd.Env = []string{inChroot + "=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Pdeathsig: syscall.SIGKILL}
	out, err := h.Output(cmd)
	const want = "/etc/hosts: 10.0.0.2 gw2\n/etc/other: kept\n/etc/folder/file: kept too\n/etc/link: kept\n/run: []\n"
	if err != nil || !strings.HasPrefix(out, want) {
		t.Errorf("in the chroot: %v, %q, want %q", err, out, want)
	}
	if err := h.Do(func() (err error) { mounts, err = os.ReadFile("/proc/thread-self/mountinfo"); return err }); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(mounts), root+"/"); n != 1 {
		t.Errorf("%d mounts are seen in the folder of the chroot, want that of proc:\n%s", n, mounts)
	}
}
