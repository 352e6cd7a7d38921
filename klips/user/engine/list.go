package engine

import (
	"iter"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// saPiece is how many SAs are read under one lock. While they are used, no key of a removed
// one among them can be overwritten in its ciphers.
const saPiece = 64

// SAsFrom yields up to n of the SAs that follow *p in listing order. Afterwards *p is the
// place after the last one, or the zero Place at the end. The SAs may change meanwhile: one
// that exists all the time is yielded once, with its values of that moment. No lock is held
// while they are used, and the memory that is needed does not depend on n.
func (e *Engine) SAsFrom(p *sadb.Place, n int) iter.Seq[klips.SA] {
	return func(yield func(klips.SA) bool) {
		l := make([]klips.SA, 0, saPiece)
		for n > 0 {
			asked := min(n, saPiece)
			l, *p = e.pieceOfSAs(*p, l[:0], asked)
			for i := range l {
				if !yield(l[i]) {
					return
				}
			}
			if len(l) < asked {
				*p = sadb.Place{}
				return
			}
			n -= asked
		}
	}
}

// pieceOfSAs appends up to n SAs after a place to l. It returns with no SA of the database
// in use.
func (e *Engine) pieceOfSAs(p sadb.Place, l []klips.SA, n int) ([]klips.SA, sadb.Place) {
	var piece [saPiece]*sadb.SA
	n, last := e.sas.After(p, piece[:n])
	now := e.now()
	for _, sa := range piece[:n] {
		l = append(l, e.listed(sa, now))
	}
	return l, last
}

// EroutesFrom is SAsFrom for eroutes. Before the first of them it needs time for the whole
// table, and 16 bytes of memory for each of the n.
func (e *Engine) EroutesFrom(p *klips.Selector, n int) iter.Seq[klips.Eroute] {
	return func(yield func(klips.Eroute) bool) {
		l := e.routes.After(*p, n)
		for _, r := range l {
			*p = r.Selector()
			if r = e.routes.Get(*p); r == nil { // removed meanwhile
				continue
			}
			v := r.Eroute()
			e.inherited.markEroute(&v)
			if !yield(v) {
				return
			}
		}
		if len(l) < n {
			*p = klips.Selector{}
		}
	}
}
