package engine

import (
	"fmt"
	"sync/atomic"
	"syscall"

	"github.com/klips-go/ipsec/klips"
)

// knobs are the settings, three of them sysctls of KLIPS with the values that
// its startup script gave them.
type knobs struct {
	// expireUnused: limits in seconds pass also when no packet comes.
	expireUnused knob
	// icmp: packets that will be too long are reported to their senders.
	icmp knob
	// bypass is which packets of this host are taken for IKE, see Engine.isIKE.
	bypass knob
	// checkIn: inbound packets must come from their SA's source, by a whole
	// group in its order, and what comes out must be within the inbound policy.
	checkIn knob
	// needPolicy: where checkIn is on, nothing comes in through a group whose tun SA
	// or, in transport mode, innermost SA was given no inbound policy. The last KLIPS
	// was like that with tunnels; manual keying needs it off.
	needPolicy knob
	// mss: TCP's SYN announce no longer segments than fit.
	mss knob
	// mtuRule is how long a packet may be that is to be protected, see mtuRule in mtu.go.
	mtuRule knob
	// keepalive is the time after which a quiet flow in UDP gets a NAT keepalive, in
	// seconds; 0: none.
	keepalive knob
	// outClear is what may leave in clear of what eroutes protect that were made by
	// hand, when it is routed past the virtual devices. Who guards flows reads it.
	outClear knob
	// hideTOS: outer headers have TOS 0 instead of the inner packet's, unless their SA
	// copies it.
	hideTOS knob
}

// A knob is one setting.
type knob struct{ atomic.Int32 }

func (k *knob) on() bool { return k.Load() != 0 }

func (k *knobs) init() {
	k.expireUnused.Store(1)
	k.icmp.Store(1)
	k.checkIn.Store(1)
	k.keepalive.Store(usualKeepalive)
	k.hideTOS.Store(1)
}

// list names the knobs, in the order in which people see them, with their greatest
// values; the least is 0.
func (k *knobs) list() []namedKnob {
	return []namedKnob{
		{"expire_unused", &k.expireUnused, 1},
		{"icmp", &k.icmp, 1},
		{"ike_bypass", &k.bypass, bypassKLIPS},
		{"inbound_policy_check", &k.checkIn, 1},
		{"inbound_policy_required", &k.needPolicy, 1},
		{"mss", &k.mss, 1},
		{"mtu_rule", &k.mtuRule, mtuKLIPS},
		{"natt_keepalive", &k.keepalive, maxKeepalive},
		{"outbound_clear", &k.outClear, outClearDrop},
		{"tos", &k.hideTOS, 1},
	}
}

type namedKnob struct {
	name string
	*knob
	most int
}

// Values of the knob outbound_clear.
const (
	outClearPass = 0 // the route decides, as with KLIPS
	outClearDrop = 1
)

// Knobs returns the settings in a fixed order.
func (e *Engine) Knobs() []klips.Knob {
	var l []klips.Knob
	for _, k := range e.knobs.list() {
		l = append(l, klips.Knob{Name: k.name, Value: int(k.Load())})
	}
	return l
}

// SetKnob changes a setting; see [Engine.SetKnobs].
func (e *Engine) SetKnob(name string, value int) error {
	return e.SetKnobs(map[string]int{name: value})
}

// SetKnobs changes settings, all of them or none, from the next packet on.
// ENOENT: there is none of a name. EINVAL: a value is below 0 or too large.
func (e *Engine) SetKnobs(set map[string]int) error {
	todo := map[*knob]int{}
	for name, value := range set {
		k, ok := e.knobs.find(name)
		switch {
		case !ok:
			return fmt.Errorf("knob %s: %w", name, syscall.ENOENT)
		case value < 0 || value > k.most:
			return fmt.Errorf("knob %s: %w: %d is not from 0 to %d", name, syscall.EINVAL, value, k.most)
		}
		todo[k.knob] = value
	}
	for k, value := range todo {
		k.Store(int32(value))
	}
	e.readPorts()
	if _, ok := set["expire_unused"]; ok {
		e.lapse() // those that are due by now
	}
	if _, ok := set["natt_keepalive"]; ok {
		e.keepAlive() // those that are due by now
	}
	return nil
}

func (k *knobs) find(name string) (namedKnob, bool) {
	for _, n := range k.list() {
		if n.name == name {
			return n, true
		}
	}
	return namedKnob{}, false
}
