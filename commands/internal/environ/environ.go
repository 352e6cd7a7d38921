// Package environ reads the variables of the environment that tell where the stacks are.
// The packages below klips read none.
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
	Stack       = "IPSEC_STACK"        // which one; --stack counts before it
	rundir      = "IPSEC_RUNDIR"       // where the embedded stack's daemon is
	statedir    = "IPSEC_STATEDIR"     // where marks are kept
	procNet     = "IPSEC_PROC_NET"     // in place of /proc/net, for stack klips
	procSys     = "IPSEC_PROC_SYS"     // in place of /proc/sys/net/ipsec
	pfkeySocket = "IPSEC_PFKEY_SOCKET" // in place of AF_KEY
)

// none is the value of IPSEC_STATEDIR for no directory.
const none = "none"

// Get is os.Getenv, but for an empty IPSEC_STATEDIR, which means no directory.
func Get(name string) string {
	v, set := os.LookupEnv(name)
	if set && v == "" && name == statedir {
		return none
	}
	return v
}

// Stacks returns where the stacks are, and which is wanted: the one named, or that of
// IPSEC_STACK if the name is empty.
func Stacks(name string, getenv func(string) string) stacks.Config {
	if name == "" {
		name = getenv(Stack)
	}
	return stacks.Config{
		Stack: name, RunDir: getenv(rundir), StateDir: Statedir(getenv),
		Kernel: classic.Config{ProcNet: getenv(procNet), ProcSys: getenv(procSys), PFKeySocket: getenv(pfkeySocket)},
	}
}

// Rundir returns the run directory that IPSEC_RUNDIR names, or the usual one; see
// [user.Rundir] for the errors.
func Rundir(getenv func(string) string) (string, error) { return user.Rundir(getenv(rundir)) }

// Statedir returns the directory in which this process keeps marks, "" for none:
// IPSEC_STATEDIR, none where that is "none"; without it, none where IPSEC_RUNDIR is set,
// as what runs there is not the machine's own stack, else the usual one, see
// [marks.Here]. A relative path begins at the working directory.
func Statedir(getenv func(string) string) string {
	switch d := getenv(statedir); {
	case d == none:
		return ""
	case d != "":
		if abs, err := filepath.Abs(d); err == nil {
			return abs
		}
		return d // the working directory is gone: whoever uses it finds nothing there
	case getenv(rundir) != "":
		return ""
	}
	return marks.Here()
}
