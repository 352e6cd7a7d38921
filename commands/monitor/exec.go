package monitor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/watch"
)

// findProgram returns the path of a program.
func findProgram(name string) (string, error) {
	path, err := exec.LookPath(name)
	var e *exec.Error
	if errors.As(err, &e) {
		err = e.Err
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	if err != nil {
		return "", err
	}
	return filepath.Abs(path)
}

// runProgram runs a program for an event. Its standard input has the event as JSON, and its
// environment the variables of environment. What it prints goes to standard error.
func runProgram(path, stack string, e watch.Event, env *cli.Env) error {
	var event strings.Builder
	if err := writeJSON(&event, stack, e); err != nil {
		return err
	}
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), environment(stack, e)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(event.String()), env.Err, env.Err
	return cmd.Run()
}

// environment returns an event as environment variables. Those that the event does not have
// are empty, so that no value of the caller is taken for one.
func environment(stack string, e watch.Event) []string {
	said, flow, target, count := "", "", "", ""
	if e.SA.SPI != 0 {
		said = e.SA.String()
	}
	if e.Eroute != (klips.Selector{}) {
		flow = e.Eroute.String()
	}
	if e.Target.Proto != 0 {
		target = e.Target.String()
	}
	if e.Count != 0 {
		count = fmt.Sprint(e.Count)
	}
	return []string{
		"IPSEC_EVENT=" + e.Kind.String(), "IPSEC_EVENT_STACK=" + stack, "IPSEC_EVENT_SAID=" + said, "IPSEC_EVENT_FLOW=" + flow,
		"IPSEC_EVENT_TARGET=" + target, "IPSEC_EVENT_DEVICE=" + e.Device, "IPSEC_EVENT_REASON=" + e.Reason, "IPSEC_EVENT_COUNT=" + count,
	}
}
