package marks

import (
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/internal/netns"
	"github.com/klips-go/ipsec/klips/internal/owner"
)

// DefaultDir is the directory of the marks of the machine's first network namespace.
const DefaultDir = "/var/lib/ipsec"

// Here returns the default directory of the marks of this network namespace:
// [DefaultDir] in that of process 1, and netns-<inode> below it in any other.
func Here() string { return netns.Dir(DefaultDir) }

// Give makes a directory for marks, if it does not exist, and opens it for [OpenIn] in a
// process of the embedded stack's daemon. If root calls it, and the machine has a user
// for the daemon, it gives the directory to that user; a command of root can still use
// it. The errors are those of [Open].
func Give(path string) (*os.File, error) {
	d, err := makeDir(path)
	if err != nil {
		return nil, err
	}
	if uid, gid, ok := owner.IDs(); ok && os.Geteuid() == 0 {
		if err := d.chown(int(uid), int(gid)); err != nil {
			d.f.Close()
			return nil, err
		}
	}
	return d.f, nil
}

// chown changes the owner of the directory and its files.
func (d *dir) chown(uid, gid int) error {
	fd := int(d.f.Fd())
	for _, name := range []string{marksFile, newFile, damagedFile, lockFile} {
		err := unix.Fchownat(fd, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil && err != unix.ENOENT {
			return &fs.PathError{Op: "chown", Path: filepath.Join(d.path, name), Err: err}
		}
	}
	if err := unix.Fchown(fd, uid, gid); err != nil {
		return &fs.PathError{Op: "chown", Path: d.path, Err: err}
	}
	return nil
}
