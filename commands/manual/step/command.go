package step

import (
	"github.com/klips-go/ipsec/commands/eroute"
	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/spi"
	"github.com/klips-go/ipsec/commands/spigrp"
	"github.com/klips-go/ipsec/commands/tncfg"
	"github.com/klips-go/ipsec/klips"
)

// asks reports whether a step is a change of the stack.
func (s *Step) asks() bool { return s.Change != nil || s.SA != nil }

// applet returns the name of the applet that appears in a step's messages.
func (s *Step) applet() string {
	switch s.Change.(type) {
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
func (s *Step) command(env *cli.Env) (cmd cli.Command, words []string, err error) {
	if s.SA != nil {
		cmd, err = spi.Make(env, s.Label, *s.SA)
		return cmd, s.SA.Words(), err
	}
	switch c := s.Change.(type) {
	case klips.DeleteSA:
		cmd, words = spi.Remove(env, s.Label, c)
	case klips.Group:
		cmd, words = spigrp.Of(env, s.Label, c.IDs...)
	case klips.Ungroup:
		cmd, words = spigrp.Of(env, s.Label, c.ID)
	case klips.SetEroute, klips.SetPolicy, klips.DeleteEroute:
		cmd, words = eroute.Of(env, s.Label, c)
	default:
		cmd, words = tncfg.Of(env, s.Label, c)
	}
	return cmd, words, nil
}

// words returns the step's command line, from the name of the applet on.
func (s *Step) words() []string {
	var words []string
	if s.SA != nil { // do not read the files that hold its keys
		words = s.SA.Words()
	} else {
		_, words, _ = s.command(&cli.Env{})
	}
	return append([]string{s.applet(), "--label", s.Label}, words...)
}

// SAID returns the SA that a step makes or removes; the zero SAID for other steps.
func (s *Step) SAID() klips.SAID {
	if c, ok := s.Change.(klips.DeleteSA); ok {
		return c.ID
	}
	if s.SA != nil {
		return s.SA.ID
	}
	return klips.SAID{}
}
