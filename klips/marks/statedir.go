package marks

import "github.com/klips-go/ipsec/klips/internal/netns"

// DefaultDir is the directory of the marks of the machine's first network namespace.
const DefaultDir = "/var/lib/ipsec"

// Here returns the default directory of the marks of this network namespace:
// [DefaultDir] in that of process 1, and netns-<inode> below it in any other.
func Here() string { return netns.Dir(DefaultDir) }
