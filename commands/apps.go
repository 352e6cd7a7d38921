package commands

import "github.com/klips-go/ipsec/commands/internal/cli"

// Apps makes all applets, in the order of the registry. It is for the generator
// of the manual pages; the program itself makes only the applet it needs.
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
