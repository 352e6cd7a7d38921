package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klips-go/ipsec/commands/internal/environ"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/keyfile"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/manual/conf"
)

// files checks the files with connections and with keys.
func (s *survey) files(context.Context) {
	const check = "files"
	names, err := conf.Search("", s.env.Getenv)
	if err != nil {
		s.add(failed, check, "the connections are not found: "+explain.Cause(err), "ipsec showdefaults prints where they are looked for")
		return
	}
	var keys []string
	clean := true
	for _, name := range names {
		text, err := conf.ReadTrusted(name)
		switch {
		case errors.Is(err, fs.ErrPermission) && s.euid != 0:
			s.add(unknown, check, fmt.Sprintf("this user may not read %s", quote.File(name)), "")
			clean = false
		case err != nil:
			s.add(failed, check, explain.Line(err), "")
			clean = false
		default:
			found, inline := keysIn(name, text)
			keys = append(keys, found...)
			if exposed, err := keyfile.Exposed(name); inline && err == nil && exposed != "" {
				s.add(failed, check, "it has keys in it: "+exposed, "")
				clean = false
			}
		}
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	for _, name := range keys {
		exposed, err := keyfile.Exposed(name)
		switch {
		case errors.Is(err, fs.ErrPermission) && s.euid != 0:
			s.add(unknown, check, fmt.Sprintf("this user may not look at the key file %s", quote.File(name)), "")
			clean = false
		case err != nil:
			s.add(warning, check, "the key file "+explain.Line(quote.FileError(name, err)), "make it: ipsec genkey --out FILE")
			clean = false
		case exposed != "":
			s.add(failed, check, exposed, "")
			clean = false
		}
	}
	switch {
	case !clean:
	case len(names) == 0:
		s.add(ok, check, "there are no files of connections", "")
	default:
		s.add(ok, check, fmt.Sprintf("only their owners can change the files of connections (%d) and read the files of keys that these name (%d)", len(names), len(keys)), "")
	}
}

// keysIn returns the files with keys that a file of connections names, and whether it has keys
// itself. Relative names begin at the folder of the file.
func keysIn(name string, text []byte) (files []string, inline bool) {
	for line := range strings.Lines(string(text)) {
		param, value, ok := strings.Cut(strings.TrimSpace(conf.Uncomment(line)), "=")
		if !ok || !slices.Contains([]string{"espenckey", "espauthkey", "ahkey", "masterkey"}, strings.TrimPrefix(strings.TrimPrefix(strings.TrimSpace(param), "left"), "right")) {
			continue
		}
		value = strings.Trim(strings.TrimSpace(value), `"`)
		file, isFile := strings.CutPrefix(value, "@")
		switch {
		case isFile && filepath.IsAbs(file):
			files = append(files, file)
		case isFile && file != "":
			files = append(files, filepath.Join(filepath.Dir(name), file))
		case !isFile && value != "":
			inline = true
		}
	}
	return files, inline
}

// stateDirectory checks whether sequence marks can be kept.
func (s *survey) stateDirectory(context.Context) {
	const check = "state directory"
	dir := environ.Statedir(s.env.Getenv)
	if dir == "" {
		s.add(ok, check, "none: no sequence marks are kept", "")
		return
	}
	where := quote.File(dir)
	err := s.writable(dir)
	made := ""
	if errors.Is(err, fs.ErrNotExist) {
		made, err = ", which is made when it is needed", s.writable(filepath.Dir(dir))
	}
	if errors.Is(err, fs.ErrNotExist) { // that of a network namespace is in another one
		err = s.writable(filepath.Dir(filepath.Dir(dir)))
	}
	switch {
	case err == nil:
		s.add(ok, check, "sequence marks are kept in "+where+made, "")
	case s.euid != 0:
		s.add(unknown, check, "this user may not write in "+where, "")
	default:
		s.add(failed, check, fmt.Sprintf("%s: no files can be made in it (%s), so sequence marks are lost at a restart", where, explain.Cause(err)), "mount it writable, or name another one with IPSEC_STATEDIR")
	}
}

// clock checks whether the clock is obviously wrong: lifetimes and logs depend on it.
func (s *survey) clock(context.Context) {
	const check = "clock"
	now := s.now()
	written, err := s.modified(filepath.Join(s.root, "proc/self/exe"))
	switch {
	case err != nil:
		s.add(unknown, check, "the age of this program is not known: "+explain.Cause(err), "")
	case now.Before(written.Add(-24 * time.Hour)):
		s.add(failed, check, fmt.Sprintf("it is %s, and this program was written on %s", now.UTC().Format(time.DateOnly), written.UTC().Format(time.DateOnly)),
			"set it: lifetimes and the times in logs are wrong")
	default:
		s.add(ok, check, "it is "+now.UTC().Format("2006-01-02 15:04 MST"), "")
	}
}
