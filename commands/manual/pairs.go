package manual

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/klips-go/ipsec/commands/manual/conf"
	"github.com/klips-go/ipsec/klips"
)

// A conn with leftsubnets or rightsubnets stands for a connection for each pair of them,
// with the names NAME/1x1, NAME/1x2 and so on, as in libreswan. Each has SAs of its own. So
// does a conn with a list of ports: if both ends have one, these are taken in order, as
// NAME/1x1 and NAME/2x2.

// maxSubnets is the most subnets or ports of an end: 16 × 16 pairs have SPIs with the same
// first 20 bits.
const maxSubnets = 16

// memberLists are the lists of a conn whose members are for different connections.
type memberLists struct {
	param, member string      // the parameter and that of one member, without left and right
	what          string      // the members
	of            [2][]string // of left and right
}

// listsOf returns the lists of a conn; without a param it has none.
func listsOf(c *conf.Conn) memberLists {
	subnets := memberLists{param: "subnets", member: "subnet", what: "subnets"}
	ports := memberLists{param: "protoport", member: "protoport", what: "protocols with ports"}
	var apart bool
	for i, side := range sides {
		subnets.of[i] = wordsOf(c.Get(side + subnets.param))
		ports.of[i] = wordsOf(c.Get(side + ports.param))
		apart = apart || len(ports.of[i]) > 1 && !isBoth(ports.of[i])
	}
	switch {
	case len(subnets.of[0])+len(subnets.of[1]) > 0:
		return subnets
	case apart:
		return ports
	}
	return memberLists{}
}

// inOrder reports whether the members of both ends are taken in order.
func (l *memberLists) inOrder() bool {
	return l.param == "protoport" && len(l.of[0]) > 0 && len(l.of[1]) > 0
}

// baseOf returns the name of the conn that a connection is of.
func baseOf(name string) string {
	base, _, _ := strings.Cut(name, "/")
	return base
}

// splitPair returns the conn of a connection and the numbers of its subnets, from 1; 0: the
// connection is the whole conn. ok is false if it is no such name.
func splitPair(name string) (base string, pair [2]int, ok bool) {
	base, rest, isPair := strings.Cut(name, "/")
	if !isPair {
		return base, pair, true
	}
	l, r, isPair := strings.Cut(rest, "x")
	for i, text := range []string{l, r} {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxSubnets || strconv.Itoa(n) != text {
			return base, pair, false
		}
		pair[i] = n
	}
	return base, pair, isPair
}

// checkName returns an error if the name of a connection is not valid: that of a conn, or
// of a pair.
func checkName(name string) error {
	if _, _, ok := splitPair(name); !ok {
		return fmt.Errorf("%s is no name; a pair of subnets is written NAME/1x2", name)
	}
	return conf.CheckName(baseOf(name))
}

// wordsOf returns the list in a parameter, as words; nil: it has none.
func wordsOf(p conf.Param) []string {
	return strings.FieldsFunc(p.Value, func(r rune) bool { return strings.ContainsRune("{}, \t", r) })
}

// pairs returns the connections of a conn, in the order of its lists. A conn without lists,
// or with wrong ones, is one connection.
func (f *configuration) pairs(name string) []string {
	if strings.Contains(name, "/") {
		return []string{name}
	}
	c, err := f.file.Conn([]string{name}, func(string) bool { return true }, nil)
	if err != nil {
		return []string{name}
	}
	ls := listsOf(c)
	l, r := ls.of[0], ls.of[1]
	if ls.param == "" || max(len(l), len(r)) > maxSubnets || ls.inOrder() && len(l) != len(r) {
		return []string{name}
	}
	var names []string
	for i := range max(1, len(l)) {
		for j := range max(1, len(r)) {
			if !ls.inOrder() || i == j {
				names = append(names, fmt.Sprintf("%s/%dx%d", name, i+1, j+1))
			}
		}
	}
	return names
}

// conn returns the conn of one or more names, with the subnets of a pair.
func (f *configuration) conn(names []string) (c *conf.Conn, pair [2]int, err error) {
	name := names[0]
	base := names
	if len(names) == 1 {
		name, pair, _ = splitPair(names[0])
		base = []string{name}
	}
	if c, err = f.file.Conn(base, known, allParams()); err != nil {
		return nil, pair, err
	}
	ls := listsOf(c)
	if ls.param == "" && pair != [2]int{} {
		return nil, pair, c.Errorf("it has no lists of subnets or ports, and so there is no connection %s", names[0])
	}
	for i, side := range sides {
		p, list := c.Get(side+ls.param), ls.of[i]
		if len(list) == 0 {
			if pair[i] > 1 {
				return nil, pair, c.Errorf("there is no %s, and so no connection %s", side+ls.param, names[0])
			}
			continue
		}
		one := c.Get(side + ls.member)
		switch {
		case ls.member != ls.param && one.Value != "":
			return nil, pair, one.Error(p.Name + " is given too, at " + p.Pos.String() + "; give one of them")
		case len(list) > maxSubnets:
			return nil, pair, p.Error(fmt.Sprintf("there are %d %s, at most %d are possible", len(list), ls.what, maxSubnets))
		case ls.inOrder() && len(ls.of[0]) != len(ls.of[1]):
			return nil, pair, p.Error(fmt.Sprintf("the other end has %d %s, and this one %d; give one for each, or none at one end", len(ls.of[1-i]), ls.what, len(list)))
		case !c.Has("masterkey"):
			return nil, pair, p.Error("each pair of " + ls.what + " has SAs of its own, and they need keys of their own; give masterkey")
		case !c.Has("spibase"):
			return nil, pair, p.Error("each pair of " + ls.what + " has SPIs of its own; give spibase")
		case slices.ContainsFunc(otherSPIs[:], c.Has):
			other := otherSPIs[slices.IndexFunc(otherSPIs[:], c.Has)]
			return nil, pair, c.Get(other).Error("each pair of " + ls.what + " has SPIs of its own; leave it out")
		case pair[i] == 0:
			return nil, pair, p.Error(fmt.Sprintf("it stands for several connections; ipsec up %s makes them all", name))
		case pair[i] > len(list), ls.inOrder() && pair[0] != pair[1]:
			return nil, pair, p.Error(fmt.Sprintf("it has %d %s, and so there is no connection %s", len(list), ls.what, names[0]))
		}
		p.Name, p.Value = side+ls.member, list[pair[i]-1]
		c.Set(p)
	}
	if pair == [2]int{} {
		return c, pair, nil
	}
	c.Name = names[0]
	return c, pair, nil
}

// shift returns what is added to spibase for a pair; 0 if there is none. A subnet that is
// added at the end of a list changes no SPI of the others.
func shift(pair [2]int) klips.SPI {
	if pair == [2]int{} {
		return 0
	}
	return klips.SPI((pair[0]-1)*maxSubnets+pair[1]-1) << 4
}
