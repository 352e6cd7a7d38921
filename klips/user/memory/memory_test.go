package memory

import (
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
)

const mib = 1 << 20

// tree makes the files of a machine.
func tree(t *testing.T, files map[string]string) (root string) {
	t.Helper()
	root = t.TempDir()
	for name, text := range files {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const (
	meminfo = "MemTotal:        8388608 kB\nMemFree: 1 kB\n"
	mounts2 = "25 20 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
	mounts1 = "34 30 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n33 30 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
)

func TestLimit(t *testing.T) {
	for _, tt := range []struct {
		what  string
		files map[string]string
		want  uint64
	}{
		{"nothing can be read", nil, math.MaxUint64},
		{"the machine", map[string]string{"proc/meminfo": meminfo}, 8192 * mib},
		{"no number", map[string]string{"proc/meminfo": "MemTotal: many kB\n"}, math.MaxUint64},
		{"version 2", map[string]string{
			"proc/meminfo": meminfo, "proc/self/mountinfo": mounts2, "proc/self/cgroup": "0::/a/b\n",
			"sys/fs/cgroup/a/b/memory.max": "67108864\n", "sys/fs/cgroup/a/memory.max": "max\n",
		}, 64 * mib},
		{"version 2, a parent", map[string]string{
			"proc/meminfo": meminfo, "proc/self/mountinfo": mounts2, "proc/self/cgroup": "0::/a/b\n",
			"sys/fs/cgroup/a/b/memory.max": "67108864\n", "sys/fs/cgroup/a/memory.max": "33554432\n",
		}, 32 * mib},
		{"version 2, above the machine", map[string]string{
			"proc/meminfo": meminfo, "proc/self/mountinfo": mounts2, "proc/self/cgroup": "0::/\n",
			"sys/fs/cgroup/memory.max": "1099511627776\n",
		}, 8192 * mib},
		{"version 2 in a container that sees only its own", map[string]string{
			"proc/self/mountinfo": "25 20 0:22 /docker/x /sys/fs/cgroup ro - cgroup2 cgroup rw\n", "proc/self/cgroup": "0::/docker/x/y\n",
			"sys/fs/cgroup/y/memory.max": "max\n", "sys/fs/cgroup/memory.max": "67108864\n",
		}, 64 * mib},
		{"version 2 outside of what is mounted", map[string]string{
			"proc/self/mountinfo": "25 20 0:22 /docker/x /sys/fs/cgroup ro - cgroup2 cgroup rw\n", "proc/self/cgroup": "0::/docker/xy\n",
			"sys/fs/cgroup/memory.max": "67108864\n",
		}, 64 * mib},
		{"version 1", map[string]string{
			"proc/self/mountinfo": mounts1, "proc/self/cgroup": "5:cpu,cpuacct:/c\n4:memory:/a\n",
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "67108864\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
			"sys/fs/cgroup/cpu/c/memory.limit_in_bytes": "1\n",
		}, 64 * mib},
		{"both, and no mount of one", map[string]string{
			"proc/self/mountinfo": mounts1, "proc/self/cgroup": "4:memory:/\n0::/a\nnonsense\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "67108864\n",
		}, 64 * mib},
	} {
		if got := Limit(tree(t, tt.files)); got != tt.want {
			t.Errorf("%s: Limit = %d, want %d", tt.what, got, tt.want)
		}
	}
}

func TestBound(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	for _, tt := range []struct {
		limit, base, budget uint64
		set, heap           int64
	}{
		{math.MaxUint64, 10, 0, math.MaxInt64, math.MaxInt64},
		{64 * mib, 24 * mib, 12 * mib, math.MaxInt64, 48 * mib},
		{64 * mib, 24 * mib, 4 * mib, 32 * mib, 32 * mib},
		{16 * mib, 24 * mib, 1, math.MaxInt64, 12 * mib},
	} {
		debug.SetMemoryLimit(tt.set)
		if got := Bound(tt.limit, Collector(), tt.base); got != tt.budget {
			t.Errorf("Bound(%d, %d) = %d, want %d", tt.limit, tt.base, got, tt.budget)
		}
		if got := debug.SetMemoryLimit(-1); got != tt.heap {
			t.Errorf("Bound(%d, %d) leaves the collector a limit of %d, want %d", tt.limit, tt.base, got, tt.heap)
		}
	}
}

// A process without the right to change its score keeps it.
func TestSpare(t *testing.T) {
	before, err := os.ReadFile(scoreFile)
	if err != nil {
		t.Fatal(err)
	}
	want := score + "\n"
	if Spare() != nil {
		want = string(before)
	}
	got, err := os.ReadFile(scoreFile)
	if err != nil || string(got) != want {
		t.Errorf("the score is %q, %v, want %q", got, err, want)
	}
	_ = os.WriteFile(scoreFile, before, 0) // raising the score needs no right
}
