package recorded

import (
	"iter"
	"syscall"
	"testing"
)

// Tables are listings of a KLIPS kernel by name (spi, spigrp, eroute, tncfg,
// klipsdebug), as lines without newline.
type Tables map[string][]string

// A Sequence is commands that were given to a freshly loaded KLIPS kernel, one
// after another. Before the first, the tables spi, spigrp and eroute are empty,
// ipsec0 and ipsec1 are attached to nothing, and all nine debug masks are zero.
type Sequence struct {
	ID    string // a family and a number
	Quirk bool   // it touches a known defect or an undefined corner of the original
	Setup []Interface
	Steps []Step
}

// An Interface is a device of the machine before the first step; it is up.
type Interface struct {
	Name  string `json:"if"`
	MTU   int
	Addrs []string // with their prefix lengths
}

// A Step is one command and what came of it.
type Step struct {
	Cmd  []string // the tool and its arguments; ip(8) changes a device
	Tool string   // the generation that ran, or "ip"
	Exit int
	// Errno is what the kernel answered to write or ioctl, 0 if it took all. If
	// it is 0 and Exit is not, the tool refused and sent nothing.
	Errno    syscall.Errno
	Accepted int    // how many messages and ioctls the kernel took, also before a refused one
	Tables   Tables // those that changed
}

// Sequences yields all sequences.
func Sequences(tb testing.TB) iter.Seq[*Sequence] { return records[Sequence](tb, "sequences") }
