package manual

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/links"
	"github.com/klips-go/ipsec/commands/internal/made"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/internal/routes"
	"github.com/klips-go/ipsec/commands/manual/host"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/syntax"
)

// A found is a connection that was recognized in the tables of a stack. This host is left.
type found struct {
	conn    *connection // without its name and its keys
	out, in layers      // the SAs to the peer, and those from it
	binding string      // the virtual device and its physical one, as in interfaces=; "": none
	// hidesTOS: the tunnel does not copy the TOS, although the stack can do that.
	hidesTOS bool
	// lost is what no parameter expresses. The connection works without it.
	lost []string
}

// layers are the SAs of a group that a conn can have; nil: there is none.
type layers struct{ tun, esp, ah *klips.SA }

// list returns the SAs from the innermost to the outermost.
func (l *layers) list() []*klips.SA {
	return slices.DeleteFunc([]*klips.SA{l.tun, l.esp, l.ah}, func(sa *klips.SA) bool { return sa == nil })
}

// same reports whether two groups have SAs of the same protocols.
func (l *layers) same(o *layers) bool {
	return (l.tun == nil) == (o.tun == nil) && (l.esp == nil) == (o.esp == nil) && (l.ah == nil) == (o.ah == nil)
}

// text returns the SAIDs.
func (l *layers) text() string {
	var words []string
	for _, sa := range l.list() {
		words = append(words, sa.ID.String())
	}
	return strings.Join(words, " ")
}

// A recognizer has the tables of a stack.
type recognizer struct {
	want    *choice
	records map[string]made.Connection
	has     func(klips.Capability) bool
	tables  *klips.Snapshot
	groups  *klips.Groups
	host    host.Host
	net     host.Network
}

// recognize finds the chosen eroute, the SAs that its packets go through, and those that
// receive the answers.
func recognize(ctx context.Context, stack klips.Stack, h host.Host, n host.Network, want *choice, records map[string]made.Connection) (*found, error) {
	t, err := stack.Snapshot(ctx, klips.Want{Eroutes: true, SAs: true, Devices: true, Unread: klips.GroupTables[:]})
	if err != nil {
		return nil, fmt.Errorf("the tables: %w", err)
	}
	r := &recognizer{want: want, records: records, has: stack.Info().Has, tables: t, groups: klips.NewGroups(t.SAs), host: h, net: n}
	r.groups.Unread(t.Unread)
	e, err := r.eroute()
	if err != nil {
		return nil, err
	}
	f := &found{}
	if err := r.outbound(f, e); err != nil {
		return nil, err
	}
	if err := r.inbound(f, e); err != nil {
		return nil, err
	}
	if err := f.forms(); err != nil {
		return nil, err
	}
	f.numbers()
	if err := r.device(f); err != nil {
		return nil, err
	}
	r.rest(f, e)
	return f, nil
}

// eroute returns the chosen eroute.
func (r *recognizer) eroute() (*klips.Eroute, error) {
	var list, made []*klips.Eroute
	shunts := 0
	for i := range r.tables.Eroutes {
		e := &r.tables.Eroutes[i]
		switch {
		case !r.want.selects(e):
		case e.ID.IsMagic():
			shunts++
		case ownedBy(r.records, &e.Selector, e.ID) != "":
			made = append(made, e)
		default:
			list = append(list, e)
		}
	}
	switch {
	case len(list) == 1:
		return list[0], nil
	case len(list) > 1:
		return nil, fmt.Errorf("it can be one of %d eroutes: %s; choose one with --src, --dst or --to", len(list), erouteTexts(list))
	case len(made) > 0:
		name := ownedBy(r.records, &made[0].Selector, made[0].ID)
		return nil, fmt.Errorf("the eroute %s is of conn %s already, which has the file %s; there is nothing to save",
			made[0].Selector, name, quote.File(r.records[name].Config))
	case shunts > 0:
		return nil, fmt.Errorf("no such eroute leads to an SA; one that lets packets pass, drops or rejects them is a conn of type passthrough, drop or reject in ipsec.conf(5)")
	case r.want.given.Has("src"), r.want.given.Has("dst"), r.want.given.Has("to"),
		r.want.given.Has("transport-proto"), r.want.given.Has("src-port"), r.want.given.Has("dst-port"):
		return nil, fmt.Errorf("there is no such eroute; ipsec eroute lists them")
	}
	return nil, fmt.Errorf("there is no eroute, so that there is nothing to save; make SAs and an eroute first, or ipsec new makes a connection")
}

// maxListed is how many objects an error lists.
const maxListed = 8

func erouteTexts(list []*klips.Eroute) string {
	var words []string
	for i, e := range list {
		if i == maxListed {
			words = append(words, "…")
			break
		}
		words = append(words, e.Selector.String()+" to "+e.ID.String())
	}
	return strings.Join(words, ", ")
}

// noConn is the error of what works, and cannot be a conn.
func noConn(format string, args ...any) error {
	return fmt.Errorf("%s; ipsec batch can make it again, from a file with its commands", fmt.Sprintf(format, args...))
}

// layersOf returns the SAs of a group, from the innermost to the outermost. The error is why
// no conn can have such a group.
func layersOf(group []klips.SA) (l layers, err error) {
	last := -1
	for i := range group {
		sa := &group[i]
		order := slices.Index([]klips.Proto{klips.ProtoTun, klips.ProtoESP, klips.ProtoAH}, sa.ID.Proto)
		switch {
		case order < 0:
			return l, fmt.Errorf("%s compresses, and a conn has no word for that", sa.ID)
		case order <= last:
			return l, fmt.Errorf("%s is outside %s, and a conn has at most tun, esp and ah, in this order", sa.ID, group[i-1].ID)
		case sa.ID.Dst != group[0].ID.Dst:
			return l, fmt.Errorf("%s and %s go to different hosts, and a conn has one peer", group[0].ID, sa.ID)
		case sa.State != klips.Mature && sa.State != klips.Dying:
			return l, fmt.Errorf("%s carries no packets: it is not complete, or has expired", sa.ID)
		}
		last = order
		*[...]**klips.SA{&l.tun, &l.esp, &l.ah}[order] = sa
	}
	if l.esp == nil && l.ah == nil {
		return l, fmt.Errorf("%s protects nothing; a conn needs esp or ah", group[0].ID)
	}
	return l, nil
}

// outbound finds the SAs that packets of the eroute go through, and the two ends.
func (r *recognizer) outbound(f *found, e *klips.Eroute) error {
	group, err := r.groups.Of(e.ID)
	if err != nil {
		return fmt.Errorf("the eroute %s: %s", e.Selector, explain.Reading(e.ID, err))
	}
	refuse := func(format string, args ...any) error {
		return noConn("the eroute %s: %s", e.Selector, fmt.Sprintf(format, args...))
	}
	switch {
	case len(e.Also) > 0:
		return refuse("its packets are spread over several SAs, and those of a conn are not")
	case group[0].ID != e.ID:
		return fmt.Errorf("the eroute %s: it leads to %s, which is inside the group of %s; lead it to the first, as a conn does", e.Selector, e.ID, group[0].ID)
	case group[0].Dir != klips.Outbound:
		return refuse("%s receives, too; a conn has other SAs for that", e.ID)
	}
	if f.out, err = layersOf(group); err != nil {
		return refuse("%v", err)
	}
	me := netip.Addr{}
	for _, sa := range f.out.list() {
		switch {
		case !sa.HasSource():
			f.lose("%s has no source, and gets that of the connection", sa.ID)
		case !me.IsValid():
			me = sa.Src
		case me != sa.Src:
			return refuse("its SAs have the sources %s and %s, and an end has one address", klips.FormatAddr(me), klips.FormatAddr(sa.Src))
		}
	}
	if !me.IsValid() {
		return fmt.Errorf("the eroute %s: none of its SAs has a source, which is the address of this end; make them with --src", e.Selector)
	}
	k := &connection{tun: f.out.tun != nil}
	k.ends = [2]end{
		{addr: me, subnet: e.Src, nexthop: e.ID.Dst, proto: e.Proto, port: e.SrcPort},
		{addr: e.ID.Dst, subnet: e.Dst, nexthop: me, proto: e.Proto, port: e.DstPort},
	}
	for i := range k.ends {
		end := &k.ends[i]
		if end.subnet == netip.PrefixFrom(end.addr, end.addr.BitLen()) {
			continue
		}
		if !k.tun {
			return refuse("in transport mode the packets of a conn are those between %s and %s", klips.FormatAddr(me), klips.FormatAddr(e.ID.Dst))
		}
		end.given = true
	}
	f.conn = k
	return nil
}

// inbound finds the SAs that receive what the peer sends back.
func (r *recognizer) inbound(f *found, e *klips.Eroute) error {
	k := f.conn
	var exact, open, other []layers
	for i := range r.tables.SAs {
		id := r.tables.SAs[i].ID
		if id.Dst != k.me().addr {
			continue
		}
		group, err := r.groups.Of(id)
		if err != nil {
			return fmt.Errorf("an SA from the peer: %s", explain.Reading(id, err))
		}
		if group[0].ID != id {
			continue // it was seen with the first of its group
		}
		group = slices.Clone(group)
		slices.Reverse(group)
		wanted := slices.ContainsFunc(group, func(sa klips.SA) bool { return sa.ID == r.want.in })
		if r.want.given.Has("in") && !wanted {
			continue
		}
		l, err := layersOf(group)
		switch src, ok := sourceOf(&l); {
		case err != nil && wanted:
			return fmt.Errorf("--in %s: %v", r.want.in, err)
		case err != nil, group[0].Dir != klips.Inbound:
			continue
		case !l.same(&f.out) || !ok || src.IsValid() && src != k.peer().addr:
			if wanted {
				return fmt.Errorf("--in %s: it is not the reverse of %s", r.want.in, f.out.text())
			}
			continue
		}
		if name := ownedBy(r.records, nil, id); name != "" {
			if wanted {
				return fmt.Errorf("--in %s: it is of conn %s", r.want.in, name)
			}
			continue
		}
		switch p := policyOf(&l); {
		case p == nil:
			open = append(open, l)
		case *p == k.policy():
			exact = append(exact, l)
		default:
			other = append(other, l)
		}
	}
	from := fmt.Sprintf("from %s to %s", klips.FormatAddr(k.peer().addr), klips.FormatAddr(k.me().addr))
	list := exact
	if len(list) == 0 {
		list = open
	}
	switch {
	case len(list) == 1:
	case len(list) > 1:
		var words []string
		for i := range list[:min(len(list), maxListed)] {
			words = append(words, list[i].text())
		}
		return fmt.Errorf("it can be one of %d groups that receive %s: %s; choose one with --in SAID", len(list), from, strings.Join(words, ", "))
	case len(other) > 0:
		p := policyOf(&other[0])
		return fmt.Errorf("%s receives %s, with the inbound policy %s; that of a conn is the reverse of its eroute, %s; set it with ipsec eroute --addin", other[0].text(), from, p, k.policy())
	case r.want.given.Has("in"):
		return fmt.Errorf("--in %s: there is no such SA; ipsec spi lists them", r.want.in)
	default:
		return fmt.Errorf("no SA like %s receives %s, and a conn has both directions; make it first", f.out.text(), from)
	}
	f.in = list[0]
	if len(exact) == 0 && (k.tun || r.has(klips.CapTransportPolicy)) {
		f.lose("%s has no inbound policy; as a connection it accepts only %s", f.in.text(), k.policy())
	}
	for _, sa := range f.in.list() {
		if !sa.HasSource() {
			f.lose("%s accepts any source; as a connection it accepts only the peer", sa.ID)
		}
	}
	return nil
}

// sourceOf returns the source of the SAs; not valid: they have none. ok is false if they have
// several.
func sourceOf(l *layers) (src netip.Addr, ok bool) {
	for _, sa := range l.list() {
		switch {
		case !sa.HasSource():
		case src.IsValid() && sa.Src != src:
			return src, false
		default:
			src = sa.Src
		}
	}
	return src, true
}

func policyOf(l *layers) *klips.InboundPolicy {
	for _, sa := range l.list() {
		if sa.Policy != nil {
			return sa.Policy
		}
	}
	return nil
}

// lose notes what no parameter expresses.
func (f *found) lose(format string, args ...any) {
	f.lost = append(f.lost, fmt.Sprintf(format, args...))
}

// forms finds the algorithms, and how packets look on the wire. A conn has one for both
// directions.
func (f *found) forms() error {
	k := f.conn
	var all []*klips.SA
	for _, pair := range [][2]*klips.SA{{f.out.tun, f.in.tun}, {f.out.esp, f.in.esp}, {f.out.ah, f.in.ah}} {
		out, in := pair[0], pair[1]
		if out == nil {
			continue
		}
		if out.Transform != in.Transform || out.EncKeyBits != in.EncKeyBits || out.ESN != in.ESN {
			return noConn("%s and %s have different algorithms, lengths of keys or sequence numbers, and a conn has one for both directions", out.ID, in.ID)
		}
		all = append(all, out, in)
	}
	protected := slices.DeleteFunc(slices.Clone(all), func(sa *klips.SA) bool { return sa == f.out.tun || sa == f.in.tun })
	k.esn = protected[0].ESN
	for _, sa := range protected {
		if sa.ESN != k.esn {
			return noConn("%s and %s have sequence numbers of different lengths, and those of a conn have one", protected[0].ID, sa.ID)
		}
		if sa.Align8 {
			return noConn("%s pads its header to 8 bytes, and a conn has no word for that; its peer would not accept another form", sa.ID)
		}
	}
	ok := false
	if out, in := f.out.esp, f.in.esp; out != nil {
		if k.esp, ok = syntax.ESPName(out.Transform, out.EncKeyBits); !ok {
			return noConn("%s: its algorithms have no name that a conn can have (%s)", out.ID, out.Transform.Name(klips.ProtoESP))
		}
		k.espWindow = f.window(out, in)
		if err := f.encapsulation(); err != nil {
			return err
		}
	}
	if out, in := f.out.ah, f.in.ah; out != nil {
		if k.ah, ok = syntax.AHName(out.Transform.Auth); !ok {
			return noConn("%s: its algorithm has no name that a conn can have (%s)", out.ID, out.Transform.Name(klips.ProtoAH))
		}
		k.ahWindow = f.window(out, in)
	}
	for _, sa := range all {
		l := &sa.Life
		for _, c := range []klips.Counter{l.Allocations, l.Bytes, l.AddTime, l.UseTime, l.Packets} {
			if c.Soft != 0 || c.Hard != 0 {
				f.lose("%s has a limited lifetime, and the SAs of a connection do not end", sa.ID)
				break
			}
		}
		if sa.Offload != "" {
			f.lose("%s is offloaded to %s, and a connection leaves that out", sa.ID, quote.Text(sa.Offload))
		}
		if sa.OutIf != 0 || sa.RefHim != 0 {
			f.lose("%s has a reference to another SA or a device, and a connection leaves that out", sa.ID)
		}
	}
	return nil
}

// window returns the replay window, which only the receiver uses; "": none.
func (f *found) window(out, in *klips.SA) string {
	if out.Window != in.Window && out.Window != 0 {
		f.lose("%s has a replay window of %d packets, and as a connection that of %s, %d", out.ID, out.Window, in.ID, in.Window)
	}
	if in.Window == 0 {
		return ""
	}
	return fmt.Sprint(in.Window)
}

// encapsulation finds the ports of ESP in UDP.
func (f *found) encapsulation() error {
	k := f.conn
	out, in := f.out.esp.NATT.WithPorts(), f.in.esp.NATT.WithPorts()
	switch {
	case out.Type == klips.NATTNone && in.Type == klips.NATTNone:
		return nil
	case out.Type != klips.NATTNonESP || in.Type != klips.NATTNonESP:
		return noConn("%s and %s: a conn carries ESP in UDP in both directions, in the form of RFC 3948, or in none", f.out.esp.ID, f.in.esp.ID)
	case out.SPort != in.DPort || out.DPort != in.SPort:
		return noConn("%s and %s: each end of a conn has one UDP port, to send and to receive", f.out.esp.ID, f.in.esp.ID)
	case out.OA.IsValid() || in.OA.IsValid():
		return noConn("%s has the address of a host behind NAT, and a conn has no word for that", f.in.esp.ID)
	case k.ah != "" || f.out.ah != nil:
		return noConn("%s: UDP carries ESP alone, and %s is outside it", f.out.esp.ID, f.out.ah.ID)
	}
	k.encap = true
	k.ends[0].natPort, k.ends[1].natPort = out.SPort, out.DPort
	return nil
}

// numbers gives the connection the SPIs: spibase if that makes them all, else spi and what
// differs from it.
func (f *found) numbers() {
	k := f.conn
	lowest := klips.SPI(0)
	ends := [2]*layers{&f.in, &f.out} // to left and to right
	for _, l := range ends {
		for _, sa := range l.list() {
			if lowest == 0 || sa.ID.SPI < lowest {
				lowest = sa.ID.SPI
			}
		}
	}
	if k.base = lowest &^ 0xf; k.base >= klips.MinSPI && f.numbered() {
		return
	}
	outer := f.out.list()
	k.base, k.spi = 0, outer[len(outer)-1].ID.SPI
	for i, l := range ends {
		e := &k.ends[i]
		for sa, to := range map[*klips.SA]*klips.SPI{l.tun: &e.tunSPI, l.esp: &e.espSPI, l.ah: &e.ahSPI} {
			if sa != nil && sa.ID.SPI != k.spi {
				*to = sa.ID.SPI
			}
		}
	}
}

// numbered reports whether the SAs of the connection are those that were found.
func (f *found) numbered() bool {
	var ids []klips.SAID
	for _, l := range []*layers{&f.in, &f.out} {
		for _, sa := range l.list() {
			ids = append(ids, sa.ID)
		}
	}
	return slices.Equal(ids, f.conn.saids())
}

// device finds the virtual device of the connection, its attachment, and what its route has
// beside the destination.
func (r *recognizer) device(f *found) error {
	k := f.conn
	k.iface = "ipsec0"
	if !k.tun && !r.has(klips.CapTransportDevice) {
		return nil
	}
	list, err := r.net.List()
	if err != nil {
		return fmt.Errorf("the list of routes: %w", err)
	}
	route, routed := routes.To(list, halves(k.peer().subnet)[0])
	routed = routed && links.IsVirtual(route.Device)
	var at *klips.Device
	for i := range r.tables.Devices {
		d := &r.tables.Devices[i]
		switch {
		case d.Physical == "":
		case routed && d.Name == route.Device:
			at = d
		case at == nil && !routed:
			own, err := r.net.Addresses(d.Physical)
			if err == nil && slices.ContainsFunc(own, func(p netip.Prefix) bool { return p.Addr() == k.me().addr }) {
				at = d
			}
		}
	}
	if at == nil {
		f.lose("no virtual device is attached for it; ipsec up attaches one")
		return nil
	}
	k.iface, f.binding = at.Name, at.Name+"="+at.Physical
	if at.Direct {
		f.lose("%s is attached with --direct, and a connection attaches it without", at.Name)
	}
	if !routed {
		f.lose("no route to %s leads into %s; ipsec up makes one", k.peer().subnet, at.Name)
		return nil
	}
	switch hop := route.Gateway; {
	case !hop.IsValid() || hop == k.peer().addr:
	case r.host.Reaches(k.iface, hop) && hop.Is6() == k.peer().subnet.Addr().Is6():
		k.me().nexthop, k.via = hop, true
	default:
		f.lose("the route to %s has the gateway %s, and that of the connection has none", k.peer().subnet, klips.FormatAddr(hop))
	}
	if src := route.Src; src.IsValid() && k.me().subnet.Contains(src) {
		k.me().sourceIP = src
	} else if src.IsValid() {
		f.lose("the route to %s has the source %s, which is not in the subnet of this end", k.peer().subnet, klips.FormatAddr(src))
	}
	return nil
}

// rest finds what is beside the connection.
func (r *recognizer) rest(f *found, e *klips.Eroute) {
	if f.out.tun != nil && r.has(klips.CapCopyTOS) {
		f.hidesTOS = !f.out.tun.CopyTOS
	}
	f.conn.copyTOS = !f.hidesTOS
	for i := range r.tables.Eroutes {
		o := &r.tables.Eroutes[i]
		if o.Selector != e.Selector && slices.ContainsFunc(o.SAIDs(), func(id klips.SAID) bool {
			return slices.ContainsFunc(f.out.list(), func(sa *klips.SA) bool { return sa.ID == id })
		}) {
			f.lose("the eroute %s leads to the same SAs, and is not part of the connection", o.Selector)
		}
	}
}
