// Package buildinfo returns the version of the program.
package buildinfo

import "runtime/debug"

// override is the version set by the linker (-X). If it is empty, the build information
// has the version.
var override string

// Version returns the version of the program: that of the linker, else that of the
// module or commit, else "devel".
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
