package engine

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/eroute"
	"github.com/klips-go/ipsec/klips/user/handover"
)

// The order of a hand-over keeps numbers from being used twice. First all packet
// processing stops. Then the state is written down. Then this engine forgets it. The next
// engine restores all of it before its first packet.
//
// The IVs of combined modes are not handed over. Each Sealer begins at a random IV, so
// the next engine counts as one more Sealer of the key; esp.Sealer has the figures.

// HandOver closes the engine, as Close does, and returns its state; nil if it was closed
// before. No other method may be called meanwhile. The state has keys; the caller
// overwrites them.
func (e *Engine) HandOver() *handover.State {
	s := &handover.State{Knobs: e.Knobs(), Debug: e.trace.get()}
	e.devMu.Lock()
	devs := e.devicesLocked()
	for _, d := range devs {
		s.Devices = append(s.Devices, d.saveLocked())
	}
	e.devMu.Unlock()
	if !e.quiesce() {
		return nil
	}
	e.devMu.Lock()
	for i, d := range devs {
		s.Devices[i].ChosenMTU = d.chosenMTU // no goroutine changes it any more
	}
	e.devMu.Unlock()
	for i, d := range devs {
		s.Devices[i].Stats, s.Devices[i].Drops = d.stats.read(), d.stats.drops.Read()
	}
	s.Drops = e.Drops()
	s.Now = e.now()
	s.SAs = *e.sas.Save()
	for i := range s.SAs.SAs { // as the next packet will find them
		if sa := e.sas.Lookup(s.SAs.SAs[i].ID); sa != nil {
			s.SAs.SAs[i].IV = info(sa, s.Now).IV
			if p := sa.Data.(*states).pathMTU.Load(); p != nil {
				s.PathMTUs = append(s.PathMTUs, handover.PathMTU{ID: sa.ID, MTU: p.mtu, Until: p.until})
			}
			if p := sa.Data.(*states).heard.Load(); p != nil {
				s.Heard = append(s.Heard, handover.Heard{ID: sa.ID, Addr: p.Addr(), Port: p.Port()})
			}
		}
	}
	s.Paths = e.savePaths()
	s.Eroutes = saveEroutes(e.routes)
	s.Holds = e.holds.save()
	s.Expired, s.Evicted = e.holds.expired.Load(), e.holds.evicted.Load()
	e.forget()
	return s
}

func (d *device) saveLocked() handover.Device {
	s := handover.Device{Name: d.link.Name(), EverAttached: d.everAttached, Wanted: d.wanted, WantedIndex: d.wantedIndex, Direct: d.direct}
	if a := d.att.Load(); a != nil {
		s.Attached, s.AttMTU = true, a.attMTU
	}
	return s
}

func (e *Engine) savePaths() (l []handover.Path) {
	e.keep.mu.Lock()
	defer e.keep.mu.Unlock()
	for sa := range e.keep.sas {
		if p := sa.Data.(*states).path.Load(); p != nil {
			l = append(l, handover.Path{ID: sa.ID, Device: p.d.link.Name(), Src: p.src})
		}
	}
	return l
}

func saveEroutes(t *eroute.Table) (l []handover.Eroute) {
	for _, r := range t.ByAge() {
		l = append(l, handover.Eroute{Eroute: r.Eroute(), LastUse: r.LastUse.Load()})
	}
	return l
}

func (hs *holds) save() (l []handover.Hold) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	for at := hs.byAge.Front(); at != nil; at = at.Next() {
		h := at.Value.(*held)
		l = append(l, handover.Hold{
			Route: h.route.Selector(), Since: h.since, Trap: h.trap, InPlace: h.inPlace,
			First: h.first.save(), Last: h.last.save(),
		})
	}
	return l
}

func (p *heldPacket) save() *handover.Packet {
	if p == nil {
		return nil
	}
	return &handover.Packet{Device: p.dev.link.Name(), Bytes: p.bytes}
}

// restore makes all that another engine has handed over, before the first packet. What
// cannot be made because a device is missing is left out, as when a daemon starts.
func (e *Engine) restore(s *handover.State) error {
	// The clock continues from its old value, so that all times keep their meaning. The
	// time of the hand-over itself does not count.
	e.start = e.clock.Now().Add(-time.Duration(max(s.Now-1, 0)))
	e.trace.set(klips.DebugChange{Set: true, Masks: s.Debug})
	knobs := map[string]int{}
	for _, k := range s.Knobs {
		if _, ok := e.knobs.find(k.Name); ok { // a knob of another version is left out
			knobs[k.Name] = k.Value
		}
	}
	if err := e.SetKnobs(knobs); err != nil {
		return err
	}
	sas, err := e.sas.Restore(&s.SAs, initStates)
	if err != nil {
		return err
	}
	e.watch(1, sas...)
	for i, sa := range sas {
		e.keeper.adopt(&s.SAs.SAs[i].SASpec, sa)
	}
	for _, r := range s.Eroutes {
		if err := e.routes.Add(r.Eroute); err != nil {
			return fmt.Errorf("eroute %v: %w", r.Selector, err)
		}
		e.routes.Get(r.Selector).LastUse.Store(r.LastUse)
	}
	devs, err := e.restoreDevices(s.Devices)
	if err != nil {
		return err
	}
	for _, p := range s.Paths {
		if sa, d := e.sas.Lookup(p.ID), devs[p.Device]; sa != nil && d != nil {
			sa.Data.(*states).follow(d, p.Src)
		}
	}
	for _, p := range s.PathMTUs {
		if sa := e.sas.Lookup(p.ID); sa != nil {
			sa.Data.(*states).pathMTU.Store(&pathMTU{p.MTU, p.Until})
		}
	}
	for _, h := range s.Heard {
		if sa := e.sas.Lookup(h.ID); sa != nil {
			sa.Data.(*states).heard.Store(new(netip.AddrPortFrom(h.Addr, h.Port)))
		}
	}
	e.restoreHolds(s, devs)
	e.nobody.drops.Restore(s.Drops)
	e.inherited.remember(sas, s.Eroutes)
	for _, d := range devs {
		e.startWorker(d)
	}
	return nil
}

// restoreDevices opens devices without workers. A worker would drop the packets that are
// routed into a device before it is attached.
func (e *Engine) restoreDevices(saved []handover.Device) (devs map[string]*device, err error) {
	e.devMu.Lock()
	defer e.devMu.Unlock()
	devs = map[string]*device{}
	defer func() {
		if err != nil {
			for _, d := range devs {
				d.awaitNothing()
				d.att.Swap(nil).retire()
				d.link.Close()
				e.devs[d.num] = nil
			}
		}
	}()
	for _, s := range saved {
		n, ok := klips.DeviceNumber(s.Name)
		if !ok || n >= len(e.devs) || e.devs[n] != nil {
			return devs, fmt.Errorf("there is no device %s", s.Name)
		}
		d, err := e.openLocked(n, s.Name)
		if err != nil {
			return devs, err
		}
		devs[s.Name] = d
		d.stats.restore(s.Stats)
		d.stats.drops.Restore(s.Drops)
		d.everAttached, d.wanted, d.wantedIndex, d.direct, d.chosenMTU = s.EverAttached, s.Wanted, s.WantedIndex, s.Direct, s.ChosenMTU
		if s.Attached {
			_, err := e.attachLocked(d, s.Wanted, s.Direct, true)
			if err == nil {
				d.att.Load().attMTU = s.AttMTU
				continue
			}
			e.inform(slog.LevelWarn, "it cannot be attached as it was", d, s.Wanted, slog.Any("err", err))
		}
		if d.wanted != "" {
			e.awaitLocked(d)
		}
	}
	return devs, nil
}

func (s *stats) restore(v klips.DeviceStats) {
	s.txPackets.Store(v.TxPackets)
	s.txBytes.Store(v.TxBytes)
	s.txErrors.Store(v.TxErrors)
	s.txDropped.Store(v.TxDropped)
	s.rxPackets.Store(v.RxPackets)
	s.rxBytes.Store(v.RxBytes)
	s.rxErrors.Store(v.RxErrors)
	s.rxDropped.Store(v.RxDropped)
}

func (e *Engine) restoreHolds(s *handover.State, devs map[string]*device) {
	hs := &e.holds
	hs.mu.Lock()
	defer hs.mu.Unlock()
	packet := func(p *handover.Packet) *heldPacket {
		if p == nil || devs[p.Device] == nil {
			return nil
		}
		return &heldPacket{dev: devs[p.Device], bytes: slices.Clone(p.Bytes)}
	}
	for _, h := range s.Holds {
		if r := e.routes.Get(h.Route); r != nil && hs.byRoute[r] == nil {
			e.keepHoldLocked(&held{route: r, trap: h.Trap, inPlace: h.InPlace, first: packet(h.First), last: packet(h.Last), since: h.Since})
		}
	}
	hs.expired.Store(s.Expired)
	hs.evicted.Store(s.Evicted)
	// The oldest may have waited too long already.
	if hs.timer != nil {
		hs.timer.Stop()
		hs.timer = e.clock.AfterFunc(0, e.expireHolds)
	}
}
