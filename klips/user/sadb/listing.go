package sadb

import "github.com/klips-go/ipsec/klips"

// A listing holds the SAs in listing order: ascending by klips.Bucket, newest first within a
// bucket. It is a list for each bucket, so that a part of the order can be read without
// sorting all. DB.mu guards it, and the links in the SAs.
type listing [klips.Buckets]*SA

// A link is an SA's place in the listing. A removed SA has none, because it would keep its
// former neighbours, and their keys, in memory.
type link struct{ newer, older *SA }

// push adds the newest SA.
func (l *listing) push(sa *SA) {
	first := &l[klips.Bucket(sa.ID)]
	sa.link = link{older: *first}
	if *first != nil {
		(*first).link.newer = sa
	}
	*first = sa
}

// replace puts an SA into the place of another with the same SAID.
func (l *listing) replace(old, sa *SA) {
	sa.link = old.link
	l.join(sa.link.newer, sa, sa.ID)
	if sa.link.older != nil {
		sa.link.older.link.newer = sa
	}
	old.link = link{}
}

// remove removes an SA.
func (l *listing) remove(sa *SA) {
	l.join(sa.link.newer, sa.link.older, sa.ID)
	if sa.link.older != nil {
		sa.link.older.link.newer = sa.link.newer
	}
	sa.link = link{}
}

// join makes older follow newer, or begin the bucket of id if newer is nil.
func (l *listing) join(newer, older *SA, id klips.SAID) {
	if newer == nil {
		l[klips.Bucket(id)] = older
	} else {
		newer.link.older = older
	}
}

// clear removes all SAs.
func (l *listing) clear() {
	for i := range l {
		for sa := l[i]; sa != nil; {
			sa, sa.link = sa.link.older, link{}
		}
		l[i] = nil
	}
}

// A Place is a place in the listing order. It stays valid when the SA that it names is
// removed. The zero Place is before all SAs.
type Place struct {
	ID    klips.SAID `json:"said"`  // of the SA before it
	Order uint64     `json:"order"` // of its making
}

// After fills dst with the SAs that follow a place in listing order, see [DB.All], and
// returns how many there are: fewer than dst has room for only at the end. last is the
// place after these.
func (db *DB) After(p Place, dst []*SA) (n int, last Place) {
	db.mu.Lock()
	defer db.mu.Unlock()
	bucket, sa := 0, db.listing[0]
	if p != (Place{}) {
		bucket = klips.Bucket(p.ID)
		sa = db.listing[bucket]
		if at := db.Lookup(p.ID); at != nil && at.order == p.Order {
			sa = at
		}
		for sa != nil && sa.order >= p.Order {
			sa = sa.link.older
		}
	}
	for last = p; n < len(dst); n++ {
		for ; sa == nil; sa = db.listing[bucket] {
			if bucket++; bucket == len(db.listing) {
				return n, last
			}
		}
		dst[n], last = sa, Place{sa.ID, sa.order}
		sa = sa.link.older
	}
	return n, last
}

// All returns the SAs in listing order: ascending by klips.Bucket, newest first
// within a bucket.
func (db *DB) All() []*SA {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.listLocked()
}

// listLocked is All.
func (db *DB) listLocked() []*SA {
	l := make([]*SA, 0, db.table.Len())
	for _, sa := range db.listing {
		for ; sa != nil; sa = sa.link.older {
			l = append(l, sa)
		}
	}
	return l
}
