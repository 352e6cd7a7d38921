package kernel

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// A Machine is a machine that has KLIPS, as its tools see it. A function that is
// nil stands for a kernel that does not know the request: EOPNOTSUPP.
type Machine struct {
	ProcNet string // the directory with the tables, as /proc/net
	ProcSys string // the directory with the knobs, as /proc/sys/net/ipsec; "" is none
	// Dial opens PF_KEY.
	Dial func() (*pfkey.Conn, error)
	// Ioctl attaches and detaches virtual devices.
	Ioctl Ioctl
	// Encap lets KLIPS take ESP out of UDP.
	Encap EncapIoctl
}

// Here returns this machine, or the one that stands for it in tests, as the
// environment describes it. A machine of which the environment names the tables
// has no other knobs than it names. Where a path is longer than the address of a
// socket holds, the error is a *[klips.UnavailableError] that wraps
// syscall.ENAMETOOLONG.
func Here(getenv func(string) string) (Machine, error) {
	m := Machine{ProcNet: "/proc/net", ProcSys: "/proc/sys/net/ipsec", Dial: pfkey.Open, Ioctl: DeviceIoctl, Encap: SocketIoctl}
	if dir := getenv("IPSEC_PROC_NET"); dir != "" {
		m.ProcNet, m.ProcSys = dir, ""
	}
	if dir := getenv("IPSEC_PROC_SYS"); dir != "" {
		m.ProcSys = dir
	}
	path := getenv("IPSEC_PFKEY_SOCKET")
	if len(path) > pfkey.MaxSocketPath {
		return m, &klips.UnavailableError{
			Why: fmt.Sprintf("IPSEC_PFKEY_SOCKET is too long: it has %d bytes, and at most %d fit the address of a socket",
				len(path), pfkey.MaxSocketPath),
			Help: "set it to a shorter path",
			Err:  syscall.ENAMETOOLONG,
		}
	}
	if path != "" {
		m.Dial = func() (*pfkey.Conn, error) { return pfkey.Dial(path) }
	}
	return m, nil
}

// Open returns the stack of the machine that the environment describes. Where that
// says nothing and the kernel has no KLIPS, the error is a
// *[klips.UnavailableError] that wraps [ErrNotLoaded]; see [Here] for another.
func Open(getenv func(string) string) (*Stack, error) {
	m, err := Here(getenv)
	if err != nil {
		return nil, err
	}
	if getenv("IPSEC_PROC_NET") == "" && getenv("IPSEC_PFKEY_SOCKET") == "" && !m.hasKLIPS() {
		return nil, &klips.UnavailableError{
			Why:  fmt.Sprintf("this kernel has no KLIPS (no %s)", filepath.Join(m.ProcNet, "ipsec_version")),
			Help: "load its module (modprobe ipsec), or use another stack (--stack)",
			Err:  ErrNotLoaded,
		}
	}
	return New(m), nil
}

// hasKLIPS reports whether there are KLIPS' tables. The native af_key would take
// the messages for others, so a socket alone does not tell whose it is.
func (m *Machine) hasKLIPS() bool {
	for _, name := range []string{"ipsec_version", "ipsec_eroute", "pf_key"} {
		if _, err := os.Stat(filepath.Join(m.ProcNet, name)); err == nil {
			return true
		}
	}
	return false
}
