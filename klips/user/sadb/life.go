package sadb

import (
	"math"
	"time"

	"github.com/klips-go/ipsec/klips"
)

// Count records one packet of the given length. now is in nanoseconds of the clock that
// Add was given. It neither locks nor allocates.
func (sa *SA) Count(bytes uint64, now int64) {
	sa.Packets.Add(1)
	sa.Bytes.Add(bytes)
	if sa.FirstUse.Load() == 0 {
		sa.FirstUse.CompareAndSwap(0, max(now, 1)) // 0 means never
	}
	if sa.LastUse.Load() != now {
		sa.LastUse.Store(now)
	}
}

// Expired reports whether a hard or a soft limit has passed at a time in nanoseconds,
// and which: "bytes", "addtime", "usetime" or "packets". It tests them in that order,
// each hard limit before the soft one. A limit has passed when the value is strictly
// greater, before the current packet is counted; times are in whole seconds. When hard
// is true, soft has no meaning. [SA.Lapsed] is
// for unused SAs.
func (sa *SA) Expired(now int64) (hard, soft bool, which string) {
	if sa.Hard == (klips.Limits{}) && sa.Soft == (klips.Limits{}) {
		return false, false, ""
	}
	for _, d := range [...]struct {
		name             string
		value, hard, sft uint64
	}{
		{"bytes", sa.Bytes.Load(), sa.Hard.Bytes, sa.Soft.Bytes},
		{"addtime", seconds(sa.Added, now), sa.Hard.AddTime, sa.Soft.AddTime},
		{"usetime", sa.useTime(now), sa.Hard.UseTime, sa.Soft.UseTime},
		{"packets", sa.Packets.Load(), sa.Hard.Packets, sa.Soft.Packets},
	} {
		if d.hard != 0 && d.value > d.hard {
			return true, soft, d.name
		}
		if d.sft != 0 && d.value > d.sft && !soft {
			soft, which = true, d.name
		}
	}
	return false, soft, which
}

// HasTimes reports whether the SA has limits in seconds.
func (sa *SA) HasTimes() bool {
	return sa.Hard.AddTime|sa.Hard.UseTime|sa.Soft.AddTime|sa.Soft.UseTime != 0
}

// AwaitsUse reports whether the time of a limit begins with the first packet, which has
// not come yet.
func (sa *SA) AwaitsUse() bool {
	return sa.Hard.UseTime|sa.Soft.UseTime != 0 && sa.FirstUse.Load() == 0
}

// Lapsed reports whether a limit in seconds has been reached at a time in nanoseconds.
// next is when the next limit will be reached, as far as is known (see [SA.AwaitsUse]);
// math.MaxInt64: never. A soft limit counts only while the SA is mature. Lapsed reaches a
// limit exactly when its time has come, [SA.Expired] one second later.
func (sa *SA) Lapsed(now int64) (hard, soft bool, next int64) {
	next = math.MaxInt64
	reached := func(start int64, limit uint64) bool {
		if limit == 0 || limit > math.MaxInt64/2/uint64(time.Second) {
			return false
		}
		at := start + int64(limit)*int64(time.Second)
		if at > now {
			next = min(next, at)
		}
		return at <= now
	}
	mature := sa.State() == klips.Mature
	hard = reached(sa.Added, sa.Hard.AddTime)
	soft = mature && reached(sa.Added, sa.Soft.AddTime)
	if first := sa.FirstUse.Load(); first != 0 {
		hard = reached(first, sa.Hard.UseTime) || hard
		soft = mature && reached(first, sa.Soft.UseTime) || soft
	}
	return hard, soft, next
}

// useTime returns the seconds since the first packet, 0 before it.
func (sa *SA) useTime(now int64) uint64 {
	first := sa.FirstUse.Load()
	if first == 0 {
		return 0
	}
	return seconds(first, now)
}

// seconds returns the whole seconds from one time to another, 0 if the clock went back.
func seconds(from, to int64) uint64 {
	return uint64(max(to-from, 0)) / uint64(time.Second)
}

// clip lowers soft limits to the hard ones.
func clip(soft, hard klips.Limits) klips.Limits {
	c := func(s, h uint64) uint64 {
		if h != 0 && s > h {
			return h
		}
		return s
	}
	return klips.Limits{
		Allocations: uint32(c(uint64(soft.Allocations), uint64(hard.Allocations))),
		Bytes:       c(soft.Bytes, hard.Bytes),
		AddTime:     c(soft.AddTime, hard.AddTime),
		UseTime:     c(soft.UseTime, hard.UseTime),
		Packets:     c(soft.Packets, hard.Packets),
	}
}
