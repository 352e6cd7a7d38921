package engine

import (
	"errors"
	"slices"
	"sync"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/handover"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// inherited is what another engine has handed over. A command that restarts a stack makes
// its SAs, groups and eroutes again, because KLIPS keeps none across a restart. The first
// command for each of them succeeds if what it makes exists already.
type inherited struct {
	mu      sync.Mutex
	sas     map[uint32]bool // by SAref: a later SA with the same SAID has another one
	groups  map[uint32]bool // by the SAref of the first SA of the command
	eroutes map[klips.Selector]bool
}

func (in *inherited) remember(sas []*sadb.SA, eroutes []handover.Eroute) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.sas, in.groups, in.eroutes = map[uint32]bool{}, map[uint32]bool{}, map[klips.Selector]bool{}
	for _, sa := range sas {
		in.sas[sa.Ref], in.groups[sa.Ref] = true, true
	}
	for _, r := range eroutes {
		in.eroutes[r.Selector] = true
	}
}

// once reports whether key is in the map of in, and removes it.
func once[K comparable](in *inherited, m map[K]bool, key K) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	there := m[key]
	delete(m, key)
	return there
}

// markSA sets the fields that allow an SA and its group to be made again.
func (in *inherited) markSA(sa *klips.SA) {
	in.mu.Lock()
	defer in.mu.Unlock()
	sa.AddAgain, sa.GroupAgain = in.sas[sa.Ref], in.groups[sa.Ref]
}

// markEroute does the same for an eroute.
func (in *inherited) markEroute(r *klips.Eroute) {
	in.mu.Lock()
	defer in.mu.Unlock()
	r.AddAgain = in.eroutes[r.Selector]
}

// saAgain returns the error of adding an SA, or nil if the SA exists as it was handed
// over.
func (e *Engine) saAgain(spec *klips.SASpec, err error) error {
	sa := e.sas.Lookup(spec.ID)
	if !errors.Is(err, syscall.EEXIST) || sa == nil {
		return err
	}
	if sa.IsOf(spec) && once(&e.inherited, e.inherited.sas, sa.Ref) {
		return nil
	}
	return err
}

// groupAgain does the same for a group.
func (e *Engine) groupAgain(ids []klips.SAID, err error) error {
	if !errors.Is(err, syscall.EEXIST) || len(ids) == 0 {
		return err
	}
	first := e.sas.Lookup(ids[0])
	members, merr := e.sas.Members(ids[0])
	same := first != nil && merr == nil && len(members) == len(ids)
	for _, sa := range members {
		same = same && slices.Contains(ids, sa.ID)
	}
	if same && once(&e.inherited, e.inherited.groups, first.Ref) {
		return nil
	}
	return err
}

// erouteAgain does the same for an eroute.
func (e *Engine) erouteAgain(r klips.Eroute, err error) error {
	old := e.routes.Get(r.Selector)
	if !errors.Is(err, syscall.EEXIST) || old == nil {
		return err
	}
	if there := old.Eroute(); there.SameTarget(&r) && once(&e.inherited, e.inherited.eroutes, r.Selector) {
		return nil
	}
	return err
}
