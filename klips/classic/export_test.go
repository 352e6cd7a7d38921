package classic

import (
	"context"
	"time"

	"github.com/klips-go/ipsec/klips"
)

// SetTimeout sets how long the kernel may take to answer.
func (s *Stack) SetTimeout(d time.Duration) { s.timeout = d }

// Ifreq returns the argument of an ioctl.
func Ifreq(r Request, virtual, physical string) ([]byte, error) {
	b, err := ifreq(r, virtual, physical)
	return b[:], err
}

// EncapIfreq returns the argument of an EncapIoctl.
func EncapIfreq(virtual string, socket int, form klips.NATTType) ([]byte, error) {
	b, err := encapIfreq(virtual, socket, form)
	return b[:], err
}

// LoadBy is Load with the program in a file, for a user who is root or not.
func LoadBy(ctx context.Context, file string, root bool) error { return load(ctx, file, root) }
