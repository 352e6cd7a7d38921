// Package owner decides which users' files this process trusts.
package owner

import (
	"os"
	"os/user"
	"strconv"
	"sync"
)

// Daemon is the name of the user that the embedded stack's daemon runs as, if the
// machine has that user.
const Daemon = "_ipsec"

// Trusted reports whether this process may trust files of a user: root, its own user,
// or the daemon's.
func Trusted(uid uint32) bool {
	if uid == 0 || uid == uint32(os.Geteuid()) {
		return true
	}
	own, _, ok := IDs()
	return ok && uid == own
}

// IDs returns the user id and the group id of the daemon's user. ok is false if there
// is no such user, or if it is root.
func IDs() (uid, gid uint32, ok bool) {
	ids.once.Do(func() {
		u, err := user.Lookup(Daemon)
		if err != nil {
			return
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		gid, gerr := strconv.ParseUint(u.Gid, 10, 32)
		if err == nil && gerr == nil {
			ids.uid, ids.gid = uint32(uid), uint32(gid)
		}
	})
	return ids.uid, ids.gid, ids.uid != 0
}

// ids are the ids of the daemon's user, 0 until they are needed.
var ids struct {
	once     sync.Once
	uid, gid uint32
}
