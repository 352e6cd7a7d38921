package commands

import "github.com/klips-go/ipsec/commands/internal/cli"

// Apps makes all applets, in the order of the registry. It is for the generator
// of the manual pages; the program itself makes only the applet it needs.
func Apps() []*cli.App {
	apps := make([]*cli.App, len(registry))
	for i := range registry {
		apps[i] = registry[i].app()
	}
	return apps
}
