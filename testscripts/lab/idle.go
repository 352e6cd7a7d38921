package lab

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// FirstPause is how long to wait for an answer before the first call of Idle. Double
// the pause after each call: looking at all threads takes processor time away from the
// processes that must answer.
const FirstPause = 20 * time.Millisecond

// Idle reports whether the hosts have nothing to do: each packet that was sent has been
// handled, answered or dropped. It looks at the threads of all processes on the hosts,
// except this program. Sending a packet wakes the receiving thread at once. So if every
// thread sleeps, and none has run between two looks, no packet is left. Repeat the call
// until it returns true. Processes that never stop working are never idle.
//
// With it a test knows that no answer will come, however busy the machine is.
func Idle(hosts ...*Host) bool {
	before, asleep := threads(hosts)
	if !asleep {
		return false
	}
	after, asleep := threads(hosts)
	return asleep && maps.Equal(before, after)
}

// threads returns how often each thread on the hosts has gone to sleep, by its folder
// in /proc, and whether all of them are asleep now. The kernel threads that handle
// packets for a busy processor are included.
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
				continue // the process has ended
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
