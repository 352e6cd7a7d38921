package drop

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
)

// Counts are numbers of packets by reason, as words. So an older reader keeps words
// that it does not know. Zero counts are absent.
type Counts map[string]uint64

// String lists the counts by word, as in "bad-icv=1 no-sa=2".
func (c Counts) String() string {
	var b strings.Builder
	for _, word := range slices.Sorted(maps.Keys(c)) {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%s=%d", word, c[word])
	}
	return b.String()
}

// Add adds n packets.
func (c Counts) Add(r Reason, n uint64) {
	if n > 0 {
		c[r.String()] += n
	}
}

// Total returns the number of all packets.
func (c Counts) Total() (n uint64) {
	for _, v := range c {
		n += v
	}
	return n
}

// Counters count dropped packets by reason. They only grow. The zero value is ready,
// and small until the first such packet. All goroutines may use them without waiting.
type Counters struct {
	counts atomic.Pointer[[numReasons]atomic.Uint64]
}

// Add adds n packets. Its first call allocates.
func (c *Counters) Add(r Reason, n uint64) {
	if r == None || r >= numReasons {
		r = Failed // every packet must be counted
	}
	c.all()[r].Add(n)
}

func (c *Counters) all() *[numReasons]atomic.Uint64 {
	for {
		if p := c.counts.Load(); p != nil {
			return p
		}
		c.counts.CompareAndSwap(nil, new([numReasons]atomic.Uint64))
	}
}

// Read returns the counts that are not zero, nil if all are.
func (c *Counters) Read() Counts {
	p := c.counts.Load()
	if p == nil {
		return nil
	}
	var l Counts
	for r := range p {
		if n := p[r].Load(); n != 0 {
			if l == nil {
				l = Counts{}
			}
			l.Add(Reason(r), n)
		}
	}
	return l
}

// Restore makes new counters continue from saved counts. A word that this program does
// not know counts as [Failed].
func (c *Counters) Restore(l Counts) {
	for word, n := range l {
		r, _ := Parse(word)
		c.Add(r, n)
	}
}
