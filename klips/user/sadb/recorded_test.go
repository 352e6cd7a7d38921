package sadb_test

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/klipstest/recorded"
	"github.com/klips-go/ipsec/klips/procfs"
	"github.com/klips-go/ipsec/klips/syntax"
	"github.com/klips-go/ipsec/klips/user/eroute"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// TestRecorded replays the recorded sequences of SAs, groups, eroutes and
// inbound policies.
func TestRecorded(t *testing.T) {
	sequences, steps := 0, 0
	for q := range recorded.Sequences(t) {
		if q.Quirk {
			continue
		}
		sequences++
		t.Run(q.ID, func(t *testing.T) { steps += replaySequence(t, q) })
	}
	if steps < 2971 {
		t.Errorf("%d sequences with %d steps were replayed", sequences, steps)
	}
	t.Logf("%d sequences, %d steps", sequences, steps)
}

// A player carries out command lines.
type player struct {
	t      *testing.T
	sas    *sadb.DB
	routes *eroute.Table
	local  []netip.Addr
}

func replaySequence(t *testing.T, q *recorded.Sequence) (steps int) {
	p := &player{t: t, sas: sadb.New(), routes: eroute.New()}
	for _, s := range q.Setup {
		for _, a := range s.Addrs {
			p.local = append(p.local, netip.MustParsePrefix(a).Addr())
		}
	}
	want := map[string][]string{"spi": nil, "spigrp": nil, "eroute": nil}
	for i, s := range q.Steps {
		for name, lines := range s.Tables {
			if _, ok := want[name]; ok {
				want[name] = p.normal(lines)
			}
		}
		tool := s.Cmd[0]
		switch {
		case tool != "spi" && tool != "spigrp" && tool != "eroute":
			continue
		case s.Exit != 0 && s.Errno == 0:
			continue // nothing was sent
		case s.Errno == syscall.EINVAL && slices.Contains(s.Cmd, "--life"):
			continue // the tool sent a malformed message
		}
		steps++
		o := parse(t, s.Cmd)
		var err error
		switch tool {
		case "spi":
			err = p.spi(o)
		case "spigrp":
			err = p.spigrp(o, &s)
		case "eroute":
			err = p.eroute(o, s.Errno)
		}
		if !errors.Is(err, errnoOf(s.Errno)) || (err == nil) != (s.Errno == 0) {
			t.Fatalf("step %d: %v: %v, want %v", i, s.Cmd, err, s.Errno)
		}
		if d := cmp.Diff(p.tables(), want); d != "" {
			t.Fatalf("step %d: after %v the tables differ (-got +want):\n%s", i, s.Cmd, d)
		}
	}
	return steps
}

// errnoOf maps a KLIPS kernel's errno to the one used here. KLIPS returns EFAULT if no
// eroute has the addresses, and ENOENT if none has the masks too.
func errnoOf(e syscall.Errno) error {
	switch e {
	case 0:
		return nil
	case syscall.EFAULT:
		return syscall.ENOENT
	}
	return e
}

// options are those of one command line; operands have the key "".
type options map[string][]string

var flags = []string{"add", "replace", "addin", "replacein", "del", "clear", "get", "ip4", "ip6"}

func parse(t *testing.T, argv []string) options {
	o := options{}
	for i := 1; i < len(argv); i++ {
		name, ok := strings.CutPrefix(argv[i], "--")
		switch {
		case !ok:
			o[""] = append(o[""], argv[i])
		case slices.Contains(flags, name), argv[0] == "spigrp":
			o[name] = nil
		case i+1 == len(argv):
			t.Fatalf("%v: no value for --%s", argv, name)
		default:
			i++
			o[name] = append(o[name], argv[i])
		}
	}
	return o
}

func (o options) has(name string) bool { _, ok := o[name]; return ok }

func (o options) get(name string) string {
	if v := o[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

func must[T any](p *player) func(T, error) T {
	return func(v T, err error) T {
		p.t.Helper()
		if err != nil {
			p.t.Fatal(err)
		}
		return v
	}
}

func (p *player) said(text string) klips.SAID {
	return must[klips.SAID](p)(syntax.ParseSAID(text, nil))
}

// fields makes a SAID from the four options of its parts.
func (p *player) fields(af, dst, spi, proto string) klips.SAID {
	f := must[syntax.Family](p)(syntax.ParseFamily(af))
	return klips.SAID{
		Dst:   must[netip.Addr](p)(syntax.ParseAddr(dst, f, nil)),
		SPI:   klips.SPI(must[uint64](p)(syntax.ParseNumber(spi, 0, 1<<32-1))),
		Proto: must[klips.Proto](p)(syntax.ParseProto(proto)),
	}
}

func (p *player) target(o options) klips.SAID {
	if o.has("said") {
		return p.said(o.get("said"))
	}
	af := o.get("af")
	if o.has("eraf") && af == "" {
		af = o.get("eraf")
	}
	return p.fields(af, o.get("edst"), o.get("spi"), o.get("proto"))
}

func (p *player) isLocal(a netip.Addr) bool { return a.IsLoopback() || slices.Contains(p.local, a) }

func (p *player) spi(o options) error {
	if o.has("clear") {
		p.sas.Flush()
		return nil
	}
	id := p.target(o)
	switch {
	case o.has("del"):
		_, err := p.sas.Delete(id)
		return err
	case o.has("get"):
		_, err := p.sas.Get(id)
		return err
	}
	s := &klips.SASpec{ID: id, Src: must[netip.Addr](p)(syntax.ParseAddr(o.get("src"), syntax.FamilyAny, nil))}
	if v := o.get("authkey"); v != "" {
		s.AuthKey = must[[]byte](p)(syntax.ParseKey(v))
	}
	if v := o.get("enckey"); v != "" {
		s.EncKey = must[[]byte](p)(syntax.ParseKey(v))
	}
	if v := o.get("replay_window"); v != "" {
		s.Window = uint32(must[uint64](p)(syntax.ParseNumber(v, 10, 64)))
	}
	switch v := ""; {
	case o.has("ah"):
		s.Auth = must[alg.Auth](p)(syntax.ParseAH(o.get("ah")))
	case o.has("comp"):
		s.Comp = must[alg.Comp](p)(syntax.ParseComp(o.get("comp")))
	case o.has("esp"):
		v = foreign.ReplaceAllString(o.get("esp"), "aes")
		s.Transform, _, _ = syntax.ParseESP(v)
		if s.Enc == alg.EncNone {
			p.t.Fatalf("unknown transform %s", v)
		}
	}
	if v := o.get("life"); v != "" {
		p.life(s, v)
	}
	dir := klips.Outbound
	if p.isLocal(id.Dst) {
		dir = klips.Inbound
	}
	_, err := p.sas.Add(s, dir, 1, nil)
	return err
}

// foreign matches ciphers that the recording kernel had and this stack does not. They
// are replaced by AES, which has the same block and keys.
var foreign = regexp.MustCompile(`twofish|serpent`)

func (p *player) life(s *klips.SASpec, text string) {
	for _, item := range strings.Split(text, ",") {
		name, v, _ := strings.Cut(item, "=")
		n := must[uint64](p)(syntax.ParseNumber(v, 10, 1<<63))
		switch name {
		case "soft-bytes":
			s.Soft.Bytes = n
		case "hard-bytes":
			s.Hard.Bytes = n
		case "soft-addtime":
			s.Soft.AddTime = n
		case "hard-addtime":
			s.Hard.AddTime = n
		case "hard-packets": // the kernel accepts and ignores it
		default:
			p.t.Fatalf("unknown limit %s", item)
		}
	}
}

func (p *player) spigrp(o options, s *recorded.Step) error {
	var ids []klips.SAID
	if o.has("said") {
		for _, v := range o[""] {
			ids = append(ids, p.said(v))
		}
	} else {
		for f := range slices.Chunk(o[""], 4) {
			ids = append(ids, p.fields(f[0], f[1], f[2], f[3]))
		}
	}
	switch {
	case len(ids) == 1:
		return p.sas.Ungroup(ids[0])
	case s.Errno == 0:
		return p.sas.Group(ids)
	}
	// The tools grouped pair by pair, and earlier pairs stayed.
	whole := p.sas.Group(ids)
	for i := 1; i < len(ids); i++ {
		if err := p.sas.Group(ids[i-1 : i+1]); err != nil {
			if i-1 != s.Accepted {
				p.t.Errorf("%v: pair %d was refused, want %d", s.Cmd, i-1, s.Accepted)
			}
			if !errors.Is(whole, errnoOf(s.Errno)) {
				p.t.Errorf("%v: refused as a whole with %v, as pairs with %v", s.Cmd, whole, err)
			}
			return err
		}
	}
	return nil
}

func (p *player) eroute(o options, kernel syscall.Errno) error {
	if o.has("clear") {
		p.routes.Clear()
		return nil
	}
	f := must[syntax.Family](p)(syntax.ParseFamily(o.get("eraf")))
	subnet := must[netip.Prefix](p)
	number := func(name string, max uint64) uint64 {
		if !o.has(name) {
			return 0
		}
		return must[uint64](p)(syntax.ParseNumber(o.get(name), 10, max))
	}
	e := klips.Eroute{Selector: klips.Selector{
		Src: subnet(syntax.ParseSubnet(o.get("src"), f, nil)), Dst: subnet(syntax.ParseSubnet(o.get("dst"), f, nil)),
		Proto: protocol(o.get("transport-proto"), number),
		// The tools accepted larger numbers and sent their lower 16 bits.
		SrcPort: uint16(number("src-port", 1<<32-1)), DstPort: uint16(number("dst-port", 1<<32-1)),
	}}
	if o.has("del") {
		_, err := p.routes.Delete(e.Selector)
		return err
	}
	e.ID = p.target(o)
	switch {
	case o.has("add"):
		return p.routes.Add(e)
	case o.has("addin"), o.has("replacein"):
		// A KLIPS kernel has inbound policies only for tun SAs, and for all protocols
		// and ports.
		if sa := p.sas.Lookup(e.ID); sa != nil && !slices.ContainsFunc(sa.Chain(), isTunnel) {
			return syscall.ENOENT
		}
		return p.sas.SetPolicy(e.ID, klips.InboundPolicy{Src: e.Src, Dst: e.Dst})
	}
	// A KLIPS kernel refuses to replace an eroute that does not exist; here it is
	// added.
	if kernel != 0 {
		if old := p.routes.Get(e.Selector); old != nil {
			p.t.Errorf("eroute %v is there, the kernel had none", e.Selector)
		}
		return syscall.ENOENT
	}
	old, err := p.routes.Replace(e)
	if err == nil && old == nil {
		p.t.Errorf("eroute %v is not there, the kernel had it", e.Selector)
	}
	return err
}

func isTunnel(sa *sadb.SA) bool { return sa.ID.Proto == klips.ProtoTun }

// protocol parses --transport-proto.
func protocol(text string, number func(string, uint64) uint64) uint8 {
	switch text {
	case "icmp":
		return 1
	case "tcp":
		return 6
	case "udp":
		return 17
	}
	return uint8(number("transport-proto", 255))
}

// tables returns the listings, without values that differ from run to run.
func (p *player) tables() map[string][]string {
	var sas []klips.SA
	for _, sa := range p.sas.All() {
		sas = append(sas, sa.Info(1))
	}
	var routes []klips.Eroute
	for _, r := range p.routes.All() {
		routes = append(routes, r.Eroute())
	}
	text := func(write func(io.Writer) error) []string {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			p.t.Fatal(err)
		}
		if b.Len() == 0 {
			return nil
		}
		return p.normal(strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n"))
	}
	return map[string][]string{
		"spi":    text(func(w io.Writer) error { return procfs.WriteSPI(w, sas) }),
		"spigrp": text(func(w io.Writer) error { return procfs.WriteSPIGrp(w, sas) }),
		"eroute": text(func(w io.Writer) error { return procfs.WriteEroute(w, routes) }),
	}
}

var (
	blank   = regexp.MustCompile(` (jiffies|ref|refhim|refcount|idle)=[0-9]+`)
	iv      = regexp.MustCompile(`iv=0x([0-9a-f]*)`)
	elapsed = regexp.MustCompile(`(addtime|usetime)\([0-9]+`)
	cipher  = regexp.MustCompile(`_(TWOFISH|SERPENT)`)
)

func (p *player) normal(lines []string) []string {
	if len(lines) == 0 {
		return nil
	}
	out := make([]string, len(lines))
	for i, l := range lines {
		l = blank.ReplaceAllString(l, "")
		l = iv.ReplaceAllStringFunc(l, func(s string) string { return "iv=" + strings.Repeat("x", len(s)) })
		l = elapsed.ReplaceAllString(l, "$1(t")
		out[i] = cipher.ReplaceAllString(l, "_AES")
	}
	// Eroutes with one key and masks that are not comparable are listed in another
	// order here.
	for i := 0; i < len(out); {
		n := 1
		for k := erouteKey(out[i]); k != "" && i+n < len(out) && erouteKey(out[i+n]) == k; {
			n++
		}
		slices.Sort(out[i : i+n])
		i += n
	}
	return out
}

var masks = regexp.MustCompile(`/[0-9]+| +`)

// erouteKey returns an eroute's line without its masks and its SA, "" for other lines.
func erouteKey(line string) string {
	flow, said, ok := strings.Cut(line, " => ")
	if !ok {
		return ""
	}
	_, proto, _ := strings.Cut(said, ":")
	return masks.ReplaceAllString(flow, "") + ":" + proto
}
