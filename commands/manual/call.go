package manual

import (
	"github.com/klips-go/ipsec/commands/eroute"
	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/spi"
	"github.com/klips-go/ipsec/commands/spigrp"
	"github.com/klips-go/ipsec/commands/tncfg"
	"github.com/klips-go/ipsec/klips"
)

// asks reports whether a step is a change of the stack.
func (s *step) asks() bool { return s.change != nil || s.sa != nil }

// applet returns the name of the applet that appears in a step's messages.
func (s *step) applet() string {
	switch s.change.(type) {
	case klips.Group, klips.Ungroup:
		return "spigrp"
	case klips.SetEroute, klips.SetPolicy, klips.DeleteEroute:
		return "eroute"
	case klips.Attach, klips.Detach, klips.CreateDevice, klips.DeleteDevice:
		return "tncfg"
	}
	return "spi"
}

// command returns the applet's command that carries out a step, and the command line
// that a person would write for it, from the options on.
func (s *step) command(env *cli.Env) (cmd cli.Command, words []string, err error) {
	if s.sa != nil {
		cmd, err = spi.Make(env, s.label, *s.sa)
		return cmd, s.sa.Words(), err
	}
	switch c := s.change.(type) {
	case klips.DeleteSA:
		cmd, words = spi.Remove(env, s.label, c)
	case klips.Group:
		cmd, words = spigrp.Of(env, s.label, c.IDs...)
	case klips.Ungroup:
		cmd, words = spigrp.Of(env, s.label, c.ID)
	case klips.SetEroute, klips.SetPolicy, klips.DeleteEroute:
		cmd, words = eroute.Of(env, s.label, c)
	default:
		cmd, words = tncfg.Of(env, s.label, c)
	}
	return cmd, words, nil
}

// words returns the step's command line, from the name of the applet on.
func (s *step) words() []string {
	var words []string
	if s.sa != nil { // do not read the files that hold its keys
		words = s.sa.Words()
	} else {
		_, words, _ = s.command(&cli.Env{})
	}
	return append([]string{s.applet(), "--label", s.label}, words...)
}

// said returns the SA that a step makes or removes; the zero SAID for other steps.
func (s *step) said() klips.SAID {
	if c, ok := s.change.(klips.DeleteSA); ok {
		return c.ID
	}
	if s.sa != nil {
		return s.sa.ID
	}
	return klips.SAID{}
}

// ask returns a step for a change.
func (k *connection) ask(c klips.Change) step { return step{change: c, label: k.name} }

// askIfThere returns a step for the removal of an object that may be missing.
func (k *connection) askIfThere(c klips.Change) step {
	return step{change: c, label: k.name, ifExists: true}
}
