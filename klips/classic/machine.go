package classic

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// A Machine is a machine with KLIPS. A nil function means that the kernel does not know
// the request: EOPNOTSUPP.
type Machine struct {
	ProcNet string // the directory with the tables, as /proc/net
	ProcSys string // the directory with the knobs, as /proc/sys/net/ipsec; "" for none
	// Dial opens PF_KEY.
	Dial func() (*pfkey.Conn, error)
	// Ioctl attaches and detaches virtual devices.
	Ioctl Ioctl
	// Encap makes KLIPS accept UDP-encapsulated ESP.
	Encap EncapIoctl
}

// A Config replaces parts of this machine in tests. The zero Config is this machine.
type Config struct {
	ProcNet     string // in place of /proc/net (IPSEC_PROC_NET)
	ProcSys     string // in place of /proc/sys/net/ipsec (IPSEC_PROC_SYS)
	PFKeySocket string // a socket of the kind unixpacket in place of AF_KEY (IPSEC_PFKEY_SOCKET)
}

// Here returns the machine that a Config describes. If the Config names the tables,
// there are no knobs except those that it names. If a path is too long for a socket's
// address, the error is a *[klips.UnavailableError] that wraps syscall.ENAMETOOLONG.
func Here(c Config) (Machine, error) {
	m := Machine{ProcNet: "/proc/net", ProcSys: "/proc/sys/net/ipsec", Dial: pfkey.Open, Ioctl: DeviceIoctl, Encap: SocketIoctl}
	if c.ProcNet != "" {
		m.ProcNet, m.ProcSys = c.ProcNet, ""
	}
	if c.ProcSys != "" {
		m.ProcSys = c.ProcSys
	}
	path := c.PFKeySocket
	if len(path) > pfkey.MaxSocketPath {
		return m, &klips.UnavailableError{
			Fault: klips.FaultSocketPath,
			Why: fmt.Sprintf("%v: it has %d bytes, and at most %d fit the address of a socket",
				klips.FaultSocketPath, len(path), pfkey.MaxSocketPath),
			Err: syscall.ENAMETOOLONG,
		}
	}
	if path != "" {
		m.Dial = func() (*pfkey.Conn, error) { return pfkey.Dial(path) }
	}
	return m, nil
}

// Open returns the stack of the machine that a Config describes. If that is this
// machine and its kernel has no KLIPS, the error is a *[klips.UnavailableError] that
// wraps [ErrNotLoaded]. See [Here] for another error.
func Open(c Config) (*Stack, error) {
	m, err := Here(c)
	if err != nil {
		return nil, err
	}
	if c.ProcNet == "" && c.PFKeySocket == "" && !m.hasKLIPS() {
		return nil, &klips.UnavailableError{
			Fault: klips.FaultNoKLIPS,
			Why:   fmt.Sprintf("%v (no %s)", klips.FaultNoKLIPS, filepath.Join(m.ProcNet, "ipsec_version")),
			Err:   ErrNotLoaded,
		}
	}
	return New(m), nil
}

// hasKLIPS reports whether KLIPS' tables exist. The kernel's own af_key would misread
// the messages, and its socket looks the same.
func (m *Machine) hasKLIPS() bool {
	for _, name := range []string{"ipsec_version", "ipsec_eroute", "pf_key"} {
		if _, err := os.Stat(filepath.Join(m.ProcNet, name)); err == nil {
			return true
		}
	}
	return false
}
