package control

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"syscall"

	"github.com/klips-go/ipsec/klips/pfkey"
)

// maxData is the maximum data in one message of a listing, in bytes, so that header and
// extensions also fit into MaxMessage.
const maxData = pfkey.MaxMessage - 64

// SendList answers a LIST: it sends the records, one JSON value a line, in as many
// messages as needed, and a last one without data. A message is valid only during the
// call of send. SendList returns an error of send, and EMSGSIZE for a record that is
// too long for a message.
func SendList[T any](request *pfkey.Message, records iter.Seq[T], send func(*pfkey.Message) error) error {
	table, err := TableOf(request)
	if err != nil {
		return err
	}
	m := pfkey.Ack(request.Header)
	tableExt := numberExt(ExtTable, uint32(table))
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	flush := func(n int) error {
		m.Private = []pfkey.Extension{tableExt, dataExt(buf.Bytes()[:n])}
		if err := send(m); err != nil {
			return err
		}
		buf.Next(n)
		return nil
	}
	for r := range records {
		before := buf.Len()
		if err := enc.Encode(r); err != nil {
			return fmt.Errorf("encode a record of table %d: %w", table, err)
		}
		if n := buf.Len() - before; n > maxData {
			return fmt.Errorf("a record of table %d has %d bytes: %w", table, n, syscall.EMSGSIZE)
		}
		if buf.Len() > maxData {
			if err := flush(before); err != nil {
				return err
			}
		}
	}
	if buf.Len() > 0 {
		if err := flush(buf.Len()); err != nil {
			return err
		}
	}
	m.Private = []pfkey.Extension{tableExt}
	return send(m)
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

// AppendRecords appends the records of one message of a listing to dst. The last
// message has no data.
func AppendRecords[T any](dst []T, m *pfkey.Message) (records []T, last bool, err error) {
	data, ok, err := dataOf(m)
	if err != nil || !ok {
		return dst, true, err
	}
	for line := range bytes.Lines(data) {
		var r T
		if err := json.Unmarshal(line, &r); err != nil {
			return dst, false, fmt.Errorf("decode a record of a listing: %w", err)
		}
		dst = append(dst, r)
	}
	return dst, false, nil
}

// StatusReply answers STATUS with a value as JSON.
func StatusReply(request pfkey.Header, v any) (*pfkey.Message, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	m := pfkey.Ack(request)
	m.Private = []pfkey.Extension{dataExt(b)}
	return m, nil
}

// DecodeStatus sets v to the value of a STATUS reply.
func DecodeStatus(reply *pfkey.Message, v any) error { return value(reply, v) }
