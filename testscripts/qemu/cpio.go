package qemu

import (
	"fmt"
	"io"
	"os"
)

// An archive is a root file system in the format that the kernel unpacks: cpio with
// "new ASCII" headers.
type archive struct {
	w   io.Writer
	n   int // entries so far
	err error
}

// Types of files, S_IFMT.
const (
	typeDir    = 0o040000
	typeFile   = 0o100000
	typeDevice = 0o020000
)

func (a *archive) entry(name string, mode, major, minor int, data []byte) {
	a.n++
	a.write([]byte(fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		a.n, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name)+1, 0)))
	a.write([]byte(name + "\x00"))
	a.pad(110 + len(name) + 1)
	a.write(data)
	a.pad(len(data))
}

func (a *archive) write(b []byte) {
	if a.err == nil {
		_, a.err = a.w.Write(b)
	}
}

// pad fills up to a multiple of four bytes.
func (a *archive) pad(n int) { a.write(make([]byte, -n&3)) }

func (a *archive) dir(name string) { a.entry(name, typeDir|0o755, 0, 0, nil) }

func (a *archive) data(name string, b []byte, perm int) { a.entry(name, typeFile|perm, 0, 0, b) }

func (a *archive) device(name string, major, minor int) {
	a.entry(name, typeDevice|0o600, major, minor, nil)
}

func (a *archive) file(name, path string, perm int) {
	b, err := os.ReadFile(path)
	if err != nil && a.err == nil {
		a.err = err
	}
	a.data(name, b, perm)
}

func (a *archive) close() error {
	a.entry("TRAILER!!!", 0, 0, 0, nil)
	return a.err
}
