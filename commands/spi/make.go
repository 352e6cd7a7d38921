package spi

import (
	"net/netip"
	"strconv"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/syntax"
)

// A Description describes an SA in the notation of the command line.
type Description struct {
	ID  klips.SAID
	Src netip.Addr
	// Alg is the name of the algorithms, as after --esp and --ah; tun SAs have none.
	Alg string
	// EncKey and AuthKey are the values of --enckey and --authkey: a key, or @ and the
	// name of a file that holds one. Empty: none.
	EncKey, AuthKey string
	// Keys, if it is not nil, returns the keys, which the caller owns. EncKey and AuthKey
	// are then only words for Words.
	Keys    func() (enc, auth []byte, err error)
	Window  string // value of --replay_window; empty: none
	CopyTOS bool   // --copy-tos
	ESN     bool   // --esn
	// Encap has ESP in UDP (--natt nonesp, RFC 3948), to the port To of the destination,
	// from the port From of the source (--sport and --dport, as KLIPS has them).
	Encap    bool
	To, From uint16
}

// Make returns the command that makes an SA, under a label. It reads the files that
// hold keys, and checks everything that can be checked without a stack. env is as in
// [cli.App].Parse.
func Make(env *cli.Env, label string, d Description) (cli.Command, error) {
	p := &parser{env: env, said: true, id: d.ID, src: d.Src, family: syntax.FamilyOf(d.ID.Dst), other: true}
	p.req.Label = label
	return p.req.Command(env, App, p.make(d), &p.req)
}

func (p *parser) make(d Description) (err error) {
	defer func() {
		if err != nil {
			p.req.Clear()
		}
	}()
	by, alg := d.by()
	if err := p.choose(by, alg); err != nil {
		return err
	}
	if d.Keys != nil {
		if p.req.spec.EncKey, p.req.spec.AuthKey, err = d.Keys(); err != nil {
			return err
		}
		d.EncKey, d.AuthKey = "", ""
	}
	for _, o := range d.attributes() {
		if o.value == "" {
			continue
		}
		if err := p.attribute(o.name, o.value); err != nil {
			return err
		}
	}
	p.req.spec.CopyTOS = d.CopyTOS
	if d.ESN {
		if err := p.attribute("esn", ""); err != nil {
			return err
		}
	}
	return p.finish()
}

// by returns the option that makes such an SA, and its value.
func (d *Description) by() (option, alg string) {
	switch {
	case d.ID.Proto == klips.ProtoESP:
		return "esp", d.Alg
	case d.ID.Proto == klips.ProtoAH:
		return "ah", d.Alg
	case d.ID.Dst.Is6():
		return "ip6", ""
	}
	return "ip4", ""
}

// An attribute is an option and its value.
type attribute struct{ name, value string }

func (d *Description) attributes() []attribute {
	l := []attribute{{"authkey", d.AuthKey}, {"replay_window", d.Window}, {"enckey", d.EncKey}}
	if d.ID.Proto == klips.ProtoAH {
		l[0], l[1] = l[1], l[0]
	}
	if d.Encap {
		l = append(l, attribute{"natt", "nonesp"}, attribute{"sport", strconv.Itoa(int(d.To))}, attribute{"dport", strconv.Itoa(int(d.From))})
	}
	return l
}

// Words returns the command line that makes the SA, after the name of the applet. It
// includes the keys.
func (d *Description) Words() []string {
	words := []string{"--af", syntax.FamilyOf(d.ID.Dst).String(), "--said", d.ID.String()}
	by, alg := d.by()
	words = append(words, "--"+by)
	if alg != "" {
		words = append(words, alg)
	}
	words = append(words, "--src", klips.FormatAddr(d.Src))
	if alg == "" {
		words = append(words, "--dst", klips.FormatAddr(d.ID.Dst))
	}
	if d.CopyTOS {
		words = append(words, "--copy-tos")
	}
	if d.ESN {
		words = append(words, "--esn")
	}
	for _, o := range d.attributes() {
		if o.value != "" {
			words = append(words, "--"+o.name, o.value)
		}
	}
	return words
}

// Remove returns the command that removes an SA and its group, under a label, and its
// command line after the name of the applet.
func Remove(env *cli.Env, label string, c klips.DeleteSA) (cli.Command, []string) {
	r := &request{action: actDel, spec: klips.SASpec{ID: c.ID}}
	r.Label = label
	cmd, _ := r.Command(env, App, nil, r)
	return cmd, []string{"--del", "--said", c.ID.String()}
}
