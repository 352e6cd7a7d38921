package verify

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
)

// daemons are the programs that make IPsec states and policies of their own.
var daemons = [...]string{"charon", "charon-systemd", "starter", "pluto", "racoon", "iked", "isakmpd"}

// programs checks whether other programs for IPsec run.
func (s *survey) programs(context.Context) {
	const check = "other programs"
	files, err := filepath.Glob(filepath.Join(s.root, "proc/[0-9]*/comm"))
	if err != nil || len(files) == 0 {
		s.add(unknown, check, "the processes of this host cannot be read", "")
		return
	}
	var found []string
	for _, f := range files {
		rel, err := filepath.Rel(s.root, f)
		if err != nil {
			continue
		}
		name, err := s.read(rel) // the process may have ended
		if err == nil && slices.Contains(daemons[:], name) && !slices.Contains(found, name) {
			found = append(found, name)
		}
	}
	if len(found) > 0 {
		slices.Sort(found)
		s.add(warning, check, "a program that makes IPsec states and policies of its own runs: "+strings.Join(found, ", "),
			"stop it, or leave its addresses to it: it may remove what it has not made")
		return
	}
	s.add(ok, check, "no other program for IPsec runs", "")
}
