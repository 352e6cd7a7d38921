package engine

import (
	"errors"
	"os"
	"syscall"
	"testing"
)

func TestRefused(t *testing.T) {
	one := syscall.EINVAL
	for _, tt := range []struct {
		name    string
		written int
		err     error
		n, want int
	}{
		{"all taken", 300, nil, 3, 0},
		{"the device is down", 0, errors.Join(one, one, one), 3, 3},
		{"down, and packets were merged", 0, errors.Join(one), 3, 3},
		{"closed", 0, os.ErrClosed, 3, 3},
		{"one", 200, errors.Join(one), 3, 1},
		{"two", 100, errors.Join(one, one), 3, 2},
		{"closed meanwhile", 100, os.ErrClosed, 3, 1},
	} {
		if got := refused(tt.written, tt.err, tt.n); got != tt.want {
			t.Errorf("%s: %d packets refused, want %d", tt.name, got, tt.want)
		}
	}
}
