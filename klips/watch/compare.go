package watch

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
)

// Compare returns what has happened between two snapshots with SAs, eroutes, devices and
// drops, by the time now: SAs first, then eroutes, devices and drops of the stack. Those that
// the stack has sent messages about, which are in told, are not polled; told then forgets
// them. told may be nil.
func Compare(before, after *klips.Snapshot, now time.Time, told *Told) []Event {
	c := comparison{now: now, told: told}
	if c.told == nil {
		c.told = new(Told)
	}
	c.sas(before.SAs, after.SAs)
	c.eroutes(before.Eroutes, after.Eroutes)
	c.devices(before.Devices, after.Devices)
	c.drops(Event{}, before.Drops, after.Drops)
	c.told.changed = false
	return c.events
}

// A Told has what messages of the stack have announced and the next snapshot will show.
type Told struct {
	changed bool                          // SAs or eroutes have changed
	expired map[klips.SAID]bool           // true: by a hard limit
	moved   map[klips.SAID]netip.AddrPort // where packets come from
}

// Changed records that SAs or eroutes have changed.
func (t *Told) Changed() { t.changed = true }

// Expired records that a lifetime limit of an SA has passed.
func (t *Told) Expired(id klips.SAID, hard bool) {
	if t.expired == nil {
		t.expired = map[klips.SAID]bool{}
	}
	t.expired[id] = t.expired[id] || hard
}

// Moved records where packets of an SA come from now, and reports whether that is news.
func (t *Told) Moved(id klips.SAID, to netip.AddrPort) (news bool) {
	if t.moved == nil {
		t.moved = map[klips.SAID]netip.AddrPort{}
	}
	news = t.moved[id] != to
	t.moved[id] = to
	return news
}

type comparison struct {
	now    time.Time
	told   *Told
	events []Event
}

// add adds an event. It was found by polling, unless a stack sends messages about such events
// and has sent some.
func (c *comparison) add(e Event) {
	e.Time, e.Polled = c.now, true
	switch e.Kind {
	case SAMade, SARemoved, ErouteMade, ErouteChanged, ErouteRemoved, PolicyChanged:
		e.Polled = !c.told.changed
	}
	c.events = append(c.events, e)
}

func (c *comparison) sas(before, after []klips.SA) {
	old := make(map[klips.SAID]*klips.SA, len(before))
	for i := range before {
		old[before[i].ID] = &before[i]
	}
	for i := range after {
		sa := &after[i]
		was := old[sa.ID]
		delete(old, sa.ID)
		if was != nil && isAnother(was, sa) {
			c.gone(was)
			was = nil
		}
		if was == nil {
			c.add(Event{Kind: SAMade, SA: sa.ID})
			was = &klips.SA{ID: sa.ID, Dir: sa.Dir, State: klips.Mature, Src: sa.Src, NATT: sa.NATT, Policy: sa.Policy}
		}
		c.sa(was, sa)
	}
	for i := range before { // in the order of the listing
		if sa := old[before[i].ID]; sa != nil {
			c.gone(sa)
		}
	}
}

// isAnother reports whether an SA was made again between two readings.
func isAnother(was, sa *klips.SA) bool {
	return was.Ref != sa.Ref || sa.Life.AddTime.Count < was.Life.AddTime.Count || sa.Life.Packets.Count < was.Life.Packets.Count
}

// gone adds the event of an SA that is gone.
func (c *comparison) gone(sa *klips.SA) {
	hard, told := c.told.expired[sa.ID]
	delete(c.told.expired, sa.ID)
	delete(c.told.moved, sa.ID)
	if !told || !hard {
		c.add(Event{Kind: SARemoved, SA: sa.ID})
		return
	}
	c.add(Event{Kind: SAExpired, SA: sa.ID})
	c.events[len(c.events)-1].Polled = false
}

// sa compares two readings of one SA.
func (c *comparison) sa(was, sa *klips.SA) {
	if !was.Used && sa.Used {
		c.add(Event{Kind: SAUsed, SA: sa.ID})
	}
	if was.State != klips.Dying && sa.State == klips.Dying {
		_, told := c.told.expired[sa.ID]
		delete(c.told.expired, sa.ID)
		c.add(Event{Kind: SADying, SA: sa.ID})
		c.events[len(c.events)-1].Polled = !told
	}
	if limit := highSequence(sa); was.Seq < limit && sa.Seq >= limit {
		c.add(Event{Kind: SequenceHigh, SA: sa.ID, Count: sa.Seq})
	}
	if from, to := peer(was), peer(sa); from != to && c.told.Moved(sa.ID, to) {
		c.add(Event{Kind: PeerMoved, SA: sa.ID, From: from, To: to})
	}
	if !samePolicy(was.Policy, sa.Policy) {
		e := Event{Kind: PolicyChanged, SA: sa.ID}
		if sa.Policy != nil {
			e.Eroute = *sa.Policy
		}
		c.add(e)
	}
	c.drops(Event{SA: sa.ID}, was.DropCounts(), sa.DropCounts())
}

// highSequence returns three quarters of an SA's largest sequence number; 0 if it has none.
// Then there is time for a new SA, before no packet can be sent (RFC 4303 section 3.3.3).
func highSequence(sa *klips.SA) uint64 {
	return sa.MaxSeq() / 4 * 3
}

// peer returns the address and port that an inbound SA expects packets from, or that they
// come from in fact, or that an outbound one in UDP sends them to.
func peer(sa *klips.SA) netip.AddrPort {
	switch {
	case sa.HeardAddr.IsValid():
		return sa.HeardFrom()
	case sa.Dir == klips.Inbound:
		return netip.AddrPortFrom(sa.Src, sa.NATT.SPort)
	}
	return netip.AddrPortFrom(sa.ID.Dst, sa.NATT.DPort)
}

func samePolicy(a, b *klips.InboundPolicy) bool {
	return a == nil && b == nil || a != nil && b != nil && *a == *b
}

func (c *comparison) eroutes(before, after []klips.Eroute) {
	old := make(map[klips.Selector]*klips.Eroute, len(before))
	for i := range before {
		old[before[i].Selector] = &before[i]
	}
	for i := range after {
		e := &after[i]
		was := old[e.Selector]
		delete(old, e.Selector)
		switch {
		case was == nil:
			c.add(Event{Kind: ErouteMade, Eroute: e.Selector, Target: e.ID})
		case !was.SameTarget(e):
			c.add(Event{Kind: ErouteChanged, Eroute: e.Selector, Target: e.ID})
		}
	}
	for i := range before {
		if e := old[before[i].Selector]; e != nil {
			c.add(Event{Kind: ErouteRemoved, Eroute: e.Selector, Target: e.ID})
		}
	}
}

func (c *comparison) devices(before, after []klips.Device) {
	old := map[string]*klips.Device{}
	for i := range before {
		old[before[i].Name] = &before[i]
	}
	for i := range after {
		d, was := &after[i], old[after[i].Name]
		if was == nil {
			was = &klips.Device{}
		}
		delete(old, d.Name)
		c.attachment(d.Name, was.Physical, d.Physical)
		c.drops(Event{Device: d.Name}, was.Drops, d.Drops)
	}
	for i := range before {
		if d := old[before[i].Name]; d != nil {
			c.attachment(d.Name, d.Physical, "")
		}
	}
}

func (c *comparison) attachment(device, was, is string) {
	if was == is {
		return
	}
	if was != "" {
		c.add(Event{Kind: Detached, Device: device, Physical: was})
	}
	if is != "" {
		c.add(Event{Kind: Attached, Device: device, Physical: is})
	}
}

// drops adds an event for each reason with more packets. Counts that are lower than before
// are those of a stack that has been started again.
func (c *comparison) drops(by Event, before, after drop.Counts) {
	for _, word := range slices.Sorted(maps.Keys(after)) {
		if more := after[word]; more > before[word] {
			by.Kind, by.Reason, by.Count = Dropped, word, more-before[word]
			c.add(by)
		}
	}
}
