package control

import (
	"encoding/json"
	"slices"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// The functions of this file read requests in the daemon. They expect a message that
// passed [Check], and return EINVAL if something is missing.

// SASpecOf returns the SA of an ADD or UPDATE, with the parameters of the embedded
// stack. The keys are copies; the caller clears them with [klips.SASpec.ClearKeys].
func SASpecOf(m *pfkey.Message) (*klips.SASpec, error) {
	x, err := decode(m)
	if err != nil {
		return nil, err
	}
	s, err := m.SASpec()
	if err != nil {
		return nil, err
	}
	if x.has&bit(ExtWindow) != 0 {
		s.Window = x.window
	}
	s.ESN, s.ReuseKey = x.has&bit(ExtESN) != 0, x.has&bit(ExtReuse) != 0
	s.Align8, s.CopyTOS = x.has&bit(ExtAlign8) != 0, x.has&bit(ExtCopyTOS) != 0
	if x.has&bit(ExtSeq) != 0 {
		s.Seq = &x.seq
	}
	if x.has&bit(ExtReplay) != 0 {
		s.ReplaySeq = &x.replay
	}
	s.Soft.Packets, s.Hard.Packets = x.soft, x.hard
	return s, nil
}

// ErouteOf returns the eroute of an X_ADDFLOW, with its further SAs.
func ErouteOf(m *pfkey.Message) (klips.Eroute, klips.ErouteOp, error) {
	also, err := SAIDsOf(m)
	if err != nil {
		return klips.Eroute{}, 0, err
	}
	e, op, err := m.Eroute()
	if err == nil && also != nil && op != klips.ErouteAdd && op != klips.ErouteReplace {
		err = fault(m.Type, ExtSAIDs, "does not belong to an inbound policy")
	}
	e.Also = also
	return e, op, err
}

// GroupOf returns the SAs of GROUP, or those of X_GRPSA: one (to ungroup) or two.
func GroupOf(m *pfkey.Message) ([]klips.SAID, error) {
	if m.Type != TypeGroup {
		return m.Group()
	}
	ids, err := SAIDsOf(m)
	if err == nil && len(ids) == 0 {
		err = missing(m.Type, ExtSAIDs)
	}
	return ids, err
}

// SAIDsOf returns the SAs in SAIDS; none without that extension.
func SAIDsOf(m *pfkey.Message) ([]klips.SAID, error) {
	x, err := decode(m)
	return x.saids, err
}

// DevicesOf returns the device names in ATTACH and DETACH; physical is "" in DETACH.
func DevicesOf(m *pfkey.Message) (virtual, physical string, err error) {
	x, err := decode(m)
	switch {
	case err != nil:
	case x.virtual == "":
		err = missing(m.Type, ExtVirtual)
	case m.Type == TypeAttach && x.physical == "":
		err = missing(m.Type, ExtPhysical)
	}
	return x.virtual, x.physical, err
}

// DirectOf reports whether an ATTACH asks for packets past the kernel's IP output.
func DirectOf(m *pfkey.Message) bool {
	x, _ := decode(m)
	return x.has&bit(ExtDirect) != 0
}

// TableOf returns the table that a LIST requests.
func TableOf(m *pfkey.Message) (Table, error) {
	x, err := decode(m)
	if err == nil && x.table == 0 {
		err = missing(m.Type, ExtTable)
	}
	return x.table, err
}

// PlaceOf reports whether a LIST requests a part of a table, and sets place to the place at
// which that begins. Without a place in the request, place stays as it is.
func PlaceOf(m *pfkey.Message, place any) (part bool, err error) {
	x, err := decode(m)
	if err != nil || x.has&bit(ExtPlace) == 0 {
		return false, err
	}
	if len(x.place) > 0 && json.Unmarshal(x.place, place) != nil {
		return false, fault(m.Type, ExtPlace, "is not JSON of the right form")
	}
	return true, nil
}

// nextOf returns a copy of the place in the last message of a listing; nil if there is
// none.
func nextOf(m *pfkey.Message) ([]byte, error) {
	x, err := decode(m)
	return slices.Clone(x.place), err
}

// KnobsOf returns the knobs of a SET.
func KnobsOf(m *pfkey.Message) (k map[string]int, err error) {
	err = value(m, &k)
	return k, err
}

// GuardOf returns the guard of a GUARD. Its selector is valid for an eroute.
func GuardOf(m *pfkey.Message) (g klips.Guard, err error) {
	if err = value(m, &g); err == nil {
		err = checkSelector(m, g.Selector)
	}
	return g, err
}

// UnguardedOf returns the selector of an UNGUARD, which is valid for an eroute.
func UnguardedOf(m *pfkey.Message) (s klips.Selector, err error) {
	if err = value(m, &s); err == nil {
		err = checkSelector(m, s)
	}
	return s, err
}

// FlowOf returns the packet in TRACE.
func FlowOf(m *pfkey.Message) (f klips.Flow, err error) {
	err = value(m, &f)
	return f, err
}

// NamespaceOf returns the network namespace in a HANDOVER request, 0 if there is none.
func NamespaceOf(m *pfkey.Message) (netns uint64) {
	if value(m, &netns) != nil {
		return 0
	}
	return netns
}

// checkSelector checks that a selector from JSON is valid for an eroute.
func checkSelector(m *pfkey.Message, s klips.Selector) error {
	if !s.Src.IsValid() || !s.Dst.IsValid() || s.Src != s.Src.Masked() || s.Dst != s.Dst.Masked() || s.Src.Addr().Is4() != s.Dst.Addr().Is4() ||
		s.Src.Addr().Is4In6() || s.Dst.Addr().Is4In6() {
		return fault(m.Type, ExtData, "is no selector")
	}
	return nil
}

// value reads the JSON of a message into v.
func value(m *pfkey.Message, v any) error {
	data, ok, err := dataOf(m)
	switch {
	case err != nil:
		return err
	case !ok:
		return missing(m.Type, ExtData)
	}
	if json.Unmarshal(data, v) != nil {
		return fault(m.Type, ExtData, "is not JSON of the right form")
	}
	return nil
}

// dataOf returns the DATA of a message and whether there is any. The slice points into
// the message.
func dataOf(m *pfkey.Message) (data []byte, ok bool, err error) {
	x, err := decode(m)
	return x.data, x.has&bit(ExtData) != 0, err
}

// NameObject puts the object at fault into the answer to a failed request.
func NameObject(answer *pfkey.Message, object string) {
	answer.Private = []pfkey.Extension{dataExt([]byte(object))}
}

// ObjectOf returns the object that [NameObject] put there, "" if none.
func ObjectOf(answer *pfkey.Message) string {
	data, _, _ := dataOf(answer)
	return string(data)
}

// KeyUsed answers a request for an SA whose key another SA sends with: EKEYREJECTED,
// and that SA.
func KeyUsed(request pfkey.Header, other klips.SAID) *pfkey.Message {
	m := pfkey.ErrorReply(request, syscall.EKEYREJECTED)
	m.Private = []pfkey.Extension{saidsExt(other)}
	return m
}

// Begun answers BEGIN: the unit has begun, and the daemon accepts bundles until its end.
func Begun(request pfkey.Header) *pfkey.Message {
	m := pfkey.Ack(request)
	m.Private = []pfkey.Extension{numberExt(ExtBundles, 1)}
	return m
}

// AcceptsBundles reports whether the daemon that has answered BEGIN accepts bundles.
func AcceptsBundles(begun *pfkey.Message) bool {
	x, err := decode(begun)
	return err == nil && x.has&bit(ExtBundles) != 0
}

// KeysReply answers KEYS. It does not copy the keys: [pfkey.Message.Clear] overwrites them.
func KeysReply(request pfkey.Header, k klips.Keys) *pfkey.Message {
	m := pfkey.Ack(request)
	m.KeyAuth, m.KeyEncrypt = pfkey.NewKey(k.AuthKey), pfkey.NewKey(k.EncKey)
	if k.Marked {
		m.Private = []pfkey.Extension{numberExt(ExtMarked, 1)}
	}
	return m
}

// KeysOf returns the keys in the answer to KEYS. They are not copied.
func KeysOf(reply *pfkey.Message) (k klips.Keys) {
	if reply.KeyAuth != nil {
		k.AuthKey = reply.KeyAuth.Data
	}
	if reply.KeyEncrypt != nil {
		k.EncKey = reply.KeyEncrypt.Data
	}
	x, err := decode(reply)
	k.Marked = err == nil && x.has&bit(ExtMarked) != 0
	return k
}
