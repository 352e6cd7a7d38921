// Package corpustest replays recordings of a KLIPS kernel: the commands, with all
// tables after each of them, and the packets that the kernel sent and received. Its
// tests run the applets in this process against the embedded stack, on a host that
// exists only in memory.
package corpustest
