package xfrm

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// A sharing is a stack with groups of tun, esp and ah SAs. Group n has the SPIs 0x100+16n to
// 0x102+16n, and each group another window.
type sharing struct {
	*testing.T
	m *memory
	s *Stack
}

func newSharing(t *testing.T, groups int) *sharing {
	m := newMemory()
	w := &sharing{t, m, m.stack(-1)}
	for n := range groups {
		w.group(n)
	}
	return w
}

func nth(n int, proto klips.Proto) klips.SAID {
	place := map[klips.Proto]int{klips.ProtoTun: 0, klips.ProtoESP: 1, klips.ProtoAH: 2}[proto]
	return klips.SAID{Dst: there, Proto: proto, SPI: klips.SPI(0x100 + 16*n + place)}
}

// windows are those of the esp SAs; the ah SAs have 64-bit numbers.
var windows = []uint32{0, 32, 64, 128}

func (w *sharing) group(n int) {
	w.Helper()
	esp := klips.SASpec{ID: nth(n, klips.ProtoESP), Src: here, Window: windows[n], Transform: klips.Transform{Enc: alg.AES, Auth: alg.SHA256}, EncKey: make([]byte, 16), AuthKey: make([]byte, 32)}
	ah := klips.SASpec{ID: nth(n, klips.ProtoAH), Src: here, Window: 64, ESN: true, Transform: klips.Transform{Auth: alg.SHA256Trunc}, AuthKey: make([]byte, 32)}
	w.carry(klips.AddSA{SASpec: &klips.SASpec{ID: nth(n, klips.ProtoTun), Src: here}}, klips.AddSA{SASpec: &esp}, klips.AddSA{SASpec: &ah},
		klips.Group{IDs: []klips.SAID{nth(n, klips.ProtoTun), esp.ID, ah.ID}})
}

func (w *sharing) carry(changes ...klips.Change) {
	w.Helper()
	if _, err := w.s.carry(context.Background(), changes...); err != nil {
		w.Fatal(err)
	}
}

func share(net string, first int, also ...int) klips.SetEroute {
	e := klips.Eroute{Selector: klips.Selector{Src: any4, Dst: netip.MustParsePrefix(net)}, ID: nth(first, klips.ProtoTun)}
	for _, n := range also {
		e.Also = append(e.Also, nth(n, klips.ProtoTun))
	}
	return klips.SetEroute{Eroute: e, Replace: true}
}

// bound returns the SPIs of the states that have a processor, with it and their reqid, sorted.
func (w *sharing) bound() string {
	var l []string
	for _, s := range w.m.states {
		if s.Processor != 0 {
			l = append(l, fmt.Sprintf("%#x on %d as %#x", s.SPI, s.Processor-1, s.ReqID))
		}
	}
	slices.Sort(l)
	return strings.Join(l, ", ")
}

// template returns the SPIs and reqids of an eroute's template.
func (w *sharing) template(net string) string {
	p := w.m.policies[nlxfrm.PolicyKey{Dir: nlxfrm.DirOut, Selector: selectorOf(klips.Selector{Src: any4, Dst: netip.MustParsePrefix(net)}), IfID: 1}]
	if p == nil {
		return "none"
	}
	var l []string
	for _, t := range p.Templates {
		l = append(l, fmt.Sprintf("%#x as %#x", t.SPI, t.ReqID))
	}
	return strings.Join(l, ", ")
}

func (w *sharing) want(what, bound, template string) {
	w.Helper()
	if got := w.bound(); got != bound {
		w.Errorf("%s: bound are %s, want %s", what, got, bound)
	}
	if got := w.template("10.1.0.0/16"); got != template {
		w.Errorf("%s: the template is %s, want %s", what, got, template)
	}
}

// The states of further SAs are bound to processors as long as an eroute has them there, and
// all SAs keep their windows and numbers.
func TestProcessors(t *testing.T) {
	const (
		alone  = "0x101 as 0x101, 0x102 as 0x102"
		shared = "0x0 as 0x101, 0x0 as 0x102"
		second = "0x111 on 1 as 0x101, 0x112 on 1 as 0x102"
		both   = second + ", 0x121 on 2 as 0x101, 0x122 on 2 as 0x102"
	)
	w := newSharing(t, 4)
	listed := func(numbers bool) (text string) {
		t.Helper()
		l, err := w.s.SAs(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range l {
			if !numbers {
				s.Seq = 0
			}
			text += fmt.Sprintln(s.ID, s.Window, s.ESN, s.Seq)
		}
		return text
	}
	for _, s := range w.m.states {
		*s = *resume(s, 1000, 0)
	}
	before, windows := listed(true), listed(false)
	w.carry(share("10.1.0.0/16", 0, 1, 2, 3))
	w.want("three processors", both, shared)
	if got := listed(true); got != before {
		t.Errorf("the SAs were\n%sand are\n%s", before, got)
	}
	l, err := w.s.Eroutes(context.Background())
	if want := share("10.1.0.0/16", 0, 1, 2, 3); err != nil || len(l) != 1 || !l[0].SameTarget(&want.Eroute) {
		t.Errorf("the eroutes are %v, %v", l, err)
	}
	w.carry(share("10.2.0.0/16", 0))
	w.want("another eroute through the first SA alone", both, shared)
	if got := w.template("10.2.0.0/16"); got != alone {
		t.Errorf("its template is %s", got)
	}
	w.carry(klips.DeleteSA{ID: nth(2, klips.ProtoTun)})
	w.want("a further SA is removed", second, shared)
	w.group(2)
	w.want("it is made again", both, shared)
	w.carry(share("10.1.0.0/16", 0, 1))
	w.want("the eroute has one further SA", second, shared)
	w.carry(klips.DeleteSA{ID: nth(0, klips.ProtoTun)})
	w.want("the first SA is removed", "", "")
	w.group(0)
	w.want("it is made again", second, shared)
	w.carry(klips.DeleteEroute{Selector: share("10.1.0.0/16", 0).Selector})
	w.want("the eroute is removed", "", "none")
	w.carry(share("10.1.0.0/16", 0))
	w.want("the eroute has no further SA", "", alone)
	if got := listed(false); got != windows {
		t.Errorf("the SAs were\n%sand are\n%s", windows, got)
	}
}

// An eroute is refused if its SAs exist and the kernel cannot share its packets between them.
func TestNotShared(t *testing.T) {
	ctx := context.Background()
	w := newSharing(t, 4)
	esp := klips.SASpec{ID: klips.SAID{Dst: there, Proto: klips.ProtoESP, SPI: 0x200}, Src: here, Transform: klips.Transform{Enc: alg.AESGCM}, EncKey: make([]byte, 20)}
	w.carry(klips.AddSA{SASpec: &esp})
	w.carry(share("10.1.0.0/16", 0, 1), share("10.2.0.0/16", 3))
	other := share("10.3.0.0/16", 0, 1)
	other.Also = []klips.SAID{esp.ID}
	inner := share("10.3.0.0/16", 2, 1)
	inner.ID = nth(2, klips.ProtoESP)
	for text, c := range map[string]klips.Change{
		"have the same ones, and those of 0.0.0.0/0 -> 10.1.0.0/16":     share("10.3.0.0/16", 0, 2),
		"another eroute begins with " + nth(3, klips.ProtoTun).String(): share("10.3.0.0/16", 2, 3),
		"is not the first SA of its group":                              inner,
	} {
		_, err := w.s.carry(ctx, c)
		if !errors.Is(err, syscall.EOPNOTSUPP) || !strings.Contains(err.Error(), text) {
			t.Errorf("%v: %v, want %q", c, err, text)
		}
	}
	other.ID = nth(2, klips.ProtoTun)
	if _, err := w.s.carry(ctx, other); err == nil || !strings.Contains(err.Error(), "different protocols or ends") {
		t.Errorf("%v: %v", other, err)
	}
	w.want("after the refusals", "0x111 on 1 as 0x101, 0x112 on 1 as 0x102", "0x0 as 0x101, 0x0 as 0x102")
}

// The first SA of an eroute becomes a further one of it.
func TestFirstBecomesFurther(t *testing.T) {
	w := newSharing(t, 2)
	w.carry(share("10.1.0.0/16", 1))
	w.carry(share("10.1.0.0/16", 0, 1))
	w.want("another SA is the first", "0x111 on 1 as 0x101, 0x112 on 1 as 0x102", "0x0 as 0x101, 0x0 as 0x102")
	w.carry(share("10.1.0.0/16", 1, 0))
	w.want("they change places", "0x101 on 1 as 0x111, 0x102 on 1 as 0x112", "0x0 as 0x111, 0x0 as 0x112")
}

// The policy of an eroute's further SAs has room for all of them.
func TestAlsoPolicy(t *testing.T) {
	for n := range klips.MaxAlso + 1 {
		e := share("10.1.0.0/16", 0).Eroute
		for i := range n {
			e.Also = append(e.Also, klips.SAID{Dst: there, SPI: klips.SPI(0xfffffff0 - i), Proto: []klips.Proto{klips.ProtoESP, klips.ProtoTun}[i%2]})
		}
		r := &route{Eroute: e}
		var p nlxfrm.Policy
		p.Selector = selectorOf(e.Selector)
		labelRoute(&p, &e)
		read := readRoute(&p)
		read.take(alsoPolicy(r))
		if !slices.Equal(read.Also, e.Also) {
			t.Errorf("%d further SAs: %v, want %v", n, read.Also, e.Also)
		}
		if read = readRoute(&p); n > 0 {
			r.Also = r.Also[1:]
			if read.take(alsoPolicy(r)); read.Also != nil {
				t.Errorf("a policy with %d of %d further SAs was taken", n-1, n)
			}
		}
	}
}
