package manual

import (
	"slices"
	"strconv"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/netdb"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/manual/conf"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/syntax"
)

// natPort is the UDP port for ESP in UDP (RFC 3948 section 2.1).
const natPort = 4500

// protoports parses leftprotoport and rightprotoport: PROTOCOL, or PROTOCOL/PORT, or
// PROTOCOL/%any, or a list of TCP and UDP with one port. Both ends have the same protocols.
func (k *connection) protoports(c *conf.Conn) (err error) {
	var of [2]string // the protocols of each end
	for i, side := range sides {
		if p := c.Get(side + "protoport"); p.Value != "" {
			if of[i], err = k.ends[i].protoport(p); err != nil {
				return err
			}
		}
	}
	l, r := &k.ends[0], &k.ends[1]
	switch {
	case of[0] == "":
		l.proto = r.proto
	case of[1] == "":
		r.proto = l.proto
	case of[0] != of[1]:
		return c.Get("rightprotoport").Error("its protocol is " + of[1] + ", and that of left " + of[0] + "; both ends have the same")
	}
	if slices.Contains(of[:], both) && l.port == 0 && r.port == 0 {
		return c.Errorf("TCP and UDP together need a port at one end, as in rightprotoport=tcp/5060,udp/5060; leave leftprotoport and rightprotoport out for all protocols")
	}
	return nil
}

// both are the protocols TCP and UDP together: a port without a protocol, see
// [klips.Selector].
const both = "6,17"

// isBoth reports whether a list is TCP and UDP with one port. One pair of SAs is enough for it.
func isBoth(words []string) bool {
	var e end
	of, err := e.protoport(conf.Param{Value: strings.Join(words, ",")})
	return len(words) == 2 && err == nil && of == both
}

// protoport parses the value of leftprotoport or rightprotoport, and returns the numbers of
// its protocols.
func (e *end) protoport(p conf.Param) (of string, err error) {
	var protos []uint8
	for _, word := range wordsOf(p) {
		proto, port, ports := strings.Cut(word, "/")
		if e.proto, err = netdb.ParseProtocol(proto); err != nil {
			return "", p.Error(quote.Value(proto) + ": " + err.Error())
		}
		n := uint16(0)
		if ports && port != "%any" {
			if n, err = netdb.ParsePort(port); err != nil {
				return "", p.Error(quote.Value(port) + ": " + err.Error())
			}
		}
		if n != 0 && e.proto != 6 && e.proto != 17 {
			return "", p.Error("only tcp and udp have ports")
		}
		if len(protos) > 0 && n != e.port {
			return "", p.Error(quote.Value(p.Value) + onePort)
		}
		e.port, protos = n, append(protos, e.proto)
	}
	switch slices.Sort(protos); {
	case len(protos) == 1:
		return strconv.Itoa(int(e.proto)), nil
	case !slices.Equal(protos, []uint8{6, 17}):
		return "", p.Error(quote.Value(p.Value) + onePort)
	}
	e.proto = 0
	return both, nil
}

// onePort is the error for another list, which does not stand for connections of its own either.
const onePort = ": beside lists of subnets, a list is TCP and UDP with one port, as in tcp/5060,udp/5060; give other packets a conn of their own"

// sourceIPs parses leftsourceip and rightsourceip.
func (k *connection) sourceIPs(c *conf.Conn) (err error) {
	for i, side := range sides {
		e, p := &k.ends[i], c.Get(side+"sourceip")
		if p.Value == "" {
			continue
		}
		if e.sourceIP, err = syntax.ParseAddr(p.Value, syntax.FamilyOf(e.subnet.Addr()), nil); err != nil {
			return p.Error(quote.Value(p.Value) + ": " + err.Error())
		}
		if !e.subnet.Contains(e.sourceIP) {
			return p.Error(klips.FormatAddr(e.sourceIP) + " is not in " + side + "subnet, so the connection would not protect its packets")
		}
	}
	return nil
}

// forms parses esn and encapsulation, and the ports of ESP in UDP.
func (k *connection) forms(c *conf.Conn) (err error) {
	if k.esn, err = yes(c.Get("esn")); err != nil {
		return err
	}
	encap := c.Get("encapsulation")
	if k.encap, err = yes(encap); err != nil {
		return err
	}
	if k.encap && (k.esp == "" || k.ah != "") {
		return encap.Error("UDP carries ESP alone; give esp, and leave ah out")
	}
	for i, side := range sides {
		e, p := &k.ends[i], c.Get(side+"natport")
		switch {
		case p.Value == "" && k.encap:
			e.natPort = natPort
			continue
		case p.Value == "":
			continue
		case !k.encap:
			return p.Error("it goes with encapsulation=yes")
		}
		if e.natPort, err = netdb.ParsePort(p.Value); err != nil {
			return p.Error(quote.Value(p.Value) + ": " + err.Error())
		}
		if e.natPort == 0 {
			return p.Error("a port is 1 to 65535")
		}
	}
	return nil
}

// yes parses yes or no; the default is no.
func yes(p conf.Param) (bool, error) {
	switch p.Value {
	case "", "no":
		return false, nil
	case "yes":
		return true, nil
	}
	return false, p.Error(quote.Value(p.Value) + " is neither yes nor no")
}
