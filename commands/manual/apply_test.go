package manual

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const auto = tunnel + " auto=start\n"

// What apply has made is as the files have it; applying again changes nothing.
func TestApply(t *testing.T) {
	b := newRecorded(t, auto)
	if r := b.command("diff FILE"); r.Status != 1 || r.Out != "conn t: it is not up\n" {
		t.Fatalf("before: %+v", r)
	}
	b.ok(t, "apply FILE")
	made := b.state()
	b.ok(t, "diff FILE")
	b.ok(t, "apply FILE")
	if got := b.state(); got != made {
		t.Errorf("applying again gives\n%s\nnot\n%s", got, made)
	}
	fresh := newBench(t, auto)
	fresh.command("up --config FILE t")
	if want := fresh.state(); made != want {
		t.Errorf("apply makes\n%s\nup makes\n%s", made, want)
	}
}

// A change of a file changes only what differs, and the former flow stays closed until it
// is unrouted.
func TestApplyChange(t *testing.T) {
	for _, tt := range []struct {
		name, from, to, diff string
		keeps                bool // the SAs
	}{
		{"another subnet", "10.2.0.0/16", "10.7.0.0/16", "rightsubnet: 10.2.0.0/16 is made, the file has 10.7.0.0/16", true},
		{"other SPIs", "spibase=0x200", "spibase=0x300", "spibase: 0x200 is made, the file has 0x300", false},
		{"another algorithm", "3des-md5-96", "3des-sha1-96", "esp: 3des-md5 is made, the file has 3des-sha1", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newRecorded(t, auto)
			b.ok(t, "apply FILE")
			text := strings.ReplaceAll(auto, tt.from, tt.to)
			if tt.to == "3des-sha1-96" {
				text = strings.ReplaceAll(text, "espauthkey=0x", "espauthkey=0x00000000_")
			}
			b.write(t, text)
			if r := b.command("diff FILE"); r.Status != 1 || !strings.HasPrefix(r.Out, "conn t: "+tt.diff+"\n") {
				t.Fatalf("diff: %+v", r)
			}
			if r := b.command("up --config FILE t"); r.Status != 1 || !strings.Contains(r.Err, tt.diff+"; ipsec reload t makes it as the file has it") {
				t.Fatalf("up: %+v", r)
			}
			b.model.added = 0
			b.ok(t, "apply FILE")
			if (b.model.added == 0) != tt.keeps {
				t.Errorf("%d SAs were made", b.model.added)
			}
			b.ok(t, "diff FILE")
			fresh := newBench(t, text)
			fresh.command("up --config FILE t")
			if got, want := b.state(), fresh.state(); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if tt.from == "10.2.0.0/16" && !strings.Contains(b.guarded(), "10.2.0.0/16") {
				t.Errorf("the former flow is open:\n%s", b.guarded())
			}
			b.ok(t, "unroute t --config FILE")
			if got := b.state() + b.guarded(); got != "link ipsec0 10.0.0.1/32\n" {
				t.Errorf("left:\n%s", got)
			}
		})
	}
}

// Words of a file that have no effect on this host, and another name of an algorithm, are no
// change: what is up stays as it is, and no command is refused.
func TestNoChange(t *testing.T) {
	for _, line := range []string{"rightsourceip=10.2.0.7", "rightnexthop=10.0.0.77", "esp=3des-md5"} {
		name, _, _ := strings.Cut(line, "=")
		b := newRecorded(t, auto)
		b.ok(t, "apply FILE")
		before := b.state()
		text := regexp.MustCompile(`(?m)^ `+name+`=.*\n`).ReplaceAllString(auto, "") + " " + line + "\n"
		b.write(t, text)
		b.ok(t, "diff FILE")
		b.model.added = 0
		for _, command := range []string{"up --config FILE t", "route t --config FILE", "apply FILE"} {
			if r := b.command(command); r.Status != 0 {
				t.Errorf("%s: %s: %+v", line, command, r)
			}
		}
		if got := b.state(); got != before || b.model.added != 0 {
			t.Errorf("%s: %d SAs were made\n%s\nwant\n%s", line, b.model.added, got, before)
		}
	}
}

// changes are pairs of files: what is made, and what is applied.
var changes = map[string][2]string{
	"another subnet":    {auto, strings.ReplaceAll(auto, "10.2.0.0/16", "10.7.0.0/16")},
	"other SPIs":        {auto, strings.ReplaceAll(auto, "spibase=0x200", "spibase=0x300")},
	"a second one":      {auto, auto + second},
	"both":              {auto, strings.ReplaceAll(auto, "spibase=0x200", "spibase=0x300") + second},
	"SPIs and a subnet": {auto, strings.ReplaceAll(strings.ReplaceAll(auto, "spibase=0x200", "spibase=0x300"), "10.2.0.0/16", "10.7.0.0/16")},
}

const second = "conn u\n left=10.0.0.1\n leftsubnet=10.5.0.0/16\n right=10.0.0.2\n rightsubnet=10.6.0.0/16\n" +
	" spibase=0x400\n espreplay_window=64\n esp=3des-md5-96\n " + keys3des + " auto=start\n"

// If a step of apply fails, everything is as it was before; and nothing opens.
func TestApplyAllOrNone(t *testing.T) {
	for name, pair := range changes {
		t.Run(name, func(t *testing.T) {
			refused := 0
			for fail := 1; ; fail++ {
				b := newRecorded(t, pair[0])
				b.ok(t, "apply FILE")
				before, closed := b.state(), b.guarded()
				b.write(t, pair[1])
				b.model.requests, b.model.failAt = 0, fail
				r := b.command("apply FILE")
				b.model.failAt = 0
				for _, flow := range strings.Split(strings.TrimSpace(closed), "\n") {
					if !strings.Contains(b.guarded(), flow) {
						t.Fatalf("request %d: %s is open", fail, flow)
					}
				}
				if r.Status == 0 {
					break
				}
				if refused++; r.Status != 1 || strings.Count(r.Err, "\n") != 1 {
					t.Fatalf("request %d: %+v", fail, r)
				}
				if d := b.command("diff FILE"); d.Status == 0 {
					continue // it failed after the new form was there
				}
				if got := b.state(); got != before {
					t.Fatalf("request %d: %+v\ngot\n%s\nwant\n%s", fail, r, got, before)
				}
			}
			if refused < 3 {
				t.Errorf("%d requests failed", refused)
			}
		})
	}
}

// A connection that no file has any more is taken down by --prune only, and stays closed.
// One of another file stays.
func TestApplyPrune(t *testing.T) {
	b := newRecorded(t, auto)
	b.ok(t, "apply FILE")
	up, closed := b.state(), b.guarded()
	b.write(t, "conn other\n x-none=1\n")
	b.ok(t, "apply FILE")
	if got := b.state(); got != up {
		t.Fatalf("without --prune:\n%s", got)
	}
	if r := b.command("diff FILE"); r.Status != 1 || r.Out != "conn t: it is up, and no file has it any more\n" {
		t.Fatalf("diff: %+v", r)
	}
	elsewhere := filepath.Join(t.TempDir(), "other.conf")
	if err := os.WriteFile(elsewhere, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b.ok(t, "apply --prune "+elsewhere)
	if got := b.state(); got != up {
		t.Fatalf("pruned by another file:\n%s", got)
	}
	b.ok(t, "apply --prune FILE")
	if got := b.state(); strings.Contains(got, "esp0x") || b.guarded() != closed {
		t.Errorf("pruned:\n%s%s", got, b.guarded())
	}
	b.ok(t, "diff FILE")
	if r := b.command("unroute --config FILE t"); r.Status != 0 || b.guarded() != "" {
		t.Errorf("unroute: %+v, %s", r, b.guarded())
	}
}

// A connection that two files have is not pruned, also if it is a pair of a conn.
func TestApplyPruneTwice(t *testing.T) {
	for name, text := range map[string]string{"a conn": auto, "pairs": lists} {
		t.Run(name, func(t *testing.T) {
			b := newLists(t, text)
			b.ok(t, "apply FILE")
			up, closed := b.state(), b.guarded()
			twin := filepath.Join(filepath.Dir(b.file), "twin.conf")
			if err := os.WriteFile(twin, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			b.ok(t, "diff FILE "+twin)
			b.ok(t, "apply --prune FILE "+twin)
			if got := b.state(); got != up || b.guarded() != closed {
				t.Errorf("pruned:\n%s%swant\n%s%s", got, b.guarded(), up, closed)
			}
		})
	}
}

// A dry run prints the commands without keys, and changes nothing.
func TestApplyDryRun(t *testing.T) {
	for name, pair := range changes {
		b := newRecorded(t, pair[0])
		b.ok(t, "apply FILE")
		before := b.state() + b.guarded()
		b.write(t, pair[1])
		r := b.command("apply --dry-run FILE")
		if r.Status != 0 || !strings.Contains(r.Out, "ipsec eroute") || strings.Contains(r.Out, "0x0123") || strings.Contains(r.Out+r.Err, "key 0x") {
			t.Errorf("%s: %+v", name, r)
		}
		if got := b.state() + b.guarded(); got != before {
			t.Errorf("%s: changed to\n%s", name, got)
		}
	}
}

// What is refused starts no stack, on either command.
func TestApplyRefused(t *testing.T) {
	for name, text := range map[string]string{
		"a wrong word":       strings.ReplaceAll(auto, "esp=3des-md5-96", "esp=rot13"),
		"a key of no length": strings.ReplaceAll(auto, "espenckey=0x01234567_", "espenckey=0x"),
		"one of two":         auto + strings.ReplaceAll(second, "0x400", "none"),
		"a missing key":      strings.ReplaceAll(auto, keys3des, "masterkey=@none\n"),
	} {
		for _, line := range []string{"apply FILE", "reload --config FILE", "up --config FILE t u"} {
			b := newRecorded(t, text)
			if r := b.command(line); r.Status != 1 || b.started > 0 || b.state() != "" {
				t.Errorf("%s, %s: started %d times, %+v\n%s", name, line, b.started, r, b.state())
			}
		}
	}
}
