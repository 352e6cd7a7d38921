// Package hashpair computes SHA-1 and SHA-256 (FIPS 180-4) of blocks of two messages at
// once, by the processor's SHA instructions. One message alone uses little more than half
// of their power, because each instruction waits for the result of the one before.
package hashpair

// BlockSize is the length in bytes of a block of both hashes.
const BlockSize = 64

// A State is the chaining value of a hash: 8 words with SHA-256, and with SHA-1 the first
// 5 of them.
type State [8]uint32

// Initial1 returns the state before the first block with SHA-1 (FIPS 180-4 section 5.3.1).
func Initial1() State {
	return State{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0}
}

// Initial256 returns the state before the first block with SHA-256 (section 5.3.3).
func Initial256() State {
	return State{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}
}

// SHA1 adds blocks of p to a, and as many of q to b: all whole blocks that both have. It
// returns their length in bytes. a and b may be one state if p and q are one message,
// which is then added once.
func SHA1(a, b *State, p, q []byte) int {
	n := min(len(p), len(q)) / BlockSize
	if n > 0 {
		add1(a, b, &p[0], &q[0], n)
	}
	return n * BlockSize
}

// SHA256 does the same with SHA-256.
func SHA256(a, b *State, p, q []byte) int {
	n := min(len(p), len(q)) / BlockSize
	if n > 0 {
		add256(a, b, &p[0], &q[0], n)
	}
	return n * BlockSize
}
