package classic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/procfs"
	"github.com/klips-go/ipsec/klips/serial"
)

// KLIPS accepts SAs that carry no packet, so a trial does not show what it can do. It
// lists its algorithms in pf_key_supported.

var (
	_ serial.Carrier  = (*Stack)(nil)
	_ serial.Prober   = (*Stack)(nil)
	_ serial.Texter   = (*Stack)(nil)
	_ serial.Registry = (*Stack)(nil)
	_ serial.Tuner    = (*Stack)(nil)
)

// algorithms is the table pf_key_supported.
type algorithms []procfs.Algorithm

// supported reads the table. One bad line makes the whole table unreadable: otherwise
// its algorithm would count as missing.
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

func (l algorithms) auth(p klips.Proto, a alg.Auth) bool { return l.has(p, true, uint8(a)) }

func (l algorithms) enc(e alg.Enc) bool { return l.has(klips.ProtoESP, false, uint8(e)) }

func (l algorithms) comp(c alg.Comp) bool { return l.has(klips.ProtoComp, false, uint8(c)) }

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
	case p != klips.ProtoComp && spec.Auth != alg.AuthNone && !l.auth(p, spec.Auth),
		p == klips.ProtoESP && spec.Enc != alg.EncNone && !l.enc(spec.Enc),
		p == klips.ProtoComp && spec.Comp != alg.CompNone && !l.comp(spec.Comp):
		return klips.FaultAlgorithm
	}
	return klips.FaultNone
}

// Texts for missing abilities.
const (
	neverThere = "KLIPS has none"
	notListed  = "/proc/net/pf_key_supported does not list it"
	dropped    = "KLIPS takes such an SA and drops its packets"
)

// Probe lists the abilities that the kernel reports: protocols, algorithms, IPv6 and
// UDP-encapsulated ESP. It tries nothing. Names are those of stack xfrm if the meaning
// is the same. Without pf_key_supported the list is empty; another error comes from
// reading it.
func (s *Stack) Probe(ctx context.Context) (abilities []klips.Ability, err error) {
	l, err := s.algorithms()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	}
	of := func(t klips.Transform, name string, there bool, why string) {
		if there {
			why = ""
		}
		abilities = append(abilities, klips.Ability{Name: name, Missing: why, Algorithm: t})
	}
	has := func(name string, there bool, why string) { of(klips.Transform{}, name, there, why) }
	esp, ah, comp := l.any(klips.ProtoESP, false), l.any(klips.ProtoAH, true), l.any(klips.ProtoComp, false)
	ip6 := l.has(klips.ProtoTun, false, procfs.Tunnel6in6)
	const noIPv6 = "this KLIPS was built without IPv6"
	has("ah over IPv4", ah, notListed)
	has("ah over IPv6", false, dropped)
	for _, p := range []struct {
		name  string
		t     klips.Transform
		there bool
	}{{"comp", klips.Transform{Comp: alg.Deflate}, comp}, {"esp", klips.Transform{}, esp}} {
		of(p.t, p.name+" over IPv4", p.there, notListed)
		why := noIPv6
		if !p.there {
			why = notListed
		}
		of(p.t, p.name+" over IPv6", p.there && ip6, why)
	}
	for _, e := range alg.Encs() {
		i, _ := e.Info()
		why := notListed
		if i.AEAD {
			why = neverThere
		}
		of(klips.Transform{Enc: e}, i.Kernel, l.enc(e), why)
	}
	short := s.shortICVs(ctx)
	for _, a := range alg.Auths() {
		i, _ := a.Info()
		bits := 8 * i.ICV
		if short {
			if a == alg.SHA256Trunc {
				continue // it has the number of SHA256 in this table
			}
			bits = shortICV
		}
		of(klips.Transform{Auth: a}, fmt.Sprintf("%s with %d bits", i.Kernel, bits), l.auth(klips.ProtoESP, a), notListed)
	}
	for _, a := range alg.Auths() {
		if i, _ := a.Info(); a != alg.SHA256Trunc && l.auth(klips.ProtoESP, a) {
			of(klips.Transform{Auth: a}, "ah with "+i.Kernel, l.auth(klips.ProtoAH, a), dropped)
		}
	}
	has("extended sequence numbers", false, neverThere)
	if n, ok := s.natt(); ok {
		has("ESP out of UDP", n == nattConvert, noConvert)
	}
	return abilities, nil
}

// shortICV is the length of all ICVs in KLIPS before libreswan's version, in bits.
const shortICV = 96

// shortICVs reports whether ICVs of HMAC-SHA-2 are cut to shortICV. Those of RFC 4868,
// and of libreswan's KLIPS, are longer.
func (s *Stack) shortICVs(ctx context.Context) bool {
	v, err := s.Version(ctx)
	return err == nil && !strings.HasPrefix(v, "Libreswan ")
}
