package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/klips-go/ipsec/testscripts/bed"
	"github.com/klips-go/ipsec/testscripts/lab"
)

// A report holds the counts and the errors of a run.
type report struct {
	lines []string
	wrong []error
}

func (r *report) say(format string, args ...any) {
	r.lines = append(r.lines, fmt.Sprintf(format, args...))
}
func (r *report) bad(format string, args ...any) {
	r.wrong = append(r.wrong, fmt.Errorf(format, args...))
}

func (r *report) print(w io.Writer) {
	for _, l := range r.lines {
		fmt.Fprintln(w, l)
	}
}

func (r *report) err() error { return errors.Join(r.wrong...) }

// lateFiles is how many files a daemon opens late and keeps: the sockets of IPv4 and IPv6
// for ICMP errors, with the first error that it sends.
const lateFiles = 2

// usage is the resources of a daemon.
type usage struct{ rss, files, threads int } // kB, number, number

// How much more a daemon may use at the end than after the warm-up: the size of the
// heap varies with garbage collection, and Go creates threads for long system calls and
// keeps them.
const (
	moreRSS     = 16 << 10 // kB
	moreThreads = 6
)

// bound returns the memory that the daemon may use at the end, in kB.
func (u usage) bound() int { return u.rss + u.rss/5 + moreRSS }

func (u usage) judge(r *report, host int, before usage) {
	if u.rss > before.bound() {
		r.bad("daemon %d: memory grew from %d to %d kB", host+1, before.rss, u.rss)
	}
	if u.files > before.files+lateFiles {
		r.bad("daemon %d: files grew from %d to %d", host+1, before.files, u.files)
	}
	if u.threads > before.threads+moreThreads {
		r.bad("daemon %d: threads grew from %d to %d", host+1, before.threads, u.threads)
	}
}

// measure measures both daemons. A daemon closes a connection a moment after the
// client; with least, measure waits until the number of files is nearly as low as there.
func measure(b *bed.Bed, least *[2]usage) (u [2]usage, err error) {
	for i := range u {
		pid, err := b.PID(i)
		if err != nil {
			return u, err
		}
		_ = lab.Await(func() bool { // if it never happens, judge reports it
			u[i], err = read(pid)
			return err != nil || least == nil || u[i].files <= least[i].files+lateFiles
		})
		if err != nil {
			return u, fmt.Errorf("daemon %d: %w", i+1, err)
		}
	}
	return u, nil
}

func read(pid int) (u usage, err error) {
	dir := fmt.Sprintf("/proc/%d/", pid)
	files, err := os.ReadDir(dir + "fd")
	if err != nil {
		return u, err
	}
	u.files = len(files)
	text, err := os.ReadFile(dir + "status")
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		switch name {
		case "VmRSS":
			_, err = fmt.Sscan(value, &u.rss)
		case "Threads":
			_, err = fmt.Sscan(value, &u.threads)
		}
		if err != nil {
			return u, fmt.Errorf("%sstatus: %s: %w", dir, name, err)
		}
	}
	if u.rss == 0 || u.threads == 0 {
		return u, fmt.Errorf("%sstatus says nothing of memory or threads", dir)
	}
	return u, nil
}
