package testscripts

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/klips-go/ipsec/testscripts/scrape"
)

// cmdMetrics reads metrics as a monitoring system does. Each further argument is the name of
// samples, labels that they have, and after a colon the sum of their values: a number, some
// for more than 0, or none if there are no such samples.
func cmdMetrics(ts *testscript.TestScript, args []string) {
	text := ts.ReadFile(args[0])
	families, err := scrape.Parse(text)
	if err != nil {
		ts.Fatalf("%v\n%s", err, text)
	}
	for _, arg := range args[1:] {
		words, want, ok := strings.Cut(arg, ": ")
		name, labels := "", map[string]string{}
		for i, word := range strings.Fields(words) {
			if i == 0 {
				name = word
				continue
			}
			label, value, _ := strings.Cut(word, "=")
			labels[label] = value
		}
		samples := scrape.Samples(families, name, labels)
		sum := 0.0
		for _, s := range samples {
			v, err := strconv.ParseFloat(s.Value, 64)
			ts.Check(err)
			sum += v
		}
		got := strconv.FormatFloat(sum, 'f', -1, 64)
		switch {
		case len(samples) == 0:
			got = "none"
		case want == "some" && sum > 0:
			got = "some"
		}
		if !ok || got != want {
			ts.Fatalf("%s: %s, want %s:\n%s", words, got, want, text)
		}
	}
}

// fetch is the program "fetch HOST:PORT|unix:PATH [ACCEPT]": it gets /metrics over HTTP and
// prints it. It fails unless the status is 200, and prints the status and the media type on
// standard error.
func fetch() {
	if len(os.Args) != 2 && len(os.Args) != 3 {
		exit("fetch", errUsage)
	}
	exit("fetch", fetchFrom(os.Args[1], append(os.Args[2:], "")[0]))
}

func fetchFrom(place, accept string) error {
	network, addr := "tcp", place
	if path, ok := strings.CutPrefix(place, "unix:"); ok {
		network, addr = "unix", path
	}
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}}
	r, err := http.NewRequest(http.MethodGet, "http://localhost/metrics", nil)
	if err != nil {
		return err
	}
	r.Header.Set("Accept", accept)
	a, err := client.Do(r)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	body, err := io.ReadAll(a.Body)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, a.Status, a.Header.Get("Content-Type"))
	os.Stdout.Write(body)
	if a.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", a.StatusCode)
	}
	return nil
}
