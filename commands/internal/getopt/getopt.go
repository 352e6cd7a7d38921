// Package getopt reads command lines as GNU getopt_long does: long options by
// unique prefix, values after a blank or an equals sign, options and operands
// in any order, "--" ending the options.
package getopt

// An Option is one long option of an applet, as its table lists it.
type Option struct {
	Name string // without dashes
	Arg  string // placeholder of its value in usage and page ("SAID"); empty: it takes none
	Help string // one line, lower case
	// Same is the Name of the option that this one is a synonym of. Two names of one
	// option are never ambiguous. Empty: none.
	Same string
	// Whole: the name cannot be abbreviated. So the abbreviations of older options stay
	// unique.
	Whole bool
	// Hidden: usage and completion leave the option out, because it is obsolete.
	Hidden bool
	// Values are the possible values, for completion: words, or a class in angle
	// brackets such as "<file>", "<device>", "<said>", "<conn>". May be nil.
	Values []string
}
