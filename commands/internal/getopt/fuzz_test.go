package getopt

import (
	"slices"
	"strings"
	"testing"
)

// FuzzReadArgs reads files of arguments. If each argument fits on one line, writing and
// reading them again gives the same arguments.
func FuzzReadArgs(f *testing.F) {
	for _, s := range []string{"# x\n--src 1\t2\n\"a b\"\nc d\n", "\"\n-\n\"\"", "--a\r\n", "\n\n#\n-\t \n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		args, err := ReadArgs(strings.NewReader(text))
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r\x00") {
				t.Fatalf("ReadArgs(%q): message %q", text, err)
			}
			return
		}
		var b strings.Builder
		for _, a := range args {
			if strings.Contains(a, "\n") || len(a)+2 > maxLine {
				t.Fatalf("ReadArgs(%q) has the argument %q", text, a)
			}
			b.WriteString(`"` + a + "\"\n")
		}
		again, err := ReadArgs(strings.NewReader(b.String()))
		if err != nil || !slices.Equal(again, args) {
			t.Fatalf("ReadArgs(%q) = %q, read back as %q, %v", text, args, again, err)
		}
	})
}
