package klipstest

import (
	"github.com/klips-go/ipsec/klips/serial"
	"github.com/klips-go/ipsec/klips/user"
)

// A Client is a client of the embedded stack's daemon with a method for each change.
type Client struct {
	*user.Client
	changes
}

// changes is embedded one level deeper, so that methods of user.Client have priority.
type changes struct{ serial.Calls }

// Dial is [user.Dial].
func Dial(path string) (Client, error) {
	c, err := user.Dial(path)
	if err != nil {
		return Client{}, err
	}
	return Client{c, changes{serial.Calls{Stack: c}}}, nil
}
