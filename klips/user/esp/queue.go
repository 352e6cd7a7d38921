package esp

import (
	"github.com/klips-go/ipsec/klips/internal/arrange"
	"github.com/klips-go/ipsec/klips/user/internal/icv"
	"github.com/klips-go/ipsec/klips/user/packet"
)

// A Queue has ESP packets whose headers are complete, and which lack encryption and ICV.
// Several packets of one SA take less time together than one after the other: CBC and the
// hashes leave most of the processor idle while a block waits for the one before.
//
// A Queue belongs to one goroutine, as do all its Sealers. Packets of several of them may
// be mixed. It does not allocate after NewQueue.
type Queue struct {
	laid     []laid
	blocks   [][]byte
	messages []icv.Message
}

// laid is a packet in a queue.
type laid struct {
	s   *Sealer
	b   *packet.Buffer
	e   []byte // what follows the IP header
	seq uint64
}

// likes reports whether two packets are of one Sealer.
func (l *laid) likes(m *laid) bool { return l.s == m.s }

// NewQueue makes a queue for up to n packets.
func NewQueue(n int) *Queue {
	return &Queue{make([]laid, 0, n), make([][]byte, 0, n), make([]icv.Message, 0, n)}
}

// Lay does the same as Seal, except that the packet lacks encryption and ICV, unless the
// cipher is a combined mode. b.Due is then packet.DueESP, and the packet's content must
// stay where it is in b.B until Finish. Headers before it may be added and changed. If
// the queue is full, Lay calls Finish first. Errors are those of Seal.
func (s *Sealer) Lay(q *Queue, b *packet.Buffer, h *packet.Header, seq uint64) error {
	e, err := s.lay(b, h, seq)
	if err != nil || s.aead != nil {
		return err
	}
	if len(q.laid) == cap(q.laid) {
		q.Finish()
	}
	b.Due |= packet.DueESP
	q.laid = append(q.laid, laid{s, b, e, seq})
	return nil
}

// Finish encrypts and authenticates all packets of the queue, which is empty then.
func (q *Queue) Finish() {
	arrange.Groups(q.laid, (*laid).likes, func(l []laid) {
		l[0].s.complete(l, q.blocks[:0], q.messages[:0])
		for i := range l {
			l[i].b.Due &^= packet.DueESP
		}
	})
	// Nothing here may keep an SA, whose keys are overwritten when nothing refers to it.
	clear(q.laid)
	q.laid = q.laid[:0]
}

// complete encrypts and authenticates packets of this Sealer. blocks and messages are
// empty and have room for so many.
func (s *Sealer) complete(l []laid, blocks [][]byte, messages []icv.Message) {
	switch {
	case s.aes != nil:
		for i := range l {
			blocks = append(blocks, l[i].e[HeaderLen:len(l[i].e)-s.icv])
		}
		s.aes.Encrypt(blocks)
	case s.des != nil:
		for i := range l {
			m := l[i].e[HeaderLen : len(l[i].e)-s.icv]
			s.des.SetIV(m[:s.iv])
			s.des.CryptBlocks(m[s.iv:], m[s.iv:])
		}
	}
	if s.mac != nil {
		for i := range l {
			messages = append(messages, s.message(l[i].e, l[i].seq))
		}
		s.mac.Sums(messages)
	}
}
