// Package recorded contains recordings of KLIPS and its tools, and is the only package
// that reads them: command lines of the classic tools with the PF_KEY messages and
// ioctls that they sent ([Commands]), sequences of commands with the kernel's answers
// and its tables ([Sequences]), packets in clear and on the wire ([Exchanges]), and the
// tables that the tools read ([ProcNet]).
//
// The recordings are part of the package, so that no test is skipped without them.
// data/README.md describes the files and how they were made. They contain no texts of
// the classic programs for users.
//
// The package imports no other package of the module, so that the tests of all can use
// it. Numbers, addresses and SAIDs stay as text or bytes as they were recorded.
// Messages and packets are whole and in the order of the wire; the machines that
// recorded PF_KEY messages were little-endian.
package recorded
