package output

import "github.com/klips-go/ipsec/klips"

// The program or the stack.
type Component struct {
	// program or stack.
	Component string `json:"component"`
	// Its name: ipsec, or that of the stack. Left out if there is no stack.
	Name string `json:"name,omitempty"`
	// Its version. That of a stack is the line of ipsec_version(5).
	Version string `json:"version,omitempty"`
	// The reason why there is no stack, or why its version is not known.
	Problem string `json:"problem,omitempty"`
	// The reason why this stack is used.
	Chosen string `json:"chosen,omitempty"`
	// With --abilities: what the stack can do and what it lacks, where that depends on the
	// kernel.
	Abilities []Ability `json:"abilities,omitempty"`
	// The reason why the abilities are not known.
	AbilitiesProblem string `json:"abilities_problem,omitempty"`
}

// An ability of a stack, present or missing.
type Ability struct {
	// Its name: esp over IPv4, or the name of an algorithm.
	Name string `json:"name"`
	// Whether the stack has it.
	Available bool `json:"available"`
	// The reason why it is missing.
	Missing string `json:"missing,omitempty"`
}

// Abilities returns the abilities of a stack, present and missing, as records.
func Abilities(l []klips.Ability) []Ability {
	return each(l, func(a *klips.Ability) Ability { return Ability{a.Name, a.Missing == "", a.Missing} })
}
