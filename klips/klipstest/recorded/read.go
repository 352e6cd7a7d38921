package recorded

import (
	"bufio"
	"compress/gzip"
	"embed"
	"encoding/hex"
	"encoding/json"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"testing"
)

//go:embed data
var data embed.FS

// Bytes are hexadecimal in the files.
type Bytes []byte

// UnmarshalText reads hexadecimal digits.
func (b *Bytes) UnmarshalText(text []byte) error {
	p := make([]byte, hex.DecodedLen(len(text)))
	_, err := hex.Decode(p, text)
	*b = p
	return err
}

// records yields the records of a file one by one. The caller owns each of them. If a
// file cannot be read, the test fails.
func records[R any](tb testing.TB, name string) iter.Seq[*R] {
	return func(yield func(*R) bool) {
		tb.Helper()
		f, err := data.Open("data/" + name + ".jsonl.gz")
		if err != nil {
			tb.Fatal(err)
		}
		defer f.Close()
		z, err := gzip.NewReader(f)
		if err != nil {
			tb.Fatalf("%s: %v", name, err)
		}
		for d := json.NewDecoder(bufio.NewReader(z)); ; {
			d.DisallowUnknownFields()
			r := new(R)
			if err := d.Decode(r); err == io.EOF {
				return
			} else if err != nil {
				tb.Fatalf("%s: %v", name, err)
			}
			if !yield(r) {
				return
			}
		}
	}
}

// ProcNet writes the tables that the classic tools read into a directory of the test
// and returns its path. Each set has its own directory, with the file names of
// /proc/net (ipsec_spi, ipsec_spigrp, …). [Command.Set] names the set of a command
// line. The sets are:
//
//	full      all tables of an old kernel, and pf_key_supported
//	nosupp    full without pf_key_supported
//	netkey    full, and the file pfkey of a kernel with its own IPsec
//	onlyspi   ipsec_spi alone
//	empty     all tables, without a line
//	odd       control characters, a long line, no newline at the end
//	none      no file
func ProcNet(tb testing.TB) string {
	tb.Helper()
	sets, err := fs.Sub(data, "data/proc")
	if err != nil {
		tb.Fatal(err)
	}
	dir := tb.TempDir()
	if err := os.CopyFS(dir, sets); err != nil {
		tb.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "none"), 0o755); err != nil {
		tb.Fatal(err)
	}
	return dir
}
