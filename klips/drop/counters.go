package drop

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
)

// Counts are numbers of packets by reason, as words: a reader that is older than the
// writer keeps words that it does not know. What is zero is not there.
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

// Add counts n packets more.
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

// Counters count packets that go no further, by reason. They only grow. The zero value
// is ready, and small until the first such packet. Any goroutine may use them; none
// waits for another.
type Counters struct {
	counts atomic.Pointer[[numReasons]atomic.Uint64]
}

// Add counts n packets more. It allocates the first time.
func (c *Counters) Add(r Reason, n uint64) {
	if r == None || r >= numReasons {
		r = Failed // no packet goes uncounted
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

// Read returns what is not zero, nil where all is.
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

// Restore lets new counters go on from what others have counted. A word that this
// program does not know counts as [Failed].
func (c *Counters) Restore(l Counts) {
	for word, n := range l {
		r, _ := Parse(word)
		c.Add(r, n)
	}
}
