package daemon

import (
	"slices"

	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// algorithms returns what SAs of a type can have, for the answer to REGISTER:
// authentications, and the others (ciphers, compression, or for IPIP the combinations
// of IP versions). Algorithms of KLIPS are in KLIPS' order.
func algorithms(t pfkey.SAType) (auth, other []pfkey.Algorithm) {
	switch t {
	case pfkey.SATypeAH:
		return authAlgorithms(), nil
	case pfkey.SATypeESP:
		ids := alg.Encs()
		slices.Sort(ids)
		for _, e := range ids {
			i, _ := e.Info()
			at := len(other)
			if i.AEAD { // algorithms that KLIPS lacks come first
				at = 0
			}
			other = slices.Insert(other, at, algorithm(uint8(e), i))
		}
		return authAlgorithms(), other
	case pfkey.SATypeIPIP:
		// 6 in 6, 4 in 6, 6 in 4, 4 in 4, with the lengths of the addresses.
		return nil, []pfkey.Algorithm{
			{ID: 4, MinBits: 128, MaxBits: 128}, {ID: 3, MinBits: 32, MaxBits: 128},
			{ID: 2, MinBits: 128, MaxBits: 32}, {ID: 1, MinBits: 32, MaxBits: 32},
		}
	case pfkey.SATypeComp:
		return nil, []pfkey.Algorithm{{ID: uint8(alg.Deflate), MinBits: 1, MaxBits: 1}}
	}
	return nil, nil
}

func authAlgorithms() (l []pfkey.Algorithm) {
	ids := alg.Auths()
	slices.Sort(ids)
	for _, a := range slices.Backward(ids) {
		i, _ := a.Info()
		l = append(l, algorithm(uint8(a), i))
	}
	return l
}

func algorithm(id uint8, i alg.Info) pfkey.Algorithm {
	return pfkey.Algorithm{
		ID: id, IV: uint8(8 * i.IV),
		MinBits: uint16(slices.Min(i.KeyBits)), MaxBits: uint16(slices.Max(i.KeyBits)),
	}
}
