package commands

import "github.com/klips-go/ipsec/commands/internal/cli"

// Apps creates all applets, in the order of the registry. The generator of the manual
// pages uses it; the program itself creates only the applet that it runs.
func Apps() (apps []*cli.App) {
	for _, e := range registry() {
		apps = append(apps, e.App())
	}
	return apps
}

// Names returns the names of all applets, in the order of the registry.
func Names() (names []string) {
	for _, e := range registry() {
		names = append(names, e.Name)
	}
	return names
}
