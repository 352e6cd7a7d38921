package testscripts

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/klips-go/ipsec/manpages"
)

// cmdJSON reads the output of an applet with --json, like a program that knows only the
// page. A path consists of names of fields and numbers of elements, from 0, with dots
// between them. "len" at its end is the number of elements of an array. A missing field
// has an empty value: "spi.0.idle_seconds=".
func cmdJSON(ts *testscript.TestScript, args []string) {
	text := ts.ReadFile(args[1])
	list, err := manpages.ReadJSON(args[0], []byte(text))
	if err != nil {
		ts.Fatalf("%v\n%s", err, text)
	}
	for _, arg := range args[2:] {
		path, want, ok := strings.Cut(arg, "=")
		got, err := jsonValue(list, path)
		if err != nil || !ok || got != want {
			ts.Fatalf("%s is %q, %v, want %q:\n%s", path, got, err, want, text)
		}
	}
}

// jsonValue returns the value at a path as text: a string unchanged, any other value as
// JSON.
func jsonValue(v any, path string) (string, error) {
	for name := range strings.SplitSeq(path, ".") {
		switch c := v.(type) {
		case map[string]any:
			v = c[name]
		case []any:
			if name == "len" {
				v = len(c)
				break
			}
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(c) {
				return "", errors.New("there is no element " + name)
			}
			v = c[i]
		default:
			return "", errors.New("what has no fields is asked for " + name)
		}
	}
	switch v := v.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	}
	b, err := json.Marshal(v)
	return string(b), err
}
