package spi

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/klips"
)

// maxKeyText bounds the size of a key file in bytes, so that a wrong name (a
// device, say) ends.
const maxKeyText = 16 << 10

// key reads the value of a key option: a key text, or @ and the name of the
// file that holds one, "-" being standard input. Messages never repeat a key.
func (p *parser) key(option, value string) ([]byte, error) {
	name, isFile := strings.CutPrefix(value, "@")
	if !isFile {
		key, err := klips.ParseKey(value)
		if err != nil {
			return nil, cli.Usagef("--%s: %v", option, err)
		}
		return key, nil
	}
	in, where := p.env.In, "standard input"
	switch {
	case name == "":
		return nil, cli.Usagef("--%s @: there is no file name after @", option)
	case name == "-" && p.stdin != "":
		return nil, cli.Usagef("--%s @-: standard input has been read for --%s; put one of the keys into a file", option, p.stdin)
	case name == "-" && in == nil:
		return nil, fmt.Errorf("--%s @-: there is no standard input", option)
	case name == "-":
		p.stdin = option
	default:
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", option, err)
		}
		defer f.Close()
		in, where = f, name
	}
	text, err := io.ReadAll(io.LimitReader(in, maxKeyText+1))
	defer clear(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("--%s: %s: %w", option, where, err)
	case len(text) > maxKeyText:
		return nil, fmt.Errorf("--%s: %s is longer than a key can be (%d bytes)", option, where, maxKeyText)
	}
	key, err := klips.ParseKey(strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r"))
	if err != nil {
		return nil, fmt.Errorf("--%s: the key in %s: %w", option, where, err)
	}
	return key, nil
}
