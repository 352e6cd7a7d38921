// Package scrape reads metrics as OpenMetrics 1.0 describes them, so that tests see what a
// monitoring system would see. It knows only the specification, and accepts nothing that
// the specification forbids. Histograms, summaries, exemplars and timestamps are refused
// too: the program has none.
package scrape

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A Family is a metric family.
type Family struct {
	Name, Type, Unit, Help string
	Samples                []Sample
}

// A Sample is one line with a value.
type Sample struct {
	Name   string // with the suffix
	Labels map[string]string
	Value  string // as it was written
}

// Samples returns the samples of all families that have a name and have all the labels.
func Samples(families []Family, name string, labels map[string]string) (found []Sample) {
	for _, f := range families {
		for _, s := range f.Samples {
			if s.Name == name && hasAll(s.Labels, labels) {
				found = append(found, s)
			}
		}
	}
	return found
}

func hasAll(labels, some map[string]string) bool {
	for name, value := range some {
		if labels[name] != value {
			return false
		}
	}
	return true
}

// Parse reads a text, which must be complete.
func Parse(text string) ([]Family, error) {
	if !utf8.ValidString(text) {
		return nil, errors.New("not UTF-8")
	}
	text = strings.TrimSuffix(text, "\n")
	lines := strings.Split(text, "\n")
	if lines[len(lines)-1] != "# EOF" {
		return nil, errors.New("the last line is not # EOF")
	}
	p := parser{names: map[string]string{}}
	for i, line := range lines[:len(lines)-1] {
		if err := p.line(line); err != nil {
			return nil, fmt.Errorf("line %d, %q: %w", i+1, line, err)
		}
	}
	for i := range p.families {
		if err := p.families[i].check(); err != nil {
			return nil, fmt.Errorf("family %s: %w", p.families[i].Name, err)
		}
	}
	return p.families, nil
}

type parser struct {
	families []Family
	seen     map[string]bool   // the kinds of metadata of the last family
	names    map[string]string // the family of each possible name of a sample
}

var (
	familyName = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)
	labelName  = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
	number     = regexp.MustCompile(`^[+-]?([0-9]+(\.[0-9]*)?|[0-9]*\.[0-9]+)([eE][+-]?[0-9]+)?$|^[+-]?(?i:inf|infinity)$|^(?i:nan)$`)
)

// suffixes are the endings of the samples of each type.
var suffixes = map[string][]string{
	"unknown": {""}, "gauge": {""}, "stateset": {""}, "counter": {"_total", "_created"}, "info": {"_info"},
}

func (p *parser) line(line string) error {
	if meta, ok := strings.CutPrefix(line, "# "); ok {
		return p.metadata(meta)
	}
	s, err := parseSample(line)
	if err != nil {
		return err
	}
	f := p.last()
	if f == nil || !f.owns(s.Name) {
		// A family without metadata is of the type unknown.
		if f, err = p.begin(s.Name); err != nil {
			return err
		}
		if err = p.setType(f, "unknown"); err != nil {
			return err
		}
	}
	f.Samples = append(f.Samples, s)
	return nil
}

func (p *parser) last() *Family {
	if len(p.families) == 0 {
		return nil
	}
	return &p.families[len(p.families)-1]
}

// begin begins a family, which must be a new one: families are not interleaved.
func (p *parser) begin(name string) (*Family, error) {
	if !familyName.MatchString(name) {
		return nil, errors.New("not the name of a family")
	}
	if f := p.last(); f != nil && f.Type == "" {
		if err := p.setType(f, "unknown"); err != nil {
			return nil, err
		}
	}
	for _, f := range p.families {
		if f.Name == name {
			return nil, errors.New("the family has begun before")
		}
	}
	p.families = append(p.families, Family{Name: name})
	p.seen = map[string]bool{}
	return p.last(), nil
}

// metadata reads a line after "# ".
func (p *parser) metadata(line string) error {
	kind, rest, _ := strings.Cut(line, " ")
	name, value, ok := strings.Cut(rest, " ")
	if kind != "TYPE" && kind != "UNIT" && kind != "HELP" {
		return errors.New("a comment that is none of TYPE, UNIT and HELP")
	}
	if !ok {
		return errors.New("there is no value")
	}
	f := p.last()
	if f == nil || f.Name != name {
		var err error
		if f, err = p.begin(name); err != nil {
			return err
		}
	}
	switch {
	case p.seen[kind]:
		return errors.New("it is there twice")
	case len(f.Samples) > 0:
		return errors.New("it comes after samples")
	}
	p.seen[kind] = true
	switch kind {
	case "TYPE":
		return p.setType(f, value)
	case "UNIT":
		f.Unit = value
		if !labelName.MatchString(value) {
			return errors.New("not a unit")
		}
		return nil
	}
	var err error
	f.Help, err = unescape(value)
	return err
}

// setType sets the type of a family, and so the names of its samples, which no other family
// may have.
func (p *parser) setType(f *Family, typ string) error {
	f.Type = typ
	if suffixes[typ] == nil {
		return errors.New("not a type that the program has")
	}
	for _, suffix := range suffixes[typ] {
		name := f.Name + suffix
		if other, taken := p.names[name]; taken {
			return fmt.Errorf("family %s has samples of the name %s, too", other, name)
		}
		p.names[name] = f.Name
		if typ == "counter" && (strings.HasSuffix(f.Name, "_total") || strings.HasSuffix(f.Name, "_created")) {
			return errors.New("a suffix in the name of a family")
		}
	}
	return nil
}

// owns reports whether samples of a name belong to the family.
func (f *Family) owns(name string) bool {
	return slices.ContainsFunc(suffixes[f.Type], func(suffix string) bool { return name == f.Name+suffix })
}

// parseSample reads a sample: its name, its labels, a blank and its value.
func parseSample(line string) (s Sample, err error) {
	end := strings.IndexAny(line, "{ ")
	if end < 0 || !familyName.MatchString(line[:end]) {
		return s, errors.New("it does not begin with a name")
	}
	s.Name, s.Labels = line[:end], map[string]string{}
	rest := line[end:]
	if rest[0] == '{' {
		if rest, err = s.labels(rest[1:]); err != nil {
			return s, err
		}
	}
	value, ok := strings.CutPrefix(rest, " ")
	if !ok || !number.MatchString(value) {
		return s, errors.New("no blank and a number at its end")
	}
	s.Value = value
	return s, nil
}

// labels reads labels and the closing brace, and returns what follows.
func (s *Sample) labels(text string) (rest string, err error) {
	if rest, ok := strings.CutPrefix(text, "}"); ok {
		return rest, nil
	}
	for {
		name, after, ok := strings.Cut(text, `="`)
		if !ok || !labelName.MatchString(name) {
			return "", errors.New("not the name of a label")
		}
		if strings.HasPrefix(name, "__") {
			return "", fmt.Errorf("the name of label %s is reserved", name)
		}
		if _, twice := s.Labels[name]; twice {
			return "", fmt.Errorf("the label %s is there twice", name)
		}
		end := closingQuote(after)
		if end < 0 {
			return "", fmt.Errorf("the value of label %s has no end", name)
		}
		if s.Labels[name], err = unescape(after[:end]); err != nil {
			return "", err
		}
		switch text = after[end+1:]; {
		case strings.HasPrefix(text, ","):
			text = text[1:]
		case strings.HasPrefix(text, "}"):
			return text[1:], nil
		default:
			return "", errors.New("no comma or brace after a label")
		}
	}
}

// closingQuote returns the place of the first quote that is not escaped, -1 if there is none.
func closingQuote(text string) int {
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}

// unescape resolves the escapes of a text. Quotes must be escaped.
func unescape(text string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '"':
			return "", errors.New("a quote is not escaped")
		case c != '\\':
			b.WriteByte(c)
		case i+1 < len(text) && text[i+1] == 'n':
			b.WriteByte('\n')
			i++
		case i+1 < len(text) && (text[i+1] == '\\' || text[i+1] == '"'):
			b.WriteByte(text[i+1])
			i++
		default:
			return "", errors.New("an unknown escape")
		}
	}
	return b.String(), nil
}

// check checks the rules for a whole family.
func (f *Family) check() error {
	if f.Unit != "" {
		if !strings.HasSuffix(f.Name, "_"+f.Unit) {
			return fmt.Errorf("its name does not end in its unit %s", f.Unit)
		}
		if f.Type == "info" || f.Type == "stateset" {
			return errors.New("its type has no unit")
		}
	}
	seen := map[string]bool{}
	for i := range f.Samples {
		s := &f.Samples[i]
		if key := s.key(""); seen[key] {
			return fmt.Errorf("the sample %s is there twice", key)
		} else {
			seen[key] = true
		}
		if err := f.checkValue(s); err != nil {
			return fmt.Errorf("sample %s %s: %w", s.key(""), s.Value, err)
		}
	}
	if f.Type == "stateset" {
		return f.checkStates()
	}
	return nil
}

// checkValue checks what the type of the family demands of a value.
func (f *Family) checkValue(s *Sample) error {
	v, err := strconv.ParseFloat(s.Value, 64)
	if errors.Is(err, strconv.ErrRange) {
		err = nil // it is infinite
	}
	_, hasState := s.Labels[f.Name]
	switch {
	case err != nil:
		return err
	case f.Type == "counter" && !(v >= 0):
		return errors.New("a counter is not negative and not NaN")
	case f.Type == "info" && v != 1:
		return errors.New("the value of an info is 1")
	case f.Type == "stateset" && v != 0 && v != 1:
		return errors.New("the value of a state is 0 or 1")
	case f.Type == "stateset" && !hasState:
		return errors.New("there is no label for the state")
	}
	return nil
}

// checkStates checks a family of state sets: the states of one object follow each other, all
// objects have the same ones, and each object has one of them.
func (f *Family) checkStates() error {
	var sets []string
	states, set := map[string]map[string]bool{}, map[string]int{}
	for _, s := range f.Samples {
		object := s.key(f.Name)
		if states[object] == nil {
			states[object] = map[string]bool{}
			sets = append(sets, object)
		} else if sets[len(sets)-1] != object {
			return fmt.Errorf("the states of %s do not follow each other", object)
		}
		states[object][s.Labels[f.Name]] = true
		if v, _ := strconv.ParseFloat(s.Value, 64); v == 1 {
			set[object]++
		}
	}
	for _, object := range sets {
		if set[object] != 1 {
			return fmt.Errorf("%s has %d states", object, set[object])
		}
		if !maps.Equal(states[object], states[sets[0]]) {
			return fmt.Errorf("%s can have other states than %s", object, sets[0])
		}
	}
	return nil
}

// key returns the name and the labels of a sample in a fixed order, without one of them.
func (s *Sample) key(without string) string {
	var labels []string
	for name, value := range s.Labels {
		if name != without {
			labels = append(labels, name+"="+strconv.Quote(value))
		}
	}
	slices.Sort(labels)
	return s.Name + "{" + strings.Join(labels, ",") + "}"
}
