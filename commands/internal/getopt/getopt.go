// Package getopt reads command lines as GNU getopt_long does: long options by
// unique prefix, values after a blank or an equals sign, options and operands
// in any order, "--" ending the options.
package getopt

// An Option is one long option of an applet, as its table lists it.
type Option struct {
	Name string // without dashes
	Arg  string // placeholder of its value in usage and page ("SAID"); empty: it takes none
	Help string // one line, lower case
	// Same is the Name of the option that this one is another name of; two
	// names of one option are never ambiguous. Empty: none.
	Same string
	// Whole makes only the whole name count, so that the abbreviations of options
	// that were there before this one stay unique.
	Whole bool
	// Hidden keeps an option out of usage and completion (obsolete ones).
	Hidden bool
	// Values are what the value can be, for completion: words, or a class in
	// angle brackets such as "<file>", "<device>", "<said>". May be nil.
	Values []string
}
