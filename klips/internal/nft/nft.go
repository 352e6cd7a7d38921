// Package nft has what all packages with nftables tables need to know about the kernel.
package nft

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// ErrNone is the error for a kernel without nftables, or without a part of it that is
// needed. It wraps the kernel's errno.
var ErrNone = errors.New("the kernel has no usable nftables")

// Error wraps an error as ErrNone if it means that the kernel lacks something.
func Error(err error) error {
	for _, e := range [...]error{unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, unix.EOPNOTSUPP, unix.EINVAL} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %w", ErrNone, err)
		}
	}
	return err
}
