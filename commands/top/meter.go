package top

import "time"

// A count is what was counted of an object since it was made.
type count struct{ packets, bytes, drops uint64 }

// A rate is what was counted in a second.
type rate struct{ packets, bytes, drops float64 }

// A meter makes rates of the counts of two readings. An object that was not there at the
// first one has been made since. So has one whose counts are lower than before.
type meter[K comparable] struct {
	before, now map[K]count
	at          time.Time // of the last reading
	seconds     float64   // between the two; 0: there is only one
}

// begin begins a reading.
func (m *meter[K]) begin(at time.Time) {
	m.seconds = 0
	if m.now != nil {
		m.seconds = at.Sub(m.at).Seconds()
	}
	m.before, m.now, m.at = m.now, make(map[K]count, len(m.now)), at
}

// rate takes the count of an object, and returns its rate. It is not known at the first
// reading.
func (m *meter[K]) rate(object K, c count) (r rate, known bool) {
	m.now[object] = c
	if m.seconds <= 0 {
		return rate{}, false
	}
	b := m.before[object]
	per := func(now, before uint64) float64 {
		if now < before {
			before = 0
		}
		return float64(now-before) / m.seconds
	}
	return rate{per(c.packets, b.packets), per(c.bytes, b.bytes), per(c.drops, b.drops)}, true
}
