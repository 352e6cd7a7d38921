package control

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"syscall"

	"github.com/klips-go/ipsec/klips/pfkey"
)

// maxData is the maximum data in one message of a listing, in bytes, so that header and
// extensions also fit into MaxMessage.
const maxData = pfkey.MaxMessage - 64

// lengthLen is the length of the number before the data.
const lengthLen = 4

// SendList answers a LIST: it sends the records, one JSON value a line, in as many
// messages as needed, and a last one without data. A message is valid only during the
// call of send. SendList returns an error of send, and EMSGSIZE for a record that is
// too long for a message.
func SendList[T any](request *pfkey.Message, records iter.Seq[T], send func(*pfkey.Message) error) error {
	return SendPart(request, records, func() any { return nil }, send)
}

// SendPart is SendList for a request of [ListPart]. After the records it calls place. If
// that does not return nil, there are more records, and the last message has the place, as
// JSON.
func SendPart[T any](request *pfkey.Message, records iter.Seq[T], place func() any, send func(*pfkey.Message) error) error {
	l, err := newLister(request, send)
	if err != nil {
		return err
	}
	// Records are encoded in one place in memory, not each in its own.
	var record T
	for record = range records {
		if err := l.add(&record); err != nil {
			return err
		}
	}
	return l.end(place())
}

// A lister sends the messages of a listing. All use the same memory.
type lister struct {
	m     *pfkey.Message
	table Table
	exts  [2]pfkey.Extension
	data  []byte // the body of DATA: its length and the records
	rest  []byte // what did not fit
	send  func(*pfkey.Message) error
}

func newLister(request *pfkey.Message, send func(*pfkey.Message) error) (*lister, error) {
	table, err := TableOf(request)
	if err != nil {
		return nil, err
	}
	l := &lister{m: pfkey.Ack(request.Header), table: table, data: make([]byte, lengthLen, 1024), send: send}
	l.exts[0] = numberExt(ExtTable, uint32(table))
	return l, nil
}

// add adds a record, a pointer, after it has sent the earlier ones if there is no room.
func (l *lister) add(record any) (err error) {
	before := len(l.data)
	if l.data, err = appendRecord(l.data, record); err != nil {
		return fmt.Errorf("encode a record of table %d: %w", l.table, err)
	}
	if n := len(l.data) - before; n > maxData {
		return fmt.Errorf("a record of table %d has %d bytes: %w", l.table, n, syscall.EMSGSIZE)
	}
	if len(l.data)-lengthLen > maxData {
		return l.flush(before)
	}
	return nil
}

// flush sends the records that end at n.
func (l *lister) flush(n int) error {
	l.rest = append(l.rest[:0], l.data[n:]...)
	binary.NativeEndian.PutUint32(l.data, uint32(n-lengthLen))
	l.exts[1] = extension(ExtData, l.data[:n])
	l.data = l.exts[1].Body
	l.m.Private = l.exts[:]
	err := l.send(l.m)
	l.data = append(l.data[:lengthLen], l.rest...)
	return err
}

// end sends the remaining records, and the last message with a place unless that is nil.
func (l *lister) end(place any) error {
	if len(l.data) > lengthLen {
		if err := l.flush(len(l.data)); err != nil {
			return err
		}
	}
	l.m.Private = l.exts[:1]
	if place != nil {
		b, err := json.Marshal(place)
		if err != nil {
			return fmt.Errorf("encode a place in table %d: %w", l.table, err)
		}
		l.m.Private = []pfkey.Extension{l.exts[0], placeExt(b)}
	}
	return l.send(l.m)
}

// List requests a table with [ListTable], [ListSA] or [ListGroup] and returns its
// records. See [pfkey.Conn.Call] for the errors.
func List[T any](ctx context.Context, c *pfkey.Conn, request *pfkey.Message) ([]T, error) {
	var records []T
	err := c.CallEach(ctx, request, func(m *pfkey.Message) (done bool, err error) {
		if m.Errno != 0 {
			return true, nil
		}
		records, done, err = AppendRecords(records, m)
		return done, err
	})
	if err != nil {
		return nil, err
	}
	return records, nil
}

// ListingPart requests the part of a table that begins at a place, with [ListPart], and
// appends its records to dst. next is the place at which the next part begins, nil at the
// end. See [pfkey.Conn.Call] for the errors.
func ListingPart[T any](ctx context.Context, c *pfkey.Conn, t Table, place []byte, dst []T) (records []T, next []byte, err error) {
	records = dst
	err = c.CallEach(ctx, ListPart(t, place), func(m *pfkey.Message) (done bool, err error) {
		if m.Errno != 0 {
			return true, nil
		}
		records, done, err = AppendRecords(records, m)
		if err == nil && done {
			next, err = nextOf(m)
		}
		return done, err
	})
	return records, next, err
}

// AppendRecords appends the records of one message of a listing to dst. The last
// message has no data.
func AppendRecords[T any](dst []T, m *pfkey.Message) (records []T, last bool, err error) {
	data, ok, err := dataOf(m)
	if err != nil || !ok {
		return dst, true, err
	}
	if n := bytes.Count(data, []byte("\n")); n > cap(dst)-len(dst) {
		dst = slices.Grow(dst, max(n, len(dst))) // records are large: copy them seldom
	}
	for line := range bytes.Lines(data) {
		var none T
		dst = append(dst, none)
		last := len(dst) - 1
		if err := json.Unmarshal(line, &dst[last]); err != nil { // in its place: records are large
			return dst[:last], false, fmt.Errorf("decode a record of a listing: %w", err)
		}
	}
	return dst, false, nil
}

// ValueReply answers STATUS and TRACE with a value as JSON.
func ValueReply(request pfkey.Header, v any) (*pfkey.Message, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	m := pfkey.Ack(request)
	m.Private = []pfkey.Extension{dataExt(b)}
	return m, nil
}

// ValueOf sets v to the value of a reply of [ValueReply].
func ValueOf(reply *pfkey.Message, v any) error { return value(reply, v) }
