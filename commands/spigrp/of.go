package spigrp

import (
	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/klips"
)

// Of returns the command that groups SAs, or takes apart the group of a single SA,
// under a label, and its command line after the name of the applet.
func Of(env *cli.Env, label string, ids ...klips.SAID) (cli.Command, []string) {
	r := &request{ids: ids}
	r.Label = label
	words := []string{"--said"}
	for _, id := range ids {
		words = append(words, id.String())
	}
	cmd, _ := r.Command(env, App, nil, r)
	return cmd, words
}
