// Package qemu runs a test program in QEMU, under Debian's kernel for virtual machines.
// That kernel has xfrm interfaces; the kernel of User-Mode Linux does not.
//
// The machine has no disk and no network. Its root file system is created for each run:
// it holds the program, which must be static and is the first process, and its kernel
// modules. The output of the program arrives by a serial line.
//
// A program that is to run in this way must call [Main] first.
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
	"runtime"
	"strings"
	"syscall"
)

// A Job is a program to run in the guest.
type Job struct {
	Program string   `json:"-"` // a file of the host
	Args    []string // without the program's name
	Env     []string // added to PATH, HOME and TMPDIR
	Modules []string // kernel modules to load first, with their dependencies
	Tools   []string `json:"-"` // programs of the host, with the libraries that they need
	Kernel  string   `json:"-"` // "" or Newer
}

// KernelEnv names the directory into which a package linux-image-*-cloud-amd64 has been
// unpacked, with boot/vmlinuz-* and lib/modules. Its folder Newer has another kernel, which is
// of Linux 6.13 or newer.
const (
	KernelEnv = "IPSEC_TEST_KERNEL"
	Newer     = "newer"
)

const program = "qemu-system-x86_64"

// kernel returns an image in a folder of the directory, and the folder of its modules.
func kernel(folder string) (image, modules string, err error) {
	dir := os.Getenv(KernelEnv)
	if dir == "" {
		return "", "", fmt.Errorf("%s names no directory with a kernel (make test-deps makes one)", KernelEnv)
	}
	dir = filepath.Join(dir, folder)
	images, _ := filepath.Glob(filepath.Join(dir, "boot", "vmlinuz-*"))
	if len(images) == 0 {
		return "", "", fmt.Errorf("no kernel in %s", dir)
	}
	image = images[len(images)-1]
	release := strings.TrimPrefix(filepath.Base(image), "vmlinuz-")
	return image, filepath.Join(dir, "lib", "modules", release), nil
}

// Available returns the reason why no guest with a kernel ("" or Newer) can run here, or nil.
func Available(folder string) error {
	if _, err := exec.LookPath(program); err != nil {
		return fmt.Errorf("no %s: the package qemu-system-x86 has it", program)
	}
	_, _, err := kernel(folder)
	return err
}

// Run boots a guest, runs the job in it and returns its exit status. The output of the
// job goes to out. An error means that the guest did not end by itself; it includes the
// end of the kernel's messages.
func Run(ctx context.Context, job Job, out io.Writer) (status int, err error) {
	image, moduleDir, err := kernel(job.Kernel)
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
	// One processor: with more, each waits for what another does, which takes many times
	// longer where the host has no idle processor for each of them.
	accel, processors := "tcg", "1"
	if job.Kernel == Newer { // whose SAs for one processor are tested
		// With a thread for each processor, one can run code that another has just patched:
		// this kernel then stops with "Oops: int3".
		accel, processors = accel+",thread=single", "2"
	}
	// The guest dies with the thread that has started it, not only with this process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var console bytes.Buffer
	cmd := exec.CommandContext(ctx, program, "-nodefaults", "-no-user-config", "-nographic", "-no-reboot",
		// Emulated, because KVM does not always work inside a virtual machine.
		"-machine", "q35", "-accel", accel, "-smp", processors, "-m", "1024",
		"-kernel", image, "-initrd", root,
		// The kernel checks its timer against the clock. It would panic if a busy
		// machine has stopped the emulated timer. Emulated processors have none of the
		// faults that it works around otherwise.
		"-append", "console=ttyS0 quiet panic=-1 no_timer_check mitigations=off "+jobEnv+"=1",
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

// writeRoot writes the guest's root file system.
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
	// The guest loads the modules in this order.
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
	a.data("etc/protocols", []byte("icmp 1\ntcp 6\nudp 17\nesp 50\nah 51\nipv6-icmp 58\n"), 0o644) // ip reads names there
	a.file("init", job.Program, 0o755)
	return errors.Join(a.close(), w.Close())
}
