package xfrm

import (
	"strings"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// TestShapeMarks: groups as people make them have marks of their own, so that
// they can share a device without inbound policies.
func TestShapeMarks(t *testing.T) {
	var groups [][]klips.Proto
	for _, l := range []string{"esp", "ah", "comp", "esp ah", "comp esp", "comp ah", "comp esp ah", "ah esp", "esp esp", "ah ah"} {
		var g []klips.Proto
		for _, name := range strings.Fields(l) {
			g = append(g, map[string]klips.Proto{"esp": klips.ProtoESP, "ah": klips.ProtoAH, "comp": klips.ProtoComp}[name])
		}
		groups = append(groups, g)
	}
	tunnel := func(g []klips.Proto) (l []member) {
		for i, p := range g {
			m := member{sa: &sa{id: klips.SAID{Proto: p}}}
			if i == 0 {
				m.mode = nlxfrm.ModeTunnel
			}
			l = append(l, m)
		}
		return l
	}
	seen := map[nlxfrm.Mark]string{}
	check := func(l []member) {
		s := shape(l)
		m := shapeMark(s)
		if m.Value == 0 || m.Value&^m.Mask != 0 || m.Mask != markMask {
			t.Errorf("%s: mark %#x/%#x", s, m.Value, m.Mask)
		}
		if seen[m] != "" {
			t.Errorf("%s and %s have the mark %#x", s, seen[m], m.Value)
		}
		seen[m] = s
	}
	for _, g := range groups {
		check(tunnel(g))
	}
	for _, inner := range groups[:2] {
		for _, outer := range groups[:2] {
			check(append(tunnel(inner), tunnel(outer)...))
		}
	}
	if shape(tunnel(groups[0])) != usualShape {
		t.Errorf("the usual shape is %q", shape(tunnel(groups[0])))
	}
}
