package sadb

// refs allocates SArefs from 1 upward. As in KLIPS, a freed number is used again after
// all others. The numbers grow as far as needed, and at least to 15 bits, the limit of
// packet marks.
type refs struct {
	used  []uint64            // bitmap of numbers in use below limit
	high  map[uint32]struct{} // those in use from limit on, which callers chose
	count int                 // bits set in used
	last  uint32              // allocated last
}

const firstLimit = 1 << 15

func (r *refs) limit() uint32 { return uint32(len(r.used) * 64) }

// take allocates a free number.
func (r *refs) take() uint32 {
	if r.used == nil || r.count+1 > int(r.limit()/2) {
		r.grow()
	}
	n := r.last
	for {
		if n++; n >= r.limit() {
			n = 1
		}
		if r.used[n/64]>>(n%64)&1 == 0 {
			r.used[n/64] |= 1 << (n % 64)
			r.count++
			r.last = n
			return n
		}
	}
}

// claim allocates a given number; it returns false if it is in use.
func (r *refs) claim(n uint32) bool {
	if r.used == nil {
		r.grow()
	}
	if n >= r.limit() {
		if _, ok := r.high[n]; ok {
			return false
		}
		if r.high == nil {
			r.high = make(map[uint32]struct{})
		}
		r.high[n] = struct{}{}
		return true
	}
	if r.used[n/64]>>(n%64)&1 != 0 {
		return false
	}
	r.used[n/64] |= 1 << (n % 64)
	r.count++
	return true
}

// free frees a number.
func (r *refs) free(n uint32) {
	if n >= r.limit() {
		delete(r.high, n)
		return
	}
	if r.used[n/64]>>(n%64)&1 != 0 {
		r.used[n/64] &^= 1 << (n % 64)
		r.count--
	}
}

func (r *refs) grow() {
	used := make([]uint64, max(2*len(r.used), firstLimit/64))
	copy(used, r.used)
	r.used = used
	for n := range r.high {
		if n < r.limit() {
			r.used[n/64] |= 1 << (n % 64)
			r.count++
			delete(r.high, n)
		}
	}
}
