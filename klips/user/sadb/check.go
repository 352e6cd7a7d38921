package sadb

import (
	"fmt"
	"syscall"
)

// invalid makes an error that is EINVAL and says why.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{syscall.EINVAL}, args...)...)
}
