package control

import (
	"fmt"
	"syscall"

	"github.com/klips-go/ipsec/klips/pfkey"
)

// The types of messages.
const (
	TypeGroup     pfkey.Type = 64 // makes a group of two to four SAs, all or nothing
	TypeAttach    pfkey.Type = 65 // binds a virtual device to a physical one
	TypeDetach    pfkey.Type = 66 // unbinds it
	TypeDetachAll pfkey.Type = 67 // unbinds all
	TypeList      pfkey.Type = 68 // lists a table
	TypeStop      pfkey.Type = 69 // asks the daemon to remove its devices and to stop
	TypeStatus    pfkey.Type = 70 // asks the daemon how it is
	TypeSet       pfkey.Type = 71 // sets knobs of the stack, all or none
	TypeLeave     pfkey.Type = 72 // asks the daemon to stop, and to leave its devices to the next one

	TypeGuard   pfkey.Type = 73 // guards a flow
	TypeUnguard pfkey.Type = 74 // ends that

	// TypeHandOver asks the daemon for all that it has, and to stop. Only root may.
	TypeHandOver pfkey.Type = 75

	// TypeBegin begins a unit of the same client's requests: after one that is refused,
	// all others are refused with ECANCELED. TypeEnd ends it; its answer comes when the
	// packet filter follows the changes.
	TypeBegin pfkey.Type = 76
	TypeEnd   pfkey.Type = 77

	// TypeHold asks the daemon to carry out no changes but this client's, until
	// TypeRelease or until it hangs up. EALREADY, as for all changes: others have held
	// for too long.
	TypeHold    pfkey.Type = 78
	TypeRelease pfkey.Type = 79

	maxType = TypeRelease
)

// TypeName returns the name of a type of messages, of KLIPS' types too: "LIST".
func TypeName(t pfkey.Type) string {
	names := [...]string{
		"GROUP", "ATTACH", "DETACH", "DETACHALL", "LIST", "STOP", "STATUS", "SET", "LEAVE",
		"GUARD", "UNGUARD", "HANDOVER", "BEGIN", "END", "HOLD", "RELEASE",
	}
	if i := int(t) - int(TypeGroup); i >= 0 && i < len(names) {
		return names[i]
	}
	return t.String()
}

// extName returns the name of a type of extensions.
func extName(t pfkey.ExtType) string {
	names := [...]string{
		ExtSAIDs - ExtSAIDs: "SAIDS", ExtVirtual - ExtSAIDs: "VIRTUAL", ExtPhysical - ExtSAIDs: "PHYSICAL",
		ExtTable - ExtSAIDs: "TABLE", ExtData - ExtSAIDs: "DATA", ExtWindow - ExtSAIDs: "WINDOW",
		ExtPackets - ExtSAIDs: "PACKETS", ExtESN - ExtSAIDs: "ESN", ExtReuse - ExtSAIDs: "REUSE",
		ExtSeq - ExtSAIDs: "SEQ", ExtReplay - ExtSAIDs: "REPLAY_SEQ",
	}
	if i := int(t) - int(ExtSAIDs); i >= 0 && i < len(names) && names[i] != "" {
		return names[i]
	}
	return t.String()
}

// A Table names what LIST lists.
type Table uint32

// The tables, and the type of their records.
const (
	TableSAs     Table = 1 // klips.SA
	TableEroutes Table = 2 // klips.Eroute
	TableDevices Table = 3 // klips.Device
	TableDebug   Table = 4 // klips.Debug, one
	TableVersion Table = 5 // string, one
	TableGroup   Table = 6 // klips.SA: the group of the SA that SAIDS names
)

// fault makes the error of a message with a wrong extension: EINVAL, and why in words.
func fault(t pfkey.Type, e pfkey.ExtType, why string) error {
	return fmt.Errorf("message %s, extension %s: %s: %w", TypeName(t), extName(e), why, syscall.EINVAL)
}

// missing makes the error of a message that lacks an extension.
func missing(t pfkey.Type, e pfkey.ExtType) error { return fault(t, e, "is missing") }
