package control

import (
	"fmt"
	"math/bits"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// Check checks a request before the embedded stack carries it out. Requests of KLIPS'
// types are checked as by [pfkey.Check], except that ADD and UPDATE may have private
// extensions. An error wraps the errno for the answer, most often EINVAL.
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
	switch n := len(x.saids); {
	case m.Type != pfkey.TypeAddFlow && n > klips.MaxGroup:
		return fault(m.Type, ExtSAIDs, "it has more SAIDs than a group holds")
	case m.Type == pfkey.TypeAddFlow && x.has&bit(ExtSAIDs) != 0 && n == 0:
		return fault(m.Type, ExtSAIDs, "it has no SAID")
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
	case TypeKeys:
		if len(x.saids) != 1 {
			return fault(m.Type, ExtSAIDs, "keys are those of one SA")
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
		if x.has&bit(ExtPlace) != 0 && (one || x.table != TableSAs && x.table != TableEroutes) {
			return fault(m.Type, ExtPlace, "does not fit the table")
		}
	}
	return nil
}

// rule returns the required and the optional private extensions of a type of request.
func rule(t pfkey.Type) (required, optional set) {
	update := bit(ExtWindow) | bit(ExtPackets) | bit(ExtESN) | bit(ExtReuse) | bit(ExtAlign8) | bit(ExtCopyTOS)
	switch t {
	case pfkey.TypeAdd:
		return 0, update | bit(ExtSeq) | bit(ExtReplay)
	case pfkey.TypeUpdate: // an existing SA continues its own numbers
		return 0, update
	case pfkey.TypeAddFlow:
		return 0, bit(ExtSAIDs)
	case TypeHandOver: // older clients do not send the field
		return 0, bit(ExtData)
	case TypeSet, TypeGuard, TypeUnguard, TypeTrace:
		return bit(ExtData), 0
	case TypeGroup, TypeKeys:
		return bit(ExtSAIDs), 0
	case TypeAttach:
		return bit(ExtVirtual) | bit(ExtPhysical), bit(ExtDirect)
	case TypeDetach:
		return bit(ExtVirtual), 0
	case TypeList:
		return bit(ExtTable), bit(ExtSAIDs) | bit(ExtPlace)
	}
	return 0, 0
}

// first returns the lowest extension of a set.
func first(s set) pfkey.ExtType {
	return pfkey.FirstPrivate + pfkey.ExtType(bits.TrailingZeros64(uint64(s)))
}

// checkPrivate checks the rules common to all private requests.
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

// CheckReply checks the extensions of a message from the daemon: EINVAL if it may not
// send them.
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
		required, optional = bit(ExtTable), bit(ExtData)|bit(ExtPlace)
	case m.Type == TypeStatus, m.Type == TypeTrace:
		required = bit(ExtData)
	case m.Type == TypeBegin: // older daemons accept no bundles
		optional = bit(ExtBundles)
	case m.Type == TypeKeys:
		optional = bit(ExtMarked)
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
