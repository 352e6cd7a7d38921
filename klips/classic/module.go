package classic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/klips-go/ipsec/klips"
)

// ErrNotLoaded is in the error of [Open] if the kernel has no KLIPS at the moment. It
// wraps fs.ErrNotExist.
var ErrNotLoaded = fmt.Errorf("KLIPS is not loaded: %w", fs.ErrNotExist)

// moduleName is the name of KLIPS' module.
const moduleName = "ipsec"

// loadTimeout limits the loading of the module. Only a fault takes so long.
const loadTimeout = time.Minute

// Load loads KLIPS' module into this kernel, with the program that the kernel itself
// uses (/proc/sys/kernel/modprobe). Errors are *[klips.UnavailableError].
// fs.ErrPermission: only root may. fs.ErrNotExist: the kernel names no program.
func Load(ctx context.Context) error {
	return load(ctx, "/proc/sys/kernel/modprobe", os.Geteuid() == 0)
}

// load runs the program named in a file.
func load(ctx context.Context, file string, root bool) error {
	if !root {
		return &klips.UnavailableError{Fault: klips.FaultLoadRights, Err: fs.ErrPermission}
	}
	text, err := os.ReadFile(file)
	program := strings.TrimSpace(string(text))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !filepath.IsAbs(program) {
		return &klips.UnavailableError{Fault: klips.FaultNoModules, Why: fmt.Sprintf("%v (%s names no program)", klips.FaultNoModules, file),
			Err: fs.ErrNotExist}
	}
	if err != nil {
		return notLoaded(err.Error(), err)
	}
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "--", moduleName)
	cmd.Dir = "/"
	cmd.Env = []string{"HOME=/", "TERM=linux", "PATH=/sbin:/usr/sbin:/bin:/usr/bin"} // the environment that the kernel uses
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second // for processes that it leaves
	if err := cmd.Run(); err != nil {
		why, _, _ := strings.Cut(strings.TrimSpace(out.String()), "\n")
		if why == "" {
			why = fmt.Sprintf("%s: %v", program, err)
		}
		return notLoaded(why, err)
	}
	return nil
}

// notLoaded is the error of a module that could not be loaded, with the reason from the
// program.
func notLoaded(why string, err error) error {
	return &klips.UnavailableError{
		Fault: klips.FaultLoad,
		Why:   fmt.Sprintf("this kernel has no KLIPS, and its module %s cannot be loaded: %s", moduleName, why),
		Err:   err,
	}
}
