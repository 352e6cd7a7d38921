package conf

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"unicode"

	"github.com/klips-go/ipsec/commands/internal/environ"
	"github.com/klips-go/ipsec/commands/internal/quote"
)

// UsualDir is the folder with connections, and Usual are the files in it, if no variable of
// the environment names others, besides environ.DefaultConf.
const (
	UsualDir = "/etc/ipsec.d"
	Usual    = UsualDir + "/*.conf"
)

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
			return nil, fmt.Errorf("IPSEC_CONFS: %w", plainPath(err))
		}
		return Folder(d)
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

// Folder returns the files with connections in a folder: those whose names end in .conf.
func Folder(dir string) ([]string, error) { return filepath.Glob(filepath.Join(escape(dir), "*.conf")) }

// Names returns the names of the connections in the files of [Search], in their order. Files
// that cannot be read are left out. Errors are those of Search.
func Names(getenv func(string) string) (names []string, err error) {
	paths, err := Search("", getenv)
	for _, path := range paths {
		f, err := Loader{ReadFile: ReadTrusted}.Load(path)
		if err != nil {
			continue
		}
		for _, name := range f.Names() {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names, err
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
	if err := trusted(name, info); err != nil {
		return nil, err
	}
	if err := replaceable(name); err != nil {
		return nil, err
	}
	return read(f)
}

// replaceable returns an error if all users can put another file in the place of one: they can
// write a folder on its path, or a folder of what its path leads to, and no sticky bit keeps them
// from renaming what belongs to others.
func replaceable(name string) error {
	paths := make([]string, 0, 2)
	if abs, err := filepath.Abs(name); err == nil {
		paths = append(paths, abs)
	}
	if real, err := filepath.EvalSymlinks(name); err == nil {
		if real, err = filepath.Abs(real); err == nil {
			paths = append(paths, real)
		}
	}
	for _, path := range paths {
		for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
			info, err := os.Stat(dir)
			if err == nil && info.Mode().Perm()&0o002 != 0 && info.Mode()&fs.ModeSticky == 0 {
				return fmt.Errorf("%s: other users can put another file in its place, because they can change the folder %s (mode %04o); chmod o-w that",
					quote.File(name), quote.File(dir), info.Mode().Perm())
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return nil
}

// trusted returns an error if other users can write a file.
func trusted(name string, info fs.FileInfo, owners ...uint32) error {
	if mode := info.Mode(); mode.IsRegular() && mode.Perm()&0o022 != 0 {
		return fmt.Errorf("%s: other users can change it (mode %04o); chmod go-w it", quote.File(name), mode.Perm())
	}
	owner, ok := ownerOf(info)
	if ok && owner != 0 && int(owner) != os.Geteuid() && !slices.Contains(owners, owner) {
		return fmt.Errorf("%s: it belongs to another user, who can change it; give it to root with chown", quote.File(name))
	}
	return nil
}

func ownerOf(info fs.FileInfo) (uid uint32, ok bool) {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return s.Uid, true
}

// CheckCommand returns an error if other users can write a file that a command for sh
// names: it can be the program or a script, and runs with the rights of the caller. Each
// word counts, wherever it is (sh FILE, exec FILE, NAME=1 FILE, sh -c 'FILE'), as a path or
// as a program in PATH. Names that only sh can complete, with variables or patterns in them,
// are left to sh.
func CheckCommand(command string) error {
	// In a user namespace without root, root's programs belong to the owner of /.
	var owners []uint32
	if root, err := os.Stat("/"); err == nil {
		if uid, ok := ownerOf(root); ok {
			owners = append(owners, uid)
		}
	}
	for _, word := range wordsOf(command) {
		paths := []string{word}
		if path, err := exec.LookPath(word); err == nil && path != word {
			paths = append(paths, path)
		}
		for _, path := range paths {
			info, err := os.Stat(path)
			if err != nil || !info.Mode().IsRegular() {
				continue
			}
			if err := trusted(path, info, owners...); err != nil {
				return err
			}
			if err := replaceable(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// wordsOf returns everything in a command for sh that can be the name of a file: what is
// between blanks, quotes, operators and equals signs, and what is between quotes as a whole.
func wordsOf(command string) []string {
	quote := func(r rune) bool { return strings.ContainsRune("'\"`", r) }
	end := func(r rune) bool { return quote(r) || unicode.IsSpace(r) || strings.ContainsRune(";&|()<>{}=", r) }
	return append(strings.FieldsFunc(command, end), strings.FieldsFunc(command, quote)...)
}
