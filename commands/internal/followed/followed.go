// Package followed stores in the run directory which connections use the default route
// for their own end, and the addresses that they were set up with. Such connections
// must be set up again when the default route changes.
package followed

import (
	"errors"
	"net/netip"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/stored"
)

// directory is the directory of the connections in the run directory.
const directory = "connections"

// A Connection is a connection that was routed or brought up.
type Connection struct {
	Conns     []string // names of its conn sections
	Config    string   // the file, an absolute path
	NoInclude bool     `json:",omitempty"` // include lines of the file are ignored
	Route     Route    // at the time of the setup
	Interface string   // the virtual device
	// Up: it was up and has been taken down, but could not be brought up again yet.
	Up bool `json:",omitempty"`
}

// A Route is a default route.
type Route struct {
	Local   netip.Addr // source address of this host on the route
	Gateway netip.Addr // invalid: none
	Device  string
}

// Name returns the connection's name for messages: the names of its conns, with blanks
// between them.
func (c Connection) Name() string { return strings.Join(c.Conns, " ") }

// Check returns an error for a connection that lacks something.
func (c Connection) Check() error {
	if len(c.Conns) == 0 || c.Config == "" || !c.Route.Local.IsValid() {
		return errors.New("something is missing in it")
	}
	return nil
}

// A Dir is the directory of the connections, locked.
type Dir = stored.Dir[Connection]

// Open locks the directory in a run directory, as [stored.Open] does; nil: there is none.
func Open(rundir string) (*Dir, error) { return stored.Open[Connection](rundir, directory) }

// Make locks the directory, as [stored.Make] does.
func Make(rundir string) (*Dir, error) { return stored.Make[Connection](rundir, directory) }

// Any reports whether a run directory has connections.
func Any(rundir string) bool { return stored.Any(rundir, directory) }

// Forget removes all connections.
func Forget(rundir string) error { return stored.Forget(rundir, directory) }
