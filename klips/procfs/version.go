package procfs

import (
	"errors"
	"io"
	"strings"
)

// WriteVersion writes ipsec_version: one line, as in klips.Snapshot's Version.
func WriteVersion(w io.Writer, version string) error {
	_, err := io.WriteString(w, version+"\n")
	return err
}

// ParseVersion parses ipsec_version and returns its line without surrounding blanks.
func ParseVersion(r io.Reader) (string, error) {
	version := ""
	err := readLines(r, "ipsec_version", func(line []byte) error {
		if version == "" {
			version = strings.TrimSpace(string(line))
		}
		return nil
	})
	if err == nil && version == "" {
		err = errors.New("ipsec_version is empty")
	}
	return version, err
}
