package confine

import "golang.org/x/sys/unix"

// auditArch is the architecture of this program in struct seccomp_data.
const auditArch = unix.AUDIT_ARCH_X86_64

// archCalls are further system calls on this architecture.
var archCalls = []uint32{
	unix.SYS_NEWFSTATAT, unix.SYS_POLL, unix.SYS_SELECT, unix.SYS_EPOLL_WAIT, unix.SYS_READLINK, unix.SYS_ARCH_PRCTL, unix.SYS_TIME,
}
