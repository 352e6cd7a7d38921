package control

import (
	"fmt"
	"math/bits"
	"syscall"

	"github.com/klips-go/ipsec/klips/pfkey"
)

// Check looks at a request before the embedded stack acts on it: at one of KLIPS' types
// as [pfkey.Check] does, but that ADD and UPDATE may have private extensions, and at a
// private one. It returns nil or an error that wraps the errno to answer, most often
// EINVAL.
func Check(m *pfkey.Message) error {
	x, err := decode(m)
	if err != nil {
		return err
	}
	required, optional := rule(m.Type)
	switch extra, lack := x.has&^(required|optional), required&^x.has; {
	case extra != 0:
		return fault(m.Type, first(extra), "does not belong into this message")
	case lack != 0:
		return missing(m.Type, first(lack))
	}
	if m.Type < pfkey.FirstPrivate {
		public := *m
		public.Private = nil
		return pfkey.Check(&public)
	}
	if err := checkPrivate(m); err != nil {
		return err
	}
	switch m.Type {
	case TypeGroup:
		if len(x.saids) < 2 {
			return fault(m.Type, ExtSAIDs, "a group has two SAs or more")
		}
	case TypeList:
		one := x.has&bit(ExtSAIDs) != 0
		fits := x.table != TableGroup
		if one {
			fits = len(x.saids) == 1 && (x.table == TableSAs || x.table == TableGroup)
		}
		if !fits {
			return fault(m.Type, ExtSAIDs, "does not fit the table")
		}
	}
	return nil
}

// rule returns the private extensions that a request of a type must and may have.
func rule(t pfkey.Type) (required, optional set) {
	update := bit(ExtWindow) | bit(ExtPackets) | bit(ExtESN) | bit(ExtReuse)
	switch t {
	case pfkey.TypeAdd:
		return 0, update | bit(ExtSeq) | bit(ExtReplay)
	case pfkey.TypeUpdate: // an SA that is there goes on with its own numbers
		return 0, update
	case TypeSet, TypeGuard, TypeUnguard:
		return bit(ExtData), 0
	case TypeGroup:
		return bit(ExtSAIDs), 0
	case TypeAttach:
		return bit(ExtVirtual) | bit(ExtPhysical), 0
	case TypeDetach:
		return bit(ExtVirtual), 0
	case TypeList:
		return bit(ExtTable), bit(ExtSAIDs)
	}
	return 0, 0
}

// first returns the lowest extension of a set.
func first(s set) pfkey.ExtType {
	return pfkey.FirstPrivate + pfkey.ExtType(bits.TrailingZeros64(uint64(s)))
}

// checkPrivate checks what all private requests have in common.
func checkPrivate(m *pfkey.Message) error {
	refuse := func(why string) error {
		return fmt.Errorf("message %s: %s: %w", TypeName(m.Type), why, syscall.EINVAL)
	}
	switch {
	case m.Type > maxType:
		return refuse("unknown type")
	case m.SAType > pfkey.MaxSAType:
		return refuse("unknown SA type")
	case m.Errno != 0:
		return refuse("a request has no errno")
	}
	for t := pfkey.ExtType(1); t < pfkey.FirstPrivate; t++ {
		if m.Has(t) {
			return fault(m.Type, t, "does not belong into this message")
		}
	}
	return nil
}

// CheckReply tells whether a message is one that the daemon may send, by its extensions:
// EINVAL if not.
func CheckReply(m *pfkey.Message) error {
	x, err := decode(m)
	if err != nil {
		return err
	}
	required, optional := set(0), set(0)
	switch {
	case m.Errno == syscall.EKEYREJECTED && m.Type < pfkey.FirstPrivate:
		optional = bit(ExtSAIDs)
	case m.Errno != 0:
		optional = bit(ExtData)
	case m.Type == TypeList:
		required, optional = bit(ExtTable), bit(ExtData)
	case m.Type == TypeStatus:
		required = bit(ExtData)
	}
	switch {
	case x.has&^(required|optional) != 0 || required&^x.has != 0:
		return fmt.Errorf("message %s: wrong extensions: %w", TypeName(m.Type), syscall.EINVAL)
	case m.Type >= pfkey.FirstPrivate:
		return nil
	}
	public := *m
	public.Private = nil
	return pfkey.CheckReply(&public)
}
