package marks

import "github.com/klips-go/ipsec/klips/internal/netns"

// DefaultDir is where the marks of the machine's first network namespace are kept.
const DefaultDir = "/var/lib/ipsec"

// Here returns the usual directory of the marks of this network namespace: [DefaultDir]
// in that of process 1, and netns-<inode> below that in any other.
func Here() string { return netns.Dir(DefaultDir) }
