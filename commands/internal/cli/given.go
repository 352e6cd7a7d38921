package cli

import "github.com/klips-go/ipsec/commands/internal/quote"

// Given holds the values of options that may come once each. The zero value is empty.
// It is a list because a command line has few of them.
type Given []given

type given struct{ name, value string }

// Value returns the value of an option, and whether it was given.
func (g Given) Value(name string) (value string, ok bool) {
	for _, o := range g {
		if o.name == name {
			return o.value, true
		}
	}
	return "", false
}

// Has reports whether an option was given.
func (g Given) Has(name string) bool {
	_, ok := g.Value(name)
	return ok
}

// Add stores the value of an option. A second use of the option is a [UsageError].
func (g *Given) Add(name, value string) error {
	if first, twice := g.Value(name); twice {
		return Usagef("--%s is given twice: %s and %s", name, quote.Value(first), quote.Value(value))
	}
	if *g == nil {
		*g = make(Given, 0, 8)
	}
	*g = append(*g, given{name, value})
	return nil
}
