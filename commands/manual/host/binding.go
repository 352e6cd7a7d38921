package host

import "github.com/klips-go/ipsec/commands/manual/conf"

// A Binding is a virtual device and the physical device that it will be attached to,
// from interfaces= of config setup.
type Binding struct {
	Virtual, Physical string
	// ByRoute: the file has %defaultroute. If there is no default route, Missing is the
	// reason and Physical is empty.
	ByRoute bool
	Missing error
	// Param is interfaces= itself, for errors.
	Param conf.Param
}
