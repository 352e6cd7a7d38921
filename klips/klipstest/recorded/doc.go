// Package recorded holds what KLIPS and its tools were recorded to do, and is
// the only package that reads those recordings: command lines of the classic
// tools with the PF_KEY messages and ioctls that they sent ([Commands]),
// sequences of commands with the kernel's answers and its tables ([Sequences]),
// packets in clear and on the wire ([Exchanges]), and the tables that the tools
// had before them ([ProcNet]).
//
// The recordings are part of the package, so that tests never skip for want of
// them. data/README.md describes the files and how they came to be. Records are
// facts: nothing that the classic programs printed for people is among them.
//
// The package knows no other package of the module, so that the tests of all
// can use it. Numbers, addresses and SAIDs stay as text or bytes as they were
// recorded. Messages and packets are whole and in the order of the wire; the
// machines that recorded PF_KEY messages were little-endian.
package recorded
