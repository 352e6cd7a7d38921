package getopt

import "strings"

// Nearest returns the candidate that name was perhaps meant to be: the only one
// that it begins, else the one that differs from it in the fewest letters (two that
// are swapped count as one), in at most two and in no more than half of them; empty
// if there is none.
func Nearest(name string, candidates []string) string {
	begun := ""
	best, near := 3, ""
	for _, c := range candidates {
		if name != "" && strings.HasPrefix(c, name) {
			if begun == "" {
				begun = c
			} else {
				begun = "?" // several; the distance decides
			}
		}
		if len(name) > 2*len(c) {
			continue
		}
		if d := distance(name, c); d < best && 2*d <= len(c) {
			best, near = d, c
		}
	}
	if begun != "" && begun != "?" {
		return begun
	}
	return near
}
