package sadb

import (
	"cmp"
	"time"

	"github.com/klips-go/ipsec/klips"
)

// Info returns the SA in the form of listings, without keys, at a time in nanoseconds.
// While packets use the SA, counters may differ by a packet.
func (sa *SA) Info(now int64) klips.SA {
	i := klips.SA{
		ID:         sa.ID,
		Transform:  sa.Transform,
		Dir:        sa.Dir,
		State:      sa.State(),
		Src:        sa.Src,
		IV:         sa.IV(),
		Window:     sa.Replay.Size(),
		ESN:        sa.ESN,
		Align8:     sa.Align8,
		CopyTOS:    sa.CopyTOS,
		ReplayErrs: sa.ReplayErrs.Load(),

		Seq:          sa.shownSeq(),
		Bitmap:       sa.Replay.Bitmap(),
		MaxSeqDiff:   sa.Replay.MaxDiff(),
		AuthKeyBits:  sa.AuthKeyBits,
		AuthErrs:     sa.AuthErrs.Load(),
		EncKeyBits:   sa.EncKeyBits,
		BelowMark:    sa.BelowMark.Load(),
		SeqWaits:     sa.SeqWaits.Load(),
		SizeErrs:     sa.SizeErrs.Load(),
		PadErrs:      sa.PadErrs.Load(),
		Drops:        sa.Drops.Read(),
		Uncompressed: sa.Uncompressed.Load(),
		Compressed:   sa.Compressed.Load(),
		NATT:         sa.NATT,
		RefCount:     klips.IdleRefs,
		Ref:          sa.Ref,
		RefHim:       sa.RefHim,
		OutIf:        sa.OutIf,
	}
	if p := sa.Policy(); p != nil {
		pol := *p
		i.Policy = &pol
		i.Flags |= klips.FlagInFlow
	}
	i.Life = klips.Life{
		Allocations: klips.Counter{Count: 1, Soft: uint64(sa.Soft.Allocations), Hard: uint64(sa.Hard.Allocations)},
		Bytes:       klips.Counter{Count: sa.Bytes.Load(), Soft: sa.Soft.Bytes, Hard: sa.Hard.Bytes},
		AddTime:     klips.Counter{Count: seconds(sa.Added, now), Soft: sa.Soft.AddTime, Hard: sa.Hard.AddTime},
		UseTime:     klips.Counter{Count: sa.useTime(now), Soft: sa.Soft.UseTime, Hard: sa.Hard.UseTime},
		Packets:     klips.Counter{Count: sa.Packets.Load(), Soft: sa.Soft.Packets, Hard: sa.Hard.Packets},
	}
	if sa.FirstUse.Load() != 0 {
		i.Used = true
		i.Idle = time.Duration(max(now-sa.LastUse.Load(), 0))
	}
	if chain := sa.Chain(); len(chain) > 1 {
		i.Next = make([]klips.SAID, len(chain)-1)
		for j, next := range chain[1:] {
			i.Next[j] = next.ID
		}
	}
	return i
}

// shownSeq returns the sequence number for listings: that of the last packet sent with
// an outbound SA, or the highest one received with an inbound one. KLIPS has one
// counter for both, so it also serves an SA used in the other direction.
func (sa *SA) shownSeq() uint64 {
	sent, received := sa.Seq.Load(), sa.Replay.Last()
	if sa.Dir == klips.Inbound {
		if sent == sa.Began {
			sent = 0 // none sent
		}
		return cmp.Or(received, sent)
	}
	return cmp.Or(sent, received)
}
