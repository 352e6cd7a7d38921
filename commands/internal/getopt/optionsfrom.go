package getopt

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/quote"
)

// Limits for files of arguments.
const (
	maxLine    = 1023 // characters in a line
	maxInserts = 100  // files in one command line; this ends a loop of files
)

// InsertFile inserts the arguments in a file before the remaining arguments, for
// --optionsfrom. [ReadArgs] describes the format of the file.
func (s *Scanner) InsertFile(name string) error {
	if s.inserts++; s.inserts > maxInserts {
		return fmt.Errorf("more than %d files of options; does %s name itself?", maxInserts, quote.File(name))
	}
	f, err := os.Open(name)
	if err != nil {
		return quote.FileError(name, err)
	}
	defer f.Close()
	args, err := ReadArgs(f)
	if err != nil {
		return quote.FileError(name, err)
	}
	s.Insert(args)
	return nil
}

// ReadArgs reads arguments from a file. Empty lines and lines that begin with "#" are
// ignored. A line that begins with "-" is split at blanks and tabs into arguments. Any
// other line is one argument; double quotes around the whole line are removed.
func ReadArgs(r io.Reader) ([]string, error) {
	var args []string
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 0, maxLine+2), maxLine+2)
	n := 0
	for sc.Scan() {
		n++
		line := sc.Text()
		switch {
		case len(line) > maxLine:
			return nil, fmt.Errorf("line %d is longer than %d characters", n, maxLine)
		case line == "" || line[0] == '#':
		case line[0] == '-':
			args = append(args, strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })...)
		case len(line) >= 2 && line[0] == '"' && line[len(line)-1] == '"':
			args = append(args, line[1:len(line)-1])
		default:
			args = append(args, line)
		}
	}
	switch err := sc.Err(); {
	case err == bufio.ErrTooLong:
		return nil, fmt.Errorf("line %d is longer than %d characters", n+1, maxLine)
	case err != nil:
		return nil, err
	}
	return args, nil
}
