package manual

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/routes"
)

// hidden replaces keys in printed text.
const hidden = "…"

// redact returns args without keys. Names of key files are kept.
func redact(args []string) []string {
	out := slices.Clone(args)
	for i := 1; i < len(out); i++ {
		if (args[i-1] == "--authkey" || args[i-1] == "--enckey") && !strings.HasPrefix(args[i], "@") {
			out[i] = hidden
		}
	}
	return out
}

// shellWord quotes a word for sh.
func shellWord(word string) string {
	plain := word != ""
	for i := 0; i < len(word) && plain; i++ {
		c := word[i]
		plain = 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("_-+=:,./@%", c) >= 0
	}
	if plain {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

func shellWords(words []string) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteByte(' ')
		}
		if w == hidden {
			b.WriteString(w)
		} else {
			b.WriteString(shellWord(w))
		}
	}
	return b.String()
}

// text returns a step as a shell command. stack is the requested stack; it may be
// empty.
func (s *step) text(stack string, keys bool) string {
	switch {
	case s.route != nil:
		return s.routeText()
	case s.backstop != nil:
		return s.backstopText()
	case s.guard != nil && s.remove:
		return "# " + s.guard.Selector.String() + ": may pass in clear"
	case s.guard != nil:
		return "# " + s.guard.Selector.String() + ": must not pass in clear; ipsec manual itself keeps it so"
	case s.address != nil:
		return "ip addr " + addOrDel(s.remove) + " " + s.address.String() + " dev " + s.device
	case s.device != "":
		return "ip link set " + s.device + upOrDown(s.remove)
	case s.script != "":
		return "PLUTO_VERB=" + s.verb + " sh -c " + shellWord(s.script)
	}
	words := []string{"ipsec"}
	if stack != "" {
		words = append(words, "--stack", stack)
	}
	args := s.words()
	if !keys {
		args = redact(args)
	}
	return shellWords(append(words, args...))
}

func (s *step) backstopText() string {
	ip := "ip"
	if s.backstop.Addr().Is6() {
		ip = "ip -6"
	}
	verb := "replace" // an existing route is not an error
	if s.remove {
		verb = "del"
	}
	return fmt.Sprintf("%s route %s unreachable %s metric %d proto %d",
		ip, verb, s.backstop, uint32(routes.BackstopMetric), routes.BackstopProtocol)
}

func (s *step) routeText() string {
	r, verb := s.route, addOrDel(s.remove)
	if s.replace {
		verb = "replace"
	}
	words := []string{"ip", "route", verb, r.Dst.String()}
	if r.Dst.Addr().Is6() {
		words[0] = "ip -6"
	}
	if r.Gateway.IsValid() {
		words = append(words, "via", r.Gateway.String())
	}
	if r.Device != "" {
		words = append(words, "dev", r.Device)
	}
	return strings.Join(words, " ")
}

func addOrDel(remove bool) string {
	if remove {
		return "del"
	}
	return "add"
}

func upOrDown(down bool) string {
	if down {
		return " down"
	}
	return " up"
}

// write writes the plan as a script for sh, with its keys. stops makes the script stop
// at the first failure, as the operation does.
func (p *plan) write(w io.Writer, stack string, stops bool) error {
	var b strings.Builder
	if stops {
		b.WriteString("set -e\n")
	}
	for _, s := range p.steps {
		if s.script == "" {
			continue
		}
		for _, v := range p.environ {
			name, value, _ := strings.Cut(v, "=")
			fmt.Fprintf(&b, "export %s=%s\n", name, shellWord(value))
		}
		break
	}
	for i := range p.steps {
		s := &p.steps[i]
		b.WriteString(s.text(stack, true))
		if stops && s.ifExists && s.guard == nil {
			b.WriteString(" 2>/dev/null || :")
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}
