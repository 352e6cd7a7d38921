package engine

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user/ah"
	"github.com/klips-go/ipsec/klips/user/esp"
	"github.com/klips-go/ipsec/klips/user/ipcomp"
	"github.com/klips-go/ipsec/klips/user/overhead"
	"github.com/klips-go/ipsec/klips/user/sadb"
)

// states are what the workers keep for one SA (sadb.SA.Data). Several goroutines cannot
// use one cipher object, so each worker makes its own when it first uses the SA. The
// slice is never changed; a longer slice replaces it. It mostly has one element.
type states struct {
	byWorker atomic.Pointer[[]workerState]
	mu       sync.Mutex // held while the slice is replaced

	outLane, inLane laneNumber

	growth overhead.Growth         // never changed
	path   atomic.Pointer[natPath] // of an outbound SA in UDP; nil before its first packet

	pathMTU atomic.Pointer[pathMTU] // of an outbound SA; nil: none is known
	// routeMTUs are of an outbound SA: those that are smaller than the MTUs of their wires;
	// nil: none is known.
	routeMTUs atomic.Pointer[[]routeMTU]
	// heard is where the newest packets of an inbound SA in UDP come from; nil: from the
	// address and port of the SA.
	heard atomic.Pointer[netip.AddrPort]
}

// A workerState is the state of one worker.
type workerState struct {
	worker worker
	*state
}

// A state is one worker's part of an SA: for sealing in the workers of devices, for
// opening in those for inbound packets.
type state struct {
	espOut *esp.Sealer
	ahOut  *ah.Sealer
	compr  *ipcomp.Compressor
	espIn  *esp.Opener
	ahIn   *ah.Opener

	mapping mapping // of inbound packets
}

var errDead = errors.New("the SA is gone")

func initStates(sa *sadb.SA) error {
	sa.Data = &states{growth: growthOf(sa)}
	return nil
}

// stateOf returns the worker's state for an SA. It makes it the first time.
func stateOf(sa *sadb.SA, w worker) (*state, error) {
	ss := sa.Data.(*states)
	if l := ss.byWorker.Load(); l != nil {
		for i := range *l {
			if (*l)[i].worker == w {
				return (*l)[i].state, nil
			}
		}
	}
	return ss.make(sa, w)
}

func (ss *states) make(sa *sadb.SA, w worker) (*state, error) {
	s := new(state)
	err := errDead
	if !sa.Keys(func(auth, enc []byte) { err = s.init(sa, w >= 0, auth, enc) }) {
		return nil, errDead
	}
	if err != nil {
		return nil, err
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	var old []workerState
	if l := ss.byWorker.Load(); l != nil {
		old = *l
	}
	l := append(slices.Clip(old), workerState{w, s})
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
