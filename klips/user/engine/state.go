package engine

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/ah"
	"github.com/klips-go/ipsec/klips/user/esp"
	"github.com/klips-go/ipsec/klips/user/ipcomp"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// states are what the workers keep for one SA (sadb.SA.Data): cipher objects
// are not safe for use by several goroutines, so each worker makes its own when
// it first meets the SA. The slice is indexed by worker and never changed, only
// replaced by a longer one.
type states struct {
	byWorker atomic.Pointer[[]*state]
	mu       sync.Mutex // held by who replaces the slice

	growth growth                  // never changed
	path   atomic.Pointer[natPath] // of an outbound SA in UDP; nil before its first packet

	pathMTU atomic.Pointer[pathMTU] // of an outbound SA; nil: none is known
}

// A state holds one worker's half of an SA: the sealing half for the workers of
// devices, the opening half for the inbound worker.
type state struct {
	espOut *esp.Sealer
	ahOut  *ah.Sealer
	compr  *ipcomp.Compressor
	espIn  *esp.Opener
	ahIn   *ah.Opener

	mapping mapping // of the inbound worker
}

var errDead = errors.New("the SA is gone")

func initStates(sa *sadb.SA) error {
	sa.Data = &states{growth: growthOf(sa)}
	return nil
}

// stateOf returns the worker's state for an SA; the first time it makes it.
func stateOf(sa *sadb.SA, worker int) (*state, error) {
	ss := sa.Data.(*states)
	if l := ss.byWorker.Load(); l != nil && worker < len(*l) && (*l)[worker] != nil {
		return (*l)[worker], nil
	}
	return ss.make(sa, worker)
}

func (ss *states) make(sa *sadb.SA, worker int) (*state, error) {
	s := new(state)
	err := errDead
	if !sa.Keys(func(auth, enc []byte) { err = s.init(sa, worker != inboundWorker, auth, enc) }) {
		return nil, errDead
	}
	if err != nil {
		return nil, err
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	var old []*state
	if l := ss.byWorker.Load(); l != nil {
		old = *l
	}
	l := make([]*state, max(len(old), worker+1))
	copy(l, old)
	l[worker] = s
	ss.byWorker.Store(&l)
	return s, nil
}

func (s *state) init(sa *sadb.SA, out bool, auth, enc []byte) (err error) {
	switch sa.ID.Proto {
	case klips.ProtoESP:
		c := esp.Config{SPI: uint32(sa.ID.SPI), Transform: sa.Transform, EncKey: enc, AuthKey: auth, ESN: sa.ESN}
		if out {
			s.espOut, err = esp.NewSealer(c)
		} else {
			s.espIn, err = esp.NewOpener(c)
		}
	case klips.ProtoAH:
		c := ah.Config{SPI: uint32(sa.ID.SPI), Auth: sa.Transform.Auth, Key: auth, ESN: sa.ESN, Align8: sa.Align8}
		if out {
			s.ahOut, err = ah.NewSealer(c)
		} else {
			s.ahIn, err = ah.NewOpener(c)
		}
	case klips.ProtoComp:
		if out {
			s.compr = ipcomp.NewCompressor()
		}
	}
	return err
}
