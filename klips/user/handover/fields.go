package handover

import (
	"maps"
	"slices"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/user/replay"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// version increases with each change of the fields below, or of their order.
const version = 7

// oldest is the oldest version that can be read.
const oldest = 1

// Versions in which fields were added.
const (
	withDrops   = 2
	withAlign8  = 3
	withMTU     = 3
	withTOS     = 4
	withPathMTU = 4
	withDirect  = 5
	withAlso    = 6
	withHeard   = 7
)

func (c *codec) state(s *State) {
	num(c, &s.Now)
	for i := range s.Debug {
		num(c, &s.Debug[i])
	}
	list(c, &s.Knobs, func(k *klips.Knob) {
		c.text(&k.Name)
		num(c, &k.Value)
	})
	num(c, &s.SAs.LastRef)
	list(c, &s.SAs.SAs, c.sa)
	list(c, &s.SAs.Groups, func(g *[]int) {
		list(c, g, func(at *int) { num(c, at) })
	})
	list(c, &s.Paths, func(p *Path) {
		c.said(&p.ID)
		c.text(&p.Device)
		c.addr(&p.Src)
	})
	list(c, &s.Eroutes, c.eroute)
	list(c, &s.Holds, c.hold)
	nums(c, &s.Expired, &s.Evicted)
	list(c, &s.Devices, c.device)
	if c.version >= withDrops {
		c.counts(&s.Drops)
	}
	if c.version >= withPathMTU {
		list(c, &s.PathMTUs, func(p *PathMTU) {
			c.said(&p.ID)
			num(c, &p.MTU)
			num(c, &p.Until)
		})
	}
	if c.version >= withHeard {
		list(c, &s.Heard, func(h *Heard) {
			c.said(&h.ID)
			c.addr(&h.Addr)
			num(c, &h.Port)
		})
	}
}

func (c *codec) said(id *klips.SAID) {
	c.addr(&id.Dst)
	num(c, &id.SPI)
	num(c, &id.Proto)
}

func (c *codec) sa(s *sadb.Saved) {
	c.said(&s.ID)
	c.addr(&s.Src)
	num(c, &s.Auth)
	num(c, &s.Enc)
	num(c, &s.Comp)
	c.bytes(&s.AuthKey)
	c.bytes(&s.EncKey)
	num(c, &s.Window)
	c.bool(&s.ESN)
	c.limits(&s.Soft)
	c.limits(&s.Hard)
	num(c, &s.NATT.Type)
	nums(c, &s.NATT.SPort, &s.NATT.DPort)
	c.addr(&s.NATT.OA)
	nums(c, &s.Ref, &s.RefHim)
	num(c, &s.OutIf)
	num(c, &s.Dir)
	num(c, &s.State)
	c.bytes(&s.IV)
	nums(c, &s.Added, &s.FirstUse, &s.LastUse)
	nums(c, &s.Bytes, &s.Packets, &s.Uncompressed, &s.Compressed)
	nums(c, &s.AuthErrs, &s.ReplayErrs, &s.SizeErrs, &s.PadErrs)
	optional(c, &s.Policy, c.selector)
	num(c, &s.Seq)
	c.window(&s.Replay)
	num(c, &s.KeyRank)
	if c.version >= withDrops {
		nums(c, &s.BelowMark, &s.SeqWaits)
		nums(c, &s.Began, &s.Remembered)
		c.counts(&s.Drops)
	}
	if c.version >= withAlign8 {
		c.bool(&s.Align8)
	}
	if c.version >= withTOS {
		c.bool(&s.CopyTOS)
	}
}

func (c *codec) limits(l *klips.Limits) {
	num(c, &l.Allocations)
	nums(c, &l.Bytes, &l.AddTime, &l.UseTime, &l.Packets)
}

func (c *codec) window(w *replay.Saved) {
	num(c, &w.Size)
	num(c, &w.Last)
	num(c, &w.MaxDiff)
	list(c, &w.Words, func(p *uint64) { num(c, p) })
}

func (c *codec) selector(s *klips.Selector) {
	c.prefix(&s.Src)
	c.prefix(&s.Dst)
	num(c, &s.Proto)
	nums(c, &s.SrcPort, &s.DstPort)
}

func (c *codec) eroute(e *Eroute) {
	c.selector(&e.Selector)
	c.said(&e.ID)
	num(c, &e.Packets)
	num(c, &e.PID)
	optional(c, &e.IdentSrc, c.ident)
	optional(c, &e.IdentDst, c.ident)
	num(c, &e.LastUse)
	if c.version >= withAlso {
		list(c, &e.Also, c.said)
	}
}

func (c *codec) ident(i *klips.Ident) {
	num(c, &i.Type)
	num(c, &i.ID)
	c.text(&i.Text)
}

func (c *codec) hold(h *Hold) {
	c.selector(&h.Route)
	num(c, &h.Since)
	num(c, &h.Trap)
	c.bool(&h.InPlace)
	optional(c, &h.First, c.packet)
	optional(c, &h.Last, c.packet)
}

func (c *codec) packet(p *Packet) {
	c.text(&p.Device)
	c.bytes(&p.Bytes)
}

func (c *codec) device(d *Device) {
	c.text(&d.Name)
	s := &d.Stats
	nums(c, &s.TxPackets, &s.TxBytes, &s.TxErrors, &s.TxDropped, &s.RxPackets, &s.RxBytes, &s.RxErrors, &s.RxDropped)
	c.bool(&d.EverAttached)
	c.bool(&d.Attached)
	num(c, &d.AttMTU)
	c.text(&d.Wanted)
	num(c, &d.WantedIndex)
	if c.version >= withDrops {
		c.counts(&d.Drops)
	}
	if c.version >= withMTU {
		num(c, &d.ChosenMTU)
	}
	if c.version >= withDirect {
		c.bool(&d.Direct)
	}
}

// counts are by word.
func (c *codec) counts(p *drop.Counts) {
	words := slices.Sorted(maps.Keys(*p))
	var before string
	list(c, &words, func(word *string) {
		c.text(word)
		n := (*p)[*word]
		num(c, &n)
		switch {
		case c.mode != reading || c.err != nil:
			return
		case *word <= before || n == 0:
			c.fail("the count %d of %q is out of place", n, *word)
			return
		case *p == nil:
			*p = drop.Counts{}
		}
		(*p)[*word], before = n, *word
	})
}
