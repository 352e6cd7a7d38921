package recorded

import (
	"iter"
	"syscall"
	"testing"
)

// Tables are listings of a KLIPS kernel by name (spi, spigrp, eroute, tncfg,
// klipsdebug), as lines without newline.
type Tables map[string][]string

// A Sequence is successive commands to a freshly loaded KLIPS kernel. Before the first,
// the tables spi, spigrp and eroute are empty, ipsec0 and ipsec1 are not attached, and
// all nine debug masks are zero.
type Sequence struct {
	ID    string // a family and a number
	Quirk bool   // it involves a known defect or undefined behaviour of the original
	Setup []Interface
	Steps []Step
}

// An Interface is a device of the machine before the first step; it is up.
type Interface struct {
	Name  string `json:"if"`
	MTU   int
	Addrs []string // with their prefix lengths
}

// A Step is one command and its results.
type Step struct {
	Cmd  []string // the tool and its arguments; ip(8) changes a device
	Tool string   // the generation that ran, or "ip"
	Exit int
	// Errno is the kernel's answer to write or ioctl, 0 for success. If it is 0 and
	// Exit is not, the tool refused the command line and sent nothing.
	Errno    syscall.Errno
	Accepted int    // number of messages and ioctls that succeeded, also before a refused one
	Tables   Tables // those that changed
}

// Sequences yields all sequences.
func Sequences(tb testing.TB) iter.Seq[*Sequence] { return records[Sequence](tb, "sequences") }
