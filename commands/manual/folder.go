package manual

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/environ"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/manual/conf"
	"github.com/klips-go/ipsec/commands/manual/step"
)

// A folder is where the files of a new connection are made.
type folder struct {
	dir  string // as it was given, or empty; absolute after open
	name string // of the connection
}

// named takes the name of the connection from the command line, which has only that one
// operand.
func (d *folder) named(c *cli.Common) error {
	switch len(c.Operands) {
	case 0:
		return cli.Usagef("the name of the connection is missing")
	case 1:
	default:
		return cli.Usagef("unexpected argument %s after the name", quote.Word(c.Operands[1], c.Places[1]))
	}
	d.name = c.Operands[0]
	if err := conf.CheckName(d.name); err != nil {
		return cli.Usagef("connection: %v", err)
	}
	return nil
}

// path returns the path of a file of the connection.
func (d *folder) path(end string) string { return filepath.Join(d.dir, d.name+end) }

// in opens the folder and calls do, which makes files in it, all or none. After an error it
// removes the folder again if it has made it.
func (d *folder) in(env *cli.Env, do func() error) error {
	made, err := d.open(env)
	if err != nil {
		return err
	}
	if err = do(); err != nil {
		d.drop(made)
	}
	return err
}

// open finds the folder. It makes the usual one if that does not exist.
func (d *folder) open(env *cli.Env) (made bool, err error) {
	d.dir = cmp.Or(d.dir, environ.Confs(env.Getenv), conf.UsualDir)
	if d.dir, err = filepath.Abs(d.dir); err != nil {
		return false, err
	}
	info, err := os.Stat(d.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && d.dir == conf.UsualDir:
		if err := os.Mkdir(d.dir, 0o755); err != nil {
			return false, quote.FileError(d.dir, err)
		}
		return true, nil
	case err != nil:
		return false, quote.FileError(d.dir, err)
	case !info.IsDir():
		return false, fmt.Errorf("%s is no folder", quote.File(d.dir))
	}
	return false, nil
}

// drop removes the folder again if open has made it.
func (d *folder) drop(made bool) {
	if made {
		os.Remove(d.dir)
	}
}

// conns returns the files with connections that are in the folder already.
func (d *folder) conns(env *cli.Env) (*files, error) {
	paths, err := conf.Folder(d.dir)
	if err != nil {
		return nil, err
	}
	files := loadPaths(paths, loadText)
	files.noteUnread(env)
	return files, nil
}

// upCommand returns the command that brings a connection of a file up, an absolute path. It
// names the file if ipsec up does not look for connections in it.
func upCommand(env *cli.Env, name, path string) string {
	paths, err := conf.Search("", env.Getenv)
	if err == nil && slices.ContainsFunc(paths, func(p string) bool {
		abs, err := filepath.Abs(p)
		return err == nil && abs == path
	}) {
		return step.ShellWords([]string{"ipsec", "up", name})
	}
	return step.ShellWords([]string{"ipsec", "up", "--config", path, name})
}
