package confine

import "golang.org/x/sys/unix"

// auditArch is the architecture of this program in struct seccomp_data.
const auditArch = unix.AUDIT_ARCH_AARCH64

// archCalls are further system calls on this architecture.
var archCalls = []uint32{unix.SYS_FSTATAT}
