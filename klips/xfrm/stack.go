package xfrm

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/guard"
	"github.com/klips-go/ipsec/klips/internal/arrange"
	"github.com/klips-go/ipsec/klips/internal/udpport"
	"github.com/klips-go/ipsec/klips/netlock"
	"github.com/klips-go/ipsec/klips/rtnl"
	"github.com/klips-go/ipsec/klips/serial"
	"github.com/klips-go/ipsec/klips/xfrm/nlxfrm"
)

// A Stack drives the kernel's IPsec in one network namespace.
type Stack struct {
	xfrm  kernel
	links *rtnl.Conn
	lock  netlock.Lock // held during changes

	statedir string // directory of the marks; empty: none
	lost     lost
	held     udpport.Ports

	interfaces   func() bool
	processors   func() int
	host         func(context.Context) ([]rtnl.Link, []rtnl.Addr, error)
	changeFilter func(func(*guard.Rules) error) error
	few          int // as the constant; tests set another
}

// A kernel has the methods of [nlxfrm.Conn] that are used here.
type kernel interface {
	GetState(context.Context, nlxfrm.ID, nlxfrm.Mark) (*nlxfrm.State, error)
	GetAE(context.Context, nlxfrm.ID, nlxfrm.Mark) (*nlxfrm.AE, error)
	GetPolicy(context.Context, nlxfrm.PolicyKey) (*nlxfrm.Policy, error)
	DumpStates(ctx context.Context, proto uint8) ([]*nlxfrm.State, error)
	DumpPolicies(context.Context) ([]*nlxfrm.Policy, error)
	CountStates(context.Context) (nlxfrm.Count, error)
	CountPolicies(context.Context) (nlxfrm.Count, error)
	Batch(context.Context, []nlxfrm.Request) ([]error, error)
	Close() error
}

// kernelID returns the name that the kernel has for an SA.
func kernelID(id klips.SAID) nlxfrm.ID {
	return nlxfrm.ID{Dst: id.Dst, SPI: uint32(id.SPI), Proto: uint8(id.Proto)}
}

// readState reads the state of an SA of this stack, with its keys. ESRCH: there is none. The
// SAs of this stack have no mark. To a request without one the kernel also returns a state of
// another program that has a mark 0 with a mask.
func readState(ctx context.Context, k kernel, id klips.SAID) (*nlxfrm.State, error) {
	st, err := k.GetState(ctx, kernelID(id), nlxfrm.Mark{})
	if err == nil && st.Mark != (nlxfrm.Mark{}) {
		st.ClearKeys()
		return nil, syscall.ESRCH
	}
	return st, err
}

var (
	_ klips.Stack         = (*Stack)(nil)
	_ klips.KeyReader     = (*Stack)(nil)
	_ serial.Marker       = (*Stack)(nil)
	_ serial.Guardian     = (*Stack)(nil)
	_ serial.Sharer       = (*Stack)(nil)
	_ serial.PolicySharer = (*Stack)(nil)
	_ serial.Prober       = (*Stack)(nil)

	_ serial.GroupReader = (*Stack)(nil)
)

// Info returns the stack's name and abilities.
func (s *Stack) Info() klips.Info { return serial.Info(s) }

// Snapshot reads the tables one after the other.
func (s *Stack) Snapshot(ctx context.Context, w klips.Want) (*klips.Snapshot, error) {
	return serial.Snapshot(ctx, s, w)
}

// Hold makes other commands wait before they change the tables of this network
// namespace.
func (s *Stack) Hold(ctx context.Context) (release func(), err error) {
	release, err = s.lock.Hold(ctx)
	return release, about(err, "hold", "")
}

// Events returns an error: the kernel's messages to key daemons are not PF_KEY's.
func (s *Stack) Events(context.Context, klips.EventWant) (iter.Seq2[klips.Event, error], error) {
	return nil, serial.NoEvents()
}

// Open returns the stack of the calling thread's network namespace. Where the
// kernel has no IPsec or no ESP, or this user may not use it, the error is a
// *[klips.UnavailableError]; errors.Is finds fs.ErrPermission in the latter.
func Open() (*Stack, error) {
	s := &Stack{changeFilter: guard.Change, few: few}
	s.interfaces, s.processors, s.host = sync.OnceValue(s.probeInterfaces), sync.OnceValue(s.probeProcessors), s.readHost
	x, err := nlxfrm.Dial()
	if err != nil {
		u := &klips.UnavailableError{Why: "the kernel's IPsec cannot be reached: " + err.Error(), Err: err}
		if errors.Is(err, syscall.EPROTONOSUPPORT) {
			u.Fault, u.Why = klips.FaultNoXFRM, ""
		}
		return nil, u
	}
	s.xfrm = x
	// This is tried first, so that nothing else is opened in vain where there is no ESP.
	if err = usable(x); err == nil {
		s.links, err = rtnl.Dial()
	}
	if err == nil {
		err = s.lock.Open()
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// usable sends a request that the kernel always refuses: its key is too long for a
// cipher without a key. The error shows whether the kernel has ESP and whether this
// user may use it.
func usable(x *nlxfrm.Conn) error {
	ctx := context.Background()
	any4 := netip.IPv4Unspecified()
	err := x.AddState(ctx, &nlxfrm.State{
		ID: nlxfrm.ID{Dst: any4.Next(), SPI: 1, Proto: uint8(klips.ProtoESP)}, Src: any4.Next(),
		Crypt: &nlxfrm.Algorithm{Name: "ecb(cipher_null)", Key: make(nlxfrm.Key, 1)}})
	switch {
	case errors.Is(err, syscall.EPERM):
		return &klips.UnavailableError{Fault: klips.FaultXFRMRights, Err: fs.ErrPermission}
	case errors.Is(err, syscall.EPROTONOSUPPORT):
		return &klips.UnavailableError{Fault: klips.FaultNoESP, Err: err}
	}
	if release, err := release(); err == nil && !olderThan419(release) {
		return nil
	}
	// Distributions have backported interface IDs to older kernels.
	ok, err := hasIfIDs(ctx, x)
	if err == nil && !ok {
		err = &klips.UnavailableError{Fault: klips.FaultNoInterfaceIDs, Err: syscall.EOPNOTSUPP}
	}
	return err
}

// release returns the running kernel's release, as uname -r prints it.
func release() (string, error) {
	var u unix.Utsname
	err := unix.Uname(&u)
	return unix.ByteSliceToString(u.Release[:]), err
}

func olderThan419(release string) bool {
	before, after, _ := strings.Cut(release, ".")
	after, _, _ = strings.Cut(after, ".")
	after, _, _ = strings.Cut(after, "-")
	major, err1 := strconv.Atoi(before)
	minor, err2 := strconv.Atoi(after)
	if err1 != nil || err2 != nil {
		return true // not known: see
	}
	return major < 4 || major == 4 && minor < 19
}

// hasIfIDs makes a policy that matches no packet, and looks for it without its
// interface ID: kernels ignore attributes that they do not know.
func hasIfIDs(ctx context.Context, c *nlxfrm.Conn) (bool, error) {
	nowhere := host(netip.AddrFrom4([4]byte{0, 0, 0, 1}))
	p := &nlxfrm.Policy{Selector: normal(nlxfrm.Selector{Src: nowhere, Dst: nowhere}), Dir: nlxfrm.DirOut, Action: nlxfrm.Block,
		IfID: parkRoutes, Priority: maxPriority}
	if err := c.AddPolicy(ctx, p); err != nil {
		return false, wrapError(err, p)
	}
	plain := p.Key()
	plain.IfID = 0
	err := c.DeletePolicy(ctx, plain)
	if errors.Is(err, syscall.ENOENT) {
		return true, c.DeletePolicy(ctx, p.Key())
	}
	return false, err
}

// Close closes the connections to the kernel, and releases the UDP ports. Other objects
// stay.
func (s *Stack) Close() error {
	err := s.xfrm.Close()
	if s.links != nil {
		err = errors.Join(err, s.links.Close())
	}
	return errors.Join(err, s.held.Close(), s.lock.Close())
}

// Name returns "xfrm".
func (s *Stack) Name() string { return "xfrm" }

// Version returns the kernel's name and release.
func (s *Stack) Version(context.Context) (string, error) {
	r, err := release()
	if err != nil {
		return "", &klips.OpError{Op: "version", Err: err}
	}
	return "Linux " + r + " XFRM", nil
}

// Has reports what the kernel can do. Whether it has a cipher is known only when an SA
// with it is made.
func (s *Stack) Has(c klips.Capability) bool {
	switch c {
	case klips.CapDebug, klips.CapTransportDevice, klips.CapEvents, klips.CapDirect:
		return false
	case klips.CapAlso:
		return s.processors() > 0
	case klips.CapPass:
		return !s.interfaces()
	case klips.CapReject:
		return s.interfaces()
	}
	return true
}

// dump reads all of the kernel's objects.
func (s *Stack) dump(ctx context.Context) (d *dump, err error) {
	d = &dump{}
	if d.policies, err = s.xfrm.DumpPolicies(ctx); err != nil {
		return nil, wrapError(err, nil)
	}
	if d.states, err = s.xfrm.DumpStates(ctx, 0); err != nil {
		return nil, wrapError(err, nil)
	}
	if d.links, d.addrs, err = s.host(ctx); err != nil {
		d.clear()
		return nil, &klips.OpError{Err: err}
	}
	return d, nil
}

// readHost reads the host's devices and their addresses.
func (s *Stack) readHost(ctx context.Context) (links []rtnl.Link, addrs []rtnl.Addr, err error) {
	if links, err = s.links.Links(ctx); err == nil {
		addrs, err = s.links.Addrs(ctx)
	}
	return links, addrs, err
}

// load reads the tables.
func (s *Stack) load(ctx context.Context) (*tables, *objects, *dump, error) {
	d, err := s.dump(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	t, o := load(d)
	t.interfaces, t.processors = s.interfaces, s.processors
	return t, o, d, nil
}

// follow makes the kernel's objects those of the tables. It returns the sequence
// numbers of the states that it has removed. near is nil if all objects were read.
func (s *Stack) follow(ctx context.Context, t *tables, have *objects, d *dump, near *neighbourhood) (left map[nlxfrm.ID]*nlxfrm.AE, err error) {
	want, err := t.compile()
	if err != nil {
		return nil, err
	}
	if near != nil {
		if err := near.complete(ctx, want); err != nil {
			return nil, err
		}
		near.keep(want)
	}
	p, err := diff(have, want, d)
	if err != nil {
		return nil, err
	}
	return p.left, p.apply(ctx, s.xfrm)
}

// GetSA returns one SA.
func (s *Stack) GetSA(ctx context.Context, id klips.SAID) (klips.SA, error) {
	l, err := s.ReadGroup(ctx, id)
	if err != nil {
		return klips.SA{}, about(err, "get SA", id.String())
	}
	for _, sa := range l {
		if sa.ID == id {
			return sa, nil
		}
	}
	return klips.SA{}, refuse("get SA", id.String(), syscall.ESRCH, "")
}

// SAs lists the SAs made by commands.
func (s *Stack) SAs(ctx context.Context) ([]klips.SA, error) {
	t, _, d, err := s.load(ctx)
	if err != nil {
		return nil, about(err, "list SAs", "")
	}
	defer d.clear()
	now := time.Now()
	var l []klips.SA
	for _, sa := range slices.Backward(t.byAge()) {
		l = append(l, t.list(sa, now))
	}
	klips.SortSAs(l)
	return l, nil
}

// list returns an SA in the form of listings.
func (t *tables) list(s *sa, now time.Time) klips.SA {
	shown := s.list(now)
	shown.Offload = t.offloadOf(s)
	shown.SameKey = t.keys.Others(s.tag, s.id)
	return shown
}

// Eroutes lists the eroutes. The kernel does not count an eroute's packets: if no other
// eroute uses its SAs, they are the packets of the SAs.
func (s *Stack) Eroutes(ctx context.Context) ([]klips.Eroute, error) {
	t, _, d, err := s.load(ctx)
	if err != nil {
		return nil, about(err, "list eroutes", "")
	}
	defer d.clear()
	var l []klips.Eroute
	for _, r := range t.routes {
		e := r.Eroute
		for _, id := range e.SAIDs() {
			if len(t.users[id].list) > 1 {
				e.Packets = 0
				break
			}
			e.Packets += t.packets(id)
		}
		l = append(l, e)
	}
	arrange.Sort(l, klips.CompareEroutes)
	return l, nil
}

// packets returns the packets of an SA, for a tun SA those of the SA that follows it.
func (t *tables) packets(id klips.SAID) uint64 {
	s := t.sas[id]
	if s != nil && id.Proto == klips.ProtoTun {
		s = s.outer
	}
	if s == nil || s.state == nil {
		return 0
	}
	return s.state.Current.Packets
}

// SetDebug ignores requests to clear bits, since none is ever set. It refuses to set
// any with EOPNOTSUPP: the kernel has no such masks.
func (s *Stack) SetDebug(_ context.Context, c klips.DebugChange) error {
	if !c.Set || c.Masks == (klips.Debug{}) {
		return nil
	}
	return refuse("debug", "", syscall.EOPNOTSUPP, "this kernel has no debug masks; /proc/net/xfrm_stat counts what it drops and why")
}

// Debug returns the debug masks, which are zero.
func (s *Stack) Debug(context.Context) (klips.Debug, error) { return klips.Debug{}, nil }
