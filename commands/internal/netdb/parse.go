package netdb

import (
	"fmt"

	"github.com/klips-go/ipsec/klips/syntax"
)

// ParseProtocol parses the name or the number of an IP protocol. The errors are those of
// package syntax.
func ParseProtocol(text string) (uint8, error) {
	n, err := nameOrNumber(text, 255, Protocol)
	return uint8(n), err
}

// ParsePort parses the name of a service or the number of a port. The errors are those of
// package syntax.
func ParsePort(text string) (uint16, error) { return nameOrNumber(text, 0xffff, Service) }

// nameOrNumber parses a number up to max, or a name that look finds.
func nameOrNumber(text string, max uint64, look func(string) (uint16, bool)) (uint16, error) {
	if text == "" {
		return 0, &syntax.Error{Kind: syntax.Empty, Msg: "empty text"}
	}
	if n, ok := look(text); ok {
		if uint64(n) > max {
			return 0, &syntax.Error{Kind: syntax.Range, Msg: fmt.Sprintf("its number is %d, at most %d can be selected", n, max)}
		}
		return n, nil
	}
	n, err := syntax.ParseNumber(text, 0, max)
	if err != nil && (text[0] < '0' || text[0] > '9') {
		return 0, &syntax.Error{Kind: syntax.Word, Msg: "neither a number nor a known name"}
	}
	return uint16(n), err
}
