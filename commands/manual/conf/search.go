package conf

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/klips-go/ipsec/commands/internal/environ"
	"github.com/klips-go/ipsec/commands/internal/quote"
)

// Usual are the files with connections if no variable of the environment names others,
// besides environ.DefaultConf.
const Usual = "/etc/ipsec.d/*.conf"

// Search returns the files in which connections are looked for: the named one, or that of
// $IPSEC_CONF, or those of the folder $IPSEC_CONFS, whose names end in .conf; otherwise those
// of Usual, and environ.DefaultConf. There may be none. Errors are those of the system.
func Search(name string, getenv func(string) string) ([]string, error) {
	if name == "" {
		name = environ.Conf(getenv)
	}
	if name != "" {
		return []string{name}, nil
	}
	if d := environ.Confs(getenv); d != "" {
		if _, err := os.Stat(d); err != nil {
			return nil, plainPath(err)
		}
		return filepath.Glob(filepath.Join(escape(d), "*.conf"))
	}
	names, err := filepath.Glob(Usual)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(environ.DefaultConf); err == nil {
		names = append(names, environ.DefaultConf)
	}
	return names, nil
}

// escape returns a pattern that matches a path only.
func escape(path string) string {
	var b []byte
	for i := range len(path) {
		switch path[i] {
		case '*', '?', '[', '\\':
			b = append(b, '\\')
		}
		b = append(b, path[i])
	}
	return string(b)
}

// ReadTrusted reads a file for a [Loader]. It refuses one that other users can write: the
// file names commands that run with the rights of the caller, and decides what leaves in
// clear.
func ReadTrusted(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if mode := info.Mode(); mode.IsRegular() && mode.Perm()&0o022 != 0 {
		return nil, fmt.Errorf("%s: other users can change it (mode %04o); chmod go-w it", quote.File(name), mode.Perm())
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok && s.Uid != 0 && int(s.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("%s: it belongs to another user, who can change it; give it to root with chown", quote.File(name))
	}
	return read(f)
}
