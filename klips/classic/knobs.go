package classic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/internal/arrange"
)

// knobs are the files of /proc/sys/net/ipsec that are not debug masks. They exist if
// KLIPS was built with debugging, as it usually is.
var knobs = [...]string{"icmp", "inbound_policy_check", "tos"}

// Knobs lists the knobs of this KLIPS; without /proc/sys/net/ipsec there are none.
// Values other than 0 and 1 are listed as they are.
func (s *Stack) Knobs(context.Context) ([]klips.Knob, error) {
	var list []klips.Knob
	for _, name := range knobs {
		text, err := s.knob(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		k := klips.Knob{Name: name}
		if err == nil {
			k.Value, err = strconv.Atoi(text)
		}
		if err != nil {
			return nil, &klips.OpError{Op: "list", Object: s.knobPath(name), Err: err}
		}
		list = append(list, k)
	}
	return list, nil
}

// Set sets knobs, all or none. ENOENT: no knob has that name. EINVAL: a value is
// neither 0 nor 1. EACCES: only root may. Left names knobs that could not be set back
// after another was refused.
func (s *Stack) Set(_ context.Context, set map[string]int) error {
	type change struct{ name, was, is string }
	var changes []change
	for name, value := range set {
		refuse := func(err error) error { return &klips.OpError{Op: "set", Object: name, Err: err} }
		if !slices.Contains(knobs[:], name) {
			return refuse(syscall.ENOENT)
		}
		if value != 0 && value != 1 {
			return refuse(syscall.EINVAL)
		}
		was, err := s.knob(name)
		if err != nil {
			return refuse(err)
		}
		changes = append(changes, change{name, was, strconv.Itoa(value)})
	}
	arrange.Sort(changes, func(a, b change) int { return strings.Compare(a.name, b.name) })
	for i, c := range changes {
		err := s.setKnob(c.name, c.is)
		if err == nil {
			continue
		}
		var left []string
		for _, c := range slices.Backward(changes[:i]) {
			if err := s.setKnob(c.name, c.was); err != nil {
				left = append(left, fmt.Sprintf("%s is %s now", c.name, c.is))
			}
		}
		return &klips.OpError{Op: "set", Object: c.name, Err: err, Left: strings.Join(left, ", ")}
	}
	return nil
}

func (s *Stack) knobPath(name string) string { return filepath.Join(s.machine.ProcSys, name) }

// knob returns the content of a knob's file.
func (s *Stack) knob(name string) (string, error) {
	if s.machine.ProcSys == "" {
		return "", syscall.ENOENT
	}
	f, err := os.Open(s.knobPath(name))
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKnob))
	return strings.TrimSpace(string(b)), err
}

// maxKnob is longer than any number, in bytes.
const maxKnob = 64

// setKnob writes the file of a knob, which must exist, in one write as the kernel
// requires.
func (s *Stack) setKnob(name, text string) error {
	f, err := os.OpenFile(s.knobPath(name), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text + "\n")
	return errors.Join(err, f.Close())
}
