//go:build !amd64 && !arm64

package confine

import "errors"

func restrictCalls() error {
	return errors.New("the program has no list of system calls for this architecture")
}
