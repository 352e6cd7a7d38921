package main

import (
	"strings"
	"unicode/utf8"
)

// escape escapes text so that mandoc and groff print exactly its characters, and no
// typographic ones.
var escape = strings.NewReplacer(
	`\`, `\e`,
	`-`, `\-`,
	`'`, `\(aq`,
	"`", `\(ga`,
	`^`, `\(ha`,
	`~`, `\(ti`,
).Replace

// literal escapes a line of a literal display.
func literal(line string) string {
	if strings.HasPrefix(line, ".") {
		return `\&` + escape(line)
	}
	return escape(line)
}

// width is the number of columns of a folded line in a display: those of a terminal,
// 80, less the indent of a page. The usual eroute line just fits.
const width = 75

// fold breaks a line at blanks so that no piece is wider than width, if its words allow
// it. Every piece except the last gets the suffix, every piece except the first is
// indented. Quoted words stay in one piece.
func fold(line, suffix string) []string {
	const indent = "    "
	var out []string
	cur := ""
	for _, w := range words(line) {
		switch {
		case cur == "":
			cur = w
		case utf8.RuneCountInString(cur)+1+utf8.RuneCountInString(w)+len(suffix) > width && strings.TrimSpace(cur) != "":
			out = append(out, cur+suffix)
			cur = indent + w
		default:
			cur += " " + w
		}
	}
	return append(out, cur)
}

// words splits a line at single blanks. It does not split text in single quotes, or an
// option from its value. In a run of blanks, the others are part of the word before
// them, so that joining with one blank restores the line.
func words(line string) []string {
	var out []string
	start, quoted := 0, false
	for i := 0; i < len(line); i++ {
		switch {
		case line[i] == '\'':
			quoted = !quoted
		case line[i] == ' ' && !quoted && i > start && (i+1 == len(line) || line[i+1] != ' '):
			out = append(out, line[start:i])
			start = i + 1
		}
	}
	out = append(out, line[start:])
	for i := 0; i+1 < len(out); i++ {
		if strings.HasPrefix(out[i], "--") && !strings.HasPrefix(out[i+1], "-") {
			out[i] += " " + out[i+1]
			out = append(out[:i+1], out[i+2:]...)
		}
	}
	return out
}

// synopsisMacros marks up one synopsis line of a usage text. Options become Fl, words
// in capitals Ar, brackets Oo and Oc, the rest Cm.
func synopsisMacros(line string) []string {
	for _, s := range []string{"[", "]", "|", "{", "}", "..."} {
		line = strings.ReplaceAll(line, s, " "+s+" ")
	}
	line = strings.ReplaceAll(line, "…", " ... ")
	var out []string
	for _, w := range strings.Fields(line) {
		switch {
		case w == "[":
			out = append(out, ".Oo")
		case w == "]":
			out = append(out, ".Oc")
		case w == "|" || w == "{" || w == "}":
			out = append(out, w)
		case w == "...":
			out = append(out, ".No ...")
		case strings.HasPrefix(w, "--"):
			name, val, ok := strings.Cut(w[2:], "=")
			m := `.Fl \-` + escape(name)
			if ok {
				m += " Ns = Ns Ar " + escape(val)
			}
			out = append(out, m)
		case w == strings.ToUpper(w) && strings.ContainsAny(w, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"):
			out = append(out, ".Ar "+escape(w))
		default:
			out = append(out, ".Cm "+escape(w))
		}
	}
	return out
}

// sentence turns the help text of an option, which is in lower case and without a full
// stop, into a sentence.
func sentence(help string) string {
	r, n := utf8.DecodeRuneInString(help)
	if n == 0 {
		return ""
	}
	s := strings.ToUpper(string(r)) + help[n:]
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	s = prose(s)
	if strings.HasPrefix(s, ".") {
		s = `\&` + s
	}
	return s
}

// prose escapes the characters of running text that are special in roff, and marks up
// options.
func prose(s string) string {
	return strings.NewReplacer(`\`, `\e`, "--", `\-\-`, "…", "...", "`", `\(ga`, "~", `\(ti`, "^", `\(ha`).Replace(s)
}
