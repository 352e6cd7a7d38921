package manpages

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
)

//go:embed ipsec_json.5
var jsonPage string

// ReadJSON reads the output of "ipsec APPLET --json". It returns an error unless the
// text is one object of the form that the page ipsec_json(5) describes. Unknown fields,
// missing fields that are not optional, wrong types, null, and duplicate fields are
// errors. It knows only the page, like a program that was written with the page.
//
// Objects become map[string]any, arrays []any, numbers [json.Number].
func ReadJSON(applet string, text []byte) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	v, err := readValue(d)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the object")
	}
	sections, err := readSections()
	if err != nil {
		return nil, err
	}
	list, ok := sections["ipsec "+applet]
	if !ok {
		return nil, fmt.Errorf("ipsec_json(5) does not describe ipsec %s", applet)
	}
	c := checker{sections: sections}
	c.object(applet, v, slices.Concat(sections["Every list"], list))
	o, _ := v.(map[string]any)
	return o, errors.Join(c.errs...)
}

// readValue reads a value. Unlike [json.Decoder.Decode] it refuses duplicate names in
// an object.
func readValue(d *json.Decoder) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	delim, ok := t.(json.Delim)
	if !ok {
		return t, nil
	}
	object, array := map[string]any{}, []any{}
	for d.More() {
		var name string
		if delim == '{' {
			t, err := d.Token()
			if err != nil {
				return nil, err
			}
			name = t.(string)
		}
		v, err := readValue(d)
		if err != nil {
			return nil, err
		}
		if _, twice := object[name]; twice {
			return nil, fmt.Errorf("%s is there twice", name)
		}
		if delim == '{' {
			object[name] = v
		} else {
			array = append(array, v)
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	if delim == '{' {
		return object, nil
	}
	return array, nil
}

// A jsonField is a field in the words of the page.
type jsonField struct {
	name, typ string
	optional  bool
}

var fieldLine = regexp.MustCompile(`^\.It Ic (\w+) Pq (\w[\w ]*?)( , optional)?$`)

// readSections returns the fields of each section of the page.
var readSections = sync.OnceValues(func() (map[string][]jsonField, error) {
	sections := map[string][]jsonField{}
	section := ""
	for line := range strings.Lines(jsonPage) {
		line = strings.TrimSuffix(line, "\n")
		if name, ok := strings.CutPrefix(line, ".Ss "); ok {
			section = name
			sections[section] = nil
		} else if strings.HasPrefix(line, ".It Ic ") {
			m := fieldLine.FindStringSubmatch(line)
			if m == nil {
				return nil, fmt.Errorf("ipsec_json(5): %s does not describe a field", line)
			}
			sections[section] = append(sections[section], jsonField{m[1], m[2], m[3] != ""})
		}
	}
	return sections, nil
})

// A checker collects the errors of a value.
type checker struct {
	sections map[string][]jsonField
	errs     []error
}

func (c *checker) errorf(path, format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf("%s: %s", path, fmt.Sprintf(format, args...)))
}

// object compares an object with its possible fields.
func (c *checker) object(path string, v any, fields []jsonField) {
	o, ok := v.(map[string]any)
	if !ok {
		c.errorf(path, "%T, want an object", v)
		return
	}
	for _, f := range fields {
		switch v, ok := o[f.name]; {
		case ok:
			c.value(path+"."+f.name, v, f.typ)
		case !f.optional:
			c.errorf(path, "it has no %s", f.name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o)) {
		if !slices.ContainsFunc(fields, func(f jsonField) bool { return f.name == name }) {
			c.errorf(path, "the page has no %s", name)
		}
	}
}

var natural = regexp.MustCompile(`^(0|[1-9][0-9]*)$`)

// value compares a value with a type in the words of the page.
func (c *checker) value(path string, v any, typ string) {
	if of, ok := strings.CutPrefix(typ, "array of "); ok {
		array, ok := v.([]any)
		if !ok {
			c.errorf(path, "%T, want an array", v)
		}
		for i, v := range array {
			c.value(fmt.Sprintf("%s[%d]", path, i), v, c.one(of))
		}
		return
	}
	if of, ok := strings.CutPrefix(typ, "object of "); ok {
		object, ok := v.(map[string]any)
		if !ok {
			c.errorf(path, "%T, want an object", v)
		}
		for name, v := range object {
			c.value(path+"."+name, v, c.one(of))
		}
		return
	}
	ok := false
	switch typ {
	case "string":
		_, ok = v.(string)
	case "boolean":
		_, ok = v.(bool)
	case "number":
		var n json.Number
		n, ok = v.(json.Number)
		ok = ok && natural.MatchString(n.String())
	default:
		fields, known := c.sections[typ]
		if !known {
			c.errorf(path, "the page does not describe its type, %s", typ)
			return
		}
		c.object(path, v, fields)
		return
	}
	if !ok {
		c.errorf(path, "%v (%T), want a %s", v, v, typ)
	}
}

// one returns the type of an element: a string for strings. The names of objects have
// no plural.
func (c *checker) one(of string) string {
	if _, ok := c.sections[of]; ok {
		return of
	}
	return strings.TrimSuffix(of, "s")
}
