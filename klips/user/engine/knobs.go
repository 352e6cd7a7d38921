package engine

import (
	"fmt"
	"sync/atomic"
	"syscall"

	"github.com/klips-go/ipsec/klips"
)

// knobs are the switches, three of them sysctls of KLIPS with the values that
// its startup script gave them.
type knobs struct {
	// icmp: packets that will be too long are reported to their senders.
	icmp atomic.Bool
	// checkIn: inbound packets must come from their SA's source, by a whole
	// group in its order, and have inner addresses within the inbound policy.
	checkIn atomic.Bool
	// needPolicy: where checkIn is on, a tunnel for which no inbound policy was
	// set takes nothing. The last KLIPS was like that; manual keying needs it off.
	needPolicy atomic.Bool
	// hideTOS: outer headers have TOS 0 instead of the inner packet's.
	hideTOS atomic.Bool
}

func (k *knobs) init() {
	k.icmp.Store(true)
	k.checkIn.Store(true)
	k.hideTOS.Store(true)
}

// list names the knobs, in the order in which people see them.
func (k *knobs) list() []struct {
	name string
	v    *atomic.Bool
} {
	return []struct {
		name string
		v    *atomic.Bool
	}{
		{"icmp", &k.icmp},
		{"inbound_policy_check", &k.checkIn},
		{"inbound_policy_required", &k.needPolicy},
		{"tos", &k.hideTOS},
	}
}

// Knobs returns the settings in a fixed order.
func (e *Engine) Knobs() []klips.Knob {
	var l []klips.Knob
	for _, k := range e.knobs.list() {
		v := 0
		if k.v.Load() {
			v = 1
		}
		l = append(l, klips.Knob{Name: k.name, Value: v})
	}
	return l
}

// SetKnob changes a setting; see [Engine.SetKnobs].
func (e *Engine) SetKnob(name string, value int) error {
	return e.SetKnobs(map[string]int{name: value})
}

// SetKnobs changes settings, all of them or none, from the next packet on.
// ENOENT: there is none of a name. EINVAL: a value is neither 0 nor 1.
func (e *Engine) SetKnobs(set map[string]int) error {
	todo := map[*atomic.Bool]bool{}
	for name, value := range set {
		v := e.knobs.find(name)
		switch {
		case v == nil:
			return fmt.Errorf("knob %s: %w", name, syscall.ENOENT)
		case value != 0 && value != 1:
			return fmt.Errorf("knob %s: %w: %d is neither 0 nor 1", name, syscall.EINVAL, value)
		}
		todo[v] = value == 1
	}
	for v, on := range todo {
		v.Store(on)
	}
	return nil
}

func (k *knobs) find(name string) *atomic.Bool {
	for _, n := range k.list() {
		if n.name == name {
			return n.v
		}
	}
	return nil
}
