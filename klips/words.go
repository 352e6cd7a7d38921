package klips

import (
	"slices"

	"github.com/klips-go/ipsec/klips/internal/enum"
)

// The names of enumeration values, by number.
var (
	directionWords = []string{Outbound: "out", Inbound: "in", Both: "both"}
	stateWords     = []string{Larval: "larval", Mature: "mature", Dying: "dying", Dead: "dead"}
	nattWords      = []string{NATTNone: "none", NATTNonIKE: "nonike", NATTNonESP: "nonesp"} // as in natt= of listings
	areaWords      = []string{
		DebugTunnel: "tunnel", DebugNetlink: "netlink", DebugXform: "xform", DebugEroute: "eroute", DebugSPI: "spi", DebugRadij: "radij",
		DebugESP: "esp", DebugAH: "ah", DebugRcv: "rcv", DebugPFKey: "pfkey", DebugIPComp: "ipcomp", DebugVerbose: "verbose",
	}
)

// word returns the name of a number, or the number.
func word[T ~uint8](words []string, n T) string {
	if int(n) < len(words) {
		return words[n]
	}
	return enum.Text("", n)
}

// number parses a name or a number.
func number[T ~uint8](words []string, what string, b []byte) (T, error) {
	return enum.Parse(b, what, func(word string) (T, bool) {
		i := slices.Index(words, word)
		return T(max(i, 0)), i >= 0
	})
}

// String returns "out", "in" or "both", as in listings.
func (d Direction) String() string { return word(directionWords, d) }

// MarshalText returns the text of String.
func (d Direction) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalJSON accepts the text of MarshalText, and a number.
func (d *Direction) UnmarshalJSON(b []byte) (err error) {
	*d, err = number[Direction](directionWords, "direction", b)
	return err
}

// String returns the state's name in lower case: "mature".
func (s State) String() string { return word(stateWords, s) }

// MarshalText returns the text of String.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalJSON accepts the text of MarshalText, and a number.
func (s *State) UnmarshalJSON(b []byte) (err error) {
	*s, err = number[State](stateWords, "state", b)
	return err
}

// String returns "none", "nonike" or "nonesp", as in listings.
func (n NATTType) String() string { return word(nattWords, n) }

// MarshalText returns the text of String.
func (n NATTType) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalJSON accepts the text of MarshalText, and a number.
func (n *NATTType) UnmarshalJSON(b []byte) (err error) {
	*n, err = number[NATTType](nattWords, "encapsulation in UDP", b)
	return err
}

// String returns the name of the area, as after debug_ in listings: "tunnel".
func (a DebugArea) String() string { return word(areaWords, a) }
