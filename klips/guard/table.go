package guard

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips/internal/nft"
)

// A Table is the table of the network namespace in which it was opened. Its methods may
// be called from several goroutines.
type Table struct {
	mu   sync.Mutex
	c    *nftables.Conn
	mine map[uint32]bool // the netlink addresses that it has sent requests from
	made int             // number of rules made by Set
}

// ErrNone is the error for a kernel without nftables, or without a part of it that the
// table needs. It wraps the kernel's errno.
var ErrNone = nft.ErrNone

// Open opens a connection to the kernel. It changes nothing. The error is ErrNone if
// the kernel has no nftables.
func Open() (*Table, error) {
	t := &Table{mine: map[uint32]bool{}}
	if err := t.dial(); err != nil {
		return nil, err
	}
	return t, nil
}

// sendBuffer is enough for a table of 100,000 flows.
const sendBuffer = 16 << 20

func (t *Table) dial() error {
	c, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error {
		t.mine[c.PID()] = true
		return errors.Join(c.SetWriteBuffer(sendBuffer), c.SetReadBuffer(sendBuffer))
	}))
	t.c = c
	return nft.Error(err)
}

// Close closes the connection. The table stays.
func (t *Table) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.c.CloseLasting()
}

// again opens a new connection after an error: the old one may have queued answers to
// earlier requests.
func (t *Table) again(err error) error {
	if err != nil {
		_ = t.c.CloseLasting()
		_ = t.dial()
	}
	return err
}

func klipsTable() *nftables.Table {
	return &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
}

// Set gives the table these rules in one step: the table is never missing or
// incomplete. The counters continue, and sources of packets stay remembered. Rules
// without anything to do remove the table.
// ErrNone: the kernel cannot have the table. EPERM: the process may not change it.
func (t *Table) Set(r Rules) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	r = r.Normal()
	old, err := t.sets()
	if err != nil {
		return t.again(err)
	}
	if r.Empty() {
		if old == nil {
			return nil
		}
		t.made = 0
		t.c.DelTable(klipsTable())
		return t.again(nft.Error(t.c.Flush()))
	}
	table := t.c.AddTable(klipsTable())
	for _, name := range [...]string{counterOut, counterIn, counterQuotes} {
		t.c.AddObj(&nftables.NamedObj{Table: table, Name: name, Type: nftables.ObjTypeCounter, Obj: &expr.Counter{}})
	}
	if old != nil {
		t.c.FlushTable(table) // the rules of all chains
		for _, s := range old {
			if !r.Hide || !isHeard(s.Name) {
				t.c.DelSet(s)
			}
		}
	}
	g := &change{c: t.c, table: table}
	g.build(r)
	if g.err != nil {
		return t.again(g.err)
	}
	t.made = g.rules
	return t.again(nft.Error(t.c.Flush()))
}

// Whole reports whether the table has as many rules as Set has made. Other programs can
// remove rules and leave the sets, and [Table.Read] reads only the sets.
func (t *Table) Whole() (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return false, nft.Error(err)
	}
	defer c.Close()
	attrs, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.NFTA_RULE_TABLE, Data: append([]byte(tableName), 0)}})
	if err != nil {
		return false, err
	}
	l, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETRULE, Flags: netlink.Request | netlink.Dump},
		Data:   append([]byte{unix.NFPROTO_INET, unix.NFNETLINK_V0, 0, 0}, attrs...),
	})
	return len(l) == t.made, err
}

// sets lists the sets of the table; nil without an error means that there is no table.
func (t *Table) sets() ([]*nftables.Set, error) {
	all, err := t.c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, nft.Error(err)
	}
	for _, table := range all {
		if table.Name == tableName {
			l, err := t.c.GetSets(klipsTable())
			if l == nil && err == nil {
				l = []*nftables.Set{}
			}
			return l, err
		}
	}
	return nil, nil
}

// Read returns the rules of the table, in the form of Normal. Without a table they are
// empty.
func (t *Table) Read() (r Rules, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	sets, err := t.sets()
	if err != nil {
		return r, t.again(err)
	}
	for _, s := range sets {
		r.Hide = r.Hide || isHeard(s.Name)
		if err := t.readSet(s, &r); err != nil {
			return r, t.again(err)
		}
	}
	return r.Normal(), nil
}

func (t *Table) readSet(set *nftables.Set, r *Rules) error {
	s, isFlows := parseShape(set.Name)
	if !isFlows && set.Name != setPeers4 && set.Name != setPeers6 && set.Name != setPorts {
		return nil
	}
	elements, err := t.c.GetSetElements(set)
	if err != nil {
		return err
	}
	for _, e := range elements {
		switch {
		case isFlows:
			if f, ok := s.flow(e.Key); ok {
				r.Flows = append(r.Flows, f)
			}
		case set.Name == setPorts:
			if len(e.Key) >= 2 {
				r.Ports = append(r.Ports, binary.BigEndian.Uint16(e.Key))
			}
		default:
			if a, ok := netip.AddrFromSlice(e.Key); ok {
				r.Peers = append(r.Peers, a)
			}
		}
	}
	return nil
}

// Counters are the numbers of packets that the table has dropped.
type Counters struct {
	Out uint64 `json:"out"` // that would have left in clear
	In  uint64 `json:"in"`  // that arrived in clear
	// ICMP errors that would have left in clear, and quote a packet that came protected
	Quotes uint64 `json:"quotes"`
}

// Counters reads the counters; all are zero without a table.
func (t *Table) Counters() (n Counters, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if sets, err := t.sets(); sets == nil {
		return n, t.again(err)
	}
	for name, v := range map[string]*uint64{counterOut: &n.Out, counterIn: &n.In, counterQuotes: &n.Quotes} {
		o, err := t.c.GetObject(&nftables.NamedObj{Table: klipsTable(), Name: name, Type: nftables.ObjTypeCounter})
		if err != nil {
			return n, t.again(err)
		}
		if named, ok := o.(*nftables.NamedObj); ok {
			if c, ok := named.Obj.(*expr.Counter); ok {
				*v = c.Packets
			}
		}
	}
	return n, nil
}

// Watch calls lost after another program has changed the table, for example by nft
// flush ruleset: it may have to be set again. It calls it from its own goroutine, until
// stop is called, which waits for that goroutine. If watching fails, err is not nil in
// the last call.
func (t *Table) Watch(lost func(err error)) (stop func(), err error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, nft.Error(err)
	}
	if err := c.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		c.Close()
		return nil, nft.Error(err)
	}
	var stopped atomic.Bool
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			msgs, err := c.Receive()
			switch {
			case stopped.Load():
				return
			case errors.Is(err, unix.ENOBUFS): // some were lost
				lost(nil)
			case err != nil:
				lost(err)
				return
			case slices.ContainsFunc(msgs, func(m netlink.Message) bool { return ofTable(m) && !t.isMine(m.Header.PID) }):
				lost(nil)
			}
		}
	}()
	return func() {
		stopped.Store(true)
		c.Close()
		<-ended
	}, nil
}

func (t *Table) isMine(pid uint32) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mine[pid]
}

// ofTable reports whether a message of the kernel is about the table or an object in
// it. All of these begin with a struct nfgenmsg, and have the table's name in the first
// attribute (NFTA_TABLE_NAME, NFTA_CHAIN_TABLE and so on are all 1).
func ofTable(m netlink.Message) bool {
	if m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || len(m.Data) < 4 || m.Data[0] != unix.NFPROTO_INET {
		return false
	}
	ad, err := netlink.NewAttributeDecoder(m.Data[4:])
	if err != nil {
		return false
	}
	for ad.Next() {
		if ad.Type() == unix.NFTA_TABLE_NAME {
			return ad.String() == tableName
		}
	}
	return false
}
