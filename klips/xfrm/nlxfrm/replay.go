package nlxfrm

import "fmt"

// MaxWindow is the largest window of a ReplayESN, in packets.
const MaxWindow = 4096

// Replay is the state of a window of at most 32 packets.
type Replay struct { // struct xfrm_replay_state
	OutSeq uint32 // of the last packet sent
	Seq    uint32 // the highest received
	Bitmap uint32 // bit n: packet Seq-n was received
}

// ReplayESN is the state of a window of any size, for states with and without
// extended sequence numbers.
type ReplayESN struct { // struct xfrm_replay_state_esn
	OutSeq, OutSeqHigh uint32 // of the last packet sent
	Seq, SeqHigh       uint32 // the highest received
	Window             uint32 // packets
	// Bitmap is a ring: packet n has the bit (n-1) mod Window; bit 0 of word 0 is the
	// first. On the wire it has its own length; the kernel accepts at most 128 words.
	Bitmap []uint32
}

// NewReplayESN returns the state of an empty window. A state with a window below 32
// packets can do without it, unless it has extended sequence numbers.
func NewReplayESN(window uint32) *ReplayESN {
	return &ReplayESN{Window: window, Bitmap: make([]uint32, (min(window, MaxWindow)+31)/32)}
}

func (r *Replay) append(b []byte) []byte {
	b, p := appendAttr(b, attrReplayVal, replayLen)
	native.PutUint32(p, r.OutSeq)
	native.PutUint32(p[4:], r.Seq)
	native.PutUint32(p[8:], r.Bitmap)
	return b
}

func parseReplay(p []byte) (*Replay, error) {
	if err := want(attrReplayVal, p, replayLen); err != nil {
		return nil, err
	}
	return &Replay{native.Uint32(p), native.Uint32(p[4:]), native.Uint32(p[8:])}, nil
}

func (r *ReplayESN) append(b []byte) ([]byte, error) {
	if len(r.Bitmap) > MaxWindow/32 || int64(r.Window) > int64(len(r.Bitmap))*32 {
		return b, fmt.Errorf("replay window of %d packets with a bitmap of %d words: at most %d packets, in words of 32", r.Window, len(r.Bitmap), MaxWindow)
	}
	b, p := appendAttr(b, attrReplayESNVal, replayESNLen+4*len(r.Bitmap))
	for i, v := range []uint32{uint32(len(r.Bitmap)), r.OutSeq, r.Seq, r.OutSeqHigh, r.SeqHigh, r.Window} {
		native.PutUint32(p[4*i:], v)
	}
	for i, w := range r.Bitmap {
		native.PutUint32(p[replayESNLen+4*i:], w)
	}
	return b, nil
}

func parseReplayESN(p []byte) (*ReplayESN, error) {
	if err := want(attrReplayESNVal, p, replayESNLen); err != nil {
		return nil, err
	}
	words := native.Uint32(p)
	if words > MaxWindow/32 || int(words)*4 > len(p)-replayESNLen {
		return nil, malformed("replay bitmap of %d words in %d bytes", words, len(p)-replayESNLen)
	}
	r := &ReplayESN{
		OutSeq: native.Uint32(p[4:]), Seq: native.Uint32(p[8:]),
		OutSeqHigh: native.Uint32(p[12:]), SeqHigh: native.Uint32(p[16:]),
		Window: native.Uint32(p[20:]), Bitmap: make([]uint32, words),
	}
	for i := range r.Bitmap {
		r.Bitmap[i] = native.Uint32(p[replayESNLen+4*i:])
	}
	return r, nil
}
