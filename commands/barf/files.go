package barf

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/environ"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/manual/conf"
	"github.com/klips-go/ipsec/klips/user"
)

// parameters returns the parameters of the kernel that decide about packets of tunnels.
func (r *request) parameters() section {
	s := section{name: "/proc/sys"}
	for _, pattern := range [...]string{
		"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding",
		"net/ipv4/conf/*/rp_filter", "net/ipv4/conf/*/send_redirects", "net/ipv4/conf/*/accept_redirects",
		"net/ipv4/conf/*/disable_xfrm", "net/ipv4/conf/*/disable_policy", "net/ipv4/ip_no_pmtu_disc",
		"net/ipv6/conf/*/disable_ipv6", "net/core/rmem_max", "net/core/wmem_max", "net/core/xfrm_*", "net/ipsec/*", "user/max_net_namespaces",
	} {
		for _, path := range r.machine.glob("/proc/sys/" + pattern) {
			if b, err := r.machine.read(path); err == nil {
				s.text += fmt.Sprintf("%s = %s\n", strings.TrimPrefix(path, "/proc/sys/"), bytes.TrimSpace(b))
			}
		}
	}
	return s
}

// logLines is how many lines of the daemon's log are shown.
const logLines = 200

// files returns the files of connections without their keys, and the end of the daemon's log.
func (r *request) files(env *cli.Env) (l []section) {
	names, err := conf.Search("", env.Getenv)
	if err != nil {
		l = append(l, section{"files of connections", explain.Cause(err) + "\n"})
	}
	if boot := environ.BootConf(env.Getenv); boot != "" && !slices.Contains(names, boot) {
		names = append(names, boot)
	}
	for _, name := range names {
		if abs, err := filepath.Abs(name); err == nil {
			name = abs
		}
		s := section{name: quote.File(name)}
		if b, err := r.machine.read(name); err != nil {
			s.text = explain.Cause(err) + "\n"
		} else {
			s.text = withoutKeys(string(b))
		}
		l = append(l, s)
	}
	if dir, err := environ.Rundir(env.Getenv); err == nil {
		s := section{name: "log of the daemon"}
		if b, err := r.machine.read(user.LogPath(dir)); err != nil {
			s.text = explain.Cause(err) + "\n"
		} else {
			lines := strings.SplitAfter(strings.TrimSuffix(string(b), "\n"), "\n")
			for _, line := range lines[max(0, len(lines)-logLines):] {
				s.text += withoutKeyWords(strings.TrimSuffix(line, "\n")) + "\n"
			}
		}
		l = append(l, s)
	}
	return l
}

// withoutKeys returns the text of a file of connections without what is a key or may be one.
// The names of files with keys stay.
func withoutKeys(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(withoutKey(strings.TrimSuffix(line, "\n")) + "\n")
	}
	return b.String()
}

func withoutKey(line string) string {
	param, value, found := strings.Cut(line, "=")
	if !found || strings.Contains(param, "#") || !forKeys(strings.ToLower(strings.TrimSpace(param))) {
		return withoutKeyWords(line)
	}
	value = strings.TrimSpace(value)
	if file, ok := strings.CutPrefix(strings.Trim(value, `"`), "@"); ok {
		name, _, _ := strings.Cut(file, "#")
		if name = strings.TrimSpace(strings.Trim(strings.TrimSpace(name), `"`)); !strings.ContainsAny(name, " \t") && withoutKeyWords(name) == name {
			return param + "=@" + name
		}
	}
	return fmt.Sprintf("%s=(%d characters, not shown: it is a key)", param, len(value))
}

// forKeys reports whether a parameter can have a key, in this program or another one.
func forKeys(param string) bool {
	for _, part := range [...]string{"key", "secret", "psk", "password", "rsasig"} {
		if strings.Contains(param, part) {
			return true
		}
	}
	return false
}

// withoutKeyWords replaces the words of a line that may be keys.
func withoutKeyWords(line string) string {
	var b strings.Builder
	for line != "" {
		blank := len(line) - len(strings.TrimLeft(line, " \t"))
		b.WriteString(line[:blank])
		line = line[blank:]
		word, rest := line, ""
		if i := strings.IndexAny(line, " \t"); i >= 0 {
			word, rest = line[:i], line[i:]
		}
		if quote.MayBeKey(word) {
			fmt.Fprintf(&b, "(%d characters, not shown: it may be a key)", len(word))
		} else {
			b.WriteString(word)
		}
		line = rest
	}
	return b.String()
}
