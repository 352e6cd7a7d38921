package manual

import (
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/environ"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/made"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/manual/conf"
	"github.com/klips-go/ipsec/commands/manual/host"
)

// files are the configuration files that a command reads.
type files struct {
	list   []*configuration
	paths  []string
	folder string  // where they were looked for, if not in the usual places
	unread []error // of files that are left out
}

// readFiles reads the files in which connections are looked for; config: only this one.
func readFiles(env *cli.Env, h host.Host, config string) (*files, error) {
	paths, err := conf.Search(config, env.Getenv)
	if err != nil {
		return nil, err
	}
	fs := readPaths(h, paths)
	if config == "" && environ.Conf(env.Getenv) == "" {
		fs.folder = environ.Confs(env.Getenv)
	}
	return fs, nil
}

func readPaths(h host.Host, paths []string) *files {
	return loadPaths(paths, func(l conf.Loader, path string) (*configuration, error) {
		f, err := configure(l, path, h, host.Identity{})
		if err == nil {
			f.attaches = true
		}
		return f, err
	})
}

// loadText reads a file for questions that need no host.
func loadText(l conf.Loader, path string) (*configuration, error) {
	f, err := l.Load(path)
	return &configuration{file: f}, err
}

// loadPaths reads files, each with load.
func loadPaths(paths []string, load func(l conf.Loader, path string) (*configuration, error)) *files {
	fs := &files{paths: paths}
	for _, p := range paths {
		if f, err := load(conf.Loader{ReadFile: conf.ReadTrusted}, p); err != nil {
			fs.unread = append(fs.unread, err)
		} else {
			fs.list = append(fs.list, f)
		}
	}
	return fs
}

// unfiled returns a configuration without a file, for connections that no file has.
func unfiled(h host.Host) *configuration { return &configuration{host: h, attaches: true} }

// unreadable returns the errors of files that are left out.
func (fs *files) unreadable() error { return errors.Join(fs.unread...) }

func (fs *files) noteUnread(env *cli.Env) {
	for _, err := range fs.unread {
		cli.Notef(env, "left out: %v", err)
	}
}

// find returns the file that has a connection. Two files can include the same third one.
func (fs *files) find(name string) (*configuration, error) {
	f, err := fs.findConn(baseOf(name))
	if err == nil && name != baseOf(name) {
		_, _, err = f.conn([]string{name}) // there may be no such pair
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// findConn returns the file that has a conn.
func (fs *files) findConn(name string) (found *configuration, err error) {
	for _, f := range fs.list {
		at, ok := f.file.Where(name)
		if !ok {
			continue
		}
		if found == nil {
			found = f
			continue
		}
		if first, _ := found.file.Where(name); first != at {
			return nil, fmt.Errorf("conn %s is at %v and at %v; name the file with --config", name, first, at)
		}
	}
	switch {
	case found != nil:
		return found, nil
	case len(fs.unread) > 0:
		return nil, fs.unreadable()
	}
	return nil, fs.missing(name)
}

// all returns the connections by name, in order, each once.
func (fs *files) all() iter.Seq2[string, *configuration] {
	return func(yield func(string, *configuration) bool) {
		seen := map[conf.Pos]bool{}
		for _, f := range fs.list {
			for _, name := range f.file.Names() {
				at, _ := f.file.Where(name)
				if seen[at] {
					continue
				}
				seen[at] = true
				if !yield(name, f) {
					return
				}
			}
		}
	}
}

// connections returns the connections of all conns, by name, in order.
func (fs *files) connections() iter.Seq2[string, *configuration] {
	return func(yield func(string, *configuration) bool) {
		for conn, f := range fs.all() {
			for _, name := range f.pairs(conn) {
				if !yield(name, f) {
					return
				}
			}
		}
	}
}

// isOf reports whether a connection is one of the named ones, or of a named conn.
func isOf(name string, names []string) bool {
	return slices.Contains(names, name) || slices.Contains(names, baseOf(name))
}

// missing returns the error that no file has a connection.
func (fs *files) missing(name string) error {
	var names []string
	for name := range fs.all() {
		names = append(names, name)
	}
	text := fmt.Sprintf("no conn %s in %s", name, fs.places())
	if near := getopt.Nearest(name, names); near != "" {
		text += "; did you mean " + near + "?"
	}
	return errors.New(text)
}

// places returns the words for the files that were looked in.
func (fs *files) places() string {
	if len(fs.paths) == 0 && fs.folder != "" {
		return quote.File(fs.folder) + ", the folder of IPSEC_CONFS, which has no file whose name ends in .conf"
	}
	if len(fs.paths) == 0 {
		return conf.Usual + ", and there is no " + environ.DefaultConf
	}
	var quoted []string
	for _, p := range fs.paths {
		quoted = append(quoted, quote.File(p))
	}
	return strings.Join(quoted, ", ")
}

// is reports whether the configuration is that of a file, an absolute path.
func (f *configuration) is(path string) bool {
	whole, err := filepath.Abs(f.file.Name())
	return err == nil && whole == path
}

// purpose returns what a conn of the file is for. keyed: it is manually keyed, or needs no
// keys; others are for the key daemons of other programs, which have the same files. starts
// is the operation that its auto= asks for; "": none.
func (f *configuration) purpose(name string) (keyed bool, starts string) {
	c, err := f.file.Conn([]string{baseOf(name)}, func(string) bool { return true }, nil)
	if err != nil {
		return true, "" // the operation on it returns the error
	}
	switch c.Get("type").Value {
	case "passthrough", "drop", "reject":
	default:
		if !c.Has("spi") && !c.Has("spibase") {
			return false, ""
		}
	}
	return true, map[string]string{"start": "up", "route": "route"}[c.Get("auto").Value]
}

// notKeyed returns the error that a conn is for a key daemon.
func (f *configuration) notKeyed(name string) error {
	at, _ := f.file.Where(baseOf(name))
	return fmt.Errorf("%v: conn %s: it has neither spi nor spibase, so it is for a key daemon", at, name)
}

// readRecords returns the records of what was made, by name.
func readRecords(h host.Host) (map[string]made.Connection, error) {
	dir, err := h.Made(false)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return listRecords(dir)
}

func listRecords(dir *made.Dir) (map[string]made.Connection, error) {
	list, err := dir.List()
	if err != nil {
		return nil, err
	}
	records := map[string]made.Connection{}
	for _, c := range list {
		records[c.Conn] = c
	}
	return records, nil
}
