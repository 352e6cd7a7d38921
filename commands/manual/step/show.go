package step

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/internal/routes"
)

// Hidden replaces keys in printed text.
const Hidden = "…"

// redact returns args without keys. Names of key files are kept.
func redact(args []string) []string {
	out := slices.Clone(args)
	for i := 1; i < len(out); i++ {
		if (args[i-1] == "--authkey" || args[i-1] == "--enckey") && !strings.HasPrefix(args[i], "@") {
			out[i] = Hidden
		}
	}
	return out
}

// ShellWords returns words as a command line for a shell. [Hidden] stays as it is.
func ShellWords(words []string) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteByte(' ')
		}
		if w == Hidden {
			b.WriteString(w)
		} else {
			b.WriteString(quote.Shell(w))
		}
	}
	return b.String()
}

// Text returns a step as a shell command. stack is the requested stack; it may be
// empty. Without keys, Hidden replaces them; names of key files are kept.
func (s *Step) Text(stack string, keys bool) string {
	switch {
	case s.Route != nil:
		return s.routeText()
	case s.Backstop != nil:
		return s.backstopText()
	case s.Guard != nil && s.Remove:
		return "# " + s.Guard.Selector.String() + ": may pass in clear"
	case s.Guard != nil:
		return "# " + s.Guard.Selector.String() + ": must not pass in clear; ipsec manual itself keeps it so"
	case s.Address != nil:
		return "ip addr " + addOrDel(s.Remove) + " " + s.Address.String() + " dev " + s.Device
	case s.Clamp != nil && s.Remove:
		return "nft " + quote.Shell(s.Clamp.RemoveText())
	case s.Clamp != nil:
		return "nft " + quote.Shell(s.Clamp.SetText())
	case s.MTU != 0:
		return fmt.Sprintf("ip link set %s mtu %d", s.Device, s.MTU)
	case s.Device != "":
		return "ip link set " + s.Device + upOrDown(s.Remove)
	case s.Script != "":
		return "PLUTO_VERB=" + s.Verb + " sh -c " + quote.Shell(s.Script)
	}
	words := []string{"ipsec"}
	if stack != "" {
		words = append(words, "--stack", stack)
	}
	args := s.words()
	if !keys {
		args = redact(args)
	}
	return ShellWords(append(words, args...))
}

func (s *Step) backstopText() string {
	ip := "ip"
	if s.Backstop.Addr().Is6() {
		ip = "ip -6"
	}
	verb := "replace" // an existing route is not an error
	if s.Remove {
		verb = "del"
	}
	return fmt.Sprintf("%s route %s unreachable %s metric %d proto %d",
		ip, verb, s.Backstop, uint32(routes.BackstopMetric), routes.BackstopProtocol)
}

func (s *Step) routeText() string {
	r, verb := s.Route, addOrDel(s.Remove)
	if s.Replace {
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
	if r.Src.IsValid() {
		words = append(words, "src", r.Src.String())
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

// Reveal replaces the ellipses that stand for derived keys by these keys, as text that cannot
// be cleared. The error is that of the derivation.
func (p *Plan) Reveal() error {
	for i := range p.Steps {
		d := p.Steps[i].SA
		if d == nil || d.Keys == nil {
			continue
		}
		enc, auth, err := d.Keys()
		if err != nil {
			return err
		}
		for text, key := range map[*string][]byte{&d.EncKey: enc, &d.AuthKey: auth} {
			if key != nil {
				*text = fmt.Sprintf("0x%x", key)
			}
			clear(key)
		}
	}
	return nil
}

// Write writes the plan as a script for sh, with its keys. stops makes the script stop
// at the first failure, as the operation does. The error is that of w.
func (p *Plan) Write(w io.Writer, stack string, stops bool) error {
	var b strings.Builder
	if stops {
		b.WriteString("set -e\n")
	}
	for _, s := range p.Steps {
		if s.Script == "" {
			continue
		}
		for _, v := range p.Environ {
			name, value, _ := strings.Cut(v, "=")
			fmt.Fprintf(&b, "export %s=%s\n", name, quote.Shell(value))
		}
		break
	}
	for i := range p.Steps {
		s := &p.Steps[i]
		b.WriteString(s.Text(stack, true))
		if stops && s.IfExists && s.Guard == nil {
			b.WriteString(" 2>/dev/null || :")
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}
