package uml

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/testscripts/kmod"
)

// Main returns at once, except in the first process of a guest. There it sets up the
// guest, runs the job, writes its status and powers the guest off.
func Main() {
	if os.Getpid() != 1 || os.Getenv(jobEnv) == "" {
		return
	}
	status, err := boot(os.Getenv(jobEnv))
	if err != nil {
		fmt.Println("init:", err) // to the console, which Run shows if there is no status
	} else {
		os.WriteFile(filepath.Join(jobDir, "status"), []byte(fmt.Sprintln(status)), 0o600)
	}
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}

func boot(dir string) (status int, err error) {
	for _, m := range []struct{ dev, dir, typ, opts string }{
		{"proc", "/proc", "proc", ""},
		{"sys", "/sys", "sysfs", ""},
		{"dev", "/dev", "devtmpfs", ""},
		{"run", "/run", "tmpfs", "mode=0755"},
		{"job", jobDir, "hostfs", dir},
	} {
		if m.dir == jobDir {
			if err := os.MkdirAll(jobDir, 0o700); err != nil {
				return 0, err
			}
		}
		// Kernels that mount /dev by themselves answer EBUSY.
		if err := unix.Mount(m.dev, m.dir, m.typ, 0, m.opts); err != nil && err != unix.EBUSY {
			return 0, fmt.Errorf("mount %s: %w", m.dir, err)
		}
	}
	var job Job
	spec, err := os.ReadFile(filepath.Join(jobDir, "spec"))
	if err == nil {
		err = json.Unmarshal(spec, &job)
	}
	if err != nil {
		return 0, err
	}
	if err := loadModules(job.Modules); err != nil {
		return 0, err
	}
	if err := os.MkdirAll("/run/tmp", 0o1777); err != nil {
		return 0, err
	}
	out, err := os.Create(filepath.Join(jobDir, "out"))
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(filepath.Join(jobDir, "program"), job.Args...)
	cmd.Dir = job.Dir
	cmd.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/run/tmp", "TMPDIR=/run/tmp"}, job.Env...)
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, err
	}
	return cmd.ProcessState.ExitCode(), out.Close()
}

// loadModules does the same as modprobe, which looks for modules in another folder.
func loadModules(names []string) error {
	if len(names) == 0 {
		return nil
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return err
	}
	dir := filepath.Join(filepath.Dir(moduleDirs), unix.ByteSliceToString(uts.Release[:]))
	text, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return err
	}
	files := map[string]string{}  // module name to file
	deps := map[string][]string{} // file to the files that it needs, direct dependencies first
	for _, line := range strings.Split(string(text), "\n") {
		file, needs, ok := strings.Cut(line, ":")
		if ok {
			files[strings.TrimSuffix(filepath.Base(file), ".ko")] = file
			deps[file] = strings.Fields(needs)
		}
	}
	done := map[string]bool{}
	load := func(file string) error {
		if done[file] {
			return nil
		}
		done[file] = true
		return kmod.Load(filepath.Join(dir, file))
	}
	for _, name := range names {
		file, ok := files[name]
		if !ok {
			continue // built into the kernel
		}
		for i := len(deps[file]) - 1; i >= 0; i-- {
			if err := load(deps[file][i]); err != nil {
				return err
			}
		}
		if err := load(file); err != nil {
			return err
		}
	}
	return nil
}
