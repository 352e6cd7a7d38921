package user

import (
	"encoding/json"
	"io"
	"os"
)

// Counts is how many SAs and eroutes a daemon has. It writes them down in its run directory.
// If it is killed, the next daemon can report what was lost.
type Counts struct{ SAs, Eroutes int }

// countsLen is the length in bytes of the file: JSON, and spaces.
const countsLen = 64

// OpenCounts opens the file of the counts, and makes it with mode 0600 if there is none. A
// daemon does this while it has the lock.
func (d *Dir) OpenCounts() (*os.File, error) { return d.open(countsFile, os.O_RDWR|os.O_CREATE) }

// ReadCounts returns the counts in a file of OpenCounts, zero if there are none.
func ReadCounts(f *os.File) (c Counts) {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, countsLen))
	if err != nil || json.Unmarshal(b, &c) != nil || c.SAs < 0 || c.Eroutes < 0 {
		return Counts{}
	}
	return c
}

// WriteCounts replaces the counts in a file of OpenCounts.
func WriteCounts(f *os.File, c Counts) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	for len(b) < countsLen {
		b = append(b, ' ')
	}
	_, err = f.WriteAt(b, 0)
	return err
}
