package replay

import "fmt"

// An Example is a series of sequence numbers and what a window decides.
type Example struct {
	Source string
	Size   uint32 // of the window, in packets
	Steps  []Step
}

// A Step is a packet of an example, and the window after it.
type Step struct {
	Seq      uint64
	Accepted bool
	Last     uint64
	Bitmap   uint64
	MaxDiff  uint32
}

// Examples returns the documented example of KLIPS' decisions.
func Examples() []Example {
	return []Example{{"KLIPS, 32 packets", 32, []Step{
		{0, false, 0, 0, 0},
		{1, true, 1, 1, 0},
		{2, true, 2, 3, 0},
		{5, true, 5, 0x19, 2},
		{4, true, 5, 0x1b, 2},
		{5, false, 5, 0x1b, 2},
		{40, true, 40, 1, 34},
		{8, false, 40, 1, 34},
		{9, true, 40, 0x80000001, 34},
		{9, false, 40, 0x80000001, 34},
		{71, true, 71, 0x4000000080000001, 34}, // distance 31: older bits are shifted
	}}}
}

// Check gives the numbers to a window with the code that all packets use. The error is the
// difference.
func (e *Example) Check() error {
	var w Window
	w.Init(e.Size)
	for _, s := range e.Steps {
		checked, updated := w.Check(s.Seq), w.Update(s.Seq)
		if checked != s.Accepted || updated != s.Accepted {
			return fmt.Errorf("number %d is accepted: %v before its ICV is checked, %v after it, not %v", s.Seq, checked, updated, s.Accepted)
		}
		if got := (Step{s.Seq, updated, w.Last(), w.Bitmap(), w.MaxDiff()}); got != s {
			return fmt.Errorf("after number %d the window is %+v, not %+v", s.Seq, got, s)
		}
	}
	return nil
}

// An Extension is an extended sequence number (RFC 4303 section 2.2.1) of which a packet has
// the low half.
type Extension struct {
	Source string
	Last   uint64 // the highest number that a window of extensionWindow packets has received
	Low    uint32
	Want   uint64
}

const extensionWindow = 64

// Extensions returns the cases of RFC 4303 appendix A2.1, and those at both ends of the
// numbers. Th and Tl are the halves of the highest number, W is the size of the window.
func Extensions() []Extension {
	const w = extensionWindow
	return []Extension{
		// Case A: the window is within one turn of the low half, Tl >= W-1.
		{"RFC 4303 appendix A2.1 case A, newest again", 5<<32 | 1000, 1000, 5<<32 | 1000},
		{"RFC 4303 appendix A2.1 case A, ahead", 5<<32 | 1000, 1001, 5<<32 | 1001},
		{"RFC 4303 appendix A2.1 case A, far ahead in this turn", 5<<32 | 1000, 0xffffffff, 5<<32 | 0xffffffff},
		{"RFC 4303 appendix A2.1 case A, oldest in the window", 5<<32 | 1000, 1000 - w + 1, 5<<32 | (1000 - w + 1)},
		{"RFC 4303 appendix A2.1 case A, below the window is the next turn", 5<<32 | 1000, 1000 - w, 6<<32 | (1000 - w)},
		{"RFC 4303 appendix A2.1 case A, 0 is the next turn", 5<<32 | 1000, 0, 6 << 32},
		{"RFC 4303 appendix A2.1 case A, at the end of a turn", 5<<32 | 0xffffffff, 0, 6 << 32},
		{"RFC 4303 appendix A2.1 case A, oldest at the end of a turn", 5<<32 | 0xffffffff, 1<<32 - w, 5<<32 | (1<<32 - w)},
		{"RFC 4303 appendix A2.1 case A, below at the end of a turn", 5<<32 | 0xffffffff, 1<<32 - w - 1, 6<<32 | (1<<32 - w - 1)},
		{"RFC 4303 appendix A2.1 case A, Tl = W-1, oldest is 0", 5<<32 | (w - 1), 0, 5 << 32},
		{"RFC 4303 appendix A2.1 case A, Tl = W-1, last of this turn", 5<<32 | (w - 1), 0xffffffff, 5<<32 | 0xffffffff},
		// Case B: the window spans two turns, Tl < W-1.
		{"RFC 4303 appendix A2.1 case B, newest again", 5<<32 | 10, 10, 5<<32 | 10},
		{"RFC 4303 appendix A2.1 case B, ahead", 5<<32 | 10, 11, 5<<32 | 11},
		{"RFC 4303 appendix A2.1 case B, in the window, this turn", 5<<32 | 10, 0, 5 << 32},
		{"RFC 4303 appendix A2.1 case B, in the window, the turn before", 5<<32 | 10, 0xffffffff, 4<<32 | 0xffffffff},
		{"RFC 4303 appendix A2.1 case B, oldest", 5<<32 | 10, 1<<32 + 10 - w + 1, 4<<32 | (1<<32 + 10 - w + 1)},
		{"RFC 4303 appendix A2.1 case B, below the window is far ahead", 5<<32 | 10, 1<<32 + 10 - w, 5<<32 | (1<<32 + 10 - w)},
		{"RFC 4303 appendix A2.1 case B, Tl = W-2", 5<<32 | (w - 2), 0xffffffff, 4<<32 | 0xffffffff},
		{"RFC 4303 appendix A2.1 case B, Tl = 0", 5 << 32, 1<<32 - w + 1, 4<<32 | (1<<32 - w + 1)},
		{"RFC 4303 appendix A2.1 case B, Tl = 0, below", 5 << 32, 1<<32 - w, 5<<32 | (1<<32 - w)},
		// The first turn, which has no turn before it.
		{"before the first packet", 0, 1, 1},
		{"before the first packet, far ahead", 0, 0xffffffff, 0xffffffff},
		{"first turn, window not filled", 10, 0xffffffff, 0xffffffff},
		{"first turn, window just filled", w - 1, 0xffffffff, 0xffffffff},
		{"first turn, 0 comes next", w, 0, 1 << 32},
		{"out of the first turn", 1<<32 - 1, 0, 1 << 32},
		{"into the first turn", 1<<32 + 3, 0xfffffffe, 0xfffffffe},
		// The last turn: the numbers after it would be used ones.
		{"last number again", 1<<64 - 1, 0xffffffff, 1<<64 - 1},
		{"after the last number", 1<<64 - 1, 0, 0},
		{"long after the last number", 1<<64 - 1, 1<<32 - w - 1, 1<<32 - w - 1},
	}
}

// Check extends the number with the code that all packets use. The error is the difference.
func (e *Extension) Check() error {
	var w Window
	w.Init(extensionWindow)
	if e.Last != 0 {
		w.Update(e.Last)
	}
	if got := w.Extend(e.Low); got != e.Want {
		return fmt.Errorf("%#x after %#x is extended to %#x, not to %#x", e.Low, e.Last, got, e.Want)
	}
	return nil
}
