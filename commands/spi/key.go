package spi

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/keyfile"
	"github.com/klips-go/ipsec/klips/syntax"
)

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
		return keyfile.Read(p.env.In, "standard input")
	}
	key, exposed, err := keyfile.Load(name)
	if err == nil && exposed != "" && !slices.Contains(p.req.notes, exposed) {
		p.req.notes = append(p.req.notes, exposed)
	}
	return key, err
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
