package qemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/testscripts/kmod"
)

// jobEnv marks the first process of a guest: the kernel passes its unknown parameters
// on as environment variables.
const jobEnv = "IPSEC_QEMU_JOB"

// statusMark precedes the exit status, at the end of the output.
const statusMark = "\n== exit status "

// Main returns at once, except in the first process of a guest. There it sets up the
// guest, runs the job, reports its status and powers the guest off.
func Main() {
	if os.Getpid() != 1 || os.Getenv(jobEnv) == "" {
		return
	}
	if err := boot(); err != nil {
		fmt.Println("init:", err) // to the console, which Run shows if there is no status
	}
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}

func boot() error {
	for _, m := range [][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/run"}, {"tmpfs", "/tmp"}} {
		if err := unix.Mount(m[0], m[1], m[0], 0, ""); err != nil && err != unix.EBUSY {
			return fmt.Errorf("mount %s: %w", m[1], err)
		}
	}
	var job Job
	spec, err := os.ReadFile("/spec")
	if err == nil {
		err = json.Unmarshal(spec, &job)
	}
	if err != nil {
		return err
	}
	files, err := filepath.Glob("/modules/*.ko")
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := kmod.Load(file); err != nil {
			return err
		}
	}
	out, err := os.OpenFile("/dev/ttyS1", os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	cmd := exec.Command("/init", job.Args...)
	cmd.Dir = "/run"
	cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/run", "TMPDIR=/run"}, job.Env...)
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	fmt.Fprintf(out, "%s%d\n", statusMark, cmd.ProcessState.ExitCode())
	// Wait until the serial line has sent everything.
	if err := unix.IoctlSetInt(int(out.Fd()), unix.TCSBRK, 1); err != nil {
		return err
	}
	return out.Close()
}
