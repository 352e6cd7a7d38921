package pfkey

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"syscall"
)

// maxData is how much data one message of a listing carries, so that header and
// extensions fit MaxMessage too.
const maxData = MaxMessage - 64

// SendList answers a LIST: it sends the records, one JSON value a line, in as
// many messages as it takes, and a last one without data. Every message is only
// valid during the call of send. An error of send ends it and is returned, as is
// an *[Error] with EMSGSIZE for a record that fits no message.
func SendList[T any](request *Message, records iter.Seq[T], send func(*Message) error) error {
	m := Ack(request.Header)
	m.XTable = request.XTable
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	flush := func(n int) error {
		m.XData = new(Data(buf.Bytes()[:n]))
		if err := send(m); err != nil {
			return err
		}
		buf.Next(n)
		return nil
	}
	for r := range records {
		before := buf.Len()
		if err := enc.Encode(r); err != nil {
			return fmt.Errorf("encode a record of table %v: %w", request.XTable, err)
		}
		if buf.Len()-before > maxData {
			return &Error{syscall.EMSGSIZE, request.Type, ExtXData, fmt.Sprintf("a record of %d bytes", buf.Len()-before)}
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
	m.XData = nil
	return send(m)
}

// AppendRecords appends the records of one message of a listing to dst. A
// message without data, the last one, has none.
func AppendRecords[T any](dst []T, m *Message) ([]T, error) {
	if m.XData == nil {
		return dst, nil
	}
	for line := range bytes.Lines(*m.XData) {
		var r T
		if err := json.Unmarshal(line, &r); err != nil {
			return dst, fmt.Errorf("decode a record of table %v: %w", m.XTable, err)
		}
		dst = append(dst, r)
	}
	return dst, nil
}

// StatusReply answers STATUS with a value as JSON.
func StatusReply(request Header, v any) (*Message, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	m := Ack(request)
	m.XData = new(Data(b))
	return m, nil
}

// DecodeStatus sets v to the value of a STATUS reply.
func (m *Message) DecodeStatus(v any) error {
	if m.XData == nil {
		return missing(m.Type, ExtXData)
	}
	return json.Unmarshal(*m.XData, v)
}
