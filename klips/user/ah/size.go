package ah

import "github.com/klips-go/ipsec/klips/alg"

// Size returns the bytes that AH with an algorithm adds to a packet of the given IP version
// (4 or 6): 24 with the 96-bit ICVs. align8 is that of [Config].
func Size(a alg.Auth, version uint8, align8 bool) int {
	if align8 {
		version = 6 // the same multiple
	}
	auth, _ := a.Info()
	return overhead(auth.ICV, version)
}
