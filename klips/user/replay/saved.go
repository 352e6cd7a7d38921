package replay

// A Saved is the saved state of a Window.
type Saved struct {
	Size    uint32 // packets
	Last    uint64
	MaxDiff uint32
	// Words are the history of a window of at most 64 packets, or the ring of a larger
	// one; empty for no window.
	Words []uint64
}

// Save returns the state of the window. Update must not be in progress.
func (w *Window) Save() Saved {
	s := Saved{Size: w.size, Last: w.last.Load(), MaxDiff: w.maxDiff.Load()}
	switch {
	case w.ring != nil:
		for i := range w.ring {
			s.Words = append(s.Words, w.ring[i].Load())
		}
	case w.size > 0:
		s.Words = []uint64{w.history.Load()}
	}
	return s
}

// Restore is Init for a window with a saved state. It returns false, and leaves no
// window, if the state is invalid.
func (w *Window) Restore(s Saved) bool {
	w.Init(s.Size)
	want := len(w.ring)
	if w.ring == nil && w.size > 0 {
		want = 1
	}
	if w.size != s.Size || len(s.Words) != want {
		w.Init(0)
		return false
	}
	w.last.Store(s.Last)
	w.maxDiff.Store(s.MaxDiff)
	for i, word := range s.Words {
		if w.ring != nil {
			w.ring[i].Store(word)
		} else {
			w.history.Store(word)
		}
	}
	return true
}
