// Package epochs keeps the epochs of connections with a master key, beside the sequence
// marks, so that a restart of the machine does not bring an earlier key back.
package epochs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/klips-go/ipsec/klips/marks"
)

// file is the name of the file in the directory of the marks.
const file = "epochs"

// A List has the epoch of each connection by its name.
type List map[string]uint32

// Read returns the epochs that a directory has. A missing file has none. Other errors are
// those of [marks.Open], or that the file is damaged.
func Read(dir string) (List, error) {
	text, err := marks.ReadFile(dir, file)
	list := List{}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return list, nil
	case err != nil:
		return nil, err
	}
	err = json.Unmarshal(text, &list)
	if err == nil && list == nil {
		err = errors.New("it has null")
	}
	if err != nil {
		return nil, fmt.Errorf("%s is damaged: %w; remove it, and give each connection with a master key a later epoch", filepath.Join(dir, file), err)
	}
	return list, nil
}

// Raise stores an epoch of a connection on disk, unless the directory has a later one. It
// makes the directory if it does not exist. Two calls must not run at the same time.
func Raise(dir, name string, epoch uint32) error {
	list, err := Read(dir)
	if err != nil || list[name] >= epoch {
		return err
	}
	list[name] = epoch
	text, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return marks.ReplaceFile(dir, file, append(text, '\n'))
}
