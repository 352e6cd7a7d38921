package klips

import (
	"encoding/json"
	"net/netip"
)

// The JSON form of changes: an object with the Op as "op", and the change's other
// fields. It contains sizes of keys, never the keys.

// A changeJSON has the fields of all changes.
type changeJSON struct {
	Op       string            `json:"op"`
	SAID     *SAID             `json:"said,omitempty"`
	SAIDs    []SAID            `json:"saids,omitempty"`
	Also     []SAID            `json:"also,omitempty"`
	SA       *saJSON           `json:"sa,omitempty"`
	Flow     *Selector         `json:"flow,omitempty"`
	Virtual  string            `json:"virtual,omitempty"`
	Physical string            `json:"physical,omitempty"`
	Direct   bool              `json:"direct,omitempty"`
	Masks    map[string]uint32 `json:"masks,omitempty"` // by area, those with bits
	Set      *bool             `json:"set,omitempty"`
	Knobs    map[string]int    `json:"knobs,omitempty"`
	In       bool              `json:"in,omitempty"`
	Peer     netip.Addr        `json:"peer,omitzero"`
	Port     uint16            `json:"port,omitempty"`
	Form     NATTType          `json:"form,omitempty"`
}

// A saJSON has the fields of an AddSA.
type saJSON struct {
	Src         netip.Addr `json:"src,omitzero"`
	Transform   Transform  `json:"transform,omitzero"`
	AuthKeyBits int        `json:"auth_key_bits,omitempty"`
	EncKeyBits  int        `json:"enc_key_bits,omitempty"`
	Window      uint32     `json:"window,omitempty"`
	ESN         bool       `json:"esn,omitempty"`
	Align8      bool       `json:"align8,omitempty"`
	CopyTOS     bool       `json:"copy_tos,omitempty"`
	Soft        Limits     `json:"soft,omitzero"`
	Hard        Limits     `json:"hard,omitzero"`
	Seq         *uint64    `json:"seq,omitempty"`
	ReplaySeq   *uint64    `json:"replay_seq,omitempty"`
	NATT        NATT       `json:"natt,omitzero"`
	Ref         uint32     `json:"ref,omitempty"`
	RefHim      uint32     `json:"refhim,omitempty"`
	OutIf       uint16     `json:"outif,omitempty"`
	ReuseKey    bool       `json:"reuse_key,omitempty"`
	Offload     string     `json:"offload,omitempty"`
}

func marshal(c Change, j changeJSON) ([]byte, error) {
	j.Op = c.Op()
	return json.Marshal(j)
}

// MarshalJSON leaves the keys out.
func (c AddSA) MarshalJSON() ([]byte, error) {
	return marshal(c, changeJSON{SAID: &c.ID, SA: &saJSON{
		c.Src, c.Transform, 8 * len(c.AuthKey), 8 * len(c.EncKey), c.Window, c.ESN, c.Align8, c.CopyTOS, c.Soft, c.Hard,
		c.Seq, c.ReplaySeq, c.NATT, c.Ref, c.RefHim, c.OutIf, c.ReuseKey, c.Offload,
	}})
}

func (c DeleteSA) MarshalJSON() ([]byte, error) { return marshal(c, changeJSON{SAID: &c.ID}) }
func (c ClearSAs) MarshalJSON() ([]byte, error) { return marshal(c, changeJSON{}) }
func (c Group) MarshalJSON() ([]byte, error)    { return marshal(c, changeJSON{SAIDs: c.IDs}) }
func (c Ungroup) MarshalJSON() ([]byte, error)  { return marshal(c, changeJSON{SAID: &c.ID}) }
func (c SetEroute) MarshalJSON() ([]byte, error) {
	return marshal(c, changeJSON{Flow: &c.Selector, SAID: &c.ID, Also: c.Also})
}
func (c SetPolicy) MarshalJSON() ([]byte, error) {
	return marshal(c, changeJSON{Flow: &c.Policy, SAID: &c.ID})
}
func (c DeleteEroute) MarshalJSON() ([]byte, error) {
	return marshal(c, changeJSON{Flow: &c.Selector})
}
func (c ClearEroutes) MarshalJSON() ([]byte, error) { return marshal(c, changeJSON{}) }
func (c Attach) MarshalJSON() ([]byte, error) {
	return marshal(c, changeJSON{Virtual: c.Virtual, Physical: c.Physical, Direct: c.Direct})
}
func (c Detach) MarshalJSON() ([]byte, error)    { return marshal(c, changeJSON{Virtual: c.Virtual}) }
func (c DetachAll) MarshalJSON() ([]byte, error) { return marshal(c, changeJSON{}) }
func (c CreateDevice) MarshalJSON() ([]byte, error) {
	return marshal(c, changeJSON{Virtual: c.Virtual})
}
func (c DeleteDevice) MarshalJSON() ([]byte, error) {
	return marshal(c, changeJSON{Virtual: c.Virtual})
}
func (c SetDebug) MarshalJSON() ([]byte, error) {
	masks := map[string]uint32{}
	for area, mask := range c.Masks {
		if mask != 0 {
			masks[DebugArea(area).String()] = mask
		}
	}
	return marshal(c, changeJSON{Masks: masks, Set: &c.Set})
}
func (c SetKnobs) MarshalJSON() ([]byte, error) { return marshal(c, changeJSON{Knobs: c.Knobs}) }
func (c SetGuard) MarshalJSON() ([]byte, error) {
	return marshal(c, changeJSON{Flow: &c.Selector, In: c.In, Peer: c.Peer})
}
func (c RemoveGuard) MarshalJSON() ([]byte, error) {
	return marshal(c, changeJSON{Flow: &c.Selector})
}
func (c HoldPort) MarshalJSON() ([]byte, error) {
	return marshal(c, changeJSON{Port: c.Port, Form: c.Form})
}
