package quote

import "testing"

func TestShell(t *testing.T) {
	for word, want := range map[string]string{
		"": "''", "esp0x200@10.0.0.1": "esp0x200@10.0.0.1", "%pass": "%pass", "a b": "'a b'", "it's": `'it'\''s'`,
		"$x": "'$x'", "a;b": "'a;b'", "ä": "'ä'", "*": "'*'", "~": "'~'",
	} {
		if got := Shell(word); got != want {
			t.Errorf("Shell(%q) = %s, want %s", word, got, want)
		}
	}
}
