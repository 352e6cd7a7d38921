package marks

import (
	"io"
	"os"
)

// Other facts about keys can lie beside the marks, in files of other names. These functions
// read and write them as the marks: they trust root, this process's user and the daemon's,
// follow no symbolic link, and a crash of the machine leaves the old file or the new one.
// They take no lock. The errors are those of [Open].

// maxOther is the most bytes that ReadFile reads.
const maxOther = 16 << 20

// ReadFile reads a file in a directory of marks. errors.Is(err, fs.ErrNotExist) returns
// true if there is no such file or directory.
func ReadFile(path, name string) ([]byte, error) {
	d, err := openDir(path)
	if err != nil {
		return nil, err
	}
	defer d.f.Close()
	f, err := d.open(name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxOther))
}

// ReplaceFile replaces or makes a file in a directory of marks, and makes the directory if
// it does not exist. Only its owner can read the file.
func ReplaceFile(path, name string, text []byte) error {
	d, err := makeDir(path)
	if err != nil {
		return err
	}
	defer d.f.Close()
	f, err := d.replace(name, text)
	if err != nil {
		return err
	}
	return f.Close()
}
