package marks

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/internal/netns"
)

// DefaultDir is the directory of the marks of the machine's first network namespace.
const DefaultDir = "/var/lib/ipsec"

// Here returns the default directory of the marks of this network namespace:
// [DefaultDir] in that of process 1, and netns-<inode> below it in any other.
func Here() string { return netns.Dir(DefaultDir) }

// Give makes a directory for marks, if it does not exist, and opens it for [OpenIn] in a
// process of the embedded stack's daemon, which has the user uid and the group gid. If
// root calls it, it gives the directory and its files to that user; a command of root
// can still use them. The errors are those of [Open].
func Give(path string, uid, gid uint32) (*os.File, error) {
	d, err := makeDir(path)
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() == 0 && takeBack(path, uid) {
		d, err = makeDir(path)
	}
	if err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 {
		if err := d.chown(uid, gid); err != nil {
			d.f.Close()
			return nil, err
		}
	}
	return d.f, nil
}

// takeBack makes root the owner of a directory that Give has given to a user, and reports
// whether it was one. Root cannot open it otherwise if it lacks CAP_DAC_OVERRIDE, as in a
// service (capabilities(7)).
func takeBack(path string, uid uint32) bool {
	fd, err := unix.Open(filepath.Clean(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Uid == uid && unix.Fchownat(fd, "", 0, 0, unix.AT_EMPTY_PATH) == nil
}

// chown changes the owner of the directory and its files.
func (d *dir) chown(uid, gid uint32) error {
	for _, name := range []string{marksFile, newFile, damagedFile, lockFile, "."} {
		if err := d.chownFile(name, uid, gid); err != nil && err != unix.ENOENT {
			return &fs.PathError{Op: "chown", Path: filepath.Join(d.path, name), Err: err}
		}
	}
	return nil
}

// chownFile changes the owner of one file. A file with another name elsewhere keeps its
// owner: the owner of the directory may have linked it to get it.
func (d *dir) chownFile(name string, uid, gid uint32) error {
	fd, err := unix.Openat(int(d.f.Fd()), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	switch err := unix.Fstat(fd, &st); {
	case err != nil:
		return err
	case st.Uid == uid && st.Gid == gid:
		return nil // it needs no right
	case st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink != 1:
		return unix.EMLINK
	}
	return unix.Fchownat(fd, "", int(uid), int(gid), unix.AT_EMPTY_PATH)
}
