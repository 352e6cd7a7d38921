package confine

import (
	"bufio"
	"bytes"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// A Right is something that the daemon gives up.
type Right string

// The rights.
const (
	RightUser         Right = "user"         // to be the user who started it
	RightCapabilities Right = "capabilities" // all except CAP_NET_ADMIN and CAP_NET_RAW
	RightPrivileges   Right = "privileges"   // to get more by a program that it starts
	RightDumps        Right = "dumps"        // that its memory can be dumped, or read by others
	RightSwap         Right = "swap"         // that its memory can be swapped
	RightFiles        Right = "files"        // to reach all files
	RightCalls        Right = "system calls" // to make all system calls
)

// A Refusal is a right that could not be given up.
type Refusal struct {
	Right Right  `json:"right"`
	Why   string `json:"why"` // the error, as text
}

// Refusals are the rights that could not be given up, in the order of the attempts.
type Refusals []Refusal

func (r *Refusals) add(right Right, err error) {
	if err != nil {
		*r = append(*r, Refusal{right, err.Error()})
	}
}

// Rights are what a process may do.
type Rights struct {
	UID  int    `json:"uid"`
	User string `json:"user,omitempty"` // its name, if it has one
	// Capabilities are those that the process can use, by their names in
	// capabilities(7), in lower case and without "CAP_".
	Capabilities []string `json:"capabilities"`
	// Without are the rights that were given up, as far as the kernel reports them.
	Without []Right  `json:"without"`
	Refused Refusals `json:"refused,omitempty"`
}

// Read returns the rights of this process, which has called [Enter], as the kernel reports
// them. refused is what [Exec] and [Enter] returned. The kernel does not report Landlock;
// it holds if it was not refused.
func Read(refused Refusals) (Rights, error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return Rights{}, err
	}
	r := parse(b)
	r.Refused = refused
	r.User = userName()
	if dumps, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err == nil && dumps == 0 {
		r.Without = append(r.Without, RightDumps)
	}
	if !slices.ContainsFunc(refused, func(f Refusal) bool { return f.Right == RightFiles }) {
		r.Without = append(r.Without, RightFiles)
	}
	return r, nil
}

// userName returns the name of this process's user, "" if it has none. It reads
// /etc/passwd once.
func userName() string {
	own.once.Do(func() {
		if u, err := user.LookupId(strconv.Itoa(os.Geteuid())); err == nil {
			own.name = u.Username
		}
	})
	return own.name
}

var own struct {
	once sync.Once
	name string
}

// landlockVersion returns the version of the kernel's Landlock, 0 if it has none.
func landlockVersion() int {
	v, err := ll.LandlockGetABIVersion()
	if err != nil {
		return 0
	}
	return v
}

// parse reads /proc/PID/status (proc_pid_status(5)).
func parse(status []byte) (r Rights) {
	for s := bufio.NewScanner(bytes.NewReader(status)); s.Scan(); {
		name, value, _ := strings.Cut(s.Text(), ":")
		f := strings.Fields(value)
		switch {
		case name == "Uid" && len(f) == 4: // real, effective, saved, for files
			r.UID, _ = strconv.Atoi(f[1])
		case len(f) == 0:
		case name == "CapPrm":
			if mask, err := strconv.ParseUint(f[0], 16, 64); err == nil {
				r.Capabilities = capabilities(mask)
			}
		case name == "NoNewPrivs" && f[0] == "1":
			r.Without = append(r.Without, RightPrivileges)
		case name == "Seccomp" && f[0] == "2": // SECCOMP_MODE_FILTER
			r.Without = append(r.Without, RightCalls)
		case name == "VmLck" && f[0] != "0":
			r.Without = append(r.Without, RightSwap)
		}
	}
	return r
}

// capabilities returns the names of the capabilities in a mask.
func capabilities(mask uint64) []string {
	names := []string{}
	for c := range 64 {
		switch {
		case mask>>c&1 == 0:
		case c < len(capabilityNames):
			names = append(names, capabilityNames[c])
		default:
			names = append(names, strconv.Itoa(c))
		}
	}
	return names
}

// capabilityNames are the names by number (linux/capability.h).
var capabilityNames = [...]string{
	"chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap",
	"linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner",
	"sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice",
	"sys_resource", "sys_time", "sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap",
	"mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf",
	"checkpoint_restore",
}
