package spi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/klips/syntax"
)

// maxKeyText limits the size of a key file in bytes, in case the name is wrong and the
// file has no end, such as a device.
const maxKeyText = 16 << 10

// key parses the value of a key option: a key, or @ and the name of a file that holds
// one; "-" is standard input. Messages never repeat a key.
func (p *parser) key(option, value string) ([]byte, error) {
	name, isFile := strings.CutPrefix(value, "@")
	if !isFile {
		key, err := syntax.ParseKey(value)
		if err != nil {
			return nil, cli.Usagef("--%s: %w", option, err)
		}
		return key, nil
	}
	if name == "-" && p.stdin == "" && p.env.In == nil {
		return nil, fmt.Errorf("--%s @-: there is no standard input", option)
	}
	key, err := p.keyFile(option, name)
	if err != nil {
		var usage *cli.UsageError
		if errors.As(err, &usage) {
			return nil, cli.Usagef("--%s %w", option, err)
		}
		return nil, fmt.Errorf("--%s: %w", option, err)
	}
	return key, nil
}

// keyFile reads the key in a file.
func (p *parser) keyFile(option, name string) ([]byte, error) {
	switch {
	case name == "":
		return nil, cli.Usagef("@: there is no file name after @")
	case name == "-" && p.stdin != "":
		return nil, cli.Usagef("@-: standard input has been read for --%s; put one of the keys into a file", p.stdin)
	case name == "-":
		p.stdin = option
		return readKey(p.env.In, "standard input")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, quote.FileError(name, err)
	}
	defer f.Close()
	where := quote.File(name)
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, quote.FileError(name, err)
	case info.IsDir():
		return nil, fmt.Errorf("%s is a directory; name a file with a key in it", where)
	}
	key, err := readKey(f, where)
	if err == nil {
		p.noteMode(name, info)
	}
	return key, err
}

// noteMode prints a note if other users can read or change a key file. Pipes, and files
// that the shell has opened, are not checked.
func (p *parser) noteMode(name string, info fs.FileInfo) {
	mode := info.Mode()
	var who string
	switch {
	case !mode.IsRegular(), strings.HasPrefix(name, "/dev/"), strings.HasPrefix(name, "/proc/"):
		return
	case mode&0o044 != 0:
		who = "read by others"
	case mode&0o022 != 0:
		who = "changed by others"
	default:
		return
	}
	where := quote.File(name)
	note := fmt.Sprintf("the key file %s can be %s (mode %04o); make it private with: chmod 600 %s", where, who, mode.Perm(), where)
	if !slices.Contains(p.req.notes, note) {
		p.req.notes = append(p.req.notes, note)
	}
}

// readKey reads the only key in a file. Blanks and empty lines around it are ignored.
// Errors name the file and never show its content.
func readKey(in io.Reader, where string) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(in, maxKeyText+1))
	defer clear(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s cannot be read: %w", where, err)
	case len(text) > maxKeyText:
		return nil, fmt.Errorf("%s is longer than a key can be (%d bytes)", where, maxKeyText)
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

// keyError returns an error if the keys do not fit the algorithms, else nil. The error
// names the command that makes a key of the right length.
func (p *parser) keyError() error {
	s := &p.req.spec
	err := syntax.CheckKeys(s.ID, s.Transform, s.AuthKey, s.EncKey)
	if p.bits != 0 && len(s.EncKey)*8 != p.bits && (err == nil || len(s.EncKey) > 0) {
		err = &syntax.Error{Kind: syntax.KeyLength,
			Msg: fmt.Sprintf("wants an encryption key of %d bytes (%d bits); the one given has %d", p.bits/8, p.bits, len(s.EncKey))}
		return cli.Usagef("--%s %s %w%s", p.by, p.alg, err, p.ranbits())
	}
	switch {
	case err == nil:
		return nil
	case p.alg == "":
		return cli.Usagef("--%s: %w", p.by, err)
	}
	return cli.Usagef("--%s %s: %w%s", p.by, p.alg, err, p.ranbits())
}

// ranbits returns the command that makes the first key of a wrong length.
func (p *parser) ranbits() string {
	s := &p.req.spec
	enc, _ := s.Enc.Info()
	auth, _ := s.Auth.Info()
	encBits := enc.KeyBits
	if p.bits != 0 {
		encBits = []int{p.bits}
	}
	for _, k := range [...]struct {
		bits []int
		key  []byte
	}{{encBits, s.EncKey}, {auth.KeyBits, s.AuthKey}} {
		if len(k.bits) == 0 || slices.Contains(k.bits, 8*len(k.key)) {
			continue
		}
		if most := k.bits[len(k.bits)-1]; most > 0 {
			return fmt.Sprintf("; make one with: ipsec ranbits %d", most)
		}
	}
	return ""
}
