package output

import "github.com/klips-go/ipsec/klips"

// The program or the stack.
type Component struct {
	// program or stack.
	Component string `json:"component"`
	// Its name: ipsec, or that of the stack. Left out where there is no stack.
	Name string `json:"name,omitempty"`
	// Its version. That of a stack is the line of ipsec_version(5).
	Version string `json:"version,omitempty"`
	// Why there is no stack, or why its version is not known.
	Problem string `json:"problem,omitempty"`
	// Why this stack is used.
	Chosen string `json:"chosen,omitempty"`
	// With --abilities: what the stack can do and what it lacks, where that depends on the
	// kernel.
	Abilities []Ability `json:"abilities,omitempty"`
	// Why that is not known.
	AbilitiesProblem string `json:"abilities_problem,omitempty"`
}

// Something that a stack has or lacks.
type Ability struct {
	// What it is: esp over IPv4, or the name of an algorithm.
	Name string `json:"name"`
	// Whether the stack has it.
	Available bool `json:"available"`
	// Why it lacks it.
	Missing string `json:"missing,omitempty"`
}

// Abilities returns the abilities of a stack, present and missing, as records.
func Abilities(l []klips.Ability) []Ability {
	return each(l, func(a *klips.Ability) Ability { return Ability{a.Name, a.Missing == "", a.Missing} })
}
