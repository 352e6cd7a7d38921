package ah

import (
	"github.com/klips-go/ipsec/klips/internal/arrange"
	"github.com/klips-go/ipsec/klips/user/internal/icv"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// maxHeader is the length in bytes of the longest IPv4 header. Packets with longer headers
// are rare, and do not wait in a queue.
const maxHeader = 60

// A Queue has AH packets that lack the ICV. Those of several packets of one SA take less
// time together than one after the other.
//
// A Queue belongs to one goroutine, as do all its Sealers. Packets of several of them may
// be mixed. It does not allocate after NewQueue.
type Queue struct {
	laid     []laid
	messages []icv.Message
}

// laid is a packet in a queue.
type laid struct {
	s   *Sealer
	b   *packet.Buffer
	p   []byte // from the IP header on
	seq uint64

	header [maxHeader]byte // the IP header as it is authenticated; size bytes of it
	size   int
}

// likes reports whether two packets are of one Sealer.
func (l *laid) likes(m *laid) bool { return l.s == m.s }

// NewQueue makes a queue for up to n packets.
func NewQueue(n int) *Queue {
	return &Queue{make([]laid, 0, n), make([]icv.Message, 0, n)}
}

// Takes reports whether Lay can add a packet with the header h. If not, Finish must be
// called first.
func (q *Queue) Takes(h *packet.Header) bool {
	return len(q.laid) < cap(q.laid) && h.Len <= maxHeader
}

// Lay does the same as Seal, except that the packet lacks the ICV. b.Due then includes
// packet.DueAH, and the packet must stay as it is, and where it is in b.B, until Finish.
// Headers before it may be added. b.Due may be packet.DueESP before, and then esp.Queue
// must finish before this queue. If the queue does not take the packet, Lay is Seal, which
// needs a packet that lacks nothing. Errors are those of Seal.
func (s *Sealer) Lay(q *Queue, b *packet.Buffer, h *packet.Header, seq uint64) error {
	if !q.Takes(h) {
		return s.Seal(b, h, seq)
	}
	if b.Due&packet.DueAH != 0 {
		return ErrDue
	}
	q.laid = q.laid[:len(q.laid)+1]
	l := &q.laid[len(q.laid)-1]
	l.size = h.Len
	p, err := s.lay(b, h, seq, l.header[:l.size])
	if err != nil {
		q.laid = q.laid[:len(q.laid)-1]
		return err
	}
	l.s, l.b, l.p, l.seq = s, b, p, seq
	b.Due |= packet.DueAH
	return nil
}

// Finish computes the ICVs of all packets of the queue, which is empty then. A packet
// that still lacks encryption keeps b.Due, and is lost.
func (q *Queue) Finish() {
	arrange.Groups(q.laid, (*laid).likes, func(l []laid) { l[0].s.complete(l, q.messages[:0]) })
	// Nothing here may keep an SA, whose keys are overwritten when nothing refers to it.
	clear(q.laid)
	q.laid = q.laid[:0]
}

// complete computes the ICVs of packets of this Sealer. messages is empty and has room
// for so many.
func (s *Sealer) complete(l []laid, messages []icv.Message) {
	for i := range l {
		x := &l[i]
		swap(x.header[:x.size], x.p)
		m := s.message(x.p, x.seq)
		m.ICV = x.p[x.size+FixedLen:][:s.mac.Size()]
		messages = append(messages, m)
	}
	s.mac.Sums(messages)
	for i := range l {
		x := &l[i]
		swap(x.header[:x.size], x.p)
		if x.b.Due&packet.DueESP == 0 {
			x.b.Due &^= packet.DueAH
		}
	}
}

// swap exchanges the content of a with the beginning of b.
func swap(a, b []byte) {
	for i := range a {
		a[i], b[i] = b[i], a[i]
	}
}
