package xfrm

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/internal/arrange"
	"github.com/klips-go/ipsec/klips/rtnl"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// Probe finds out which protocols, algorithms and features the kernel has, by making
// each once in its own network namespace, which ends with the probe. It needs
// CAP_SYS_ADMIN.
func (s *Stack) Probe(ctx context.Context) (l []klips.Ability, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends, and the namespace with it
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			err = fmt.Errorf("a network namespace to try things in cannot be made: %w", err)
			return
		}
		var x *nlxfrm.Conn
		if x, err = nlxfrm.Dial(); err != nil {
			return
		}
		defer x.Close()
		var k *rtnl.Conn
		if k, err = rtnl.Dial(); err != nil {
			return
		}
		defer k.Close()
		l = probe(ctx, x, k)
	}()
	<-done
	if err != nil {
		return nil, &klips.OpError{Op: "probe", Err: err}
	}
	return l, nil
}

// probe tries everything in the namespace of the connections.
func probe(ctx context.Context, x *nlxfrm.Conn, k *rtnl.Conn) (l []klips.Ability) {
	for _, f := range []struct {
		name     string
		src, dst netip.Addr
	}{
		{"IPv4", netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")},
		{"IPv6", netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")},
	} {
		for p, t := range map[klips.Proto]klips.Transform{
			klips.ProtoESP:  {Enc: alg.Null, Auth: alg.SHA1},
			klips.ProtoAH:   {Auth: alg.SHA1},
			klips.ProtoComp: {Comp: alg.Deflate},
		} {
			a := tryState(ctx, x, fmt.Sprintf("%v over %s", p, f.name),
				&klips.SASpec{ID: klips.SAID{Proto: p, SPI: klips.MinSPI, Dst: f.dst}, Src: f.src, Transform: t})
			a.Algorithm.Comp = t.Comp
			l = append(l, a)
		}
	}
	arrange.Sort(l, func(a, b klips.Ability) int { return strings.Compare(a.Name, b.Name) })
	id := klips.SAID{Proto: klips.ProtoESP, SPI: klips.MinSPI, Dst: netip.MustParseAddr("192.0.2.2")}
	src := netip.MustParseAddr("192.0.2.1")
	for _, e := range alg.Encs() {
		i, _ := e.Info()
		t := klips.Transform{Enc: e}
		if !i.AEAD {
			t.Auth = alg.SHA1
		}
		b := tryState(ctx, x, i.Kernel, &klips.SASpec{ID: id, Src: src, Transform: t})
		b.Algorithm.Enc = e
		l = append(l, b)
	}
	for _, a := range alg.Auths() {
		i, _ := a.Info()
		b := tryState(ctx, x, fmt.Sprintf("%s with %d bits", i.Kernel, icvBits(i)),
			&klips.SASpec{ID: id, Src: src, Transform: klips.Transform{Enc: alg.Null, Auth: a}})
		b.Algorithm.Auth = a
		l = append(l, b)
	}
	l = append(l, tryState(ctx, x, "extended sequence numbers", &klips.SASpec{ID: id, Src: src, Window: 64, ESN: true,
		Transform: klips.Transform{Enc: alg.Null, Auth: alg.SHA1}}))
	interfaces := klips.Ability{Name: "xfrm interfaces"}
	if err := k.Add(ctx, rtnl.Spec{Name: "ipsec0", Kind: kindXfrm, IfID: 1}); err != nil {
		interfaces.Missing = "module xfrm_interface (CONFIG_XFRM_INTERFACE); devices are dummies then"
	}
	ids := klips.Ability{Name: "interface IDs"}
	if ok, err := hasIfIDs(ctx, x); err != nil || !ok {
		ids.Missing = "Linux 4.19 has them"
	}
	offload := klips.Ability{Name: "offload to devices"}
	if !hasOffload(ctx, x) {
		offload.Missing = "CONFIG_XFRM_OFFLOAD"
	}
	processors := klips.Ability{Name: "SAs for one processor"}
	if !hasProcessors(ctx, x) {
		processors.Missing = "Linux 6.13 has them"
	}
	return append(l, interfaces, ids, offload, processors)
}

// hasOffload sends a request that a kernel with offload refuses, and another kernel
// accepts because it ignores the attribute. It does not show which devices support
// offload.
func hasOffload(ctx context.Context, c *nlxfrm.Conn) bool {
	s := &nlxfrm.State{ID: nlxfrm.ID{Dst: netip.MustParseAddr("192.0.2.2"), SPI: 0x100, Proto: uint8(klips.ProtoESP)},
		Src: netip.MustParseAddr("192.0.2.1"), Crypt: &nlxfrm.Algorithm{Name: "ecb(cipher_null)"},
		Auth:    &nlxfrm.AuthAlgorithm{Name: "hmac(sha1)", TruncateBits: 96, Key: make(nlxfrm.Key, 20)},
		Offload: &nlxfrm.Offload{IfIndex: 1, Flags: 0x80}}
	err := c.AddState(ctx, s)
	if err == nil {
		c.DeleteState(ctx, s.ID, s.Mark)
	}
	return errors.Is(err, syscall.EINVAL)
}

// tryState makes a state with test keys, and removes it.
func tryState(ctx context.Context, x *nlxfrm.Conn, name string, spec *klips.SASpec) klips.Ability {
	enc, _ := spec.Enc.Info()
	auth, _ := spec.Auth.Info()
	spec.EncKey, spec.AuthKey = anyKey(enc), anyKey(auth)
	a := klips.Ability{Name: name}
	sa, err := newSA(spec, time.Now())
	if err == nil {
		if e := x.AddState(ctx, sa.state); e != nil {
			err = wrapError(e, sa.state)
		} else {
			err = x.DeleteState(ctx, sa.state.ID, sa.state.Mark)
		}
	}
	var op *klips.OpError
	switch {
	case errors.As(err, &op) && op.Reason != "":
		a.Missing = op.Reason
	case err != nil:
		a.Missing = err.Error()
	}
	return a
}

// anyKey returns a key of the shortest length. Its bytes are all different, which 3DES
// requires.
func anyKey(i alg.Info) []byte {
	if len(i.KeyBits) == 0 {
		return nil
	}
	b := make([]byte, i.KeyBits[0]/8)
	for n := range b {
		b[n] = byte(n)
	}
	return b
}
