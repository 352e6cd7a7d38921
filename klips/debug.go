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

// Debug is the debug masks, indexed by DebugArea.
type Debug [NumDebugAreas]uint32

// A DebugChange is what klipsdebug asks for: the masks are ORed into the
// stack's when Set is true and ANDed when it is false.
type DebugChange struct {
	Set   bool
	Masks Debug
}
