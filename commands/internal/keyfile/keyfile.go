// Package keyfile reads and makes files that hold one key.
package keyfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/klips/syntax"
)

// maxText limits the size of a key file in bytes, in case the name is wrong and the
// file has no end, such as a device.
const maxText = 16 << 10

// Load reads the key in a file. exposed describes how other users can get the key or
// change it, and the command that prevents that; it is empty if they cannot. The caller
// owns the key. Errors name the file and never show its content.
func Load(name string) (key []byte, exposed string, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, "", quote.FileError(name, err)
	}
	defer f.Close()
	where := quote.File(name)
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, "", quote.FileError(name, err)
	case info.IsDir():
		return nil, "", fmt.Errorf("%s is a directory; name a file with a key in it", where)
	}
	key, err = Read(f, where)
	return key, exposure(name, info), err
}

// Exposed returns how other users can get the key in a file or change it, as [Load] does,
// without reading the file. Errors are those of the system.
func Exposed(name string) (string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return "", err
	}
	return exposure(name, info), nil
}

// exposure returns the text about a mode and an owner. Pipes, and files that the shell has
// opened, are not checked.
func exposure(name string, info fs.FileInfo) string {
	var who string
	mode := info.Mode()
	owner, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !mode.IsRegular(), strings.HasPrefix(name, "/dev/"), strings.HasPrefix(name, "/proc/"):
		return ""
	case mode&0o044 != 0:
		who = "read by others"
	case mode&0o022 != 0:
		who = "changed by others"
	case ok && owner.Uid != 0 && int(owner.Uid) != os.Geteuid():
		return fmt.Sprintf("the key file %s belongs to another user, who can change it; give it to root with chown", quote.File(name))
	default:
		return ""
	}
	where := quote.File(name)
	return fmt.Sprintf("the key file %s can be %s (mode %04o); make it private with: chmod 600 %s", where, who, mode.Perm(), where)
}

// Create makes a file with a text, such as one of [Format], that only its owner can read.
// An existing file is an error, for which errors.Is(err, fs.ErrExist) returns true. After
// an error there is no new file.
func Create(name string, text []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return &existing{name}
	case err != nil:
		return quote.FileError(name, err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(name)
		return quote.FileError(name, err)
	}
	return nil
}

// An existing is the error that there is a file of that name.
type existing struct{ name string }

func (e *existing) Error() string {
	return quote.File(e.name) + ": there is such a file, which is not overwritten; choose another name"
}

func (e *existing) Unwrap() error { return fs.ErrExist }

// Format returns a key as 0x and hex digits, and a newline. There is an underscore after
// every eight digits, unless continuous is set. The caller owns the text.
func Format(key []byte, continuous bool) []byte {
	const hex = "0123456789abcdef"
	out := make([]byte, 0, 2+len(key)*2+len(key)/4+1)
	out = append(out, "0x"...)
	for i, b := range key {
		if i > 0 && i%4 == 0 && !continuous {
			out = append(out, '_')
		}
		out = append(out, hex[b>>4], hex[b&15])
	}
	return append(out, '\n')
}

// Read reads the only key in a text, in a form of [syntax.ParseKey]. Blanks and empty
// lines around it are ignored. Errors contain where, the name of the text, and never show
// its content. The caller owns the key.
func Read(in io.Reader, where string) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(in, maxText+1))
	defer clear(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s cannot be read: %w", where, err)
	case len(text) > maxText:
		return nil, fmt.Errorf("%s is longer than a key can be (%d bytes)", where, maxText)
	}
	line := bytes.TrimSpace(text)
	switch {
	case len(line) == 0:
		return nil, fmt.Errorf("%s is empty; a key file holds one key, as ipsec ranbits prints it", where)
	case bytes.ContainsAny(line, "\r\n"):
		return nil, fmt.Errorf("the key in %s: there is more than one line; a key file holds one key", where)
	}
	key, err := syntax.ParseKey(string(line))
	if err != nil {
		return nil, fmt.Errorf("the key in %s: %w", where, err)
	}
	return key, nil
}
