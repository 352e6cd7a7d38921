package main

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"syscall"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/serial"
	"github.com/klips-go/ipsec/testscripts/bed"
)

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

// expiryTime is how long packets may take to run a group out of its lifetime.
const expiryTime = time.Minute

// shapes are the transforms of the groups, inner to outer, after the tun SA.
var shapes = [][]klips.SASpec{
	{sa(klips.ProtoESP, klips.Transform{Enc: alg.AESGCM}, 20, 0)},
	{sa(klips.ProtoESP, klips.Transform{Enc: alg.ChaCha20Poly1305}, 36, 0)},
	{sa(klips.ProtoESP, klips.Transform{Enc: alg.AES, Auth: alg.SHA1}, 16, 20)},
	{sa(klips.ProtoESP, klips.Transform{Enc: alg.AES, Auth: alg.SHA256}, 32, 32), sa(klips.ProtoAH, klips.Transform{Auth: alg.SHA1}, 0, 20)},
	{sa(klips.ProtoComp, klips.Transform{Comp: alg.Deflate}, 0, 0), sa(klips.ProtoESP, klips.Transform{Enc: alg.AESGCM}, 36, 0)},
	{sa(klips.ProtoComp, klips.Transform{Comp: alg.Deflate}, 0, 0), sa(klips.ProtoESP, klips.Transform{Enc: alg.TripleDES, Auth: alg.MD5}, 24, 16),
		sa(klips.ProtoAH, klips.Transform{Auth: alg.SHA512}, 0, 64)},
}

func sa(p klips.Proto, t klips.Transform, encKey, authKey int) klips.SASpec {
	return klips.SASpec{ID: klips.SAID{Proto: p}, Transform: t, EncKey: make([]byte, encKey), AuthKey: make([]byte, authKey)}
}

// A group is a group of SAs in use.
type group struct {
	head    klips.SAID
	specs   [2][]klips.SASpec // on each host
	inbound bool              // has an inbound policy
}

// An old is a group that has been replaced. It is deleted after the packets that were
// sent through it have arrived.
type old struct {
	head klips.SAID
	way  int
	mark uint64 // number of the gate of this direction
}

// keys changes the SAs on both hosts. Way 0 is from the first host to the second.
type keys struct {
	b      *bed.Bed
	rand   *rand.Rand
	exempt [2]*gate

	spi     uint32
	current [2]group
	olds    []old

	made, replaced, soft, expired, others int
}

// ask calls f with a new connection to a host's daemon. Commands also use a new
// connection each time.
func (k *keys) ask(host int, f func(c serial.Calls) error) error {
	c, err := k.b.Dial(host)
	if err == nil {
		err = f(serial.Calls{Stack: c})
		c.Close()
	}
	if err != nil {
		return fmt.Errorf("host %d: %w", host+1, err)
	}
	return nil
}

// churn makes changes until the given time.
func (k *keys) churn(ctx context.Context, until time.Time) (err error) {
	for err == nil && ctx.Err() == nil && time.Now().Before(until) {
		way := k.rand.IntN(2)
		switch p := k.rand.IntN(100); {
		case p < 4:
			err = k.runOut(ctx, way)
		case p < 14:
			k.soft++
			err = k.rekey(ctx, way, func(_ bool, s *klips.SASpec) { s.Soft.Bytes, s.Soft.Packets = 1000, 3 })
		case p < 34:
			err = k.bystanders(ctx, k.rand.IntN(2))
		default:
			err = k.rekey(ctx, way, nil)
		}
		if err == nil {
			err = k.reap(ctx, false)
		}
		time.Sleep(time.Duration(k.rand.IntN(60)) * time.Millisecond)
	}
	return err
}

// makeUp returns a random group for one way.
func (k *keys) makeUp(way int) (specs []klips.SASpec, ids []klips.SAID) {
	src, dst := addr(bed.Wires[way]), addr(bed.Wires[1-way])
	list := append([]klips.SASpec{{ID: klips.SAID{Proto: klips.ProtoTun}}}, shapes[k.rand.IntN(len(shapes))]...)
	for _, s := range list {
		k.spi++
		s.ID.Dst, s.ID.SPI, s.Src = dst, klips.SPI(0x100+k.spi%0xfe00), src // below 0x10000, as comp SAs must be
		s.EncKey, s.AuthKey = make([]byte, len(s.EncKey)), make([]byte, len(s.AuthKey))
		crand.Read(s.EncKey)
		crand.Read(s.AuthKey)
		if s.ID.Proto == klips.ProtoESP || s.ID.Proto == klips.ProtoAH {
			s.Window = []uint32{64, 256, 4096}[k.rand.IntN(3)]
		}
		specs, ids = append(specs, s), append(ids, s.ID)
	}
	return specs, ids
}

// rekey replaces the group of a way: first at the receiver, then at the sender, then
// the eroute. The old group stays for a while. change may alter the SAs; its argument
// sends reports whether the host is the sender.
func (k *keys) rekey(ctx context.Context, way int, change func(sends bool, s *klips.SASpec)) error {
	specs, ids := k.makeUp(way)
	g := group{head: ids[0], inbound: k.rand.IntN(2) == 0}
	for _, at := range [2]int{1 - way, way} {
		for _, s := range specs {
			if change != nil {
				change(at == way, &s)
			}
			g.specs[at] = append(g.specs[at], s)
		}
		if err := k.install(ctx, way, at, &g); err != nil {
			return err
		}
	}
	k.made++
	if before := k.current[way].head; before.SPI != 0 {
		k.replaced++
		k.olds = append(k.olds, old{before, way, k.exempt[way].sent.Load()})
	}
	k.current[way] = g
	return nil
}

// install adds a group of a way on one host.
func (k *keys) install(ctx context.Context, way, at int, g *group) error {
	sel := klips.Selector{Src: host(bed.Inners[way]), Dst: host(bed.Inners[1-way])}
	var ids []klips.SAID
	err := k.ask(at, func(c serial.Calls) error {
		for _, s := range g.specs[at] {
			ids = append(ids, s.ID)
			if err := c.AddSA(ctx, &s); err != nil {
				return err
			}
		}
		if err := c.Group(ctx, ids); err != nil {
			return err
		}
		switch {
		case at == way:
			return c.SetEroute(ctx, klips.Eroute{Selector: sel, ID: g.head}, klips.ErouteReplace)
		case g.inbound:
			return c.SetEroute(ctx, klips.Eroute{Selector: sel, ID: g.head}, klips.ErouteAddIn)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("new group %v: %w", ids, err)
	}
	return nil
}

func host(text string) netip.Prefix { return netip.PrefixFrom(addr(text), addr(text).BitLen()) }

// runOut lets a group exceed a hard limit at one of its ends, and then replaces it.
// Between these two steps no packet may pass, and none may leave in clear.
func (k *keys) runOut(ctx context.Context, way int) error {
	k.exempt[way].open()
	defer k.exempt[way].close()
	// Packets that were sent earlier may wait in the queue of ipsec0 behind the TCP
	// stream. They must not reach the group with the limit.
	if err := k.pass(ctx); err != nil {
		return err
	}
	var limit klips.Limits
	if k.rand.IntN(2) == 0 {
		limit.Packets = 1 + k.rand.Uint64N(50)
	} else {
		limit.Bytes = 1 + k.rand.Uint64N(50_000)
	}
	atSender := k.rand.IntN(2) == 0
	if err := k.rekey(ctx, way, func(sends bool, s *klips.SASpec) {
		// A tun SA does not count received packets for its limits, and packets that
		// were not compressed do not pass a comp SA.
		if sends == atSender && s.ID.Proto == klips.ProtoESP {
			s.Hard = limit
		}
	}); err != nil {
		return err
	}
	at := 1 - way
	if atSender {
		at = way
	}
	head := k.current[way].head
	for end := time.Now().Add(expiryTime); ; time.Sleep(2 * time.Millisecond) {
		var err error
		if err = k.ask(at, func(c serial.Calls) error { _, err := c.GetSA(ctx, head); return err }); errors.Is(err, syscall.ESRCH) {
			break
		}
		if err != nil {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("host %d: %s with %+v is still there after %v", at+1, head, limit, expiryTime)
		}
	}
	k.expired++
	time.Sleep(time.Duration(k.rand.IntN(20)) * time.Millisecond)
	return k.rekey(ctx, way, nil)
}

// bystanders adds, links, unlinks and deletes SAs and eroutes that no packet uses, and
// reads the tables.
func (k *keys) bystanders(ctx context.Context, at int) error {
	specs, ids := k.makeUp(1 - at)
	k.others += len(specs)
	e := klips.Eroute{Selector: klips.Selector{Src: host(fmt.Sprintf("10.9.0.%d", k.rand.IntN(256))), Dst: host("10.10.0.1")}, ID: ids[0]}
	return k.ask(at, func(c serial.Calls) error {
		var err error
		do := func(f func() error) {
			if err == nil {
				err = f()
			}
		}
		for i := range specs {
			do(func() error { return c.AddSA(ctx, &specs[i]) })
		}
		do(func() error { return c.Group(ctx, ids) })
		do(func() error { return c.SetEroute(ctx, e, klips.ErouteAdd) })
		do(func() error { _, err := c.SAs(ctx); return err })
		do(func() error { _, err := c.Eroutes(ctx); return err })
		do(func() error { return c.DeleteEroute(ctx, e.Selector) })
		if k.rand.IntN(2) == 0 {
			do(func() error { return c.Ungroup(ctx, ids[0]) })
			for _, id := range ids {
				do(func() error { return c.DeleteSA(ctx, id) })
			}
		} else {
			do(func() error { return c.DeleteSA(ctx, ids[len(ids)-1]) })
		}
		return err
	})
}

// reap deletes the old groups whose last packets have arrived, or all old groups. A
// group that exceeded its limit is already gone at one end.
func (k *keys) reap(ctx context.Context, all bool) error {
	for len(k.olds) > 0 && (all || k.exempt[k.olds[0].way].passed(k.olds[0].mark)) {
		o := k.olds[0]
		k.olds = k.olds[1:]
		for _, at := range [2]int{o.way, 1 - o.way} {
			err := k.ask(at, func(c serial.Calls) error { return c.DeleteSA(ctx, o.head) })
			if err != nil && !errors.Is(err, syscall.ESRCH) {
				return err
			}
		}
	}
	return nil
}

// finish deletes the old groups, checks that only the current ones are left, and clears
// the tables. Then nothing may be left.
func (k *keys) finish(ctx context.Context, r *report) {
	fail := func(err error) {
		if err != nil {
			r.bad("in the end: %v", err)
		}
	}
	fail(k.reap(ctx, true))
	for at := range 2 {
		fail(k.ask(at, func(c serial.Calls) error {
			for _, want := range []int{2, 0} {
				sas, err := c.SAs(ctx)
				if err != nil {
					return err
				}
				heads := 0
				for _, s := range sas {
					if s.ID.Proto == klips.ProtoTun {
						heads++
					}
				}
				if heads != want || want == 0 && len(sas) != 0 {
					return fmt.Errorf("%d SAs in %d groups are left, want %d groups", len(sas), heads, want)
				}
				if err := errors.Join(c.ClearEroutes(ctx), c.ClearSAs(ctx)); err != nil {
					return err
				}
			}
			return nil
		}))
	}
}
