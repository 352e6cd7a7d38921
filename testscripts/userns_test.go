package testscripts

import (
	"fmt"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// nobody is the user that stands for all ordinary ones.
const nobody = 65534

// haveUserNS reports why an ordinary user cannot make hosts, or nil.
func haveUserNS() error {
	if err := haveUsers(); err != nil {
		return err
	}
	cmd := exec.Command("/bin/true")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: nobody, Gid: nobody},
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		// Credential and the maps together would ask for root inside; the maps
		// alone are enough to see whether the kernel allows it.
		UidMappings: []syscall.SysProcIDMap{{ContainerID: nobody, HostID: nobody, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: nobody, HostID: nobody, Size: 1}},
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("user namespace: %w", err)
	}
	return nil
}
