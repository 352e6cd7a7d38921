// Package environ reads the environment variables that select the stacks and their
// directories. The packages below klips read no environment variables.
package environ

import (
	"os"
	"path/filepath"

	"github.com/klips-go/ipsec/klips/classic"
	"github.com/klips-go/ipsec/klips/marks"
	"github.com/klips-go/ipsec/klips/stacks"
	"github.com/klips-go/ipsec/klips/user"
)

// The variables.
const (
	Stack       = "IPSEC_STACK"        // name of the stack; --stack overrides it
	rundir      = "IPSEC_RUNDIR"       // run directory of the embedded stack's daemon
	statedir    = "IPSEC_STATEDIR"     // directory of the sequence marks
	procNet     = "IPSEC_PROC_NET"     // replaces /proc/net, for stack klips
	procSys     = "IPSEC_PROC_SYS"     // replaces /proc/sys/net/ipsec
	pfkeySocket = "IPSEC_PFKEY_SOCKET" // replaces AF_KEY
	conf        = "IPSEC_CONF"         // file with connections
	confs       = "IPSEC_CONFS"        // folder of such files
)

// Conf and Confs return the file and the folder of connections that the environment names;
// "": none.
func Conf(getenv func(string) string) string  { return getenv(conf) }
func Confs(getenv func(string) string) string { return getenv(confs) }

// DefaultConf is the machine's file of connections.
const DefaultConf = "/etc/ipsec.conf"

// BootConf returns the file that is read when the stack starts; "": none. That is the
// machine's own, unless IPSEC_CONF names another one. If IPSEC_RUNDIR is set, the stack is
// not the machine's own.
func BootConf(getenv func(string) string) string {
	switch {
	case getenv(conf) != "":
		return getenv(conf)
	case getenv(rundir) != "":
		return ""
	}
	return DefaultConf
}

// none is the value of IPSEC_STATEDIR that means no directory.
const none = "none"

// Get is os.Getenv, except that an empty IPSEC_STATEDIR means no directory.
func Get(name string) string {
	v, set := os.LookupEnv(name)
	if set && v == "" && name == statedir {
		return none
	}
	return v
}

// Stacks returns the configuration of the stacks. The wanted stack is the named one, or
// that of IPSEC_STACK if name is empty.
func Stacks(name string, getenv func(string) string) stacks.Config {
	if name == "" {
		name = getenv(Stack)
	}
	return stacks.Config{
		Stack: name, RunDir: getenv(rundir), StateDir: Statedir(getenv),
		Kernel: classic.Config{ProcNet: getenv(procNet), ProcSys: getenv(procSys), PFKeySocket: getenv(pfkeySocket)},
	}
}

// Rundir returns the run directory of IPSEC_RUNDIR, or the default one; see
// [user.Rundir] for the errors.
func Rundir(getenv func(string) string) (string, error) { return user.Rundir(getenv(rundir)) }

// Statedir returns the directory in which this process keeps sequence marks, or "" for
// none. IPSEC_STATEDIR names it, and "none" means no directory. Without that variable
// there is none if IPSEC_RUNDIR is set, because such a daemon is not the machine's own
// stack. Otherwise it is the default one, see [marks.Here]. A relative path begins at
// the working directory.
func Statedir(getenv func(string) string) string {
	switch d := getenv(statedir); {
	case d == none:
		return ""
	case d != "":
		if abs, err := filepath.Abs(d); err == nil {
			return abs
		}
		return d // the working directory has been removed; opening d will fail
	case getenv(rundir) != "":
		return ""
	}
	return marks.Here()
}
