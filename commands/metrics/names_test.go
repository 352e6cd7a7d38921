package metrics

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/testscripts/scrape"
)

const (
	rulesFile     = "../../packages/prometheus/ipsec.rules.yml"
	dashboardFile = "../../packages/grafana/ipsec.json"
)

// served are the labels, and their values, of each name of samples that Prometheus stores.
// Its own name is up, and it adds labels to all samples.
func served(t *testing.T) map[string]map[string][]string {
	families, err := scrape.Parse(clitest.Run(App(), world(&full{})).Out)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]map[string][]string{"up": {"instance": nil, "job": nil}}
	for _, f := range families {
		for _, s := range f.Samples {
			if names[s.Name] == nil {
				names[s.Name] = map[string][]string{"instance": nil, "job": nil}
			}
			for label, value := range s.Labels {
				names[s.Name][label] = append(names[s.Name][label], value)
			}
		}
	}
	return names
}

// expressions returns the expressions of the alerts and of the panels, with the texts that
// name labels.
func expressions(t *testing.T) (exprs, texts []string) {
	t.Helper()
	read := func(name string) []byte {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	// A folded expression goes on in deeper lines.
	rules := regexp.MustCompile(`\n {10,}`).ReplaceAllString(strings.ReplaceAll(string(read(rulesFile)), ">-\n", "\n"), " ")
	for _, m := range regexp.MustCompile(`(?m)^ +expr: *(.+)$`).FindAllStringSubmatch(rules, -1) {
		exprs = append(exprs, m[1])
	}
	if alerts := strings.Count(rules, "- alert: "); alerts < 5 || len(exprs) != alerts {
		t.Fatalf("%s: %d alerts with %d expressions", rulesFile, alerts, len(exprs))
	}
	for _, m := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(rules, -1) {
		texts = append(texts, m[1])
	}
	var dashboard struct {
		Panels []struct {
			ID                 int
			Title, Description string
			Targets            []struct{ Expr, LegendFormat string }
		}
	}
	d := json.NewDecoder(bytes.NewReader(read(dashboardFile)))
	if err := d.Decode(&dashboard); err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, p := range dashboard.Panels {
		if seen[p.ID] || p.Title == "" || p.Description == "" || len(p.Targets) == 0 {
			t.Errorf("panel %d %q: its number is there twice, or it has no title, no description or no expression", p.ID, p.Title)
		}
		seen[p.ID] = true
		for _, target := range p.Targets {
			exprs = append(exprs, target.Expr)
			for _, m := range regexp.MustCompile(`{{(\w+)}}`).FindAllStringSubmatch(target.LegendFormat, -1) {
				texts = append(texts, m[1])
			}
		}
	}
	if len(dashboard.Panels) < 5 {
		t.Errorf("%d panels", len(dashboard.Panels))
	}
	return exprs, texts
}

var (
	selector = regexp.MustCompile(`\b(up|ipsec_\w+)\b(?:{([^}]*)})?`)
	matcher  = regexp.MustCompile(`(\w+)(=~|!~|!=|=)"([^"]*)"`)
	grouping = regexp.MustCompile(`\b(?:by|on|ignoring|without|group_left|group_right) ?\(([^)]*)\)`)
)

// TestNames: alerts and the dashboard use only names, labels and values that exist.
func TestNames(t *testing.T) {
	names := served(t)
	labels := map[string]bool{}
	for _, l := range names {
		for label := range l {
			labels[label] = true
		}
	}
	exprs, texts := expressions(t)
	for _, label := range texts {
		if !labels[label] {
			t.Errorf("a text has the label %s, which no metric has", label)
		}
	}
	used := map[string]bool{}
	for _, expr := range exprs {
		for _, m := range grouping.FindAllStringSubmatch(expr, -1) {
			for label := range strings.SplitSeq(m[1], ",") {
				if label = strings.TrimSpace(label); !labels[label] {
					t.Errorf("%s: no metric has the label %s", expr, label)
				}
			}
		}
		for _, m := range selector.FindAllStringSubmatch(grouping.ReplaceAllString(expr, ""), -1) {
			name := m[1]
			used[name] = true
			if names[name] == nil {
				t.Errorf("%s: there is no metric %s", expr, name)
				continue
			}
			for _, f := range matcher.FindAllStringSubmatch(m[2], -1) {
				checkMatcher(t, expr, name, names[name], f[1], f[3])
			}
		}
	}
	if len(used) < 15 {
		t.Errorf("only %d metrics are used: %v", len(used), used)
	}
}

// checkMatcher checks that a metric has a label, with the words that it is compared with.
func checkMatcher(t *testing.T, expr, name string, labels map[string][]string, label, words string) {
	values, ok := labels[label]
	switch {
	case !ok:
		t.Errorf("%s: %s has no label %s", expr, name, label)
	case label == "instance" || label == "job": // of Prometheus
	default:
		for word := range strings.SplitSeq(words, "|") {
			if _, isReason := drop.Parse(word); !slices.Contains(values, word) && !(label == "reason" && isReason) {
				t.Errorf("%s: %s of %s is never %s", expr, label, name, word)
			}
		}
	}
}

// TestPage: the page describes all metrics and no others.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../manpages/ipsec_metrics.8")
	if err != nil {
		t.Fatal(err)
	}
	described := map[string]bool{"up": true}
	for _, m := range regexp.MustCompile(`(?m)^\.It Cm (ipsec_.*)$`).FindAllStringSubmatch(string(page), -1) {
		for name := range strings.SplitSeq(m[1], " , ") {
			described[name] = true
		}
	}
	names := served(t)
	for name := range names {
		if !described[name] {
			t.Errorf("the page does not have %s", name)
		}
	}
	for name := range described {
		if names[name] == nil {
			t.Errorf("the page has %s, which does not exist", name)
		}
	}
}
