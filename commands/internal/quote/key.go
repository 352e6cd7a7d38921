package quote

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klips-go/ipsec/klips/syntax"
)

// words are words of the command lines that are never treated as keys, besides the
// names of algorithms.
var words = [...]string{
	"inet", "inet6", "ah", "esp", "tun", "comp", "int", "nonesp", "nonike", "none",
	"tcp", "udp", "icmp", "all", "start", "stop", "restart", "status", "set", "help",
}

// Known reports whether a word is certainly not a part of a key: a word of the command
// lines, the name of an algorithm, an option, an address, a subnet, a SAID, or a device
// with a usual name. IPv6 addresses count only if they contain "::", because eight
// groups of hex digits can be a key.
func Known(text string) bool {
	if strings.Trim(text, "|&;<>(){}") == "" || slices.Contains(words[:], text) || isDevice(text) {
		return true // also an empty text, or text that the shell normally removes
	}
	if name, ok := strings.CutPrefix(text, "--"); ok {
		return name == "" || isOptionName(name)
	}
	if a, err := netip.ParseAddr(text); err == nil {
		return isAddr(a, text)
	}
	if p, err := netip.ParsePrefix(text); err == nil {
		return isAddr(p.Addr(), text)
	}
	if strings.ContainsAny(text, "@%") {
		if _, err := syntax.ParseSAID(text, nil); err == nil {
			return true
		}
	}
	for _, list := range [...]func() []syntax.AlgName{syntax.ESPNames, syntax.AHNames, syntax.CompNames} {
		if slices.ContainsFunc(list(), func(a syntax.AlgName) bool { return a.Name == text }) {
			return true
		}
	}
	return false
}

func isAddr(a netip.Addr, text string) bool {
	return a.Zone() == "" && (a.Is4() || strings.Contains(text, "::"))
}

// isOptionName reports whether a name has the form of an option or a command: small
// letters, hyphens and underscores, and not only hex digits.
func isOptionName(name string) bool {
	if len(name) > 24 || name == "" {
		return false
	}
	if len(name) == 1 {
		return name != "-"
	}
	beyondHex := len(name) <= 3 // too short to be worth hiding
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'f':
		case 'g' <= c && c <= 'z':
			beyondHex = true
		case (c == '-' || c == '_') && i > 0:
		default:
			return false
		}
	}
	return beyondHex
}

// devices are the beginnings of usual device names; a number follows.
var devices = [...]string{
	"ipsec", "mast", "eth", "wlan", "veth", "tun", "tap", "br", "bond", "ppp", "dummy", "vlan", "wg", "eno", "ens",
}

// isDevice reports whether a word is a usual name of a network device: one of devices
// and at most four digits, or the position on the bus in the form of systemd.
func isDevice(text string) bool {
	if text == "lo" {
		return true
	}
	for _, d := range devices {
		if n, ok := strings.CutPrefix(text, d); ok && 0 < len(n) && len(n) <= 4 && strings.Trim(n, "0123456789") == "" {
			return true
		}
	}
	// enp0s31f6, wlp2s0: en or wl, then letters of the bus with their numbers.
	rest, ok := strings.CutPrefix(text, "en")
	if !ok {
		rest, ok = strings.CutPrefix(text, "wl")
	}
	if !ok || rest == "" || rest[0] != 'p' || len(rest) > 13 {
		return false
	}
	for rest != "" {
		if strings.IndexByte("psfnd", rest[0]) < 0 {
			return false
		}
		tail := strings.TrimLeft(rest[1:], "0123456789")
		if n := len(rest) - 1 - len(tail); n == 0 || n > 4 {
			return false
		}
		rest = tail
	}
	return true
}

// MayBeKey reports whether the value of an option that takes no key may still be a key
// or a part of one: it has the prefix of keys, or consists of six or more hex digits,
// or has a run of characters that looks like base64. In doubt it reports true.
func MayBeKey(text string) bool {
	if Known(text) {
		return false
	}
	for part := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune("=,/@ \t", r) }) {
		if !Known(part) && !isDotted(part) && !isSAIDHead(part) && (hasPrefix(part) || isHex(part) || isRandom(part)) {
			return true
		}
	}
	return false
}

// hasPrefix reports whether a text begins like a key, or contains 0x and six or more
// hex digits. 0x and fewer digits is a number.
func hasPrefix(s string) bool {
	if len(s) > 2 && s[0] == '0' && strings.IndexByte("sStT", s[1]) >= 0 {
		return true
	}
	for i := strings.IndexAny(s, "xX"); i >= 0; {
		rest := s[i+1:]
		if i > 0 && s[i-1] == '0' && len(rest) >= 6 && len(strings.TrimLeft(rest[:6], hexDigits)) == 0 {
			return true
		}
		next := strings.IndexAny(rest, "xX")
		if next < 0 {
			break
		}
		i += 1 + next
	}
	return len(s) > 2+5 && (s[:2] == "0x" || s[:2] == "0X")
}

const hexDigits = "0123456789abcdefABCDEF"

// isSAIDHead reports whether a text is the part of a SAID before the @: a protocol and
// an SPI of at most 32 bits.
func isSAIDHead(s string) bool {
	if len(s) > len("comp0x")+8 {
		return false
	}
	_, err := syntax.ParseSAID(s+"@0.0.0.0", nil)
	if err != nil {
		_, err = syntax.ParseSAID(s+"@::", nil)
	}
	return err == nil
}

// isHex reports whether a text consists of six or more hex digits, perhaps with
// separators between them, or has sixteen hex digits in a row.
func isHex(s string) bool {
	digits, row, only := 0, 0, true
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'f', 'A' <= c && c <= 'F':
			digits++
			if row++; row == 16 {
				return true
			}
			continue
		case 'g' <= c && c <= 'z', 'G' <= c && c <= 'Z', c >= 0x80:
			only = false
		}
		row = 0
	}
	return only && digits >= 6
}

// isDotted reports whether a text consists of decimal numbers of at most three digits
// with dots between them, like an IPv4 address, right or wrong.
func isDotted(s string) bool {
	if !strings.Contains(s, ".") {
		return false
	}
	for part := range strings.SplitSeq(s, ".") {
		if len(part) > 3 || strings.Trim(part, "0123456789") != "" {
			return false
		}
	}
	return true
}

// isRandom reports whether a text has eight or more letters and digits in a row that
// change at least four times between capitals, small letters and digits. Names rarely
// do; base64 nearly always does.
func isRandom(s string) bool {
	const other = 3
	class, length, changes := other, 0, 0
	for i := 0; i < len(s); i++ {
		next := other
		switch c := s[i]; {
		case 'a' <= c && c <= 'z':
			next = 0
		case 'A' <= c && c <= 'Z':
			next = 1
		case '0' <= c && c <= '9', c == '+':
			next = 2
		}
		if next == other {
			length, changes = 0, 0
		} else {
			if length > 0 && next != class {
				changes++
			}
			if length++; length >= 8 && changes >= 4 {
				return true
			}
		}
		class = next
	}
	return false
}

// IsKey reports whether a text is so likely a key that it must not be looked up as a
// name, because the query would send it over the network. It is stricter than
// [MayBeKey], because hosts may have unusual names.
func IsKey(text string) bool {
	if len(text) < 16 {
		return false
	}
	row := 0
	for i := 0; i < len(text); i++ {
		if row++; strings.IndexByte(hexDigits, text[i]) < 0 {
			row = 0
		}
		if row == 16 {
			return true
		}
	}
	return text[0] == '0' && strings.IndexByte("xXsStT", text[1]) >= 0
}

// File returns the name of a file for a message: like [Text] if the file or its folder
// exists, else like [Value]. A key in the place of a file name is never shown.
func File(name string) string {
	if _, err := os.Lstat(name); err == nil {
		return Text(name)
	}
	if dir := filepath.Dir(name); strings.Contains(name, "/") && strings.Trim(dir, "./") != "" {
		if _, err := os.Stat(dir); err == nil {
			return Text(name)
		}
	}
	return Value(name)
}

// FileError returns an error about a file: the name in the form of [File], and the
// reason of the system's error err. It unwraps to err.
func FileError(name string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return fmt.Errorf("%s: %w", File(name), err)
}
