package recorded

import (
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A Generation is a release of the classic tools.
type Generation string

// The generations. The last is the reference. The older two ran the same command lines
// where the last one crashes or has lost the feature; Libreswan311 only has spi with
// --esp and --ah.
const (
	Libreswan332 Generation = "libreswan-3.32"
	Libreswan311 Generation = "libreswan-3.11"
	Openswan300  Generation = "openswan-3.0.0"
)

// Older are the generations before the last.
var Older = []Generation{Libreswan311, Openswan300}

// A Command is one run of a classic tool, against a kernel simulated by the recorder.
// The process had the ID 4242 and was alone, so that messages have the sequence numbers
// 1, 2 and so on.
type Command struct {
	ID   string     // the tool and a hash of the command line; older ones end in @generation
	Impl Generation // what ran
	Tool string     // spi, spigrp, eroute, tncfg, klipsdebug
	Args []string   // without the tool
	// Env has the settings of the simulated kernel. KLIPS_PROC names the set of tables
	// (see ProcNet). KLIPS_WRITE_ERRNO, KLIPS_SOCKET_ERRNO, KLIPS_INET_ERRNO and
	// KLIPS_IOCTL_ERRNO are the errnos of write, socket(PF_KEY), socket(AF_INET) and
	// ioctl, by Linux name or number. KLIPS_WRITE_ERRNO_AT limits the first to the n-th
	// write, from 1. KLIPS_WRITE_SHORT is the result of write, in bytes. KLIPS_REPLY
	// has the messages to read, in hexadecimal, separated by commas. KLIPS_UID is the
	// user. The rest are variables of the tool's own environment.
	Env map[string]string

	Exit   int // the status; 128+Signal for a crash
	Signal int // that ended the tool, 0 for none
	// Undefined marks results that depend on uninitialised or overrun memory. They must
	// not be imitated.
	Undefined bool
	// Unstable names fields that differed from run to run; all such commands
	// are Undefined.
	Unstable []string
	// See has the IDs of older commands that show the correct or complete behaviour if
	// the last release crashes or refuses.
	See []string

	Messages []Bytes // PF_KEY messages as written, including refused ones
	// UnstableBytes are pairs of an index into Messages and an offset in that message,
	// for bytes that the tool left uninitialised.
	UnstableBytes [][2]int `json:"unstable_bytes"`
	Ioctls        []Ioctl  // for tunnel devices, including failed ones

	Complained bool    // something was written to standard error
	Fault      *Fault  // the argument that the tool refused, if it named one
	Printed    Printed // what it wrote to standard output
}

// An Ioctl is SIOCDEVPRIVATE with KLIPS' struct ipsectunnelconf.
type Ioctl struct {
	Request uint32 // IPSEC_SET_DEV 0x89f0, IPSEC_DEL_DEV 0x89f1, IPSEC_CLR_DEV 0x89f2
	Name    Bytes  // ifr_name, 16 bytes, padded with zeros
	Data    Bytes  // 24 bytes: cf_cmd (4, little-endian), cf_name (12, padded with zeros), rest
}

// Virtual is the device that the ioctl is for.
func (i *Ioctl) Virtual() string { return zeroTerminated(i.Name) }

// Physical is the device that IPSEC_SET_DEV attaches to.
func (i *Ioctl) Physical() string { return zeroTerminated(i.Data[4:16]) }

func zeroTerminated(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}

// A FaultKind is what a refused text should have been.
type FaultKind string

// The kinds of faults.
const (
	FaultValue     FaultKind = "value"     // of Option: an address, a subnet or a SAID
	FaultAddress   FaultKind = "address"   // an operand of spigrp
	FaultProto     FaultKind = "proto"     // an operand of spigrp
	FaultSPI       FaultKind = "spi"       // an operand of spigrp
	FaultKey       FaultKind = "key"       // of Option
	FaultAlgorithm FaultKind = "algorithm" // of Option, or the algorithm does not fit the keys
)

// A Fault is the argument that a tool named as the reason why it refused a
// command line.
type Fault struct {
	Kind   FaultKind
	Option string // with its dashes, "" for an operand
	Text   string // the refused text; "" if the tool did not repeat it, as for keys
}

// Printed is what a tool wrote to standard output, without texts for users (usage,
// version, --debug).
type Printed struct {
	Table    bool       // the tool's table of the set, whole
	Lifetime *[4]uint64 // by spi --get: allocations, bytes, addtime, usetime
	SARef    *[2]uint32 `json:"saref"` // by spi --dumpsaref: the SA's own reference and that of its peer
	Done     bool       // spi --listenreply has reported its end
}

// Set names the set of tables that the tool had.
func (c *Command) Set() string { return c.Env["KLIPS_PROC"] }

// Table returns the path of the tool's table in a directory made by ProcNet.
func (c *Command) Table(procNet string) string {
	return filepath.Join(procNet, c.Set(), "ipsec_"+c.Tool)
}

// Option returns the last value of an option given by its full name, as "--name value"
// or "--name=value"; "" if it is not given.
func (c *Command) Option(name string) string {
	v := ""
	for i, a := range c.Args {
		if a == name && i+1 < len(c.Args) {
			v = c.Args[i+1]
		}
		if s, ok := strings.CutPrefix(a, name+"="); ok {
			v = s
		}
	}
	return v
}

// Commands yields the command lines of some generations, of all if none is
// named, in the order of the recording.
func Commands(tb testing.TB, of ...Generation) iter.Seq[*Command] {
	return func(yield func(*Command) bool) {
		tb.Helper()
		for c := range records[Command](tb, "commands") {
			if (len(of) == 0 || slices.Contains(of, c.Impl)) && !yield(c) {
				return
			}
		}
	}
}
