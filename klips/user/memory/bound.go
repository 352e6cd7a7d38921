package memory

import (
	"math"
	"os"
	"runtime/debug"
)

// The kernel adds score to the share of memory, in thousandths, by which it chooses whom
// it kills when there is none left (proc_pid_oom_score_adj(5)). With -1000 a process is
// never killed: a daemon that has a fault must not take the machine with it.
const (
	scoreFile = "/proc/self/oom_score_adj"
	score     = "-900"
)

// Spare asks the kernel to kill others first when the machine has no memory left:
// without the daemon all that its devices protect is cut off, and it keeps its own
// memory bounded. It needs CAP_SYS_RESOURCE.
func Spare() error { return os.WriteFile(scoreFile, []byte(score), 0) }

// Bound makes the garbage collector keep this process below a limit in bytes, and
// returns how much of it there is for what clients can make, in bytes; 0 stands for no
// limit. base is what the process needs besides.
//
// A quarter of the limit is left to what the collector does not see: the kernel's
// part, the program itself, the memory of threads. Of the rest, one half is for
// garbage and for the copies that answers are made of. Where the operator has set
// GOMEMLIMIT, that counts if it is lower.
func Bound(limit, base uint64) (budget uint64) {
	heap := limit - limit/4
	if set := debug.SetMemoryLimit(-1); set < math.MaxInt64 {
		heap = min(heap, uint64(set))
	}
	if heap >= math.MaxInt64 {
		return 0
	}
	debug.SetMemoryLimit(int64(heap))
	// At least 1, for 0 is no limit: then everything is refused, and the log of the
	// daemon tells why.
	return max((heap-min(base, heap))/2, 1)
}
