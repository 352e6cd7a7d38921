package advice

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/klips"
)

// A world holds the tables of a host with the address 192.0.2.1 (2001:db8::1).
type world struct {
	sas   []klips.SA
	gone  bool         // eroutes have been removed or replaced since
	to    []klips.SAID // targets of the eroutes
	also  []klips.SAID // their further SAs
	broke error        // error of reading the SAs
	ports bool         // no program holds a UDP port
}

func (w *world) Group(_ context.Context, id klips.SAID) ([]klips.SA, error) {
	if w.broke != nil {
		return nil, w.broke
	}
	return klips.NewGroups(w.sas).Of(id)
}

// Eroutes returns 10.1.0.0/16 -> 10.2.0.0/16 and so on.
func (w *world) Eroutes(context.Context) (l []klips.Eroute, err error) {
	for i, id := range w.to {
		dst := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(2 + i)}), 16)
		l = append(l, klips.Eroute{ID: id, Also: w.also, Selector: klips.Selector{Src: netip.MustParsePrefix("10.1.0.0/16"), Dst: dst}})
	}
	return l, w.broke
}

func (w *world) HasEroute(context.Context, klips.Eroute) bool { return !w.gone }

func (w *world) NeedsPort(context.Context, uint16) bool { return w.ports }

func said(t *testing.T, text string) klips.SAID {
	t.Helper()
	var id klips.SAID
	if err := id.UnmarshalText([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return id
}

func list(t *testing.T, text string) (ids []klips.SAID) {
	t.Helper()
	for _, f := range strings.Fields(text) {
		ids = append(ids, said(t, f))
	}
	return ids
}

// newWorld creates groups, each named from the innermost to the outermost SA.
func newWorld(t *testing.T, groups ...string) *world {
	w := &world{}
	for _, g := range groups {
		ids := list(t, g)
		dir := klips.Outbound
		if a := ids[0].Dst.String(); a == "192.0.2.1" || a == "2001:db8::1" || a == "fe80::1" {
			dir = klips.Inbound
			slices.Reverse(ids)
		} else if ids[0].Dst.IsMulticast() {
			dir = klips.Both
		}
		for i, id := range ids {
			if id == (klips.SAID{}) {
				break // freed
			}
			w.sas = append(w.sas, klips.SA{ID: id, Dir: dir, Next: ids[i+1:]})
		}
	}
	return w
}

// holds checks that the only note is one line with all words; without words, that there
// are no notes.
func holds(t *testing.T, what string, notes []string, words string) {
	t.Helper()
	if words == "" {
		if len(notes) != 0 {
			t.Errorf("%s: notes %q, want none", what, notes)
		}
		return
	}
	if len(notes) != 1 || strings.Contains(notes[0], "\n") {
		t.Errorf("%s: notes %q, want one line", what, notes)
		return
	}
	for _, w := range strings.Fields(words) {
		if !strings.Contains(notes[0], w) {
			t.Errorf("%s: note %q lacks %q", what, notes[0], w)
		}
	}
}

func TestEroute(t *testing.T) {
	w := newWorld(t,
		"tun0x100@192.0.2.2 esp0x101@192.0.2.2 ah0x102@192.0.2.2",
		"tun0x200@192.0.2.1 esp0x201@192.0.2.1",
		"tun0x300@2001:db8::2 esp0x301@2001:db8::2",
		"tun0x400@2001:db8::1 esp0x401@2001:db8::1",
		"tun0x500@192.0.2.2", "esp0x600@192.0.2.2", "esp0x800@192.0.2.1 ah0x801@192.0.2.1",
		"tun0x700@192.0.2.2 esp0x701@192.0.2.2 unk00x0@<invalid>")
	const add, in = false, true // an inbound policy
	for _, tt := range []struct {
		policy      bool
		said, words string
	}{
		{add, "tun0x100@192.0.2.2", ""},
		{add, "tun0x300@2001:db8::2", ""},
		{add, "tun0x500@192.0.2.2", ""},
		{add, "esp0x600@192.0.2.2", ""},
		{add, "%drop", ""},
		{add, "%trap", ""},
		{add, "tun0x999@192.0.2.2", "no SA tun0x999@192.0.2.2 dropped"},
		{add, "esp0x100@192.0.2.2", "no SA esp0x100@192.0.2.2 dropped"},
		{add, "tun0x999@2001:db8::2", "no SA tun0x999@2001:db8::2 dropped"},
		{add, "tun0x999@192.0.2.2", "no SA tun0x999@192.0.2.2 dropped"},
		{add, "%passthrough4", "%passthrough4 dropped %pass"},
		{add, "esp0x101@192.0.2.2", "esp0x101@192.0.2.2 first group tun0x100@192.0.2.2"},
		{add, "ah0x102@192.0.2.2", "ah0x102@192.0.2.2 first group tun0x100@192.0.2.2"},
		{add, "esp0x301@2001:db8::2", "esp0x301@2001:db8::2 first tun0x300@2001:db8::2"},
		{add, "tun0x200@192.0.2.1", "tun0x200@192.0.2.1 inbound 192.0.2.1"},
		{add, "esp0x201@192.0.2.1", "esp0x201@192.0.2.1 inbound 192.0.2.1"},
		{add, "tun0x400@2001:db8::1", "tun0x400@2001:db8::1 inbound 2001:db8::1"},
		{add, "tun0x700@192.0.2.2", "esp0x701@192.0.2.2 unk00x0@<invalid> freed restart"},
		{in, "tun0x200@192.0.2.1", ""},
		{in, "esp0x201@192.0.2.1", ""},
		{in, "tun0x400@2001:db8::1", ""},
		{in, "tun0x100@192.0.2.2", "tun0x100@192.0.2.2 outbound 192.0.2.2"},
		{in, "esp0x600@192.0.2.2", "esp0x600@192.0.2.2 outbound 192.0.2.2"},
		{in, "esp0x800@192.0.2.1", ""},
		{in, "ah0x801@192.0.2.1", ""},
		{in, "tun0x300@2001:db8::2", "tun0x300@2001:db8::2 outbound 2001:db8::2"},
	} {
		e := klips.Eroute{ID: said(t, tt.said), Selector: klips.Selector{
			Src: netip.MustParsePrefix("10.1.0.0/16"), Dst: netip.MustParsePrefix("10.2.0.0/16")}}
		holds(t, tt.said, Eroute(e, tt.policy)(t.Context(), w), tt.words)
		if tt.policy == add {
			holds(t, tt.said+" that is gone", Eroute(e, tt.policy)(t.Context(), &world{gone: true}), "")
		}
		holds(t, tt.said+" with unreadable tables", Eroute(e, tt.policy)(t.Context(), &world{broke: errors.New("broken")}), "")
	}
}

// Further SAs have notes of their own.
func TestAlso(t *testing.T) {
	w := newWorld(t, "tun0x100@192.0.2.2 esp0x101@192.0.2.2", "tun0x200@192.0.2.2 esp0x201@192.0.2.2")
	for _, tt := range []struct{ said, also, words string }{
		{"tun0x100@192.0.2.2", "tun0x200@192.0.2.2", ""},
		{"tun0x100@192.0.2.2", "tun0x300@192.0.2.2 tun0x200@192.0.2.2", "no SA tun0x300@192.0.2.2 share goes tun0x100@192.0.2.2"},
		{"tun0x300@192.0.2.2", "tun0x200@192.0.2.2", "no SA tun0x300@192.0.2.2 dropped"},
		{"tun0x100@192.0.2.2", "esp0x201@192.0.2.2", "esp0x201@192.0.2.2 first group tun0x200@192.0.2.2"},
	} {
		e := klips.Eroute{ID: said(t, tt.said), Also: list(t, tt.also)}
		holds(t, tt.said+" also "+tt.also, Eroute(e, false)(t.Context(), w), tt.words)
		holds(t, tt.said+" that is gone", Eroute(e, false)(t.Context(), &world{gone: true}), "")
		holds(t, tt.said+" with unreadable tables", Eroute(e, false)(t.Context(), &world{broke: errors.New("broken")}), "")
	}
	w = newWorld(t, "tun0x100@192.0.2.2 esp0x101@192.0.2.2", "tun0x200@192.0.2.2", "esp0x201@192.0.2.2")
	w.to, w.also = list(t, "tun0x100@192.0.2.2"), list(t, "tun0x200@192.0.2.2")
	holds(t, "ungrouped", Ungroup(said(t, "esp0x201@192.0.2.2"))(t.Context(), w), "10.1.0.0/16 10.2.0.0/16 tun0x200@192.0.2.2 protection")
}

func TestGroup(t *testing.T) {
	for _, tt := range []struct {
		group string // the existing group
		named string // the SAs in the command; "": the whole group
		words string
	}{
		{"tun0x1000@192.0.2.2 esp0x1001@192.0.2.2 ah0x1002@192.0.2.2", "", ""},
		{"tun0x1000@192.0.2.1 esp0x1001@192.0.2.1 ah0x1002@192.0.2.1", "", ""},
		{"tun0x1000@2001:db8::2 comp0x1001@2001:db8::2 esp0x1002@2001:db8::2", "", ""},
		{"tun0x1000@192.0.2.2 esp0x1001@192.0.2.3", "", "esp0x1001@192.0.2.3 tun0x1000@192.0.2.2 destinations"},
		{"tun0x1000@2001:db8::2 esp0x1001@2001:db8::3", "", "esp0x1001@2001:db8::3 tun0x1000@2001:db8::2"},
		{"esp0x1001@192.0.2.2 tun0x1000@192.0.2.2", "", "esp0x1001@192.0.2.2 before tun0x1000@192.0.2.2"},
		{"esp0x1001@192.0.2.1 tun0x1000@192.0.2.1", "", "esp0x1001@192.0.2.1 before tun0x1000@192.0.2.1"},
		{"esp0x1001@192.0.2.2 comp0x1000@192.0.2.2", "", "comp0x1000@192.0.2.2 after esp0x1001@192.0.2.2"},
		{"esp0x1001@192.0.2.3 tun0x1000@192.0.2.2", "", "tun0x1000@192.0.2.2 outermost IP-in-IP"},
		// Groups made in several steps: only faults of the last command are noted.
		{"esp0x1001@192.0.2.2 comp0x1000@192.0.2.2 ah0x1002@192.0.2.2", "comp0x1000@192.0.2.2 ah0x1002@192.0.2.2", ""},
		{"tun0x1000@192.0.2.2 esp0x1001@192.0.2.2 ah0x1002@192.0.2.3", "esp0x1001@192.0.2.2 ah0x1002@192.0.2.3", "ah0x1002@192.0.2.3"},
		{"tun0x1000@192.0.2.1 esp0x1001@192.0.2.1 comp0x1002@192.0.2.1", "esp0x1001@192.0.2.1 comp0x1002@192.0.2.1", "comp0x1002@192.0.2.1"},
		{"tun0x1000@192.0.2.2 esp0x1001@192.0.2.2 tun0x1002@192.0.2.3 esp0x1003@192.0.2.3", "esp0x1001@192.0.2.2 tun0x1002@192.0.2.3", ""},
	} {
		named := tt.named
		if named == "" {
			named = tt.group
		}
		w := newWorld(t, tt.group)
		holds(t, tt.group, Group(list(t, named))(t.Context(), w), tt.words)
		w.broke = errors.New("broken")
		holds(t, tt.group+" with unreadable tables", Group(list(t, named))(t.Context(), w), "")
	}
}

func TestUngroup(t *testing.T) {
	const apart = "tun0x100@192.0.2.2,esp0x101@192.0.2.2,comp0x102@192.0.2.2"
	for _, tt := range []struct {
		groups string // the existing groups, separated by commas
		to     string // target of the eroutes
		id     string // the SA in the command
		words  string
	}{
		{apart, "", "tun0x100@192.0.2.2", ""},
		{apart, "%drop", "tun0x100@192.0.2.2", ""},
		{apart, "tun0x100@192.0.2.2", "tun0x100@192.0.2.2", "10.1.0.0/16 10.2.0.0/16 tun0x100@192.0.2.2 protection"},
		{apart, "tun0x100@192.0.2.2", "esp0x101@192.0.2.2", "tun0x100@192.0.2.2"}, // whichever member was named
		{apart, "tun0x100@192.0.2.2 comp0x102@192.0.2.2", "esp0x101@192.0.2.2", "tun0x100@192.0.2.2 1 more"},
		{apart, "esp0x101@192.0.2.2", "esp0x101@192.0.2.2", ""},
		{apart, "comp0x102@192.0.2.2", "esp0x101@192.0.2.2", "comp0x102@192.0.2.2"},
		{apart, "tun0x999@192.0.2.2", "esp0x101@192.0.2.2", ""},
		{apart + ",tun0x900@192.0.2.3", "tun0x900@192.0.2.3", "tun0x100@192.0.2.2", ""}, // another gateway
		{"tun0x100@192.0.2.2 esp0x101@192.0.2.2,ah0x102@192.0.2.2", "tun0x100@192.0.2.2", "ah0x102@192.0.2.2", ""},
		{"tun0x100@192.0.2.1,esp0x101@192.0.2.1", "tun0x100@192.0.2.1", "tun0x100@192.0.2.1", ""},
		{"tun0x100@2001:db8::2,ah0x101@2001:db8::2", "tun0x100@2001:db8::2", "ah0x101@2001:db8::2", "tun0x100@2001:db8::2"},
	} {
		w := newWorld(t, strings.Split(tt.groups, ",")...)
		w.to = list(t, tt.to)
		holds(t, tt.groups+" to "+tt.to, Ungroup(said(t, tt.id))(t.Context(), w), tt.words)
		w.broke = errors.New("broken")
		holds(t, tt.groups+" with unreadable tables", Ungroup(said(t, tt.id))(t.Context(), w), "")
	}
}

func TestLink(t *testing.T) {
	a, b, c := said(t, "esp0x1004@10.9.0.2"), said(t, "esp0x1005@10.9.0.2"), said(t, "ah0x1006@10.9.0.2")
	for _, tt := range []struct {
		fault klips.LinkFault
		words string
	}{
		{klips.LinkFault{Kind: klips.LinkFreed, SA: a}, "esp0x1004@10.9.0.2 freed eroute restart"},
		{klips.LinkFault{Kind: klips.LinkShared, SA: a, Other: b, Next: c}, "esp0x1004@10.9.0.2 esp0x1005@10.9.0.2 ah0x1006@10.9.0.2 both apart"},
		{klips.LinkFault{Kind: klips.LinkLoop, SA: a, Next: b}, "esp0x1004@10.9.0.2 twice restart"},
		{klips.LinkFault{Kind: "new", SA: a, Next: b}, "esp0x1004@10.9.0.2 esp0x1005@10.9.0.2"},
	} {
		holds(t, string(tt.fault.Kind), []string{Link(tt.fault)}, tt.words)
	}
}

func TestBytes(t *testing.T) {
	var sa klips.SA
	if note := Bytes(sa); note != "" {
		t.Errorf("Bytes of a fresh SA = %q", note)
	}
	sa.ID = said(t, "ah0x1004@10.9.0.2")
	sa.Life.Bytes.SetRaw(18446744073709551364)
	holds(t, "below zero", []string{Bytes(sa)}, "ah0x1004@10.9.0.2 252 18446744073709551364")
}

func TestPort(t *testing.T) {
	const in, out = "esp0x101@192.0.2.1", "esp0x101@192.0.2.2"
	nonESP, nonIKE := klips.NATT{Type: klips.NATTNonESP}, klips.NATT{Type: klips.NATTNonIKE, DPort: 501}
	for _, tt := range []struct {
		said  string
		natt  klips.NATT
		ports bool
		words string
	}{
		{in, nonESP, true, "esp0x101@192.0.2.1 port 4500: ipsec natt"},
		{in, nonIKE, true, "--nonike 501"},
		{"esp0x101@2001:db8::1", nonESP, true, "esp0x101@2001:db8::1 4500"},
		{in, nonESP, false, ""},
		{in, klips.NATT{}, true, ""},
		{out, nonESP, true, ""},
	} {
		w := newWorld(t, tt.said)
		w.ports = tt.ports
		holds(t, tt.said, Port(said(t, tt.said), tt.natt)(t.Context(), w), tt.words)
		w.broke = errors.New("broken")
		holds(t, tt.said+" with unreadable tables", Port(said(t, tt.said), tt.natt)(t.Context(), w), "")
	}
}
