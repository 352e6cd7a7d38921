package algs

import (
	"github.com/klips-go/ipsec/commands/internal/listing"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
)

// Values of output.Algorithm.Available.
const (
	yes     = "yes"
	no      = "no"
	unknown = "unknown"
)

// abilities are what a stack can do.
type abilities struct {
	stack string
	listing.Abilities
}

func newAbilities(stack string, a listing.Abilities) abilities { return abilities{stack, a} }

// fill writes into a record whether the stack has its algorithm.
func (c abilities) fill(r *output.Algorithm, t klips.Transform) {
	var missing []klips.Ability
	tried := false
	for _, b := range c.List {
		switch {
		case b.Algorithm != t:
		case b.Missing == "":
			tried, r.Available = true, yes
		default:
			tried = true
			missing = append(missing, b)
		}
	}
	switch {
	case tried && r.Available == yes:
		if len(missing) > 0 {
			r.Limits = output.Abilities(missing)
		}
	case tried:
		r.Available, r.Missing = no, missing[0].Missing
	case t.Comp == alg.LZS:
		r.Available, r.Missing = no, "no stack has it; use deflate"
	case c.stack == "user":
		r.Available = yes // all rows but that are its own
	case c.NotKnown != "":
		r.Missing = c.NotKnown
	default:
		r.Missing = "its kernel does not list its algorithms"
	}
}
