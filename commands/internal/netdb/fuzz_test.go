package netdb

import (
	"strings"
	"testing"
)

// FuzzEntry reads lines of /etc/protocols and /etc/services. Only a whole word outside
// the comment, other than the number, is a name.
func FuzzEntry(f *testing.F) {
	f.Add("tcp\t6\tTCP # transmission control", "TCP")
	f.Add("http 80/tcp www", "80/tcp")
	f.Add("x 65536 y", "y")
	f.Fuzz(func(t *testing.T, line, name string) {
		n, ok := entry(line, name)
		if !ok {
			if n != 0 {
				t.Fatalf("entry(%q, %q) = %d although there is none", line, name, n)
			}
			return
		}
		text, _, _ := strings.Cut(line, "#")
		fields := strings.Fields(text)
		if len(fields) < 2 || !strings.Contains(fields[0]+" "+strings.Join(fields[2:], " "), name) {
			t.Fatalf("entry(%q, %q) = %d", line, name, n)
		}
	})
}
