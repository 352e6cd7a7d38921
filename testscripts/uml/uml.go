// Package uml runs a program under another kernel: User-Mode Linux, a Linux kernel
// built as an ordinary program. Debian's package user-mode-linux has ESP, AH, IPComp,
// XFRM and TUN as modules. So tests can exchange packets with an independent IPsec
// implementation, even if the machine's own kernel has none.
//
// The guest uses the host's root file system, read-only, by hostfs; only /run is its
// own. There is no image to build and the guest is up in seconds.
//
// A program that is to run in this way must call [Main] first: it becomes the guest's
// init.
package uml

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// A Job is a program to run in the guest.
type Job struct {
	Args    []string // of this same executable, without its name
	Env     []string // added to PATH, HOME and TMPDIR
	Dir     string   // absolute
	Modules []string // kernel modules to load first, with their dependencies
}

// moduleDirs is the folder of the package's kernel modules.
const moduleDirs = "/usr/lib/uml/modules/*"

// jobDir is the folder of the job in the guest: the host's directory, writable.
const jobDir = "/run/job"

// jobEnv passes the host's directory to the guest's init: the kernel passes its unknown
// parameters on as environment variables.
const jobEnv = "IPSEC_UML_JOB"

// Available returns the reason why there is no User-Mode Linux here, or nil.
func Available() error {
	if _, err := exec.LookPath("linux.uml"); err != nil {
		return errors.New("no linux.uml: the package user-mode-linux has it")
	}
	if mods, _ := filepath.Glob(moduleDirs); len(mods) == 0 {
		return fmt.Errorf("no modules in %s", moduleDirs)
	}
	return nil
}

// Run boots a guest, runs the job in it and returns its exit status. The output of the
// job goes to out. An error means that the guest did not end by itself; it includes the
// end of the kernel's messages.
func Run(ctx context.Context, job Job, out io.Writer) (status int, err error) {
	dir, err := os.MkdirTemp("", "ipsec-uml")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	if err := copyFile(filepath.Join(dir, "program"), self); err != nil {
		return 0, err
	}
	spec, err := json.Marshal(job)
	if err != nil {
		return 0, err
	}
	if err := os.WriteFile(filepath.Join(dir, "spec"), spec, 0o600); err != nil {
		return 0, err
	}

	var console bytes.Buffer
	cmd := exec.CommandContext(ctx, "linux.uml", "mem=1G", "rootfstype=hostfs", "rootflags=/", "ro", "quiet", "panic=-1",
		"con=null", "con0=null,fd:1", "umid="+filepath.Base(dir), "uml_dir="+dir,
		"init="+filepath.Join(dir, "program"), jobEnv+"="+dir)
	cmd.Stdout, cmd.Stderr = &console, &console
	// The guest's memory is a file in TMPDIR, which should not be on a disk.
	tmp := dir
	if fi, err := os.Stat("/dev/shm"); err == nil && fi.IsDir() {
		tmp = "/dev/shm"
	}
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	// The guest's processes are processes of the host: killing the group ends all of
	// them.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	runErr := cmd.Run()

	if f, err := os.Open(filepath.Join(dir, "out")); err == nil {
		io.Copy(out, f)
		f.Close()
	}
	text, err := os.ReadFile(filepath.Join(dir, "status"))
	if err == nil {
		_, err = fmt.Sscan(string(text), &status)
	}
	if err != nil {
		tail := console.Bytes()
		tail = tail[max(0, len(tail)-8000):]
		return 0, fmt.Errorf("the guest ended without a status (%v, %v); the end of its console:\n%s", ctx.Err(), runErr, tail)
	}
	return status, nil
}

func copyFile(to, from string) error {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, w.Close())
}
