package manual

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/commands/internal/made"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/manual/conf"
	"github.com/klips-go/ipsec/commands/manual/host"
	"github.com/klips-go/ipsec/commands/manual/step"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/clamp"
	"github.com/klips-go/ipsec/klips/syntax"
)

// How long packets of a connection may be: while it is up, its MTU is that of its virtual
// device, and TCP announces segments of at most its MSS.

// The smallest MTUs (RFC 791 section 3.1, RFC 8200 section 5).
const (
	minMTU4 = 68
	minMTU6 = 1280
)

// lengths parses mtu and mss.
func (k *connection) lengths(c *conf.Conn) error {
	for _, name := range [...]string{"mtu", "mss"} {
		if k.shunt != "" && c.Has(name) {
			return c.Get(name).Error("a conn of type " + c.Get("type").Value + " protects nothing; leave " + name + " out, or the type")
		}
	}
	if err := k.parseMTU(c.Get("mtu")); err != nil {
		return err
	}
	return k.parseMSS(c.Get("mss"))
}

func (k *connection) parseMTU(p conf.Param) error {
	if p.Value == "" || p.Value == "auto" {
		return nil
	}
	n, err := syntax.ParseNumber(p.Value, 10, math.MaxUint16)
	switch {
	case err != nil:
		return p.Error(quote.Value(p.Value) + ": " + err.Error() + "; write auto, or a number of bytes as in mtu=1400")
	case n < minMTU4:
		return p.Error(fmt.Sprintf("%d: an MTU is %d bytes at least", n, minMTU4))
	case n < minMTU6 && k.ends[0].subnet.Addr().Is6():
		return p.Error(fmt.Sprintf("%d: packets of IPv6 need %d bytes at least", n, minMTU6))
	}
	k.mtu = int(n)
	return nil
}

func (k *connection) parseMSS(p conf.Param) error {
	switch p.Value {
	case "", "no":
		return nil
	case "auto":
		k.mss = p.Value
	default:
		n, err := syntax.ParseNumber(p.Value, 10, clamp.MaxSize)
		if err == nil && n < clamp.MinSize {
			return p.Error(fmt.Sprintf("%d: TCP uses segments of %d bytes at least", n, clamp.MinSize))
		}
		if err != nil {
			return p.Error(quote.Value(p.Value) + ": " + err.Error() + "; write auto, no, or a number of bytes as in mss=1300")
		}
		k.mss = fmt.Sprint(n)
	}
	if proto := k.ends[0].proto; proto != 0 && proto != unix.IPPROTO_TCP {
		return p.Error("only TCP has it, and the connection is for another protocol; leave mss out")
	}
	return nil
}

// setMSS returns the steps that lower the segment size that TCP announces. old is the form
// of the connection before; nil: there is none.
func (k *connection) setMSS(old *connection) []step.Step {
	if k.mss == "" || old != nil && old.mss == k.mss && old.selector() == k.selector() {
		return nil
	}
	s := step.Step{Clamp: k.clamp(), Undo: k.removeMSS()}
	if old != nil && old.mss != "" {
		s.Undo = old.setMSS(nil)
	}
	return []step.Step{s}
}

// removeMSS returns the steps that undo setMSS.
func (k *connection) removeMSS() []step.Step {
	if k.mss == "" {
		return nil
	}
	return []step.Step{{Clamp: k.clamp(), Remove: true, IfExists: true}}
}

// clamp returns what is done to the connection's segments of TCP.
func (k *connection) clamp() *clamp.Clamp {
	c := &clamp.Clamp{Name: strings.ReplaceAll(k.name, " ", "."), Flows: []klips.Selector{k.selector()}}
	if k.mss != "auto" {
		c.Size, _ = strconv.Atoi(k.mss) // parsed before
	}
	return c
}

// fits returns an error if the stack cannot do what the connection asks for.
func (at *situation) fits(k *connection) error {
	if at.past && k.mtu != 0 {
		return fmt.Errorf("mtu=%d: on stack %s packets in transport mode do not pass through %s, whose MTU that is; leave mtu out, or use stack user", k.mtu, at.stack, k.iface)
	}
	return nil
}

// lacksMTU reports whether the connection asks for another MTU than its virtual device has.
func (at *situation) lacksMTU(k *connection) bool { return k.mtu != 0 && at.mtu != k.mtu }

// setMTU returns the step that gives the virtual device the connection's MTU.
func (k *connection) setMTU() []step.Step {
	if k.mtu == 0 {
		return nil
	}
	return []step.Step{{Device: k.iface, MTU: k.mtu}}
}

// setsMTU returns the records of connections that are up and have set the MTU of a device.
func setsMTU(device string, records []made.Connection) []made.Connection {
	return slices.DeleteFunc(slices.Clone(records), func(c made.Connection) bool {
		return !c.Up() || c.Form.Interface != device || c.Form.MTU == 0
	})
}

// oneMTU returns an error if another connection that is up asks for another MTU of the same
// device.
func (l *ledger) oneMTU(k *connection) error {
	if l == nil || k.mtu == 0 {
		return nil
	}
	records, err := l.dir.List()
	if err != nil {
		return err
	}
	for _, c := range setsMTU(k.iface, records) {
		if c.Conn != k.name && c.Form.MTU != k.mtu {
			return otherMTU(k, c.Conn, c.Form.MTU)
		}
	}
	return nil
}

func otherMTU(k *connection, other string, mtu int) error {
	return fmt.Errorf("mtu=%d: conn %s has mtu=%d, and both use %s; give them the same, or take conn %s down", k.mtu, other, mtu, k.iface, other)
}

// oneMTU is the same for connections that are changed together: it returns an error if two
// connections will ask for different MTUs of a device.
func (s *survey) oneMTU(list []*pending) error {
	type demand struct {
		device string
		mtu    int
	}
	up := map[string]demand{}
	for name, c := range s.records {
		if c.Up() {
			up[name] = demand{c.Form.Interface, c.Form.MTU}
		}
	}
	for _, p := range list {
		switch p.operation {
		case "up":
			up[p.name] = demand{p.ready.conn.iface, p.ready.conn.mtu}
		case "down":
			delete(up, p.name)
		}
	}
	for _, p := range list {
		if p.operation != "up" || p.ready.conn.mtu == 0 {
			continue
		}
		k := p.ready.conn
		for _, name := range slices.Sorted(maps.Keys(up)) {
			if d := up[name]; d.device == k.iface && d.mtu != 0 && d.mtu != k.mtu {
				return p.ready.about(otherMTU(k, name, d.mtu))
			}
		}
	}
	return nil
}

// mtuBefore returns the MTU that the virtual device had before a connection set it, this one
// or an earlier one; 0: none has. The executor has brought the connection up.
func (l *ledger) mtuBefore(x *executor) (int, error) {
	if x.conn.mtu == 0 {
		return 0, nil
	}
	records, err := l.dir.List()
	for _, c := range setsMTU(x.conn.iface, records) {
		if x.MTUWas == 0 || x.MTUWas == c.Form.MTU {
			return c.MTUBefore, err
		}
	}
	return x.MTUWas, err
}

// mtuBack returns the steps that put back the MTU of the virtual device, when the recorded
// connection is taken down or gets the form now. Other connections can still need the MTU,
// and other programs can have changed it.
func (l *ledger) mtuBack(now *connection, n host.Network) []step.Step {
	if l == nil || l.was == nil || l.was.MTUBefore == 0 || now != nil && now.mtu != 0 {
		return nil
	}
	f := l.was.Form
	if mtu, err := n.MTU(f.Interface); err != nil || mtu != f.MTU {
		return nil
	}
	records, err := l.dir.List()
	if err != nil || slices.ContainsFunc(setsMTU(f.Interface, records), func(c made.Connection) bool { return c.Conn != l.was.Conn }) {
		return nil
	}
	return []step.Step{{Device: f.Interface, MTU: l.was.MTUBefore, IfExists: true}}
}
