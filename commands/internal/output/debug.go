package output

import "github.com/klips-go/ipsec/klips"

// An area of debugging.
type DebugArea struct {
	// The name of the area, see ipsec_klipsdebug(8).
	Area string `json:"area"`
	// The bits that are set.
	Mask uint32 `json:"mask"`
}

// DebugAreas returns debug masks as records.
func DebugAreas(d klips.Debug) []DebugArea {
	areas := make([]DebugArea, len(d))
	for i, mask := range d {
		areas[i] = DebugArea{klips.DebugArea(i).String(), mask}
	}
	return areas
}
