package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// PrivateMounts gives the calling thread, which must be locked, its own mounts: other
// threads do not see what it mounts. The thread must never be unlocked again.
func PrivateMounts() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("new mount namespace: %w", err)
	}
	err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	if errors.Is(err, unix.EINVAL) {
		err = leaveChroot()
	}
	if err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	return nil
}

// leaveChroot is for a thread whose root is not a mount point, as after a plain
// chroot(8). The mount of its root has no name inside and cannot be made private, so
// mounts there may be visible outside. A private copy of the whole tree becomes the
// root instead. The copy is mounted on a folder of /proc, which is a mount of its own
// on all systems.
func leaveChroot() error {
	const copied = "/proc/fs"
	if err := unix.Mount("", "/proc", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("/proc: %w", err)
	}
	if err := unix.Mount("/", copied, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind / on %s: %w", copied, err)
	}
	if err := unix.Mount("", copied, "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("%s: %w", copied, err)
	}
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	if err := unix.Chroot(copied); err != nil {
		return err
	}
	return unix.Chdir(dir) // the same folder, under the new root
}

// BindFile makes the file src visible at dst, which need not exist; its folder
// must. Call it only after PrivateMounts.
func BindFile(src, dst string) error {
	if _, err := os.Stat(dst); errors.Is(err, fs.ErrNotExist) {
		if err := makeFile(dst); err != nil {
			return fmt.Errorf("bind %s on %s: %w", src, dst, err)
		}
	}
	if err := unix.Mount(src, dst, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s on %s: %w", src, dst, err)
	}
	return nil
}

// makeFile makes an empty file that only this mount namespace sees: it mounts a tmpfs
// on the folder of the file, and binds all files of the folder into the tmpfs.
func makeFile(path string) error {
	dir := filepath.Dir(path)
	old, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer old.Close()
	entries, err := old.ReadDir(-1)
	if err != nil {
		return err
	}
	if err := mountTmpfs(dir); err != nil {
		return err
	}
	for _, e := range entries {
		from, to := fmt.Sprintf("/proc/self/fd/%d/%s", old.Fd(), e.Name()), filepath.Join(dir, e.Name())
		if e.Type()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(from)
			if err == nil {
				err = os.Symlink(target, to)
			}
			if err != nil {
				return err
			}
			continue
		}
		if e.IsDir() {
			err = os.Mkdir(to, 0o755)
		} else {
			err = os.WriteFile(to, nil, 0o644)
		}
		if err == nil {
			err = unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, "")
		}
		if err != nil {
			return err
		}
	}
	return os.WriteFile(path, nil, 0o644)
}

func mountTmpfs(dir string) error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("tmpfs on %s: %w", dir, err)
	}
	return nil
}
