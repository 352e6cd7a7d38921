package qemu

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// StaticTools is the folder of static programs in a guest.
const StaticTools = "/usr/bin"

// addTools adds programs of the host to a root file system, in the same folder as on
// the host, with all files that the loader needs for them. A name with a slash is the
// path of a static program; it goes to [StaticTools].
func addTools(a *archive, names []string) error {
	dirs, files := map[string]bool{}, map[string]bool{}
	add := func(path, from string) {
		var parents []string
		for d := filepath.Dir(path); d != "/" && !dirs[d]; d = filepath.Dir(d) {
			dirs[d] = true
			parents = append([]string{d}, parents...)
		}
		for _, d := range parents {
			a.dir(d[1:])
		}
		if !files[path] {
			files[path] = true
			a.file(path[1:], from, 0o755)
		}
	}
	for _, name := range names {
		if strings.Contains(name, "/") {
			add(filepath.Join(StaticTools, filepath.Base(name)), name)
			continue
		}
		path, err := exec.LookPath(name)
		if err != nil {
			return err
		}
		text, err := exec.Command("ldd", path).Output()
		if err != nil {
			return fmt.Errorf("ldd %s: %w", path, err)
		}
		add(path, path)
		for _, word := range strings.Fields(string(text)) {
			if strings.HasPrefix(word, "/") {
				add(word, word)
			}
		}
	}
	return nil
}
