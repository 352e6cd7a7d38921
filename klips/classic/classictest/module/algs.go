package module

import (
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// An alg is KLIPS' data about an algorithm.
type alg struct {
	name string // in the tables, with its dash; "" where they have its number
	keys []int  // lengths of keys in bits
	out  int    // of an authenticator: its output, in bits, before it is cut
	iv   int    // of a cipher: its IV, in bytes
}

// The available authenticators and ciphers, by number. AH accepts all of these
// authenticators, but protects packets only with the first two.
var (
	auths = map[uint8]alg{
		2: {name: "_HMAC_MD5", keys: []int{128}, out: 128},
		3: {name: "_HMAC_SHA1", keys: []int{160}, out: 160},
		5: {name: "_HMAC_SHA2_256", keys: []int{256}, out: 256},
		6: {name: "_HMAC_SHA2_384", keys: []int{384}, out: 384},
		7: {name: "_HMAC_SHA2_512", keys: []int{512}, out: 512},
		9: {keys: []int{128}, out: 128}, 252: {keys: []int{256}, out: 256},
	}
	ciphers = map[uint8]alg{
		3:   {name: "_3DES", keys: []int{192}, iv: 8},
		6:   {keys: []int{128}, iv: 8},
		12:  {name: "_AES", keys: []int{128, 192, 256}, iv: 16},
		252: {name: "_SERPENT", keys: []int{128, 192, 256}, iv: 16},
		253: {name: "_TWOFISH", keys: []int{128, 192, 256}, iv: 16},
	}
)

// checkAlgorithms refuses algorithms and keys that do not fit, beyond the checks of the
// message, and returns the length of the IV. It does not check tun and comp SAs.
func (p *sa) checkAlgorithms() (iv int, errno syscall.Errno) {
	if p.id.Proto != klips.ProtoESP && p.id.Proto != klips.ProtoAH {
		return 0, 0
	}
	if p.id.Proto == klips.ProtoESP {
		c, ok := ciphers[p.enc]
		switch {
		case !ok:
			return 0, syscall.EPROTO
		case !slices.Contains(c.keys, p.encBits):
			return 0, syscall.EINVAL
		}
		iv = c.iv
	}
	if a, ok := auths[p.auth]; p.auth != 0 && (!ok || !slices.Contains(a.keys, p.authBits)) {
		return 0, syscall.EINVAL
	}
	return iv, 0
}

// transform returns the name of an SA's transform: protocol, cipher, authenticator.
func (p *sa) transform() string {
	name := "UNKNOWN_proto"
	switch p.id.Proto {
	case klips.ProtoTun:
		name = "IPIP"
	case klips.ProtoESP:
		name = "ESP"
	case klips.ProtoAH:
		name = "AH"
	case klips.ProtoComp:
		name = "COMP" + compressor(p.enc)
	}
	if p.id.Proto != klips.ProtoComp {
		name += algName(ciphers, p.enc)
	}
	return name + algName(auths, p.auth)
}

func compressor(n uint8) string {
	switch n {
	case 0:
		return "_NONE"
	case 2:
		return "_DEFLATE"
	case 3:
		return "_LZS"
	}
	return "_UNKNOWN_comp"
}

func algName(algs map[uint8]alg, n uint8) string {
	switch a := algs[n]; {
	case n == 0:
		return ""
	case a.name != "":
		return a.name
	}
	return fmt.Sprint("_ID", n)
}

// supported is pf_key_supported of libreswan 3.32. Rows without a name are built in,
// the others are ciphers of the kernel. A row with 14 is an authenticator.
const supported = `satype exttype alg_id ivlen minbits maxbits name
     2      14      3     0     160     160              unknown
     2      14      2     0     128     128              unknown
     3      14     252     0     256     256         hmac(sha256)
     3      14      7     0     512     512         hmac(sha512)
     3      14      6     0     384     384         hmac(sha384)
     3      14      5     0     256     256         hmac(sha256)
     3      14      3     0     160     160           hmac(sha1)
     3      14      2     0     128     128            hmac(md5)
     3      15      3    64     192     192        cbc(des3_ede)
     3      15      6    64     128     128           cbc(cast5)
     3      15     252   128     128     256         cbc(serpent)
     3      15     253   128     128     256         cbc(twofish)
     3      15     12   128     128     256             cbc(aes)
     3      15      3    64     192     192              unknown
     3      14      9     0     128     128              unknown
     3      15     12   128     128     256              unknown
     3      15      3    64     168     168              unknown
     3      14      3     0     160     160              unknown
     3      14      2     0     128     128              unknown
     9      15      4     0     128     128              unknown
     9      15      3     0      32     128              unknown
     9      15      2     0     128      32              unknown
     9      15      1     0      32      32              unknown
    10      15      2     0       1       1              unknown
`

// supportedBy returns the algorithms that are listed for an SA type.
func supportedBy(t pfkey.SAType) (auth, enc []pfkey.Algorithm) {
	for line := range strings.Lines(supported) {
		var satype, ext int
		var a pfkey.Algorithm
		if n, _ := fmt.Sscan(line, &satype, &ext, &a.ID, &a.IV, &a.MinBits, &a.MaxBits); n != 6 || pfkey.SAType(satype) != t {
			continue
		}
		if ext == 14 {
			auth = append(auth, a)
		} else {
			enc = append(enc, a)
		}
	}
	return auth, enc
}
