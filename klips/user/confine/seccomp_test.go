//go:build amd64 || arm64

package confine

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// The filter accepts what is in the lists and threads, on this architecture only.
func TestFilter(t *testing.T) {
	vm, err := bpf.NewVM(filter())
	if err != nil {
		t.Fatal(err)
	}
	run := func(number, arch, argument uint32) uint32 {
		t.Helper()
		data := make([]byte, 64) // struct seccomp_data; the machine of package bpf is big-endian
		binary.BigEndian.PutUint32(data[offNumber:], number)
		binary.BigEndian.PutUint32(data[offArch:], arch)
		binary.BigEndian.PutUint32(data[offArgument:], argument)
		v, err := vm.Run(data)
		if err != nil {
			t.Fatal(err)
		}
		return uint32(v)
	}
	const allow = unix.SECCOMP_RET_ALLOW
	eperm, enosys := unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM), unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS)
	listed := map[uint32]bool{}
	for _, n := range append(append([]uint32{}, calls...), archCalls...) {
		listed[n] = true
	}
	for n := range uint32(1024) {
		want := eperm
		switch {
		case listed[n]:
			want = allow
		case n == unix.SYS_CLONE3:
			want = enosys
		}
		if got := run(n, auditArch, 0); got != want {
			t.Errorf("system call %d: %#x, want %#x", n, got, want)
		}
		if got := run(n, auditArch^1, unix.CLONE_THREAD); got != eperm {
			t.Errorf("system call %d of another architecture: %#x, want %#x", n, got, eperm)
		}
		if got := run(n|1<<30, auditArch, 0); got != eperm { // x32
			t.Errorf("system call %#x: %#x, want %#x", n|1<<30, got, eperm)
		}
	}
	if got := run(unix.SYS_CLONE, auditArch, unix.CLONE_VM|unix.CLONE_THREAD); got != allow {
		t.Errorf("clone of a thread: %#x, want %#x", got, uint32(allow))
	}
	for _, n := range []uint32{unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_PTRACE, unix.SYS_SETUID, unix.SYS_MOUNT, unix.SYS_BPF, unix.SYS_KILL} {
		if listed[n] {
			t.Errorf("system call %d is in the lists", n)
		}
	}
}
