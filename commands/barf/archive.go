package barf

import (
	"archive/tar"
	"bytes"
	"fmt"
	"strings"
	"time"
)

// archive returns a tar archive with a file for each section, and the JSON in barf.json.
func archive(sections []section, at time.Time) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i, s := range sections {
		name := "barf/barf.json"
		if s.name != "json" {
			name = fmt.Sprintf("barf/%02d-%s.txt", i+1, plain(s.name))
		}
		h := &tar.Header{Name: name, Mode: 0o600, Size: int64(len(s.text)), ModTime: at, Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write([]byte(s.text)); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}

// plain returns the name of a section as one of a file.
func plain(name string) string {
	name = strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '.':
			return r
		}
		return '-'
	}, name)
	return strings.Trim(name[:min(len(name), 60)], "-")
}
