package openmetrics

import (
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/testscripts/scrape"
)

// write writes one family of each type.
func write(out io.Writer, form Form, device string) error {
	w := NewWriter(out, form)
	w.Begin(Family{"x_device", Info, "", "A device."})
	w.Sample(1, Label{"device", device}, Label{"physical", ""})
	w.Begin(Family{"x_bytes", Counter, "bytes", `A "help" with a \.`})
	w.Sample(math.MaxUint64, Label{"empty", ""}, Label{"device", device})
	w.Begin(Family{"x_state", StateSet, "", "States."})
	w.States([]string{"up", "down"}, "down", Label{"device", device})
	w.Begin(Family{"x_devices", Gauge, "", "Devices."})
	w.Sample(1, Label{"empty", ""})
	return w.End()
}

func TestForms(t *testing.T) {
	for form, want := range map[Form]string{
		OpenMetrics: `# TYPE x_device info
# HELP x_device A device.
x_device_info{device="a\"b"} 1
# TYPE x_bytes counter
# UNIT x_bytes bytes
# HELP x_bytes A \"help\" with a \\.
x_bytes_total{device="a\"b"} 18446744073709551615
# TYPE x_state stateset
# HELP x_state States.
x_state{device="a\"b",x_state="up"} 0
x_state{device="a\"b",x_state="down"} 1
# TYPE x_devices gauge
# HELP x_devices Devices.
x_devices 1
# EOF
`,
		Prometheus: `# TYPE x_device_info gauge
# HELP x_device_info A device.
x_device_info{device="a\"b"} 1
# TYPE x_bytes_total counter
# HELP x_bytes_total A \"help\" with a \\.
x_bytes_total{device="a\"b"} 18446744073709551615
# TYPE x_state gauge
# HELP x_state States.
x_state{device="a\"b",x_state="up"} 0
x_state{device="a\"b",x_state="down"} 1
# TYPE x_devices gauge
# HELP x_devices Devices.
x_devices 1
`,
	} {
		var b strings.Builder
		if err := write(&b, form, `a"b`); err != nil || b.String() != want {
			t.Errorf("form %d: %v, written\n%s, want\n%s", form, err, &b, want)
		}
	}
}

// FuzzLabel: whatever bytes the value of a label has, the text is what the specification
// allows. Printable characters arrive unchanged.
func FuzzLabel(f *testing.F) {
	for _, s := range []string{"eth0", `a"b\c`, "x\ny\r", "\x1b[2J", "\xff", "ünï", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, device string) {
		var b strings.Builder
		if err := write(&b, OpenMetrics, device); err != nil {
			t.Fatal(err)
		}
		families, err := scrape.Parse(b.String())
		if err != nil {
			t.Fatalf("%q: %v\n%s", device, err, &b)
		}
		got := scrape.Samples(families, "x_bytes_total", nil)[0].Labels["device"]
		if isPlain(device) && got != device {
			t.Errorf("%q arrives as %q", device, got)
		}
	})
}

func isPlain(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' })
}

// TestError: the first error of the output is returned, and nothing is written after it.
func TestError(t *testing.T) {
	f := &full{room: 3}
	w := NewWriter(f, OpenMetrics)
	w.Begin(Family{"x", Gauge, "", "X."})
	for range 10 {
		w.Sample(1)
	}
	if w.Err() != errFull || w.End() != errFull || f.room != -1 {
		t.Errorf("%v, and %d writes after it", w.Err(), -1-f.room)
	}
}

var errFull = errors.New("full")

// A full takes some writes and then returns errors.
type full struct{ room int }

func (f *full) Write(p []byte) (int, error) {
	if f.room--; f.room < 0 {
		return 0, errFull
	}
	return len(p), nil
}
