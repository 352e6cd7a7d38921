package ah

import "github.com/klips-go/ipsec/klips/alg"

// Size returns the bytes that AH with an algorithm adds to a packet of the given IP version
// (4 or 6): 24 with the 96-bit ICVs.
func Size(a alg.Auth, version uint8) int {
	auth, _ := a.Info()
	return overhead(auth.ICV, version)
}
