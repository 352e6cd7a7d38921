package kmod

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLoad(t *testing.T) {
	for _, c := range []struct {
		name    string
		answers []error // the last one is repeated
		calls   int
		want    error
		text    string
	}{
		{"works", []error{nil}, 1, nil, ""},
		{"is there", []error{unix.EEXIST}, 1, nil, ""},
		{"fails by chance", []error{unix.EFAULT, unix.EFAULT, nil}, 3, nil, ""},
		{"fails always", []error{unix.EFAULT}, tries, unix.EFAULT, "kernel module jitter.ko does not start, tried 5 times"},
		{"lacks a symbol", []error{unix.ENOENT}, 1, unix.ENOENT, "kernel module jitter.ko is not for this kernel"},
	} {
		calls := 0
		err := load("jitter.ko", func() error {
			calls++
			return c.answers[min(calls, len(c.answers))-1]
		})
		if calls != c.calls || !errors.Is(err, c.want) || err != nil && !strings.HasPrefix(err.Error(), c.text) {
			t.Errorf("%s: %d calls, %v; want %d, %q", c.name, calls, err, c.calls, c.text)
		}
	}
	if err := Load("/nonexistent/module.ko"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load of no file = %v", err)
	}
}
