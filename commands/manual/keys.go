package manual

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/manual/conf"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/syntax"
)

// otherSPIs are the parameters with the SPIs of single SAs.
var otherSPIs = [...]string{"lefttunspi", "leftespspi", "leftahspi", "righttunspi", "rightespspi", "rightahspi"}

// numbers parses SPIs and replay windows.
func (k *connection) numbers(c *conf.Conn) error {
	spi, base := c.Get("spi"), c.Get("spibase")
	var err error
	switch {
	case spi.Value != "" && base.Value != "":
		return base.Error("spi is given too, at " + spi.Pos.String() + "; give one of them")
	case spi.Value == "" && base.Value == "":
		return c.Errorf("neither spi nor spibase is given; write spi=0x200, say, or spibase=0x200")
	case base.Value != "":
		if k.base, err = spiOf(base); err == nil && k.base&0xf != 0 {
			err = base.Error("the last digit is not 0; other digits take its place")
		}
	default:
		k.spi, err = spiOf(spi)
	}
	if err != nil {
		return err
	}
	for i, side := range sides {
		e := &k.ends[i]
		for name, to := range map[string]*klips.SPI{"tunspi": &e.tunSPI, "espspi": &e.espSPI, "ahspi": &e.ahSPI} {
			p := c.Get(side + name)
			if p.Value == "" {
				continue
			}
			if *to, err = spiOf(p); err != nil {
				return err
			}
		}
	}
	for name, to := range map[string]*string{"espreplay_window": &k.espWindow, "ahreplay_window": &k.ahWindow} {
		p := c.Get(name)
		if p.Value == "" {
			continue
		}
		n, err := syntax.ParseNumber(p.Value, 10, 1<<16)
		if err != nil {
			return p.Error(quote.Value(p.Value) + ": " + err.Error())
		}
		if n != 0 {
			*to = fmt.Sprint(n)
		}
	}
	return nil
}

// defaultWindow is the replay window in packets of an SA that authenticates, where the conn
// names none.
const defaultWindow = 64

// defaultWindows sets the replay windows that the conn does not name.
func (k *connection) defaultWindows(c *conf.Conn) {
	t, _, _ := syntax.ParseESP(k.esp) // checked before
	enc, _ := t.Enc.Info()
	if (t.Auth != alg.AuthNone || enc.AEAD) && !c.Has("espreplay_window") {
		k.espWindow = fmt.Sprint(defaultWindow)
	}
	if k.ah != "" && !c.Has("ahreplay_window") {
		k.ahWindow = fmt.Sprint(defaultWindow)
	}
}

// spiOf parses 0x and hex digits.
func spiOf(p conf.Param) (klips.SPI, error) {
	digits, ok := strings.CutPrefix(p.Value, "0x")
	if !ok {
		return 0, p.Error(quote.Value(p.Value) + ": write 0x and hex digits, as in 0x200")
	}
	n, err := syntax.ParseNumber(digits, 16, 0xffffffff)
	switch {
	case err != nil:
		return 0, p.Error(quote.Value(p.Value) + ": " + err.Error())
	case klips.SPI(n) < klips.MinSPI:
		return 0, p.Error(quote.Value(p.Value) + ": SPIs below 0x100 are reserved")
	}
	return klips.SPI(n), nil
}

// keyParams are the parameters with the keys of SAs. There are also those with left and
// right at the front.
var keyParams = [...]string{"espenckey", "espauthkey", "ahkey"}

// keys parses algorithms and keys. ipsec spi checks whether a key fits its algorithm.
func (k *connection) keys(c *conf.Conn) error {
	if k.esp != "" {
		if _, _, err := syntax.ParseESP(k.esp); err != nil {
			return c.Get("esp").Error(quote.Value(k.esp) + ": " + err.Error())
		}
	}
	if k.ah != "" {
		if _, err := syntax.ParseAH(k.ah); err != nil {
			return c.Get("ah").Error(quote.Value(k.ah) + ": " + err.Error())
		}
		if !c.Has("ahkey") && !c.Has("leftahkey") && !c.Has("rightahkey") && !c.Has("masterkey") {
			return c.Errorf("ah is given, but no ahkey")
		}
	}
	if err := k.masterKey(c); err != nil {
		return err
	}
	for j, name := range keyParams {
		both := c.Get(name)
		l, r := c.Get("left"+name), c.Get("right"+name)
		switch {
		case l.Value == "" && r.Value == "":
			l, r = both, both
		case l.Value == "":
			return r.Error("left" + name + " is missing beside it")
		case r.Value == "":
			return l.Error("right" + name + " is missing beside it")
		}
		for i, p := range []conf.Param{l, r} {
			if err := checkKey(p); err != nil {
				return err
			}
			e := &k.ends[i]
			*[...]*string{&e.encKey, &e.authKey, &e.ahKey}[j] = keyOf(p)
		}
	}
	return nil
}

// checkKey checks the form of a key, unless it is in a file.
func checkKey(p conf.Param) error {
	switch {
	case p.Value == "":
	case p.Value == "@-":
		return p.Error("standard input holds no keys here; name a file")
	case p.Value[0] != '@':
		key, err := syntax.ParseKey(p.Value)
		clear(key)
		if err != nil {
			return p.Error(err.Error())
		}
	}
	return nil
}

// keyOf returns a key. The file of a key, if it is no absolute path, is in the folder of the
// configuration file that names it.
func keyOf(p conf.Param) string {
	name, ok := strings.CutPrefix(p.Value, "@")
	if !ok || filepath.IsAbs(name) {
		return p.Value
	}
	return "@" + filepath.Join(filepath.Dir(p.Pos.File), name)
}

// An sa is one SA of a connection.
type sa struct {
	id     klips.SAID
	alg    string
	toward *end // the end whose keys it has
}

// sas returns the SAs that go to an end, from the innermost to the outermost.
func (k *connection) sas(to int) []sa {
	if k.shunt != "" {
		return nil
	}
	e := &k.ends[to]
	// SAs to the right get the even digits 0, 2, 4, SAs to the left get 1, 3, 5. A
	// missing protocol uses no digit.
	n := k.base + klips.SPI(1-to)
	next := func(override klips.SPI) klips.SPI {
		spi := k.spi
		if k.base != 0 {
			spi, n = n, n+2
		}
		if override != 0 {
			spi = override
		}
		return k.ofEpoch(spi)
	}
	var list []sa
	if k.tun {
		list = append(list, sa{id: klips.SAID{Dst: e.addr, SPI: next(e.tunSPI), Proto: klips.ProtoTun}, toward: e})
	}
	if k.esp != "" {
		list = append(list, sa{id: klips.SAID{Dst: e.addr, SPI: next(e.espSPI), Proto: klips.ProtoESP}, alg: k.esp, toward: e})
	}
	if k.ah != "" {
		list = append(list, sa{id: klips.SAID{Dst: e.addr, SPI: next(e.ahSPI), Proto: klips.ProtoAH}, alg: k.ah, toward: e})
	}
	return list
}
