// Command gen generates the manual pages from their sources: NAME.SECTION from each
// NAME.SECTION.in of a folder.
//
//	go generate ./manpages
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	dir := flag.String("C", ".", "the `folder` of the pages")
	flag.Parse()
	if err := run(*dir); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	sources, err := filepath.Glob(filepath.Join(dir, "*.[578].in"))
	if err != nil {
		return err
	}
	if len(sources) == 0 {
		return fmt.Errorf("no page sources in %s", dir)
	}
	tables := readTables()
	for _, src := range sources {
		out, err := render(src, tables)
		if err != nil {
			return err
		}
		if err := os.WriteFile(target(src), out, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// target returns the name of the page of a source.
func target(src string) string { return src[:len(src)-len(".in")] }

// title returns the name and the section of the page of a source, such as "ipsec.conf" and
// "5".
func title(src string) (name, section string) {
	base := filepath.Base(target(src))
	dot := strings.LastIndexByte(base, '.')
	return base[:dot], base[dot+1:]
}
