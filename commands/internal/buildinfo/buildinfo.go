// Package buildinfo knows which version of the program this is.
package buildinfo

import "runtime/debug"

// override is the version that the linker was given (-X); empty: that of the
// build information.
var override string

// Version returns the version of the program: the linker's, else that of the
// module or of the commit it was built from, else "devel".
func Version() string {
	if override != "" {
		return override
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}
