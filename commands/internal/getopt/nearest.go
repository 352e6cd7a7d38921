package getopt

import "strings"

// Nearest returns the candidate that name was probably meant to be. That is the only
// candidate that begins with name. Otherwise it is the one that differs in the fewest
// letters (two swapped letters count as one difference), in at most two and in at most
// half of them. The result is empty if there is none.
func Nearest(name string, candidates []string) string {
	begun := ""
	best, near := 3, ""
	for _, c := range candidates {
		if name != "" && strings.HasPrefix(c, name) {
			if begun == "" {
				begun = c
			} else {
				begun = "?" // several begin with it; the distance decides
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
