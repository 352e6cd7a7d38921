package xfrm

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// The kernel does not choose among the SAs of an eroute by flow. Since Linux 6.13 a state can
// be for the packets of one processor (RFC 9611): the template of an eroute with further SAs
// then names no SPI, but a reqid that all of them have. A further SA is bound to the processor
// with its place in the list, which begins at 1. The first SA has no processor: it has the
// packets of processor 0, and of all those whose further SA does not exist or cannot be bound.
//
// A state for one processor must have the direction out, and such a state has no window. The
// record of the SA keeps the window then.
//
// The record of a further SA names it as such: whoever reads it then reads its eroutes, with
// all of their SAs.

// A binding is what the states of a further SA get.
type binding struct {
	like      []member // of the first SA of the eroute, whose reqids they have
	processor uint32   // plus 1
}

// bindings are those of further SAs, by the first SA of their groups. lists are the further SAs
// of the eroutes that begin with an SA: other eroutes with this SA are not shared. further are
// the further SAs of all eroutes, bound or not.
type bindings struct {
	of      map[*sa]binding
	lists   map[*sa][]klips.SAID
	further map[klips.SAID]bool
}

// bind finds the bindings for eroutes, oldest first. Of several that want one, the oldest has it.
func (t *tables) bind(routes []*route) bindings {
	b := bindings{map[*sa]binding{}, map[*sa][]klips.SAID{}, map[klips.SAID]bool{}}
	for _, r := range routes {
		for _, id := range r.Also {
			b.further[id] = true
		}
		first := t.sas[r.ID]
		if len(r.Also) == 0 || first == nil || b.lists[first] != nil {
			continue
		}
		b.lists[first] = r.Also
		for i, id := range r.Also[:min(len(r.Also), max(t.processors()-1, 0))] {
			s := t.sas[id]
			if s == nil || !complete(first) || !complete(s) || t.unbindable(r.Selector, first, s) != "" {
				continue
			}
			if _, taken := b.of[s]; !taken {
				l, _ := layout(first.outwards())
				b.of[s] = binding{l, uint32(i) + 2}
			}
		}
	}
	return b
}

// shares reports whether further SAs of an eroute are bound, so that its template names no SPI.
func (b bindings) shares(t *tables, r *route) bool {
	return len(r.Also) > 0 && slices.Equal(b.lists[t.sas[r.ID]], r.Also) && slices.ContainsFunc(r.Also, func(id klips.SAID) bool {
		_, ok := b.of[t.sas[id]]
		return ok
	})
}

// complete reports whether a group has states, so that packets can go through it.
func complete(s *sa) bool {
	l, err := layout(s.outwards())
	return err == nil && len(l) > 0
}

// unbindable returns why a further SA of an eroute cannot be bound to a processor; "": it can.
// first is the first SA of the eroute. Their groups are complete.
func (t *tables) unbindable(e klips.Selector, first, further *sa) string {
	for _, s := range [...]*sa{first, further} {
		switch {
		case s.inner != nil:
			return s.id.String() + " is not the first SA of its group"
		case s.dir != klips.Outbound:
			return s.id.String() + " is not for outbound packets alone"
		}
	}
	for _, m := range further.outwards() {
		if t.leads(m.id, e) {
			return "another eroute begins with " + m.id.String()
		}
	}
	a, _ := layout(first.outwards())
	b, _ := layout(further.outwards())
	if !slices.EqualFunc(a, b, alike) {
		return "their groups have different protocols or ends"
	}
	x, _ := t.ifIDOf(first, a)
	if y, _ := t.ifIDOf(further, b); x != y {
		return "their packets have different devices"
	}
	return ""
}

// alike reports whether one template can find the states of both members.
func alike(a, b member) bool {
	return a.id.Proto == b.id.Proto && a.mode == b.mode && a.src == b.src && a.id.Dst == b.id.Dst
}

// leads reports whether an SA is the first of another eroute than one.
func (t *tables) leads(id klips.SAID, one klips.Selector) bool {
	return slices.ContainsFunc(t.users[id].list, func(s klips.Selector) bool {
		r := t.routes[s]
		return s != one && r != nil && r.ID == id
	})
}

// bindState binds the state of the member at a place of its group, or makes it again what it
// was before it was bound. first is the first SA of the group.
func (b bindings) bindState(first *sa, place int, m *member, w *nlxfrm.State) {
	is, ok := b.of[first]
	switch {
	case ok:
		w.ReqID, w.Processor, w.SADir = is.like[place].state.SPI, is.processor, nlxfrm.SAOut
		setWindow(w, 0)
	case m.state.Processor != 0:
		w.Processor, w.SADir = 0, nlxfrm.SABoth
		setWindow(w, m.window)
	}
}

// window returns the window of an SA if its state has none because it is bound, otherwise 0.
func (b bindings) window(s *sa) uint32 {
	if _, ok := b.of[s.first()]; !ok {
		return 0
	}
	return s.windowSize()
}

// windowOf returns the window of a state in packets.
func windowOf(s *nlxfrm.State) uint32 {
	if s.ReplayESN != nil {
		return s.ReplayESN.Window
	}
	return uint32(s.ReplayWindow)
}

// windowSize returns the window of an SA, which its state does not have while it is bound.
func (s *sa) windowSize() uint32 {
	switch {
	case s.state == nil:
		return 0
	case s.state.Processor != 0:
		return s.window
	}
	return windowOf(s.state)
}

// setWindow gives an outbound state another window. It keeps the numbers that were sent.
func setWindow(s *nlxfrm.State, window uint32) {
	sent := sentBy(s.Replay, s.ReplayESN)
	s.Replay, s.ReplayESN, s.ReplayWindow = nil, nil, 0
	if s.Flags&nlxfrm.FlagESN != 0 || window > maxShortWindow {
		s.ReplayESN = nlxfrm.NewReplayESN(window)
	} else {
		s.ReplayWindow = uint8(window)
	}
	*s = *resume(s, sent, 0)
}

// parkAlso is the interface ID of the policies that have the further SAs of eroutes.
const parkAlso uint32 = 0x4b4c4955

// noteAlso is the kind of notes that have further SAs.
const noteAlso = 48

// alsoPerNote is the number of SAs that a note has room for.
const alsoPerNote = 8

// alsoKey is the key of the policy that has the further SAs of an eroute.
func alsoKey(s klips.Selector) nlxfrm.PolicyKey {
	return nlxfrm.PolicyKey{Dir: nlxfrm.DirOut, Selector: selectorOf(s), IfID: parkAlso}
}

// alsoPolicy makes that policy. A note has the SPIs of its SAs in its addresses and their
// protocols in two other fields; all have the destination of the eroute's first SA.
func alsoPolicy(r *route) *nlxfrm.Policy {
	p := parked(alsoKey(r.Selector))
	for ids := range slices.Chunk(r.Also, alsoPerNote) {
		var spis [4 * alsoPerNote]byte
		var protos [alsoPerNote]byte
		for i, id := range ids {
			binary.BigEndian.PutUint32(spis[4*i:], uint32(id.SPI))
			protos[i] = byte(id.Proto)
		}
		t := note(noteAlso, klips.SAID{Dst: netip.AddrFrom16([16]byte(spis[:16])), SPI: klips.SPI(len(ids))}, netip.AddrFrom16([16]byte(spis[16:])), binary.BigEndian.Uint32(protos[4:]))
		t.ReqID = binary.BigEndian.Uint32(protos[:])
		p.Templates = append(p.Templates, t)
	}
	return p
}

// readAlso is the reverse of alsoPolicy, for an eroute whose first SA has destination dst.
func readAlso(p *nlxfrm.Policy, dst netip.Addr) (ids []klips.SAID) {
	for i := range p.Templates {
		t := &p.Templates[i]
		if t.AuthAlgs != noteAlso || !t.Dst.Is6() || !t.Src.Is6() {
			continue
		}
		a, b := t.Dst.As16(), t.Src.As16()
		spis := append(a[:], b[:]...)
		protos := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, t.ReqID), t.CryptAlgs)
		for n := range min(t.SPI, alsoPerNote) {
			ids = append(ids, klips.SAID{Dst: dst, SPI: klips.SPI(binary.BigEndian.Uint32(spis[4*n:])), Proto: klips.Proto(protos[n])})
		}
	}
	return ids
}

// take gives an eroute the further SAs in a policy of alsoPolicy, which may be nil. It has none
// if there are not as many as its own policy names: a change was interrupted.
func (r *route) take(p *nlxfrm.Policy) {
	if p == nil {
		return
	}
	if ids := readAlso(p, r.ID.Dst); len(ids) == r.also {
		r.Also = ids
	}
}

// checkAlso returns the error of an eroute whose packets cannot be shared, as far as its SAs
// exist. Later the first SA has the packets of those that cannot be used.
func (t *tables) checkAlso(verb string, e *klips.Eroute) error {
	if len(e.Also) == 0 {
		return nil
	}
	if err := e.CheckAlso(verb, t.processors() > 0); err != nil {
		return err
	}
	for _, s := range t.users[e.ID].list {
		if r := t.routes[s]; r != nil && r.ID == e.ID && s != e.Selector && len(r.Also) > 0 && !slices.Equal(r.Also, e.Also) {
			return inexpressible(e.ID, "in this kernel all eroutes that begin with one SA and have further SAs have the same ones, and those of %v are %s",
				s, klips.JoinSAIDs(r.Also))
		}
	}
	first := t.sas[e.ID]
	for _, id := range e.Also {
		s := t.sas[id]
		if first == nil || s == nil || !complete(first) || !complete(s) {
			continue
		}
		if why := t.unbindable(e.Selector, first, s); why != "" {
			return inexpressible(id, "this kernel cannot share packets of %v with it: %s", e.ID, why)
		}
	}
	return nil
}

// probeProcessors returns how many processors states can be bound to; 0: this kernel has no
// such states.
func (s *Stack) probeProcessors() int {
	if !hasProcessors(context.Background(), s.xfrm) {
		return 0
	}
	return possibleProcessors()
}

// hasProcessors reports whether the kernel has states for one processor. It sends a request
// that every kernel refuses: its cipher does not exist. A kernel that knows the attribute
// refuses it before it looks for the cipher, because the direction is missing.
func hasProcessors(ctx context.Context, k kernel) bool {
	none := netip.IPv4Unspecified().Next()
	errs, err := k.Batch(ctx, []nlxfrm.Request{nlxfrm.AddState(&nlxfrm.State{ID: nlxfrm.ID{Dst: none, SPI: 1, Proto: uint8(klips.ProtoESP)}, Src: none,
		Crypt: &nlxfrm.Algorithm{Name: "none"}, Processor: 1})})
	return err == nil && errors.Is(errs[0], syscall.EINVAL)
}

// possibleProcessors returns how many processors the kernel can have: their numbers are below.
func possibleProcessors() int {
	b, err := os.ReadFile("/sys/devices/system/cpu/possible") // as in "0-3"
	if err == nil {
		text := strings.TrimSpace(string(b))
		if last, err := strconv.Atoi(text[strings.LastIndexAny(text, ",-")+1:]); err == nil {
			return last + 1
		}
	}
	return runtime.NumCPU()
}
