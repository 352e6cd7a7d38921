package metrics

import (
	"fmt"
	"maps"
	"net/netip"
	"time"

	"github.com/klips-go/ipsec/commands/internal/openmetrics"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
)

// An sa has what the metrics of an SA need, in half the memory.
type sa struct {
	id        klips.SAID
	src       netip.Addr // not valid: any
	dir       klips.Direction
	state     klips.State
	transform klips.Transform
	encap     klips.NATTType
	offload   string

	packets, bytes, age, use klips.Counter
	seq, maxSeq              uint64 // maxSeq is 0 if there are no sequence numbers
	window                   uint32
	used                     bool
	idle                     time.Duration
	drops                    drop.Counts
	last                     bool // of its group
}

func newSA(s *klips.SA) sa {
	r := sa{
		id: s.ID, dir: s.Dir, state: s.State, transform: s.Transform, encap: s.NATT.Type, offload: s.Offload,
		packets: s.Life.Packets, bytes: s.Life.Bytes, age: s.Life.AddTime, use: s.Life.UseTime,
		seq: s.Seq, maxSeq: s.MaxSeq(), window: s.Window, used: s.Used, idle: s.Idle, last: len(s.Next) == 0,
	}
	if s.HasSource() {
		r.src = s.Src
	}
	if c := s.DropCounts(); len(c) > 0 {
		r.drops = c
	}
	return r
}

// saFamilies returns the families of SAs.
func saFamilies() []family[sa] {
	type writer = openmetrics.Writer
	count := func(of func(*sa) uint64) func(*writer, *sa) {
		return func(w *writer, s *sa) { w.Sample(of(s), saLabels(s)...) }
	}
	limits := func(of func(*sa) *klips.Counter) func(*writer, *sa) {
		return func(w *writer, s *sa) {
			c := of(s)
			for _, l := range [...]struct {
				word string
				n    uint64
			}{{"soft", c.Soft}, {"hard", c.Hard}} {
				if l.n != 0 {
					w.Sample(l.n, append(saLabels(s), openmetrics.Label{Name: "limit", Value: l.word})...)
				}
			}
		}
	}
	states := []string{klips.Larval.String(), klips.Mature.String(), klips.Dying.String(), klips.Dead.String()}
	return []family[sa]{
		{openmetrics.Family{Name: "ipsec_sa", Type: openmetrics.Info, Help: "A security association."},
			func(w *writer, s *sa) { w.Sample(1, append(saLabels(s), saFacts(s)...)...) }},
		{openmetrics.Family{Name: "ipsec_sa_state", Type: openmetrics.StateSet, Help: "The state. It is dying after a soft limit."},
			func(w *writer, s *sa) { w.States(states, s.state.String(), saLabels(s)...) }},
		{openmetrics.Family{Name: "ipsec_sa_packets", Type: openmetrics.Counter, Help: "Packets that it has processed."},
			count(func(s *sa) uint64 { return s.packets.Count })},
		{openmetrics.Family{Name: "ipsec_sa_bytes", Type: openmetrics.Counter, Unit: "bytes", Help: "Bytes that it has processed."},
			func(w *writer, s *sa) {
				if s.bytes.Below == 0 { // a KLIPS kernel counts those of AH wrongly
					w.Sample(s.bytes.Count, saLabels(s)...)
				}
			}},
		{openmetrics.Family{Name: "ipsec_sa_sequence_number", Type: openmetrics.Gauge, Help: "The sequence number last sent (out), or the highest received (in)."},
			func(w *writer, s *sa) {
				if s.maxSeq != 0 {
					w.Sample(s.seq, saLabels(s)...)
				}
			}},
		{openmetrics.Family{Name: "ipsec_sa_sequence_number_limit", Type: openmetrics.Gauge, Help: "The highest sequence number that it can have. Before that it needs another key."},
			func(w *writer, s *sa) {
				if s.maxSeq != 0 {
					w.Sample(s.maxSeq, saLabels(s)...)
				}
			}},
		{openmetrics.Family{Name: "ipsec_sa_replay_window_packets", Type: openmetrics.Gauge, Help: "The size of the replay window. 0: packets can be replayed."},
			func(w *writer, s *sa) {
				if s.maxSeq != 0 && s.dir.Receives() {
					w.Sample(uint64(s.window), saLabels(s)...)
				}
			}},
		{openmetrics.Family{Name: "ipsec_sa_age_seconds", Type: openmetrics.Gauge, Unit: "seconds", Help: "Time since it was made."},
			count(func(s *sa) uint64 { return s.age.Count })},
		{openmetrics.Family{Name: "ipsec_sa_use_seconds", Type: openmetrics.Gauge, Unit: "seconds", Help: "Time since its first packet."},
			func(w *writer, s *sa) {
				if s.used {
					w.Sample(s.use.Count, saLabels(s)...)
				}
			}},
		{openmetrics.Family{Name: "ipsec_sa_idle_seconds", Type: openmetrics.Gauge, Unit: "seconds", Help: "Time since its last packet."},
			func(w *writer, s *sa) {
				if s.used {
					w.Sample(uint64(max(s.idle, 0)/time.Second), saLabels(s)...)
				}
			}},
		{openmetrics.Family{Name: "ipsec_sa_age_limit_seconds", Type: openmetrics.Gauge, Unit: "seconds", Help: "The limit of its age."},
			limits(func(s *sa) *klips.Counter { return &s.age })},
		{openmetrics.Family{Name: "ipsec_sa_use_limit_seconds", Type: openmetrics.Gauge, Unit: "seconds", Help: "The limit of the time since its first packet."},
			limits(func(s *sa) *klips.Counter { return &s.use })},
		{openmetrics.Family{Name: "ipsec_sa_limit_bytes", Type: openmetrics.Gauge, Unit: "bytes", Help: "The limit of its bytes."},
			limits(func(s *sa) *klips.Counter { return &s.bytes })},
		{openmetrics.Family{Name: "ipsec_sa_limit_packets", Type: openmetrics.Gauge, Help: "The limit of its packets."},
			limits(func(s *sa) *klips.Counter { return &s.packets })},
		{openmetrics.Family{Name: "ipsec_sa_drops", Type: openmetrics.Counter, Help: "Packets that it has dropped, by the words of ipsec_look(8). A device counts them, too."},
			func(w *writer, s *sa) { writeDrops(w, saDrops(s), saLabels(s)...) }},
	}
}

// saLabels returns the labels that all samples of an SA have.
func saLabels(s *sa) []openmetrics.Label {
	return append(make([]openmetrics.Label, 0, 10), openmetrics.Label{Name: "said", Value: s.id.String()}, direction(s.dir))
}

// saFacts returns the labels for what does not change while an SA exists.
func saFacts(s *sa) []openmetrics.Label {
	src, encap := "", ""
	if s.src.IsValid() {
		src = s.src.String()
	}
	if s.encap != klips.NATTNone {
		encap = s.encap.String()
	}
	return []openmetrics.Label{
		{Name: "protocol", Value: s.id.Proto.String()}, {Name: "spi", Value: fmt.Sprintf("%#x", uint32(s.id.SPI))},
		{Name: "source", Value: src}, {Name: "destination", Value: s.id.Dst.String()},
		{Name: "transform", Value: s.transform.Name(s.id.Proto)}, {Name: "udp_encapsulation", Value: encap},
		{Name: "offload_device", Value: s.offload},
	}
}

// saDrops returns the dropped packets of an SA by reason. The counts of an SA that checks
// packets are there from the beginning. Otherwise the first bad packet would be no increase
// of a counter.
func saDrops(s *sa) drop.Counts {
	c := drop.Counts{}
	if s.dir.Receives() && s.maxSeq != 0 {
		if s.transform.Authenticates(s.id.Proto) {
			c[drop.BadICV.String()] = 0
		}
		if s.window != 0 {
			c[drop.Replayed.String()] = 0
		}
	}
	maps.Copy(c, s.drops)
	return c
}
