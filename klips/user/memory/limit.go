// Package memory finds out how much memory this process may use, and limits it to that:
// a daemon without memory is killed, and all its tunnels stop.
package memory

import (
	"bufio"
	"bytes"
	"math"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Limit returns how many bytes of memory this process may use: the minimum of the
// limits of its control groups and their parents, its resource limits, and the
// machine's memory. root is "/", or a directory with proc and sys for tests. Unreadable
// limits are ignored; math.MaxUint64 means no limit.
func Limit(root string) uint64 {
	limit := min(groupLimit(root), total(root))
	for _, r := range []int{unix.RLIMIT_AS, unix.RLIMIT_DATA} {
		var l unix.Rlimit
		if unix.Getrlimit(r, &l) == nil {
			limit = min(limit, l.Cur) // RLIM_INFINITY is the largest number
		}
	}
	return limit
}

// total returns the memory of the machine (proc_meminfo(5)).
func total(root string) uint64 {
	limit := uint64(math.MaxUint64)
	eachLine(filepath.Join(root, "proc/meminfo"), func(line string) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "MemTotal:" {
			return
		}
		if kib, err := strconv.ParseUint(f[1], 10, 54); err == nil {
			limit = kib << 10
		}
	})
	return limit
}

// groupLimit returns the lowest limit of this process's control groups and their
// parents.
func groupLimit(root string) uint64 {
	limit := uint64(math.MaxUint64)
	mounts := groupMounts(root)
	eachLine(filepath.Join(root, "proc/self/cgroup"), func(line string) {
		// ID, controllers, path (cgroups(7)); version 2 has ID 0 and no controllers.
		f := strings.SplitN(line, ":", 3)
		if len(f) != 3 {
			return
		}
		m, file := mounts.v1, "memory.limit_in_bytes"
		switch {
		case f[0] == "0" && f[1] == "":
			m, file = mounts.v2, "memory.max"
		case !hasWord(f[1], "memory"):
			return
		}
		if m.point == "" {
			return
		}
		for dir := m.relative(f[2]); ; dir = path.Dir(dir) {
			limit = min(limit, readLimit(filepath.Join(root, m.point, dir, file)))
			if dir == "/" {
				return
			}
		}
	})
	return limit
}

// readLimit reads a limit in bytes. The word max, and a number that is too large, mean
// no limit.
func readLimit(file string) uint64 {
	b, err := os.ReadFile(file)
	if err != nil {
		return math.MaxUint64
	}
	n, err := strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 64)
	if err != nil {
		return math.MaxUint64
	}
	return n
}

// A groupMount is the mount of a control group hierarchy. In a container it may show
// only the part of the tree below top.
type groupMount struct{ point, top string }

// relative returns the path of a group below the mount.
func (m groupMount) relative(group string) string {
	group = path.Clean("/" + group)
	if rest, ok := strings.CutPrefix(group, m.top); ok && (m.top == "/" || rest == "" || rest[0] == '/') {
		return path.Clean("/" + rest)
	}
	return "/" // outside the visible part: the top is the nearest
}

// groupMounts finds the mounts of control groups version 2, and of version 1 for memory
// (proc_pid_mountinfo(5)).
func groupMounts(root string) (m struct{ v1, v2 groupMount }) {
	eachLine(filepath.Join(root, "proc/self/mountinfo"), func(line string) {
		own, fs, ok := strings.Cut(line, " - ")
		f, g := strings.Fields(own), strings.Fields(fs)
		if !ok || len(f) < 5 || len(g) < 3 {
			return
		}
		mount := groupMount{point: f[4], top: path.Clean("/" + f[3])}
		switch {
		case g[0] == "cgroup2":
			m.v2 = mount
		case g[0] == "cgroup" && hasWord(g[2], "memory"):
			m.v1 = mount
		}
	})
	return m
}

func hasWord(list, word string) bool {
	for w := range strings.SplitSeq(list, ",") {
		if w == word {
			return true
		}
	}
	return false
}

func eachLine(file string, f func(line string)) {
	b, err := os.Open(file)
	if err != nil {
		return
	}
	defer b.Close()
	for s := bufio.NewScanner(b); s.Scan(); {
		f(s.Text())
	}
}
