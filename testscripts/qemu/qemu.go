// Package qemu runs a test program under a kernel of Debian's for virtual
// machines, in QEMU: it has the xfrm interfaces that User-Mode Linux' kernel
// lacks.
//
// The machine has no disk and no network. Its root file system is made for the
// run: the program, which must be static and is its first process, and the
// modules it asks for. What the program writes comes by a serial line.
//
// A program that wants to be run this way calls [Main] first.
package qemu

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
	"strings"
	"syscall"
)

// A Job is a program to run in the guest.
type Job struct {
	Program string   `json:"-"` // a file of the host
	Args    []string // without the program's name
	Env     []string // added to PATH, HOME and TMPDIR
	Modules []string // kernel modules to load first, with what they depend on
	Tools   []string `json:"-"` // programs of the host, with the libraries that they need
}

// KernelEnv names the directory into which a package linux-image-*-cloud-amd64
// has been unpacked: with boot/vmlinuz-* and lib/modules.
const KernelEnv = "IPSEC_TEST_KERNEL"

const program = "qemu-system-x86_64"

// kernel finds an image and its modules.
func kernel() (image, modules string, err error) {
	dir := os.Getenv(KernelEnv)
	if dir == "" {
		return "", "", fmt.Errorf("%s names no directory with a kernel (make test-deps makes one)", KernelEnv)
	}
	images, _ := filepath.Glob(filepath.Join(dir, "boot", "vmlinuz-*"))
	if len(images) == 0 {
		return "", "", fmt.Errorf("no kernel in %s", dir)
	}
	image = images[len(images)-1]
	release := strings.TrimPrefix(filepath.Base(image), "vmlinuz-")
	return image, filepath.Join(dir, "lib", "modules", release), nil
}

// Available reports why no guest can be run here, or nil.
func Available() error {
	if _, err := exec.LookPath(program); err != nil {
		return fmt.Errorf("no %s: the package qemu-system-x86 has it", program)
	}
	_, _, err := kernel()
	return err
}

// Run boots a guest, runs the job in it and returns its exit status. What the
// job writes goes to out. An error means that the guest did not come to an end
// of its own; it holds the end of the kernel's messages.
func Run(ctx context.Context, job Job, out io.Writer) (status int, err error) {
	image, moduleDir, err := kernel()
	if err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "ipsec-qemu")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	root := filepath.Join(dir, "root.cpio")
	if err := writeRoot(root, &job, moduleDir); err != nil {
		return 0, err
	}
	output := filepath.Join(dir, "out")
	var console bytes.Buffer
	cmd := exec.CommandContext(ctx, program, "-nodefaults", "-no-user-config", "-nographic", "-no-reboot",
		// Emulated, because KVM inside a virtual machine does not always work.
		"-machine", "q35", "-accel", "tcg", "-smp", "2", "-m", "1024",
		"-kernel", image, "-initrd", root,
		// The kernel tests its timer by the clock, and panics if a busy machine has let
		// the emulated one stand still.
		"-append", "console=ttyS0 quiet panic=-1 no_timer_check "+jobEnv+"=1",
		"-serial", "stdio", "-serial", "file:"+output)
	cmd.Stdout, cmd.Stderr = &console, &console
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runErr := cmd.Run()

	text, err := os.ReadFile(output)
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	if i := bytes.LastIndex(text, []byte(statusMark)); err == nil && i >= 0 {
		_, err = fmt.Sscan(string(text[i+len(statusMark):]), &status)
		text = text[:i]
	} else {
		err = errors.Join(err, errors.New("no status"))
	}
	out.Write(text)
	if err != nil {
		tail := console.Bytes()
		tail = tail[max(0, len(tail)-8000):]
		return 0, fmt.Errorf("the guest ended without a status (%v, %v); the end of its console:\n%s", ctx.Err(), runErr, tail)
	}
	return status, nil
}

// writeRoot makes the guest's root file system.
func writeRoot(path string, job *Job, moduleDir string) error {
	files, err := withDependencies(moduleDir, job.Modules)
	if err != nil {
		return err
	}
	w, err := os.Create(path)
	if err != nil {
		return err
	}
	defer w.Close()
	a := &archive{w: w}
	for _, d := range []string{"proc", "sys", "dev", "run", "tmp", "etc", "modules"} {
		a.dir(d)
	}
	a.device("dev/console", 5, 1)
	// In this order they are loaded.
	for i, f := range files {
		a.file(fmt.Sprintf("modules/%03d-%s", i, filepath.Base(f)), f, 0o600)
	}
	if err := addTools(a, job.Tools); err != nil {
		return err
	}
	spec, err := json.Marshal(job)
	if err != nil {
		return err
	}
	a.data("spec", spec, 0o600)
	a.data("etc/hosts", []byte("127.0.0.1 localhost\n"), 0o644)
	a.file("init", job.Program, 0o755)
	return errors.Join(a.close(), w.Close())
}
