package klips

import (
	"strconv"

	"github.com/klips-go/ipsec/klips/alg"
)

// A Transform is the algorithms of an SA.
type Transform struct {
	Auth alg.Auth `json:"auth,omitempty"`
	Enc  alg.Enc  `json:"enc,omitempty"`
	Comp alg.Comp `json:"comp,omitempty"`
}

// Authenticates reports whether an SA of protocol p with the transform authenticates its
// packets, and so their sequence numbers: it is AH, or ESP with an ICV.
func (t Transform) Authenticates(p Proto) bool {
	enc, _ := t.Enc.Info()
	return p == ProtoAH || p == ProtoESP && (enc.AEAD || t.Auth != alg.AuthNone)
}

// Name returns the transform's name in the spi listing for an SA of protocol p: "IPIP",
// "ESP_3DES_HMAC_MD5", "AH_HMAC_SHA1", "COMP_DEFLATE". An unknown algorithm prints as
// _ID and its number.
func (t Transform) Name(p Proto) string {
	switch p {
	case ProtoTun:
		return "IPIP" + t.encName() + t.authName()
	case ProtoESP:
		return "ESP" + t.encName() + t.authName()
	case ProtoAH:
		return "AH" + t.encName() + t.authName()
	case ProtoComp:
		if r, ok := t.Comp.Info(); ok {
			return "COMP" + r.Listing + t.authName()
		}
		return "COMP_UNKNOWN_comp" + t.authName()
	}
	return "UNKNOWN_proto" + t.encName() + t.authName()
}

func (t Transform) encName() string {
	if r, ok := t.Enc.Info(); ok {
		return r.Listing
	}
	// Ciphers that only KLIPS kernels have.
	switch t.Enc {
	case 252:
		return "_SERPENT"
	case 253:
		return "_TWOFISH"
	}
	return "_ID" + strconv.Itoa(int(t.Enc))
}

func (t Transform) authName() string {
	if r, ok := t.Auth.Info(); ok {
		return r.Listing
	}
	return "_ID" + strconv.Itoa(int(t.Auth))
}
