package nlxfrm

import (
	"fmt"
	"net/netip"
)

// An AE is the part of a state that changes while it is used: its sequence numbers,
// window and counters.
type AE struct { // struct xfrm_aevent_id
	ID
	Src     netip.Addr // only read
	ReqID   uint32     // only read
	Mark    Mark
	IfID    uint32 // only read
	Current *Current
	// A state has one of these, the one it was made with. UpdateAE cannot change the
	// size of the window.
	Replay    *Replay
	ReplayESN *ReplayESN
}

func (a *AE) encode() ([]byte, error) {
	b := make([]byte, aeventIDLen, aeventIDLen+128)
	if err := a.ID.putUser(b); err != nil {
		return nil, err
	}
	putAddr(b[24:], a.Src)
	native.PutUint32(b[44:], a.ReqID)
	if a.ReplayESN != nil {
		var err error
		if b, err = a.ReplayESN.append(b); err != nil {
			return nil, err
		}
	}
	if a.Replay != nil {
		b = a.Replay.append(b)
	}
	if a.Current != nil {
		var p []byte
		b, p = appendAttr(b, attrLtimeVal, currentLen)
		a.Current.put(p)
	}
	return a.Mark.append(b), nil
}

// parseAE reads the data of a NEWAE message.
func parseAE(b []byte) (*AE, error) {
	if len(b) < aeventIDLen {
		return nil, malformed("replay state of %d bytes, want %d", len(b), aeventIDLen)
	}
	a := &AE{ReqID: native.Uint32(b[44:]), Src: getAddr(b[24:], native.Uint16(b[20:]))}
	a.ID.getUser(b)
	var err, walk error
	for typ, p := range attrs(b[aeventIDLen:], &walk) {
		switch typ {
		case attrReplayVal:
			a.Replay, err = parseReplay(p)
		case attrReplayESNVal:
			a.ReplayESN, err = parseReplayESN(p)
		case attrLtimeVal:
			if err = want(typ, p, currentLen); err == nil {
				a.Current = new(Current)
				a.Current.get(p)
			}
		case attrMark:
			err = a.Mark.get(p)
		case attrIfID:
			err = getUint32(typ, p, &a.IfID)
		}
		if err != nil {
			return nil, err
		}
	}
	if walk != nil {
		return nil, fmt.Errorf("replay state: %w", walk)
	}
	return a, nil
}
