package qemu

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// withDependencies returns the files of modules and of the modules that they need, in
// the order for loading. If there is no file of a module, it must be built into the
// kernel. A package that was only unpacked has no modules.dep, but each module names
// what it needs.
func withDependencies(dir string, names []string) (files []string, err error) {
	paths := map[string]string{}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko"); err == nil && ok {
			paths[plain(name)] = path
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("no modules in %s", dir)
	}
	done := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		path, ok := paths[plain(name)]
		if !ok || done[path] {
			return nil
		}
		done[path] = true
		needs, err := dependencies(path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for _, n := range needs {
			if err := add(n); err != nil {
				return err
			}
		}
		files = append(files, path)
		return nil
	}
	for _, n := range names {
		if err := add(n); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// plain returns the kernel's form of a module's name.
func plain(name string) string { return strings.ReplaceAll(name, "-", "_") }

// dependencies reads the line "depends=" of a module's information.
func dependencies(path string) ([]string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := f.Section(".modinfo")
	if s == nil {
		return nil, fmt.Errorf("no kernel module")
	}
	info, err := s.Data()
	if err != nil {
		return nil, err
	}
	for line := range bytes.SplitSeq(info, []byte{0}) {
		if list, ok := bytes.CutPrefix(line, []byte("depends=")); ok && len(list) > 0 {
			return strings.Split(string(list), ","), nil
		}
	}
	return nil, nil
}
