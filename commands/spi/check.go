package spi

import (
	"math"
	"net/netip"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/syntax"
)

// finish checks the options against each other and completes the request.
func (p *parser) finish() error {
	r := &p.req
	switch {
	case p.by == "" && p.other:
		return cli.Usagef("nothing to do; give one of --ah, --esp, --comp, --ip4, --ip6, --del, --get and --clear")
	case p.by == "", r.action == actGet && !p.other:
		// KLIPS lists the table for a bare --get too.
		r.action = actList
		return nil
	case r.JSON:
		return cli.Usagef("--json is for the list of SAs; it does not go with --%s", p.by)
	}
	if r.action != actAdd {
		// KLIPS' message builder refuses these, so no script uses them.
		switch {
		case r.spec.NATT.Type != klips.NATTNone:
			return cli.Usagef("--natt does not go with --%s", p.by)
		case p.life.given && r.action != actClear:
			return cli.Usagef("--life does not go with --%s", p.by)
		case r.spec.Window > KLIPSWindow:
			return cli.Usagef("--replay_window %d does not go with --%s", r.spec.Window, p.by)
		case r.spec.ESN:
			return cli.Usagef("--esn does not go with --%s", p.by)
		case r.spec.Align8:
			return cli.Usagef("--align8 does not go with --%s", p.by)
		case r.spec.CopyTOS:
			return cli.Usagef("--copy-tos does not go with --%s", p.by)
		case r.spec.Seq != nil:
			return cli.Usagef("--seq does not go with --%s", p.by)
		case r.spec.ReplaySeq != nil:
			return cli.Usagef("--replay-seq does not go with --%s", p.by)
		case r.spec.Offload != "":
			return cli.Usagef("--offload does not go with --%s", p.by)
		case r.spec.ReuseKey:
			return cli.Usagef("--insecure-reuse does not go with --%s", p.by)
		}
	}
	if r.action == actClear {
		return nil
	}
	if err := p.identity(); err != nil {
		return err
	}
	r.spec.ID = p.id
	if r.action != actAdd {
		return p.bare()
	}
	return p.complete()
}

// bare refuses options that need a new SA, for an SA that is only named.
func (p *parser) bare() error {
	s := &p.req.spec
	switch {
	case s.Ref != 0 || s.RefHim != 0:
		return cli.Usagef("SA references do not go with --%s", p.by)
	case s.OutIf != 0:
		return cli.Usagef("--outif does not go with --%s", p.by)
	}
	return nil
}

// identity checks that the SA is complete.
func (p *parser) identity() error {
	if p.said {
		if p.id.Proto == klips.ProtoInt {
			return cli.Usagef("--said %s is a verdict for eroutes and no SA", p.id)
		}
		return p.oneFamily()
	}
	var missing string
	switch {
	case p.edstLost:
		return cli.Usagef("--af comes after --edst and takes it back; put --af first")
	case !p.id.Dst.IsValid():
		missing = "edst"
	case p.id.Dst.IsUnspecified():
		return cli.Usagef("--edst: the SA needs a destination, not %v", p.id.Dst)
	case p.id.SPI == 0:
		missing = "spi"
	case p.id.Proto == 0:
		missing = "proto"
	}
	if missing != "" {
		return cli.Usagef("the SA is not named completely: --%s is missing; an SA is --edst, --spi and --proto, or --said", missing)
	}
	return p.oneFamily()
}

// oneFamily checks the SA's destination against the stated family.
func (p *parser) oneFamily() error {
	if f := syntax.FamilyOf(p.id.Dst); p.family != syntax.FamilyAny && p.family != f {
		return cli.Usagef("%s is %s, but %s was asked for", p.id, f, p.family)
	}
	return nil
}

// complete checks a request for a new SA and fills in the values that follow from
// others.
func (p *parser) complete() error {
	s := &p.req.spec
	if s.ID.SPI < klips.MinSPI {
		return cli.Usagef("%s: SPIs below 0x100 are reserved", s.ID)
	}
	if s.ID.Proto != p.proto {
		return cli.Usagef("--%s makes SAs of protocol %s, but %s is asked for", p.by, p.proto, s.ID)
	}
	if p.srcEarly != "" && p.proto == klips.ProtoTun {
		// KLIPS drops the source in this case, and existing scripts work with that.
		p.src = netip.Addr{}
		p.req.notes = append(p.req.notes, "with --ip4 and --ip6, --src has no effect before --"+p.srcEarly+"; put it after")
	}
	s.Src = p.src
	switch f := syntax.FamilyOf(s.ID.Dst); {
	case s.Src.IsValid() && syntax.FamilyOf(s.Src) != f:
		return cli.Usagef("--src is an %s address, but %s is %s", syntax.FamilyOf(s.Src), s.ID, f)
	case s.Src.IsValid():
	case f == syntax.Family6:
		s.Src = netip.IPv6Unspecified()
	default:
		s.Src = netip.IPv4Unspecified()
	}
	if err := p.offload(); err != nil {
		return err
	}
	if s.Align8 && (s.ID.Proto != klips.ProtoAH || !s.ID.Dst.Is4()) {
		return cli.Usagef("--align8 is for AH over IPv4; leave it out")
	}
	if s.CopyTOS && s.ID.Proto != klips.ProtoTun {
		return cli.Usagef("--copy-tos is for --ip4 and --ip6, as %s SAs make no outer header; give it to the tun SA of the group", s.ID.Proto)
	}
	if err := p.numbers(); err != nil {
		return err
	}
	if err := p.begin(); err != nil {
		return err
	}
	if enc, _ := s.Enc.Info(); s.ReuseKey && !enc.AEAD {
		return cli.Usagef("--insecure-reuse is for the keys of AES-GCM and ChaCha20-Poly1305; other keys are not refused, leave it out")
	}
	s.Soft, s.Hard = p.life.soft, p.life.hard
	if s.NATT.Type == klips.NATTNone {
		s.NATT = klips.NATT{}
	}
	p.dropKeys()
	return p.keyError()
}

// offload checks whether a device can do the SA's work.
func (p *parser) offload() error {
	if s := &p.req.spec; s.Offload != "" && s.ID.Proto != klips.ProtoESP {
		return cli.Usagef("--offload is for ESP; no network device does the work of a %s SA", s.ID.Proto)
	}
	return nil
}

// numbers checks whether the SA can have extended sequence numbers, and gives it
// the replay window that they need (RFC 4303 section 3.4.3).
func (p *parser) numbers() error {
	s := &p.req.spec
	enc, _ := s.Enc.Info()
	switch {
	case !s.ESN:
		return nil
	case s.ID.Proto != klips.ProtoESP && s.ID.Proto != klips.ProtoAH:
		return cli.Usagef("--esn is for ESP and AH; a %s SA has no sequence numbers", s.ID.Proto)
	case s.Auth == alg.AuthNone && !enc.AEAD:
		return cli.Usagef("--esn: --esp %s does not authenticate its packets, and so not their sequence numbers; take one that does (see --help), or leave --esn out", p.alg)
	case s.Window == 0:
		s.Window = KLIPSWindow
	}
	return nil
}

// begin checks whether the SA can continue from the given sequence numbers.
func (p *parser) begin() error {
	s := &p.req.spec
	for _, o := range [...]struct {
		name  string
		value *uint64
	}{{"seq", s.Seq}, {"replay-seq", s.ReplaySeq}} {
		switch {
		case o.value == nil:
		case s.ID.Proto != klips.ProtoESP && s.ID.Proto != klips.ProtoAH:
			return cli.Usagef("--%s is for ESP and AH; a %s SA has no sequence numbers", o.name, s.ID.Proto)
		case !s.ESN && *o.value > math.MaxUint32:
			return cli.Usagef("--%s %d: too large, at most %d without --esn", o.name, *o.value, uint32(math.MaxUint32))
		}
	}
	if s.ReplaySeq != nil && s.Window == 0 {
		return cli.Usagef("--replay-seq: without a replay window no number is compared; add --replay_window")
	}
	return nil
}

// dropKeys removes keys that the algorithms do not use: KLIPS' tools accept such
// command lines and do not send the keys.
func (p *parser) dropKeys() {
	s := &p.req.spec
	if enc, _ := s.Enc.Info(); s.Auth == alg.AuthNone && !enc.AEAD && s.AuthKey != nil {
		clear(s.AuthKey)
		s.AuthKey = nil
		p.req.notes = append(p.req.notes, "nothing is authenticated, --authkey is not used")
	}
	if (s.Enc == alg.EncNone || s.Enc == alg.Null) && s.EncKey != nil {
		clear(s.EncKey)
		s.EncKey = nil
		p.req.notes = append(p.req.notes, "nothing is encrypted, --enckey is not used")
	}
}
