package lab

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// FirstPause is how long to wait for an answer before Idle is asked for the first
// time; wait twice as long each time after. To look at all threads takes time that
// those who answer need.
const FirstPause = 20 * time.Millisecond

// Idle reports whether nothing is under way on the hosts: all that was sent has
// been handled, answered or dropped. It looks at the threads of all processes on
// them, of this program's none. A packet wakes the thread that it is for before it
// is sent, so where every thread sleeps, and none has run between two looks, there
// is no packet left. Repeat it until it is true; processes that work without end
// are never idle.
//
// With it a test knows that an answer will not come, however busy the machine is.
func Idle(hosts ...*Host) bool {
	before, asleep := threads(hosts)
	if !asleep {
		return false
	}
	after, asleep := threads(hosts)
	return asleep && maps.Equal(before, after)
}

// threads returns how often each thread on the hosts has been put to sleep, by its
// folder in /proc, and whether all of them sleep now, and the kernel's that handle
// packets for a busy processor.
func threads(hosts []*Host) (switches map[string]string, asleep bool) {
	switches, asleep = map[string]string{}, true
	var namespaces []os.FileInfo
	for _, h := range hosts {
		if ns, err := os.Stat(h.NetNS()); err == nil {
			namespaces = append(namespaces, ns)
		}
	}
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range processes {
		comm, _ := os.ReadFile(p + "/comm")
		softirq := strings.HasPrefix(string(comm), "ksoftirqd/")
		if !softirq && (p == fmt.Sprintf("/proc/%d", os.Getpid()) || !inOne(p, namespaces)) {
			continue
		}
		tasks, _ := filepath.Glob(p + "/task/[0-9]*")
		for _, task := range tasks {
			status, err := os.ReadFile(task + "/status")
			if err != nil {
				continue // it has ended
			}
			for line := range strings.Lines(string(status)) {
				name, value, _ := strings.Cut(line, ":")
				switch value = strings.TrimSpace(value); {
				case name == "State" && strings.Trim(value[:1], "SITZX") != "":
					asleep = false // runs, or waits for the disk
				case strings.HasSuffix(name, "ctxt_switches") && !softirq:
					switches[task] += " " + value
				}
			}
		}
	}
	return switches, asleep
}

// inOne reports whether a process is in one of the network namespaces.
func inOne(process string, namespaces []os.FileInfo) bool {
	ns, err := os.Stat(process + "/ns/net")
	if err != nil {
		return false
	}
	for _, n := range namespaces {
		if os.SameFile(n, ns) {
			return true
		}
	}
	return false
}
