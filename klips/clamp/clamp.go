// Package clamp lowers the segment size that TCP announces when it connects (the option
// MSS, RFC 9293 section 3.7.1), in the packets of one connection. Hosts behind this one then
// send segments that fit the tunnel, also if no ICMP error reaches them.
//
// It uses the kernel's packet filter, so it works for the packets of every stack: each
// connection has an nftables table of its own, "inet klips-mss-NAME". A table is made and
// removed in one step, and needs no other one.
package clamp

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/internal/nft"
)

// Auto is the size that fits: the kernel's MTU of the route, without the headers.
const Auto = 0

// The smallest and the largest size. The kernel replaces smaller ones by MinSize when it
// connects.
const (
	MinSize = 88
	MaxSize = 65535
)

// A Clamp is what is done to the packets of a connection.
type Clamp struct {
	Name string // of the connection; it is part of the table's name
	// Flows are the packets to the peer. Their answers are included. Without a protocol
	// a flow stands for its packets of TCP.
	Flows []klips.Selector
	Size  int // bytes, or Auto
}

// prefix begins the names of the tables.
const prefix = "klips-mss-"

// ErrNone is the error for a kernel without nftables, or without a part of it that is
// needed. It wraps the kernel's errno.
var ErrNone = nft.ErrNone

func (c Clamp) table() *nftables.Table {
	return &nftables.Table{Name: prefix + c.Name, Family: nftables.TableFamilyINet}
}

// A chain is one of the table's chains.
type chain struct {
	name  string
	hook  *nftables.ChainHook
	flows []klips.Selector
}

// chains returns the chains of the table. A given size is set in packets to the peer after
// they are routed, and in packets from it before they are. What fits is known of routed
// packets only: it is the smaller one of both directions.
func (c Clamp) chains() []chain {
	answers := make([]klips.Selector, len(c.Flows))
	for i, f := range c.Flows {
		answers[i] = f.Reverse()
	}
	if c.Size == Auto {
		return []chain{{"out", nftables.ChainHookPostrouting, slices.Concat(c.Flows, answers)}}
	}
	return []chain{{"out", nftables.ChainHookPostrouting, c.Flows}, {"in", nftables.ChainHookPrerouting, answers}}
}

// Set makes the table, in place of an earlier one of the same name. ErrNone: the kernel
// cannot have it. EPERM: the process may not make it.
func (c Clamp) Set() error {
	conn, err := nftables.New()
	if err != nil {
		return nft.Error(err)
	}
	conn.AddTable(c.table()) // there must be one to remove
	conn.DelTable(c.table())
	t := conn.AddTable(c.table())
	for _, ch := range c.chains() {
		base := conn.AddChain(&nftables.Chain{
			Table: t, Name: ch.name, Type: nftables.ChainTypeFilter, Hooknum: ch.hook, Priority: nftables.ChainPriorityMangle,
		})
		for _, f := range ch.flows {
			conn.AddRule(&nftables.Rule{Table: t, Chain: base, Exprs: append(syn(f), c.set()...)})
		}
	}
	return nft.Error(conn.Flush())
}

// Remove removes the table. ENOENT: there is none.
func (c Clamp) Remove() error {
	conn, err := nftables.New()
	if err != nil {
		return unix.ENOENT // no nftables, no table
	}
	conn.DelTable(c.table())
	if err := conn.Flush(); !errors.Is(nft.Error(err), ErrNone) {
		return err
	}
	return unix.ENOENT
}

// RemoveAll removes the tables of all connections in this network namespace.
func RemoveAll() error {
	conn, err := nftables.New()
	if err != nil {
		return nil
	}
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err = nft.Error(err); errors.Is(err, ErrNone) || errors.Is(err, unix.EPERM) {
		return nil // such a process cannot have made one either
	}
	for _, t := range tables {
		if strings.HasPrefix(t.Name, prefix) {
			conn.DelTable(t)
		}
	}
	return errors.Join(err, conn.Flush())
}

// reg is the register that all expressions use.
const reg = unix.NFT_REG32_00

// syn returns the expressions that match the segments of a flow that announce a size: those
// with the flag SYN.
func syn(f klips.Selector) []expr.Any {
	equal := func(b ...byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: b} }
	version, offset, length := byte(unix.NFPROTO_IPV4), uint32(12), uint32(4)
	if f.Src.Addr().Is6() {
		version, offset, length = unix.NFPROTO_IPV6, 8, 16
	}
	m := []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg}, equal(version)}
	for i, p := range [...]netip.Prefix{f.Src, f.Dst} {
		m = append(m,
			&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset + uint32(i)*length, Len: length},
			&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: length, Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen()), Xor: make([]byte, length)},
			equal(p.Addr().AsSlice()...))
	}
	m = append(m, &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg}, equal(unix.IPPROTO_TCP))
	for i, port := range [...]uint16{f.SrcPort, f.DstPort} {
		if port != 0 {
			m = append(m,
				&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: uint32(2 * i), Len: 2},
				equal(byte(port>>8), byte(port)))
		}
	}
	return append(m,
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 1, Mask: []byte{tcpSYN}, Xor: []byte{0}},
		equal(tcpSYN))
}

// tcpSYN is the flag SYN in the header of TCP (RFC 9293 section 3.1).
const tcpSYN = 2

// set returns the expressions that lower the size in the option; the kernel never raises it.
func (c Clamp) set() []expr.Any {
	load := []expr.Any{&expr.Immediate{Register: reg, Data: []byte{byte(c.Size >> 8), byte(c.Size)}}}
	if c.Size == Auto {
		load = []expr.Any{
			&expr.Rt{Register: reg, Key: expr.RtTCPMSS},
			&expr.Byteorder{SourceRegister: reg, DestRegister: reg, Op: expr.ByteorderHton, Len: 2, Size: 2},
		}
	}
	const optionMSS = 2 // its value is at offset 2 and has two bytes
	return append(load, &expr.Exthdr{SourceRegister: reg, Type: optionMSS, Offset: 2, Len: 2, Op: expr.ExthdrOpTcpopt})
}
