package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/procfs"
)

// KLIPS takes SAs that carry no packet, so no trial shows what it can do. It lists
// its algorithms in pf_key_supported.

var (
	_ klips.Carrier = (*Stack)(nil)
	_ klips.Prober  = (*Stack)(nil)
)

// An algorithms is the table pf_key_supported.
type algorithms []procfs.Algorithm

// supported reads the table. What cannot be read in part is not read at all: what
// is not in it is taken for missing.
func (s *Stack) supported() (algorithms, error) {
	const name = "pf_key_supported"
	b, err := s.Table(context.Background(), name)
	if err != nil {
		return nil, err
	}
	l, err := procfs.ParseSupported(bytes.NewReader(b))
	if err != nil {
		return nil, &klips.OpError{Op: "list", Object: name, Err: err}
	}
	return l, nil
}

func (l algorithms) auth(p klips.Proto, a klips.AuthAlg) bool { return l.has(p, true, uint8(a)) }

func (l algorithms) enc(e klips.EncAlg) bool { return l.has(klips.ProtoESP, false, uint8(e)) }

func (l algorithms) comp(c klips.CompAlg) bool { return l.has(klips.ProtoComp, false, uint8(c)) }

func (l algorithms) has(p klips.Proto, auth bool, id uint8) bool {
	return slices.ContainsFunc(l, func(a procfs.Algorithm) bool { return a.Proto == p && a.Auth == auth && a.ID == id })
}

// any reports whether there is any algorithm for a protocol.
func (l algorithms) any(p klips.Proto, auth bool) bool {
	return slices.ContainsFunc(l, func(a procfs.Algorithm) bool { return a.Proto == p && a.Auth == auth })
}

// CarryFault returns FaultAH6 for AH over IPv6, and FaultAlgorithm for an algorithm
// that pf_key_supported does not list for the protocol, such as AH with any SHA-2.
// Without that table it returns FaultNone. The table is read once.
func (s *Stack) CarryFault(_ context.Context, spec *klips.SASpec) klips.Fault {
	p := spec.ID.Proto
	if p == klips.ProtoAH && spec.ID.Dst.Is6() {
		return klips.FaultAH6
	}
	if p != klips.ProtoAH && p != klips.ProtoESP && p != klips.ProtoComp {
		return klips.FaultNone
	}
	l, err := s.algorithms()
	switch {
	case err != nil:
	case p != klips.ProtoComp && spec.Auth != klips.AuthNone && !l.auth(p, spec.Auth),
		p == klips.ProtoESP && spec.Enc != klips.EncNone && !l.enc(spec.Enc),
		p == klips.ProtoComp && spec.Comp != klips.CompNone && !l.comp(spec.Comp):
		return klips.FaultAlgorithm
	}
	return klips.FaultNone
}

// Words for what is missing.
const (
	neverThere = "KLIPS has none"
	notListed  = "/proc/net/pf_key_supported does not list it"
	dropped    = "KLIPS takes such an SA and drops its packets"
)

// Probe lists what the kernel says that it has: protocols, algorithms, IPv6 and
// ESP in UDP. Nothing is tried. Names are those of stack xfrm where they mean the
// same. Without pf_key_supported the list is empty; another error is that of reading
// it.
func (s *Stack) Probe(ctx context.Context) (abilities []klips.Ability, err error) {
	l, err := s.algorithms()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	}
	has := func(name string, there bool, why string) {
		if there {
			why = ""
		}
		abilities = append(abilities, klips.Ability{Name: name, Missing: why})
	}
	esp, ah, comp := l.any(klips.ProtoESP, false), l.any(klips.ProtoAH, true), l.any(klips.ProtoComp, false)
	ip6 := l.has(klips.ProtoTun, false, procfs.Tunnel6in6)
	const noIPv6 = "this KLIPS was built without IPv6"
	has("ah over IPv4", ah, notListed)
	has("ah over IPv6", false, dropped)
	for _, p := range []struct {
		name  string
		there bool
	}{{"comp", comp}, {"esp", esp}} {
		has(p.name+" over IPv4", p.there, notListed)
		why := noIPv6
		if !p.there {
			why = notListed
		}
		has(p.name+" over IPv6", p.there && ip6, why)
	}
	for _, c := range ciphers {
		why := notListed
		if i, _ := c.alg.Info(); i.AEAD {
			why = neverThere
		}
		has(c.name, l.enc(c.alg), why)
	}
	short := s.shortICVs(ctx)
	for _, a := range auths {
		i, _ := a.alg.Info()
		bits := 8 * i.ICV
		if short {
			if a.alg == klips.AuthSHA256Trunc {
				continue // it has the number of AuthSHA256 there
			}
			bits = shortICV
		}
		has(fmt.Sprintf("%s with %d bits", a.name, bits), l.auth(klips.ProtoESP, a.alg), notListed)
	}
	for _, a := range auths {
		if a.alg != klips.AuthSHA256Trunc && l.auth(klips.ProtoESP, a.alg) {
			has("ah with "+a.name, l.auth(klips.ProtoAH, a.alg), dropped)
		}
	}
	has("extended sequence numbers", false, neverThere)
	if n, ok := s.natt(); ok {
		has("ESP out of UDP", n == nattConvert, noConvert)
	}
	return abilities, nil
}

// shortICV is the length of all ICVs in KLIPS before libreswan's, in bits.
const shortICV = 96

// shortICVs reports whether the ICVs of HMAC-SHA-2 are cut to shortICV: RFC 4868
// has longer ones, and so has libreswan's KLIPS.
func (s *Stack) shortICVs(ctx context.Context) bool {
	v, err := s.Version(ctx)
	return err == nil && !strings.HasPrefix(v, "Libreswan ")
}

// Names of the Linux crypto API, as stack xfrm has them.

var ciphers = []struct {
	alg  klips.EncAlg
	name string
}{
	{klips.Enc3DES, "cbc(des3_ede)"},
	{klips.EncNull, "ecb(cipher_null)"},
	{klips.EncAES, "cbc(aes)"},
	{klips.EncAESGCM, "rfc4106(gcm(aes))"},
	{klips.EncChaCha20Poly1305, "rfc7539esp(chacha20,poly1305)"},
}

var auths = []struct {
	alg  klips.AuthAlg
	name string
}{
	{klips.AuthMD5, "hmac(md5)"},
	{klips.AuthSHA1, "hmac(sha1)"},
	{klips.AuthSHA256, "hmac(sha256)"},
	{klips.AuthSHA256Trunc, "hmac(sha256)"},
	{klips.AuthSHA384, "hmac(sha384)"},
	{klips.AuthSHA512, "hmac(sha512)"},
}
