package marks

import (
	"path/filepath"

	"github.com/klips-go/ipsec/klips/internal/netns"
)

// DefaultDir is where the marks of the machine's first network namespace are kept.
const DefaultDir = "/var/lib/ipsec"

// None is the value of IPSEC_STATEDIR for no directory. The program also takes an empty
// value for it.
const None = "none"

// Dir returns the directory in which this process keeps marks, "" for none:
// $IPSEC_STATEDIR, none where that is None; without it, none where $IPSEC_RUNDIR is
// set, as what runs there is not the machine's own stack, else [DefaultDir] in the
// network namespace of process 1, and netns-<inode> below that in any other. A relative
// path begins at the working directory.
func Dir(getenv func(string) string) (string, error) {
	switch d := getenv("IPSEC_STATEDIR"); {
	case d == None:
		return "", nil
	case d != "":
		return filepath.Abs(d)
	case getenv("IPSEC_RUNDIR") != "":
		return "", nil
	}
	return netns.Dir(DefaultDir), nil
}
