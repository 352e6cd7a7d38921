package procfs

import (
	"bytes"
	"strconv"

	"github.com/klips-go/ipsec/klips"
)

// An UnreadError means that some lines of a table cannot be parsed. The parser also
// returns the records of the other lines.
type UnreadError struct {
	Lines []klips.UnreadLine // at least one, ascending
}

func (e *UnreadError) Error() string {
	l := &e.Lines[0]
	s := l.Table + " line " + strconv.Itoa(l.Number) + ": " + l.Reason
	if n := len(e.Lines) - 1; n > 0 {
		s += " (and " + strconv.Itoa(n) + " more)"
	}
	return s
}

// unread makes an UnreadLine for a line that a parser refuses.
func unread(table string, number int, line []byte, why error) klips.UnreadLine {
	first, _, _ := bytes.Cut(bytes.TrimLeft(line, " "), []byte(" "))
	id, err := parseSAID(first)
	if err != nil || !id.Dst.IsValid() {
		id = klips.SAID{}
	}
	return klips.UnreadLine{Table: table, Number: number, Text: string(line), Reason: why.Error(), ID: id}
}
