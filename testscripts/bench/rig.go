package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// A rig is what the contenders are measured with.
type rig struct {
	ctx     context.Context // its end ends all programs that the rig has started
	ipsec   string
	dir     string // temporary
	traffic string // the program, in dir
	ways    []openWay
}

type openWay struct {
	contender
	*way
}

// open builds the traffic generator and opens the contenders. Close the rig, also after an
// error.
func (r *rig) open(list []contender) (err error) {
	if r.dir, err = os.MkdirTemp("", "ipsec-bench"); err != nil {
		return err
	}
	r.traffic = filepath.Join(r.dir, "traffic")
	if err := goBuild(r.ctx, "", r.traffic, "./testscripts/bench/traffic"); err != nil {
		return err
	}
	for _, c := range list {
		w, err := c.open(r)
		if w != nil {
			r.ways = append(r.ways, openWay{c, w})
		}
		if err == nil {
			err = w.await()
		}
		var absent absentError
		switch {
		case r.ctx.Err() != nil:
			return r.ctx.Err()
		case errors.As(err, &absent):
			if w != nil {
				r.ways = r.ways[:len(r.ways)-1]
				w.close()
			}
			printRow(c.name, "left out: %s", absent.why)
		case err != nil:
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// Close ends all that the rig has started, and removes what it has made.
func (r *rig) Close() {
	for _, w := range r.ways {
		w.close()
	}
	if r.dir != "" {
		os.RemoveAll(r.dir)
	}
}

// goBuild builds a package, as the binary of this project is built: static and without
// symbols. dir is the folder of its module.
func goBuild(ctx context.Context, dir, program, pkg string, flags ...string) error {
	args := append([]string{"build", "-ldflags", "-s -w", "-o", program}, flags...)
	cmd := exec.CommandContext(ctx, "go", append(args, pkg)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
	}
	return nil
}
