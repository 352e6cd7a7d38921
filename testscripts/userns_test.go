package testscripts

import (
	"fmt"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// nobody is the user id of an ordinary user.
const nobody = 65534

// haveUserNS returns the reason why an ordinary user cannot create hosts, or nil.
func haveUserNS() error {
	if err := haveUsers(); err != nil {
		return err
	}
	cmd := exec.Command("/bin/true")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: nobody, Gid: nobody},
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		// Credential together with the maps would need root inside. The maps alone show
		// whether the kernel allows the namespace.
		UidMappings: []syscall.SysProcIDMap{{ContainerID: nobody, HostID: nobody, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: nobody, HostID: nobody, Size: 1}},
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("user namespace: %w", err)
	}
	return nil
}
