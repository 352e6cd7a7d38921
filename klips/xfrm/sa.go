package xfrm

import (
	"errors"
	"syscall"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// maxShortWindow is the largest window of a state without a ReplayESN, in packets.
const maxShortWindow = 32

// newSA makes an SA from a spec, with copies of the keys.
func newSA(spec *klips.SASpec, now time.Time) (*sa, error) {
	bad := func(err syscall.Errno, reason string) (*sa, error) {
		return nil, refuse("add SA", spec.ID.String(), err, reason)
	}
	s := &sa{
		id: spec.ID, src: spec.Src, ref: spec.Ref, refHim: spec.RefHim, outIf: spec.OutIf, offload: spec.Offload, copyTOS: spec.CopyTOS,
		made: true, reuseKey: spec.ReuseKey, seq: copied(spec.Seq), replaySeq: copied(spec.ReplaySeq),
		soft: spec.Soft.Allocations, hard: spec.Hard.Allocations, added: uint64(now.Unix()),
	}
	if s.hard != 0 {
		s.soft = min(s.soft, s.hard)
	}
	if f := spec.Fault(); f != klips.FaultNone {
		return nil, &klips.OpError{Op: "add SA", Object: spec.ID.String(), Err: syscall.EINVAL, Fault: f}
	}
	if err := spec.CheckName(); err != nil {
		return bad(errnoOf(err), "")
	}
	if spec.Offload != "" && spec.ID.Proto != klips.ProtoESP {
		return nil, fault("add SA", spec.ID, klips.FaultOffload, "")
	}
	if err := spec.Check(); err != nil {
		return bad(errnoOf(err), "")
	}
	if spec.Src.Is4() != spec.ID.Dst.Is4() {
		return bad(syscall.EINVAL, "the source and the destination are of different families")
	}
	timed := func(l klips.Limits) bool { return l.Bytes|l.AddTime|l.UseTime|l.Packets != 0 }
	if spec.ID.Proto == klips.ProtoTun {
		if timed(spec.Soft) || timed(spec.Hard) {
			return bad(syscall.EOPNOTSUPP, "this kernel does not count the packets of a tun SA: give the limits to the SA that follows it, or use stack user")
		}
		return s, nil
	}
	s.state = &nlxfrm.State{
		ID:     kernelID(spec.ID),
		Family: family(spec.ID.Dst),
		// As in KLIPS' outer headers, DF is clear. A tunnel carries both families, so the
		// outer family must not restrict the inner one.
		Flags: nlxfrm.FlagNoPMTUDisc | nlxfrm.FlagAFUnspec,
		Limits: nlxfrm.Limits{
			SoftBytes: soft(spec.Soft.Bytes, spec.Hard.Bytes), HardBytes: spec.Hard.Bytes,
			SoftPackets: soft(spec.Soft.Packets, spec.Hard.Packets), HardPackets: spec.Hard.Packets,
			SoftAddSeconds: soft(spec.Soft.AddTime, spec.Hard.AddTime), HardAddSeconds: spec.Hard.AddTime,
			SoftUseSeconds: soft(spec.Soft.UseTime, spec.Hard.UseTime), HardUseSeconds: spec.Hard.UseTime,
		},
	}
	if !setAlgorithms(s.state, spec) {
		s.state.ClearKeys()
		return bad(syscall.EOPNOTSUPP, "this kernel has no such algorithm; stack user may have it")
	}
	if spec.ID.Proto == klips.ProtoAH && spec.ID.Dst.Is4() && !spec.Align8 {
		s.state.Flags |= nlxfrm.FlagAlign4 // RFC 4302 section 3.3.3.2.1, as KLIPS has it
	}
	switch {
	case spec.ESN, spec.Window > maxShortWindow:
		s.state.ReplayESN = nlxfrm.NewReplayESN(spec.Window)
		if spec.ESN {
			s.state.Flags |= nlxfrm.FlagESN
		}
	case spec.ID.Proto != klips.ProtoComp:
		s.state.ReplayWindow = uint8(spec.Window)
		if spec.Window == 0 {
			s.state.ExtraFlags |= nlxfrm.ExtraOSeqMayWrap // the receiver ignores the numbers
		}
	}
	s.state = resume(s.state, value(spec.Seq), value(spec.ReplaySeq))
	if n := spec.NATT.WithPorts(); n.Type != klips.NATTNone {
		s.state.Encap = &nlxfrm.Encap{Type: uint16(n.Type), SrcPort: n.SPort, DstPort: n.DPort, Original: n.OA}
	}
	return s, nil
}

func copied(n *uint64) *uint64 {
	if n == nil {
		return nil
	}
	return new(*n)
}

// value returns *n, or 0 for nil.
func value(n *uint64) uint64 {
	if n == nil {
		return 0
	}
	return *n
}

// resume returns a copy of a new state that continues after the number sent. Its window
// counts received and all lower numbers as received.
func resume(s *nlxfrm.State, sent, received uint64) *nlxfrm.State {
	r := *s
	if s.ReplayESN == nil {
		known := min(received, uint64(s.ReplayWindow))
		r.Replay = &nlxfrm.Replay{OutSeq: uint32(sent), Seq: uint32(received), Bitmap: uint32(1<<known - 1)}
		if *r.Replay == (nlxfrm.Replay{}) {
			r.Replay = nil // the kernel's form without a window
		}
		return &r
	}
	e := nlxfrm.NewReplayESN(s.ReplayESN.Window)
	e.OutSeqHigh, e.OutSeq = uint32(sent>>32), uint32(sent)
	e.SeqHigh, e.Seq = uint32(received>>32), uint32(received)
	for i := range min(received, uint64(e.Window)) {
		pos := (uint32(received-i) - 1) % e.Window
		e.Bitmap[pos/32] |= 1 << (pos % 32)
	}
	r.ReplayESN = e
	return &r
}

// soft returns the soft limit, at most the hard one.
func soft(soft, hard uint64) uint64 {
	if hard != 0 {
		return min(soft, hard)
	}
	return soft
}

// errnoOf returns the errno in an error that has one.
func errnoOf(err error) syscall.Errno {
	var errno syscall.Errno
	errors.As(err, &errno)
	return errno
}

// list returns the SA in the form of listings.
func (s *sa) list(now time.Time) klips.SA {
	l := klips.SA{
		ID: s.id, Dir: s.dir, State: klips.Mature, Src: s.src, Policy: s.policy,
		CopyTOS: s.copyTOS, RefCount: klips.IdleRefs, Ref: s.ref, RefHim: s.refHim, OutIf: s.outIf, Next: s.next(),
	}
	if s.ref == 0 {
		l.Ref = s.age
	}
	if s.policy != nil {
		l.Flags |= klips.FlagInFlow
	}
	l.Life.Allocations = klips.Counter{Count: 1, Soft: uint64(s.soft), Hard: uint64(s.hard)}
	l.Life.AddTime.Count = since(now, s.added)
	carrier := s.state
	if carrier == nil && s.outer != nil {
		carrier = s.outer.state // a tun SA has the counters of the SA in tunnel mode
	}
	if carrier == nil {
		return l
	}
	c := carrier.Current
	l.Life.Bytes.Count, l.Life.Packets.Count = c.Bytes, c.Packets
	if c.UseTime != 0 {
		l.Used = true
		l.Life.UseTime.Count = since(now, c.UseTime)
		l.Idle = time.Duration(since(now, max(carrier.LastUsed, c.UseTime))) * time.Second
	}
	if s.state == nil {
		return l
	}
	l.Transform, l.AuthKeyBits, l.EncKeyBits = algorithms(s.state)
	k := s.state.Limits
	l.Life.Bytes.Soft, l.Life.Bytes.Hard = k.SoftBytes, k.HardBytes
	l.Life.Packets.Soft, l.Life.Packets.Hard = k.SoftPackets, k.HardPackets
	l.Life.AddTime.Soft, l.Life.AddTime.Hard = k.SoftAddSeconds, k.HardAddSeconds
	l.Life.UseTime.Soft, l.Life.UseTime.Hard = k.SoftUseSeconds, k.HardUseSeconds
	l.Drops = stateDrops(s.state.Stats)
	l.AuthErrs = s.state.Stats.IntegrityFailed
	l.ReplayErrs = s.state.Stats.Replayed + s.state.Stats.OutOfWindow
	l.Window = s.windowSize()
	l.ESN = s.state.Flags&nlxfrm.FlagESN != 0
	l.Align8 = l.ID.Proto == klips.ProtoAH && l.ID.Dst.Is4() && s.state.Flags&nlxfrm.FlagAlign4 == 0
	switch r, e := s.state.Replay, s.state.ReplayESN; {
	case e != nil:
		l.Seq = uint64(e.OutSeqHigh)<<32 | uint64(e.OutSeq)
		if s.dir == klips.Inbound {
			l.Seq, l.Bitmap = uint64(e.SeqHigh)<<32|uint64(e.Seq), newest(e)
		}
	case r != nil:
		l.Seq = uint64(r.OutSeq)
		if s.dir == klips.Inbound {
			l.Seq, l.Bitmap = uint64(r.Seq), uint64(r.Bitmap)
		}
	}
	if e := s.state.Encap; e != nil {
		l.NATT = klips.NATT{Type: klips.NATTType(e.Type), SPort: e.SrcPort, DPort: e.DstPort}
		if e.Original.IsValid() && !e.Original.IsUnspecified() {
			l.NATT.OA = e.Original
		}
	}
	return l
}

// newest returns the newest 64 bits of a window: bit n is the packet n before the
// highest received.
func newest(e *nlxfrm.ReplayESN) (bits uint64) {
	if e.Window == 0 || len(e.Bitmap) == 0 {
		return 0
	}
	for n := range min(e.Window, 64) {
		if e.SeqHigh == 0 && n >= e.Seq {
			break
		}
		pos := (e.Seq - 1 - n) % e.Window
		if int(pos/32) < len(e.Bitmap) && e.Bitmap[pos/32]>>(pos%32)&1 != 0 {
			bits |= 1 << n
		}
	}
	return bits
}

func since(now time.Time, seconds uint64) uint64 {
	if n := uint64(now.Unix()); n > seconds {
		return n - seconds
	}
	return 0
}
