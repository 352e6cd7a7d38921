package metrics

import (
	"strconv"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/openmetrics"
)

// formFor returns the form of the text that a client prefers, by its field Accept (RFC 9110
// section 12.5.1). Clients that do not name OpenMetrics get the older form, which all read.
func formFor(accept string) openmetrics.Form {
	var om, text float64
	for part := range strings.SplitSeq(accept, ",") {
		params := strings.Split(part, ";")
		typ, version, q := strings.ToLower(strings.TrimSpace(params[0])), "", 1.0
		for _, p := range params[1:] {
			name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
			value = strings.Trim(value, `"`)
			switch strings.ToLower(name) {
			case "version":
				version = value
			case "q":
				q = weight(value)
			}
		}
		switch {
		case typ == "application/openmetrics-text" && (version == "" || version == "1.0.0"):
			om = max(om, q)
		case typ == "text/plain" && (version == "" || version == "0.0.4"):
			text = max(text, q)
		}
	}
	if om > 0 && om >= text {
		return openmetrics.OpenMetrics
	}
	return openmetrics.Prometheus
}

// weight parses a quality value, 0 to 1; 0 if it is not valid.
func weight(text string) float64 {
	q, err := strconv.ParseFloat(text, 64)
	if err != nil || !(q >= 0 && q <= 1) {
		return 0
	}
	return q
}
