package memory

import (
	"math"
	"os"
	"runtime/debug"
)

// The kernel adds score to a process's share of memory, in thousandths, when it chooses
// a process to kill because no memory is left (proc_pid_oom_score_adj(5)). With -1000
// the process is never killed; but a faulty daemon must not stop the whole machine.
const (
	scoreFile = "/proc/self/oom_score_adj"
	score     = "-900"
)

// Spare asks the kernel to kill other processes first when no memory is left: without
// the daemon all protected traffic stops, and it limits its own memory. It needs
// CAP_SYS_RESOURCE.
func Spare() error { return os.WriteFile(scoreFile, []byte(score), 0) }

// Collector returns the limit of the garbage collector in bytes, as GOMEMLIMIT has set
// it; math.MaxInt64 means no limit.
func Collector() int64 { return debug.SetMemoryLimit(-1) }

// Bound makes the garbage collector keep this process below a limit in bytes. It
// returns the part that clients' objects may use, in bytes; 0 means no limit. base is
// what the process needs otherwise.
//
// A quarter of the limit is for memory outside the collector's heap: the kernel's part,
// the program itself, and stacks of threads. Half of the rest is for garbage and for
// copies in answers. collector is the limit that [Collector] has returned; if it is
// lower, it has priority.
func Bound(limit uint64, collector int64, base uint64) (budget uint64) {
	heap := limit - limit/4
	if collector < math.MaxInt64 {
		heap = min(heap, uint64(collector))
	}
	if heap >= math.MaxInt64 {
		return 0
	}
	debug.SetMemoryLimit(int64(heap))
	// At least 1, because 0 means no limit: then everything is refused, and the
	// daemon's log has the reason.
	return max((heap-min(base, heap))/2, 1)
}
