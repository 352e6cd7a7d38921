package render

import (
	"fmt"
	"strings"

	"github.com/klips-go/ipsec/klips"
)

// A Text is a rendered Config.
type Text struct {
	// Body is secret if the Config has keys; Clear overwrites it.
	Body []byte
	// Notes are about what the language cannot express.
	Notes []Note
}

// Clear overwrites the text.
func (t *Text) Clear() { clear(t.Body) }

// A Note is about something that is not in a text.
type Note struct {
	Object string // an SAID, a group or a selector
	Why    string
	// Left: the object is not in the text. Otherwise only the property in Why is not.
	Left bool
	flow bool // it is about an eroute or an inbound policy
}

// String returns the note for people.
func (n Note) String() string {
	if n.Left {
		return n.Object + " is left out: " + n.Why
	}
	return n.Object + ": " + n.Why
}

// noteFlow notes something about an eroute or an inbound policy.
func (c *Config) noteFlow(left bool, object, why string) {
	c.Notes = append(c.Notes, Note{object, why, left, true})
}

// NotShown stands in a text for a key that is not shown. All programs refuse it, because it
// has no hex digits; those that take other texts as keys do so only without 0x before them.
const NotShown = "KEY-NOT-SHOWN"

// A secret is a key, as hex digits after a prefix.
type secret struct {
	prefix string
	key    []byte // nil: it is not shown
}

// A writer writes a text without copies of the keys that nobody overwrites. So keys never
// pass through package fmt or a string.
type writer struct {
	text    Text
	comment string // the beginning of a comment line
}

// newWriter returns a writer that has written the notes of a Config, those about flows only
// for a language that has flows.
func newWriter(c *Config, comment string, flows bool) *writer {
	w := &writer{comment: comment}
	for _, n := range c.Notes {
		if flows || !n.flow {
			w.note(n)
		}
	}
	return w
}

// room is more than a key takes, as digits.
const room = 4096

// grow makes room for n bytes.
func (w *writer) grow(n int) {
	old := w.text.Body
	if cap(old)-len(old) >= n {
		return
	}
	w.text.Body = append(make([]byte, 0, 2*cap(old)+n+room), old...)
	clear(old)
}

// put appends strings and secrets.
func (w *writer) put(parts ...any) {
	const hex = "0123456789abcdef"
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			w.grow(len(p))
			w.text.Body = append(w.text.Body, p...)
		case secret:
			w.put(p.prefix)
			if p.key == nil {
				w.put(NotShown)
				continue
			}
			w.grow(2 * len(p.key))
			for _, b := range p.key {
				w.text.Body = append(w.text.Body, hex[b>>4], hex[b&15])
			}
		case fmt.Stringer:
			w.put(p.String())
		default:
			w.put(fmt.Sprint(p)) // numbers
		}
	}
}

// line appends words with blanks between them, and a newline.
func (w *writer) line(words ...any) {
	for i, word := range words {
		if i > 0 {
			w.put(" ")
		}
		w.put(word)
	}
	w.put("\n")
}

// remark appends a comment.
func (w *writer) remark(format string, args ...any) {
	for text := range strings.Lines(fmt.Sprintf(format, args...)) {
		w.put(w.comment, " ", strings.TrimRight(text, "\n"), "\n")
	}
}

func (w *writer) note(n Note) {
	w.text.Notes = append(w.text.Notes, n)
	w.remark("%s", n)
}

// left notes an object that is not in the text.
func (w *writer) left(object fmt.Stringer, format string, args ...any) {
	w.note(Note{Object: object.String(), Why: fmt.Sprintf(format, args...), Left: true})
}

// lost notes a property that is not in the text.
func (w *writer) lost(object fmt.Stringer, format string, args ...any) {
	w.note(Note{Object: object.String(), Why: fmt.Sprintf(format, args...)})
}

// A loss is a property of SAs that a language may lack.
type loss uint

const (
	lossWindow loss = 1 << iota
	lossTime        // limits of lifetimes in seconds since the SA was made
	lossUse         // in seconds since the first packet
	lossBytes
	lossPackets
	lossAllocations
	lossSequence
	lossTOS
	lossAlign
	lossDevice // offload, and the device of an SA
	lossOA
)

// lossLimits is the limits of lifetimes.
const lossLimits = lossTime | lossUse | lossBytes | lossPackets | lossAllocations

// losses notes the properties of an SA among those that the language lacks.
func (w *writer) losses(sa *SA, lacks loss, program string) {
	note := func(of loss, has bool, format string, args ...any) {
		if lacks&of != 0 && has {
			w.lost(sa.ID, format, args...)
		}
	}
	receives := sa.Dir.Receives()
	note(lossWindow, receives && sa.Window > 0, "%s cannot set the replay window, which has %d packets here", program, sa.Window)
	for _, l := range [...]struct {
		of   loss
		has  bool
		unit string
	}{
		{lossTime, sa.Soft.AddTime|sa.Hard.AddTime != 0, "seconds"},
		{lossUse, sa.Soft.UseTime|sa.Hard.UseTime != 0, "seconds of use"},
		{lossBytes, sa.Soft.Bytes|sa.Hard.Bytes != 0, "bytes"},
		{lossPackets, sa.Soft.Packets|sa.Hard.Packets != 0, "packets"},
		{lossAllocations, sa.Soft.Allocations|sa.Hard.Allocations != 0, "allocations"},
	} {
		note(l.of, l.has, "%s cannot limit its lifetime in %s", program, l.unit)
	}
	if info, _ := sa.Enc.Info(); sa.Seq != nil && info.AEAD {
		note(lossSequence, true, "it has sent the sequence number %d, and %s begins at 1: a number that is used twice with one key of %s reveals both packets (RFC 4106), so take new keys", *sa.Seq, program, info.Word)
	} else if sa.Seq != nil {
		note(lossSequence, true, "it has sent the sequence number %d, and %s begins at 1: a receiver with a replay window refuses numbers that it has seen", *sa.Seq, program)
	}
	note(lossTOS, sa.CopyTOS, "%s cannot be told to copy the TOS", program)
	note(lossAlign, sa.Align8, "%s cannot be told to pad AH headers to 8 bytes", program)
	note(lossDevice, sa.Offload != "", "the offload to %s is not written", sa.Offload)
	note(lossOA, sa.NATT.OA.IsValid(), "%s has no word for the original address %s", program, sa.NATT.OA)
}

// enc and auth return the keys of an SA.
func (s *SA) enc(prefix string) secret  { return secret{prefix, s.EncKey} }
func (s *SA) auth(prefix string) secret { return secret{prefix, s.AuthKey} }

// A word is the name of an algorithm in a language. bits is the length of the key that it is
// for, salt included; 0: any.
type word[T ~uint8] struct {
	id   T
	bits int
	name string
}

// nameOf returns the name of an algorithm; empty: the language has none.
func nameOf[T ~uint8](words []word[T], id T, bits int) string {
	for _, w := range words {
		if w.id == id && (w.bits == 0 || w.bits == bits) {
			return w.name
		}
	}
	return ""
}

// named returns the algorithm with a name.
func named[T ~uint8](words []word[T], name string) (word[T], bool) {
	for _, w := range words {
		if w.name == name {
			return w, true
		}
	}
	return word[T]{}, false
}

// lacking returns the name of an algorithm of an SA that a language lacks.
func lacking(sa *SA) string { return sa.Transform.Name(sa.ID.Proto) }

// each calls write for each group and each of its layers. It notes groups that have none.
func (w *writer) each(c *Config, write func(g Group, l []layer)) {
	for _, g := range c.Groups {
		l, why := g.layers()
		if why != "" {
			w.left(g, "%s", why)
			continue
		}
		write(g, l)
	}
}

// flowsTo returns the eroutes that lead to SAs, most specific first, with the layers that
// their packets go through. It notes those that lead to no SA, and calls shunt for those that
// lead to a shunt.
func (w *writer) flowsTo(c *Config, program string, shunt func(klips.Eroute), flow func(e klips.Eroute, l []layer)) {
	for _, e := range byPriority(c.Eroutes) {
		if e.ID.IsMagic() {
			shunt(e)
			continue
		}
		if len(e.Also) > 0 {
			w.lost(e.Selector, "%s cannot spread its packets over several SAs; all go to %s", program, e.ID)
		}
		g := c.Group(e.ID)
		if g == nil {
			w.left(e.Selector, "there is no SA %s", e.ID)
			continue
		}
		l, why := g[g.index(e.ID):].layers()
		if why == "" && g.index(e.ID) > 0 && g[g.index(e.ID)-1].ID.Proto == klips.ProtoTun {
			why = "its packets pass by the tunnel of the group, and the SA is in tunnel mode"
		}
		if why != "" {
			w.left(e.Selector, "%s", why)
			continue
		}
		flow(e, l)
	}
}

// shunt writes an eroute that leads to a shunt, for each selector of its packets: they pass or
// are dropped. noReject is what becomes of those that should be rejected.
func (w *writer) shunt(e klips.Eroute, noReject string, write func(s klips.Selector, pass bool)) {
	for _, s := range ofEach(e.Selector) {
		switch e.ID.SPI {
		case klips.SPIPass:
			write(s, true)
		case klips.SPIReject:
			w.lost(e.Selector, "%s", noReject)
			write(s, false)
		case klips.SPIDrop:
			write(s, false)
		default:
			w.left(e.Selector, "%s is for key daemons, which manual keys do not need", e.ID)
			return
		}
	}
}
