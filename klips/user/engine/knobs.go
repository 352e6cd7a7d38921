package engine

import (
	"fmt"
	"sync/atomic"
	"syscall"

	"github.com/klips-go/ipsec/klips"
)

// knobs are the settings. Three of them are sysctls of KLIPS, with the values that its
// startup script set.
type knobs struct {
	// expireUnused: limits in seconds are applied also while no packet comes.
	expireUnused knob
	// icmp: ICMP errors report packets that will be too long to their senders.
	icmp knob
	// bypass: which packets of this host count as IKE, see Engine.isIKE.
	bypass knob
	// checkIn: inbound packets must come from the source of their SA, and through a whole
	// group in its order. The inner packet must match the inbound policy.
	checkIn knob
	// needPolicy: with checkIn, a group accepts no packet if its tun SA has no inbound
	// policy; in transport mode, if its innermost SA has none. The last KLIPS did that
	// for tunnels. Manual keying needs it off.
	needPolicy knob
	// mss: the MSS in TCP SYN segments is lowered to what fits.
	mss knob
	// mtuRule: how long a packet that is to be protected may be, see mtuRule in mtu.go.
	mtuRule knob
	// keepalive: the seconds without a packet after which a flow in UDP gets a NAT
	// keepalive; 0: none.
	keepalive knob
	// outClear: what may leave in clear if a route leads a packet past the virtual
	// devices, although a permanent eroute protects it. The packet filter uses it.
	outClear knob
	// hideTOS: outer headers have TOS 0 instead of the inner packet's TOS, unless their
	// SA copies it.
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

// list returns the knobs with their names and greatest values, in the order of the
// listings. The least value is 0.
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

// SetKnob changes one setting; see [Engine.SetKnobs].
func (e *Engine) SetKnob(name string, value int) error {
	return e.SetKnobs(map[string]int{name: value})
}

// SetKnobs changes all these settings or none, from the next packet on. ENOENT: a name is
// not known. EINVAL: a value is below 0 or too large.
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
		e.lapse() // limits may have passed already
	}
	if _, ok := set["natt_keepalive"]; ok {
		e.keepAlive() // flows may need one already
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
