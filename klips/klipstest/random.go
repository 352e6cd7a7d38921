package klipstest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/plan"
	"github.com/klips-go/ipsec/klips/serial"
)

// TestCommands runs random commands on a stack and on a Model, and checks for the same
// answers and the same tables. The stack is new, except for devices from earlier
// rounds.
func TestCommands(t *testing.T, b Bench) {
	rapid.Check(t, func(r *rapid.T) {
		ctx := context.Background()
		stack := serial.Calls{Stack: b.Stack}
		for _, clean := range []func(context.Context) error{stack.ClearSAs, stack.ClearEroutes, stack.DetachAll} {
			if err := clean(ctx); err != nil {
				r.Fatal(err)
			}
		}
		now, err := b.Stack.Snapshot(ctx, plan.Wanted)
		if err != nil {
			r.Fatal(err)
		}
		m := &Model{Model: plan.Of(b.Stack.Info(), now)}
		m.Local = func(a netip.Addr) bool { return a == b.Local }
		m.Physical = func(name string) (int, bool) { return 1500, name == b.Physical }
		c := &commander{b: b, model: m}
		for range rapid.IntRange(1, 40).Draw(r, "commands") {
			what, do := c.draw(r)
			want, got := do(ctx, m), do(ctx, stack)
			if !sameError(want, got) {
				r.Fatalf("%s = %v, want %v", what, got, want)
			}
			if d, err := SameTables(ctx, m, stack); err != nil || d != "" {
				r.Fatalf("after %s: %v (-want +got)\n%s", what, err, d)
			}
		}
	})
}

// sameError checks that both errors have the same errno, in an *OpError.
func sameError(want, got error) bool {
	var w, g syscall.Errno
	var op *klips.OpError
	if want == nil || got == nil {
		return want == got
	}
	return errors.As(want, &w) && errors.As(got, &g) && w == g && errors.As(got, &op)
}

func diff(want, got any) string {
	return cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}))
}

// A commander draws commands for few objects, so that commands concern the same ones.
type commander struct {
	b     Bench
	model *Model
}

type command func(context.Context, serial.Doer) error

func (c *commander) draw(r *rapid.T) (what string, do command) {
	id := c.said(r, "id")
	switch rapid.IntRange(0, 15).Draw(r, "command") {
	case 0, 1, 2, 3, 4, 5:
		s := c.spec(r, id)
		return fmt.Sprint("AddSA ", id), func(ctx context.Context, k serial.Doer) error { return k.AddSA(ctx, s) }
	case 6:
		return fmt.Sprint("DeleteSA ", id), func(ctx context.Context, k serial.Doer) error { return k.DeleteSA(ctx, id) }
	case 7, 8, 9:
		n := 2
		if c.b.Stack.Info().Has(klips.CapAtomicGroup) {
			n = rapid.IntRange(2, klips.MaxGroup).Draw(r, "members")
		}
		ids := make([]klips.SAID, n)
		for i := range ids {
			ids[i] = c.said(r, "member")
		}
		return fmt.Sprint("Group ", ids), func(ctx context.Context, k serial.Doer) error { return k.Group(ctx, ids) }
	case 10:
		return fmt.Sprint("Ungroup ", id), func(ctx context.Context, k serial.Doer) error { return k.Ungroup(ctx, id) }
	case 11, 12:
		e := klips.Eroute{Selector: c.selector(r), ID: c.target(r), Also: c.further(r)}
		op := rapid.SampledFrom([]klips.ErouteOp{klips.ErouteAdd, klips.ErouteAdd, klips.ErouteReplace, klips.ErouteAddIn, klips.ErouteReplaceIn}).Draw(r, "op")
		return fmt.Sprint("SetEroute ", e, op), func(ctx context.Context, k serial.Doer) error { return k.SetEroute(ctx, e, op) }
	case 13:
		s := c.selector(r)
		return fmt.Sprint("DeleteEroute ", s), func(ctx context.Context, k serial.Doer) error { return k.DeleteEroute(ctx, s) }
	case 14:
		return c.drawDevice(r)
	}
	switch rapid.IntRange(0, 9).Draw(r, "rare") {
	case 0:
		return "ClearSAs", func(ctx context.Context, k serial.Doer) error { return k.ClearSAs(ctx) }
	case 1:
		return "ClearEroutes", func(ctx context.Context, k serial.Doer) error { return k.ClearEroutes(ctx) }
	}
	ch := klips.DebugChange{Set: rapid.Bool().Draw(r, "set")}
	ch.Masks[rapid.IntRange(0, int(klips.NumDebugAreas)-1).Draw(r, "area")] = rapid.Uint32().Draw(r, "mask")
	return fmt.Sprint("SetDebug ", ch), func(ctx context.Context, k serial.Doer) error { return k.SetDebug(ctx, ch) }
}

func (c *commander) drawDevice(r *rapid.T) (string, command) {
	dev := rapid.SampledFrom([]string{"ipsec0", "ipsec1", "ipsec9"}).Draw(r, "virtual")
	switch rapid.IntRange(0, 3).Draw(r, "tncfg") {
	case 0:
		return "Detach " + dev, func(ctx context.Context, k serial.Doer) error { return k.Detach(ctx, dev) }
	case 1:
		return "DetachAll", func(ctx context.Context, k serial.Doer) error { return k.DetachAll(ctx) }
	}
	phys := rapid.SampledFrom([]string{c.b.Physical, c.b.Physical, "nosuch0"}).Draw(r, "physical")
	return "Attach " + dev + " " + phys, func(ctx context.Context, k serial.Doer) error { return k.Attach(ctx, dev, phys) }
}

// further returns further SAs of an eroute, for stacks that can have them: valid or not.
func (c *commander) further(r *rapid.T) (ids []klips.SAID) {
	if !c.b.Stack.Info().Has(klips.CapAlso) {
		return nil
	}
	for range max(rapid.IntRange(-2, 2).Draw(r, "further SAs"), 0) {
		ids = append(ids, c.said(r, "further"))
	}
	return ids
}

func (c *commander) said(r *rapid.T, name string) klips.SAID {
	return klips.SAID{
		Dst:   rapid.SampledFrom([]netip.Addr{c.b.Local, peer, peer6}).Draw(r, name+" destination"),
		SPI:   klips.SPI(rapid.IntRange(0xff, 0x101).Draw(r, name+" SPI")),
		Proto: rapid.SampledFrom([]klips.Proto{klips.ProtoTun, klips.ProtoESP, klips.ProtoAH, klips.ProtoComp}).Draw(r, name+" protocol"),
	}
}

var peer6 = netip.MustParseAddr("2001:db8::77")

// spec returns a new SA, valid or with one fault.
func (c *commander) spec(r *rapid.T, id klips.SAID) *klips.SASpec {
	s := &klips.SASpec{ID: id, Src: c.b.Local}
	switch {
	case id.Dst == c.b.Local:
		s.Src = peer
	case id.Dst.Is6():
		s.Src = netip.MustParseAddr("2001:db8::1")
	}
	keys := func(bits []int) []byte { return key(rapid.SampledFrom(bits).Draw(r, "key") / 8) }
	switch id.Proto {
	case klips.ProtoESP:
		s.Enc = rapid.SampledFrom([]alg.Enc{alg.TripleDES, alg.AES, alg.Null, alg.AESGCM, 77}).Draw(r, "cipher")
		s.Auth = rapid.SampledFrom([]alg.Auth{0, alg.MD5, alg.SHA256}).Draw(r, "auth")
	case klips.ProtoAH:
		s.Auth = rapid.SampledFrom([]alg.Auth{0, alg.MD5, alg.SHA1}).Draw(r, "auth")
	case klips.ProtoComp:
		s.Comp = rapid.SampledFrom([]alg.Comp{0, alg.Deflate, alg.Deflate}).Draw(r, "compression")
	}
	enc, ok := s.Enc.Info()
	if ok && enc.AEAD {
		if s.Auth = 0; !c.b.Stack.Info().Has(klips.CapAEAD) {
			s.Enc = alg.AES
			enc, _ = s.Enc.Info()
		}
	}
	auth, _ := s.Auth.Info()
	if ok {
		s.EncKey = keys(enc.KeyBits)
	}
	s.AuthKey = keys(auth.KeyBits)
	if rapid.IntRange(0, 9).Draw(r, "wrong key") == 0 && id.Proto != klips.ProtoComp && id.Proto != klips.ProtoTun {
		s.AuthKey = key(19)
	}
	s.Window = uint32(rapid.IntRange(0, 64).Draw(r, "window"))
	s.ESN = c.b.Stack.Info().Has(klips.CapESN) && rapid.IntRange(0, 5).Draw(r, "ESN") == 0
	s.Soft.Bytes = uint64(rapid.IntRange(0, 2000).Draw(r, "soft"))
	s.Hard.Bytes = uint64(rapid.IntRange(0, 2000).Draw(r, "hard"))
	return s
}

func (c *commander) target(r *rapid.T) klips.SAID {
	if rapid.IntRange(0, 3).Draw(r, "magic") == 0 {
		return klips.Magic(rapid.SampledFrom([]klips.SPI{klips.SPIPass, klips.SPIDrop, klips.SPIReject, klips.SPITrap}).Draw(r, "magic SPI"))
	}
	return c.said(r, "target")
}

func (c *commander) selector(r *rapid.T) klips.Selector {
	nets := []string{"0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.0.0/24", "10.1.0.5/32"}
	if rapid.IntRange(0, 4).Draw(r, "family") == 0 {
		nets = []string{"::/0", "2001:db8::/32", "2001:db8:0:1::/64"}
	}
	s := klips.Selector{
		Src: netip.MustParsePrefix(rapid.SampledFrom(nets).Draw(r, "source")),
		Dst: netip.MustParsePrefix(rapid.SampledFrom(nets).Draw(r, "destination")),
	}
	if s.Proto = rapid.SampledFrom([]uint8{0, 0, 1, 6, 17}).Draw(r, "protocol"); s.Proto > 1 {
		s.SrcPort = rapid.SampledFrom([]uint16{0, 500}).Draw(r, "source port")
		s.DstPort = rapid.SampledFrom([]uint16{0, 80}).Draw(r, "destination port")
	}
	return s
}
