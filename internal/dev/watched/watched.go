// Package watched tells go test of the files that a test reads by way of another program, such as go build or git.
//
// go test keeps the result of a package's tests until their code, a variable or a file changes that they read. It knows
// the files that the process of the tests opens, and no others.
package watched

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Folders opens each folder at and below these. Then go test runs the tests again after a file in one of them was
// written, added or removed. Hidden folders and node_modules are left out.
func Folders(roots ...string) error {
	for _, root := range roots {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			name := filepath.Base(path)
			if err == nil && entry.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "node_modules") {
				return fs.SkipDir
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Files is Folders for single files.
func Files(paths ...string) error {
	for _, path := range paths {
		if _, err := os.Stat(path); err != nil {
			return err
		}
	}
	return nil
}
