// Package corpustest replays recordings of a KLIPS kernel: the commands that
// were typed, with all tables after each, and the packets that it made and took.
// Its tests run the applets in this process against the embedded stack on a host
// made of memory.
package corpustest
