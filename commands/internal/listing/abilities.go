package listing

import (
	"fmt"
	"io"
	"strings"

	"github.com/klips-go/ipsec/klips"
)

// WriteAbilities prints what a stack can do: what it has on one line, and on a
// line each what it lacks and why.
func WriteAbilities(w io.Writer, l []klips.Ability) {
	var has []string
	for _, a := range l {
		if a.Missing == "" {
			has = append(has, a.Name)
		}
	}
	fmt.Fprintf(w, "it has %s\n", strings.Join(has, ", "))
	for _, a := range l {
		if a.Missing != "" {
			fmt.Fprintf(w, "it lacks %s: %s\n", a.Name, a.Missing)
		}
	}
}
