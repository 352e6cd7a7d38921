package output

import (
	"net/netip"

	"github.com/klips-go/ipsec/commands/internal/routes"
)

// A route of the host.
type Route struct {
	// The network that it leads to.
	Destination netip.Prefix `json:"destination"`
	// The address of the next router.
	Gateway netip.Addr `json:"gateway,omitzero"`
	// The device. Left out if the route has several.
	Device string `json:"device,omitempty"`
	// The source address of the host's own packets on it.
	Source netip.Addr `json:"source,omitzero"`
	// Its metric. Left out if it is 0.
	Metric uint32 `json:"metric,omitempty"`
}

// Routes returns routes as records.
func Routes(l []routes.Route) []Route { return each(l, newRoute) }

func newRoute(r *routes.Route) Route {
	return Route{r.Dst, r.Gateway, r.Device, r.Src, r.Metric}
}
