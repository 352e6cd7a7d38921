package keyfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klips-go/ipsec/commands/internal/quote"
)

// A File is a file to be made, with its text.
type File struct {
	Path string
	Text []byte
}

// Write makes files that only their owner can read, all or none. Each appears with all of
// its text. An existing file is an error, for which errors.Is(err, fs.ErrExist) returns true,
// unless it may be overwritten.
func Write(list []File, overwrite bool) (err error) {
	var undo, done []func()
	defer func() {
		if err != nil {
			for i := len(undo) - 1; i >= 0; i-- {
				undo[i]()
			}
		}
		for _, f := range done {
			f()
		}
	}()
	temporary := make([]string, len(list))
	for i, f := range list {
		t, err := os.CreateTemp(filepath.Dir(f.Path), "."+filepath.Base(f.Path)+".*") // mode 0600
		if err != nil {
			return quote.FileError(f.Path, err)
		}
		temporary[i] = t.Name()
		done = append(done, func() { os.Remove(t.Name()) })
		_, err = t.Write(f.Text)
		if err = errors.Join(err, t.Sync(), t.Close()); err != nil {
			return quote.FileError(f.Path, err)
		}
	}
	for i, f := range list {
		t := temporary[i]
		err := os.Link(t, f.Path)
		switch {
		case err == nil:
			undo = append(undo, func() { os.Remove(f.Path) })
		case !errors.Is(err, fs.ErrExist):
			return quote.FileError(f.Path, err)
		case !overwrite:
			return fmt.Errorf("%s: there is such a file; choose another name, or overwrite it with --force (%w)", quote.File(f.Path), fs.ErrExist)
		default:
			old := t + ".old"
			if err := os.Link(f.Path, old); err != nil {
				return quote.FileError(f.Path, err)
			}
			done = append(done, func() { os.Remove(old) })
			if err := os.Rename(t, f.Path); err != nil {
				return quote.FileError(f.Path, err)
			}
			undo = append(undo, func() { os.Rename(old, f.Path) })
		}
	}
	return nil
}
