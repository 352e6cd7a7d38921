// Package watch finds out what happens on a stack: it compares two snapshots, and reads the
// messages of stacks that send some.
package watch

import (
	"net/netip"
	"strconv"
	"time"

	"github.com/klips-go/ipsec/klips"
)

// A Kind is what has happened.
type Kind uint8

// The kinds. The comment names the fields of an [Event] that are set besides Time and Kind.
const (
	SAMade        Kind = iota // SA
	SAUsed                    // SA: its first packet
	SADying                   // SA: a soft lifetime limit has passed
	SAExpired                 // SA: a hard lifetime limit has passed, and it is gone
	SARemoved                 // SA
	SequenceHigh              // SA, Count: its sequence number, which is at 75 % of all
	Dropped                   // Reason, Count; SA or Device, if one counts them: packets that were dropped
	PeerMoved                 // SA, From, To: its peer is at another address or port
	ErouteMade                // Eroute, Target
	ErouteChanged             // Eroute, Target
	ErouteRemoved             // Eroute, Target
	PolicyChanged             // SA, Eroute: its inbound policy; Eroute is zero if it is gone
	Attached                  // Device, Physical
	Detached                  // Device, Physical
	Acquire                   // Eroute: a packet needs an SA
	Gone                      // the stack cannot be read any more
	Back                      // it can be read again
	numKinds
)

// String returns the kind as a word, as in "sa-made".
func (k Kind) String() string {
	words := [...]string{
		"sa-made", "sa-used", "sa-dying", "sa-expired", "sa-removed", "sequence-high", "dropped", "peer-moved",
		"eroute-made", "eroute-changed", "eroute-removed", "policy-changed", "attached", "detached", "acquire", "stack-gone", "stack-back",
	}
	if int(k) < len(words) {
		return words[k]
	}
	return "kind-" + strconv.Itoa(int(k))
}

// Kinds returns all kinds.
func Kinds() (l []Kind) {
	for k := range numKinds {
		l = append(l, k)
	}
	return l
}

// An Event is something that has happened. Fields that its kind does not have are zero.
type Event struct {
	Time     time.Time
	Kind     Kind
	SA       klips.SAID
	Eroute   klips.Selector
	Target   klips.SAID
	Device   string
	Physical string
	Reason   string // a word of package drop
	Count    uint64
	From, To netip.AddrPort
	// Polled: it was found by comparing two readings, so it happened at any time between
	// them. Otherwise the stack has sent a message about it.
	Polled bool
}
