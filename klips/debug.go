package klips

// A DebugArea names one of the debug masks of klipsdebug, in the order of the
// PF_KEY debug extension.
type DebugArea uint8

// The debug areas.
const (
	DebugTunnel DebugArea = iota
	DebugNetlink
	DebugXform
	DebugEroute
	DebugSPI
	DebugRadij
	DebugESP
	DebugAH
	DebugRcv
	DebugPFKey
	DebugIPComp
	DebugVerbose
	NumDebugAreas
)

// Debug holds the debug masks, indexed by DebugArea.
type Debug [NumDebugAreas]uint32

// A DebugChange is a change by klipsdebug: the masks are ORed into the stack's if Set
// is true, and ANDed if it is false.
type DebugChange struct {
	Set   bool
	Masks Debug
}
