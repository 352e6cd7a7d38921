package manual

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/keyfile"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/manual/conf"
	"github.com/klips-go/ipsec/commands/manual/derive"
	"github.com/klips-go/ipsec/commands/manual/step"
	"github.com/klips-go/ipsec/commands/spi"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/syntax"
)

// masterKey parses the parameters masterkey and epoch.
func (k *connection) masterKey(c *conf.Conn) error {
	p, epoch := c.Get("masterkey"), c.Get("epoch")
	switch {
	case p.Value == "" && epoch.Value == "":
		return nil
	case p.Value == "":
		return epoch.Error("only keys of a master key have epochs; give masterkey, or leave epoch out")
	}
	for _, name := range keyParams {
		for _, side := range [...]string{"", sides[0], sides[1]} {
			if other := c.Get(side + name); other.Value != "" {
				return other.Error("masterkey is given too, at " + p.Pos.String() + "; give one of them")
			}
		}
	}
	if err := checkKey(p); err != nil {
		return err
	}
	if p.Value = keyOf(p); p.Value[0] != '@' {
		key, err := masterIn(p.Value)
		clear(key)
		if err != nil {
			return p.Error(err.Error())
		}
	}
	k.master = p
	if epoch.Value == "" {
		return nil
	}
	n, err := syntax.ParseNumber(epoch.Value, 10, math.MaxUint32)
	if err != nil {
		return epoch.Error(err.Error())
	}
	k.epoch = uint32(n)
	return nil
}

// checkEpoch returns an error if the connection cannot have its epoch, because an SPI
// would be a reserved one (RFC 4303 section 2.1).
func (k *connection) checkEpoch() error {
	for to := range k.ends {
		for _, s := range k.sas(to) {
			if s.id.SPI < klips.MinSPI {
				return fmt.Errorf("the SPI of %s would be 0x%x, and those below 0x100 are reserved; use the next epoch", s.id.Proto, uint32(s.id.SPI))
			}
		}
	}
	return nil
}

// catchUp gives the connection of a file the epoch that it was made with, if that is a later
// one, and reports whether it did. made is nil if it was not made.
func (k *connection) catchUp(made *connection) bool {
	if made == nil || k.master.Value == "" || k.epoch >= made.epoch {
		return false
	}
	k.epoch = made.epoch
	return true
}

// ofEpoch returns the SPI of the connection's epoch. The last 16 bits, which identify the
// connection between two hosts, stay.
func (k *connection) ofEpoch(n klips.SPI) klips.SPI { return n + klips.SPI(k.epoch<<16) }

// deriveKeys gives an SA that goes to an end the keys that are derived from the master
// key. The key is not read before they are needed.
func (k *connection) deriveKeys(d *spi.Description, to int) {
	enc, auth := keySizes(d.ID.Proto, d.Alg)
	if enc > 0 {
		d.EncKey = step.Hidden
	}
	if auth > 0 {
		d.AuthKey = step.Hidden
	}
	of := derive.SA{Proto: d.ID.Proto, Conn: k.name, To: sides[to], SPI: d.ID.SPI, Epoch: k.epoch}
	d.Keys = func() ([]byte, []byte, error) {
		master, err := readMaster(k.master)
		defer clear(master)
		if err != nil {
			return nil, nil, k.master.Error(err.Error())
		}
		return of.Keys(master, enc, auth)
	}
}

// keySizes returns the lengths of the keys of a valid algorithm of ESP or AH, in bytes; 0:
// it takes none.
func keySizes(proto klips.Proto, alg string) (enc, auth int) {
	var t klips.Transform
	bits := 0
	if proto == klips.ProtoESP {
		t, bits, _ = syntax.ParseESP(alg)
	} else {
		t.Auth, _ = syntax.ParseAH(alg)
	}
	return syntax.KeySizes(t, bits)
}

// readMaster reads a master key, which is given as the keys of SAs are. It refuses a file
// that other users can read or change, also if that is the configuration file. The caller owns
// the key.
func readMaster(p conf.Param) ([]byte, error) {
	if info, err := os.Stat(p.Pos.File); err == nil && p.Value[0] != '@' && info.Mode().IsRegular() && info.Mode()&0o044 != 0 {
		where := quote.File(p.Pos.File)
		return nil, fmt.Errorf("other users can read %s, which has the key in it (mode %04o); make it private with: chmod 600 %s", where, info.Mode().Perm(), where)
	}
	return masterIn(p.Value)
}

// masterIn returns the master key in a value, or in the file that it names.
func masterIn(value string) ([]byte, error) {
	what := "the key"
	if name, ok := strings.CutPrefix(value, "@"); ok {
		what = "the key in " + quote.File(name)
	}
	key, exposed, err := readKey(value)
	switch n := len(key); {
	case err != nil:
	case exposed != "":
		err = errors.New(exposed)
	case n < derive.MinMaster || n > derive.MaxMaster:
		err = fmt.Errorf("%s has %d bytes; a master key has %d to %d, make one with: ipsec genkey master",
			what, n, derive.MinMaster, derive.MaxMaster)
	default:
		return key, nil
	}
	clear(key)
	return nil, err
}

// readKey reads a key, or the one in the file after @. exposed is as of [keyfile.Load].
// The caller owns the key.
func readKey(value string) (key []byte, exposed string, err error) {
	if name, ok := strings.CutPrefix(value, "@"); ok {
		return keyfile.Load(name)
	}
	key, err = syntax.ParseKey(value)
	return key, "", err
}
