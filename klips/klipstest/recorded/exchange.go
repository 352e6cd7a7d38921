package recorded

import (
	"iter"
	"slices"
	"syscall"
	"testing"
)

// An Exchange is the recording of packets through a machine with a KLIPS kernel, for
// one configuration and one direction. Out: node a gets packets in clear, and its
// output is recorded. In: node b gets packets from a, some of them changed, and the
// packets that it delivers are recorded. All packets are IPv4.
type Exchange struct {
	ID        string // Config and Direction
	Config    string
	Direction string // "out" or "in"
	Node      string // "a" (10.9.0.1 with 10.1.0.0/16) or "b" (10.9.0.2 with 10.2.0.0/16)
	Quirk     bool   // it involves a known defect or undefined behaviour of the original
	Setup     struct {
		Eth0, Lan0, Ipsec0 string         // addresses with their prefix lengths
		Eth0MTU            int            `json:"eth0_mtu"`
		Ipsec0MTU          int            `json:"ipsec0_mtu"`
		RoutesToIpsec0     []string       `json:"routes_to_ipsec0"`
		Sysctl             map[string]int // net.ipsec.…
	}
	Commands []Typed // after ipsec0 was attached to eth0
	Events   []Event
	// Tables (spi, spigrp and eroute) and Stats (of ipsec0) are those after the
	// last event, StatsBefore those before the first command.
	Tables      Tables
	Stats       *DeviceStats
	StatsBefore *DeviceStats `json:"stats_before"`
	// Delivered and Dropped are totals, for direction in.
	Delivered, Dropped int
}

// A Typed is a command that set a machine up.
type Typed struct {
	Cmd   []string
	Tool  string // the generation that ran, "ip", or "pf_key" for requests that no classic tool can send
	Exit  int
	Errno syscall.Errno
	Sent  Bytes `json:"pfkey_sent"` // for "pf_key": the message that was written
}

// An Event is one of: a packet; a command; a new listener; a pause.
type Event struct {
	Send   *int    // the packet's number, direction out
	Clear  []Bytes // IP packets as ipsec0 received or delivered them
	Wire   []Bytes // IP packets on eth0: several if they are fragments or released held packets
	Via    string  // direction out: "local", "socket" or "forwarded"
	Socket *Socket // for "socket"

	ToSender  []Bytes       `json:"to_sender"` // ICMP errors
	Sent      Bytes         // the packet that the device refused,
	SendErrno syscall.Errno `json:"send_errno"` // with this

	Result  string // direction in: "delivered", "dropped", "incomplete"
	CopyOf  *int   `json:"copy_of"` // direction in: the number of the outbound packet that this one was
	Changed string // how it was changed: xor POS V, src, dst, ttl, tos, df, trunc N, append HEX, set POS HEX

	Cmd   []string // a command, with its
	Tool  string
	Exit  int
	Errno syscall.Errno

	Listen *[]int  // a PF_KEY socket is opened and registered for these SA types
	Sleep  float64 // a pause in seconds

	Quirk  bool    // as for Exchange
	PFKey  []Bytes // messages that the open sockets received
	Tables Tables  // after the event, if they were recorded
	Stats  *DeviceStats
}

// A Socket is a UDP socket that sent a packet.
type Socket struct {
	Src, Dst     string
	SPort, DPort uint16
	Data         Bytes
}

// DeviceStats are the counters of a network device.
type DeviceStats struct {
	TxPackets uint64 `json:"tx_packets"`
	TxBytes   uint64 `json:"tx_bytes"`
	TxErrors  uint64 `json:"tx_errors"`
	TxDropped uint64 `json:"tx_dropped"`
	RxPackets uint64 `json:"rx_packets"`
	RxBytes   uint64 `json:"rx_bytes"`
	RxErrors  uint64 `json:"rx_errors"`
	RxDropped uint64 `json:"rx_dropped"`
}

// Listens reports whether a PF_KEY socket was open for some of the time.
func (x *Exchange) Listens() bool {
	return slices.ContainsFunc(x.Events, func(e Event) bool { return e.Listen != nil })
}

// Cmds returns all commands, including those among the events.
func (x *Exchange) Cmds() (cmds [][]string) {
	for _, c := range x.Commands {
		cmds = append(cmds, c.Cmd)
	}
	for _, e := range x.Events {
		if e.Cmd != nil {
			cmds = append(cmds, e.Cmd)
		}
	}
	return cmds
}

// Exchanges yields all exchanges.
func Exchanges(tb testing.TB) iter.Seq[*Exchange] { return records[Exchange](tb, "exchanges") }
