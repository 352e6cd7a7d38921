package batch

import (
	"strings"

	"github.com/klips-go/ipsec/commands/eroute"
	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/klipsdebug"
	"github.com/klips-go/ipsec/commands/look"
	"github.com/klips-go/ipsec/commands/ranbits"
	"github.com/klips-go/ipsec/commands/spi"
	"github.com/klips-go/ipsec/commands/spigrp"
	"github.com/klips-go/ipsec/commands/tncfg"
	"github.com/klips-go/ipsec/commands/version"
)

// commands are the applets that can stand in a file: those that end by
// themselves and read no standard input.
var commands = [...]struct {
	name string
	app  func() *cli.App
}{
	{"spi", spi.App},
	{"spigrp", spigrp.App},
	{"eroute", eroute.App},
	{"tncfg", tncfg.App},
	{"klipsdebug", klipsdebug.App},
	{"look", look.App},
	{"version", version.App},
	{"ranbits", ranbits.App},
}

// others are the applets that cannot.
var others = [...]string{"batch", "manual", "pf_key", "setup", "klipsd", "natt", "help", "completion"}

// names lists the commands in words.
func names() string {
	list := make([]string, len(commands))
	for i, c := range commands {
		list[i] = c.name
	}
	return strings.Join(list[:len(list)-1], ", ") + " and " + list[len(list)-1]
}
