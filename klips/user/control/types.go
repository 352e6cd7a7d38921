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
	TypeStatus    pfkey.Type = 70 // requests the daemon's status
	TypeSet       pfkey.Type = 71 // sets knobs of the stack, all or none
	TypeLeave     pfkey.Type = 72 // asks the daemon to stop, and to leave its devices to the next one

	TypeGuard   pfkey.Type = 73 // guards a flow
	TypeUnguard pfkey.Type = 74 // ends the guard of a flow

	// TypeHandOver requests the daemon's whole state, and that it stops. It is refused
	// unless the client is root.
	TypeHandOver pfkey.Type = 75

	// TypeBegin begins a unit of requests of one client: after a refused request, all
	// later ones are refused with ECANCELED. TypeEnd ends the unit; its answer comes
	// after the packet filter has been updated.
	TypeBegin pfkey.Type = 76
	TypeEnd   pfkey.Type = 77

	// TypeHold asks the daemon to carry out only this client's changes, until
	// TypeRelease or until the client disconnects. EALREADY, as for all changes:
	// another client has held the turn for too long.
	TypeHold    pfkey.Type = 78
	TypeRelease pfkey.Type = 79

	// TypeKeys requests the keys of one SA; the answer has them in the extensions of RFC
	// 2367 section 2.3.4. It is refused unless the client is root.
	TypeKeys pfkey.Type = 80

	// TypeTrace asks what the stack would do with a packet, a klips.Flow; the answer has a
	// klips.Decision.
	TypeTrace pfkey.Type = 81

	maxType = TypeTrace
)

// TypeName returns the name of a message type, of KLIPS' types too: "LIST".
func TypeName(t pfkey.Type) string {
	names := [...]string{
		"GROUP", "ATTACH", "DETACH", "DETACHALL", "LIST", "STOP", "STATUS", "SET", "LEAVE",
		"GUARD", "UNGUARD", "HANDOVER", "BEGIN", "END", "HOLD", "RELEASE", "KEYS", "TRACE",
	}
	if i := int(t) - int(TypeGroup); i >= 0 && i < len(names) {
		return names[i]
	}
	return t.String()
}

// extName returns the name of an extension type.
func extName(t pfkey.ExtType) string {
	switch t {
	case ExtSAIDs:
		return "SAIDS"
	case ExtVirtual:
		return "VIRTUAL"
	case ExtPhysical:
		return "PHYSICAL"
	case ExtTable:
		return "TABLE"
	case ExtData:
		return "DATA"
	case ExtWindow:
		return "WINDOW"
	case ExtPackets:
		return "PACKETS"
	case ExtESN:
		return "ESN"
	case ExtReuse:
		return "REUSE"
	case ExtSeq:
		return "SEQ"
	case ExtReplay:
		return "REPLAY_SEQ"
	case ExtAlign8:
		return "ALIGN8"
	case ExtCopyTOS:
		return "COPY_TOS"
	case ExtPlace:
		return "PLACE"
	case ExtDirect:
		return "DIRECT"
	case ExtBundles:
		return "BUNDLES"
	case ExtMarked:
		return "MARKED"
	}
	return t.String()
}

// A Table is a table that LIST can list.
type Table uint32

// The tables, with the types of their records.
const (
	TableSAs     Table = 1 // klips.SA
	TableEroutes Table = 2 // klips.Eroute
	TableDevices Table = 3 // klips.Device
	TableDebug   Table = 4 // klips.Debug, one
	TableVersion Table = 5 // string, one
	TableGroup   Table = 6 // klips.SA: the group of the SA in SAIDS
)

// fault makes the error of a message with a wrong extension: EINVAL with a reason.
func fault(t pfkey.Type, e pfkey.ExtType, why string) error {
	return fmt.Errorf("message %s, extension %s: %s: %w", TypeName(t), extName(e), why, syscall.EINVAL)
}

// missing makes the error of a message that lacks an extension.
func missing(t pfkey.Type, e pfkey.ExtType) error { return fault(t, e, "is missing") }
