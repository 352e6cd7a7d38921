package handover

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// magic is the start of a file.
const magic = "ipsec-ho"

// headerLen is the length in bytes of magic and version.
const headerLen = len(magic) + 8

// seals make a file immutable: a reader gets what was written, and nobody can truncate
// it while it is mapped.
const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// A VersionError means that another version of the program has written the state.
type VersionError struct{ Version uint64 }

func (e *VersionError) Error() string {
	return fmt.Sprintf("what was handed over has version %d of the format, and this program reads versions %d to %d", e.Version, oldest, version)
}

// size returns the length of a state in bytes.
func size(s *State) int {
	c := codec{mode: counting, version: version}
	c.state(s)
	return headerLen + c.size
}

// write writes a state into bytes of its size.
func write(b []byte, s *State) {
	c := codec{mode: writing, version: version, b: b}
	copy(c.next(len(magic)), magic)
	c.word(&c.version)
	c.state(s)
}

// read reads a state. Its keys are copies.
func read(b []byte) (*State, error) {
	c := codec{mode: reading, b: b}
	if string(c.next(len(magic))) != magic {
		return nil, ErrFormat
	}
	c.word(&c.version)
	if c.err == nil && (c.version < oldest || c.version > version) {
		return nil, &VersionError{c.version}
	}
	s := new(State)
	c.state(s)
	if len(c.b) > 0 {
		c.fail("%d bytes are left over", len(c.b))
	}
	if c.err != nil {
		s.Clear()
		return nil, c.err
	}
	return s, nil
}

// Seal writes a state into an immutable file in memory. Both the file and s contain the
// keys: the caller clears s, and closes the file.
func Seal(s *State) (*os.File, error) {
	fd, err := unix.MemfdCreate("ipsec handover", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "handover")
	if err := fill(fd, s); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func fill(fd int, s *State) error {
	n := size(s)
	if err := unix.Ftruncate(fd, int64(n)); err != nil {
		return os.NewSyscallError("ftruncate", err)
	}
	// Allocate now, so that too little memory is an error here and not a signal later.
	if err := unix.Fallocate(fd, 0, 0, int64(n)); err != nil {
		return os.NewSyscallError("fallocate", err)
	}
	b, err := unix.Mmap(fd, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	write(b, s)
	if err := unix.Munmap(b); err != nil {
		return os.NewSyscallError("munmap", err)
	}
	_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	return os.NewSyscallError("fcntl", err)
}

// Open reads the state in a file made by Seal. Errors are *[VersionError], [ErrFormat],
// and those of the system. The caller clears the state.
func Open(f *os.File) (*State, error) {
	got, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if err != nil || got&seals != seals {
		return nil, fmt.Errorf("%w: it is not sealed", ErrFormat)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() < int64(headerLen) {
		return nil, ErrFormat
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	defer unix.Munmap(b)
	return read(b)
}
