// Package floors holds the order of the packages, and of the files in the large ones, in which a newcomer can read
// them: imports and references point down. It has only tests.
package floors

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/reiestr/reiestr/"

// mayImport lists the packages of the module that each package may import, tests apart. The workshop, internal/dev, may
// import all.
var mayImport = map[string][]string{
	"cmd/reiestr": {"worker", "api", "api/rest", "db", "migrations",
		"internal/bundle", "internal/pgserver", "internal/telemetry"},
	"worker":     {"db"},
	"api":        {"api/rest", "db"},
	"api/rest":   {"db", "internal/recent"},
	"db":         {"db/pg", "db/sqlc"},
	"db/pg":      {"internal/session"},
	"db/sqlc":    {"db/pg"}, // types of columns
	"migrations": {"internal/session"},
	"client":     {},

	"internal/bundle":    {"db"},
	"internal/pgserver":  {},
	"internal/recent":    {},
	"internal/session":   {},
	"internal/telemetry": {"api/rest", "db", "internal/recent"},
}

// knowsNoSQL are the packages that reach the database through package db only.
var knowsNoSQL = []string{"worker", "api", "api/rest", "client"}

// mostUpward bounds the references between the files of a package that point up, see upward.
var mostUpward = map[string]int{"api": 0, "api/rest": 0, "db": 7}

const workshop = "internal/dev/"

func TestPackagesImportDownwards(t *testing.T) {
	t.Parallel()
	command := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "./...")
	command.Dir = "../../.."
	out, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(bytes.NewReader(out))
	if !decoder.More() {
		t.Fatal("no package is listed")
	}
	for decoder.More() {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := decoder.Decode(&p); err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(p.ImportPath, module)
		if strings.HasPrefix(name, workshop) {
			continue
		}
		allowed, known := mayImport[name]
		if !known {
			t.Errorf("%s has no floor: add it to mayImport", name)
		}
		for _, imported := range p.Imports {
			own, ours := strings.CutPrefix(imported, module)
			if ours && !slices.Contains(allowed, own) {
				t.Errorf("%s must not import %s", name, own)
			}
			sql := strings.HasPrefix(imported, "github.com/jackc/pgx") || imported == "database/sql"
			if sql && slices.Contains(knowsNoSQL, name) {
				t.Errorf("%s must not import %s: it reaches the database through db only", name, imported)
			}
		}
	}
}

func TestFilesReferDownwards(t *testing.T) {
	t.Parallel()
	for name, most := range mostUpward {
		all := references(t, filepath.Join("../../..", name))
		if len(all) < 3 {
			t.Fatalf("%s: references of %d files were found", name, len(all))
		}
		if up := upward(all); len(up) > most {
			t.Errorf("%s: %d references between files point up, %d may:\n%s", name, len(up), most, strings.Join(up, "\n"))
		}
	}
}

func TestUpwardFindsCycles(t *testing.T) {
	t.Parallel()
	down := map[string]map[string]string{"a": {"b": "B", "c": "C"}, "b": {"c": "C"}, "c": {}}
	if up := upward(down); len(up) != 0 {
		t.Errorf("no cycle, but %v", up)
	}
	down["c"]["b"] = "B"
	if up := upward(down); len(up) != 1 {
		t.Errorf("one cycle, but %v", up)
	}
}

// references finds, for each file of a package, the other files that it refers to, and one name that each of them
// defines. Imports are not resolved: what they define lies in no file of the package.
func references(t *testing.T, dir string) map[string]map[string]string {
	t.Helper()
	p, err := build.ImportDir(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	var files []*ast.File
	found := map[string]map[string]string{}
	for _, name := range p.GoFiles {
		file, err := parser.ParseFile(fset, filepath.Join(dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
		found[name] = map[string]string{}
	}
	info := types.Info{Uses: map[*ast.Ident]types.Object{}}
	config := types.Config{Error: func(error) {}} // that the imports are missing
	config.Check(dir, fset, files, &info)         //nolint:errcheck // see above
	fileOf := func(p token.Pos) string { return filepath.Base(fset.Position(p).Filename) }
	for use, defined := range info.Uses {
		if defined.Pkg() == nil || !defined.Pos().IsValid() || defined.Parent() == types.Universe {
			continue
		}
		from, to := fileOf(use.Pos()), fileOf(defined.Pos())
		if _, name := defined.(*types.PkgName); !name && from != to {
			found[from][to] = defined.Name()
		}
	}
	return found
}

// upward puts the files in an order, top first, and returns the references that point up in it. A file at the bottom,
// which refers to no other file that is left, is taken away; else the file that refers to more files than refer to it
// by the largest number is the next from the top (Eades, Lin and Smyth 1993: few references point up, though not always
// the fewest possible).
func upward(references map[string]map[string]string) (up []string) {
	left := maps.Clone(references)
	for len(left) > 0 {
		next, most := "", 0
		for _, file := range slices.Sorted(maps.Keys(left)) {
			in, out := 0, 0
			for other := range left {
				if left[other][file] != "" {
					in++
				}
				if left[file][other] != "" {
					out++
				}
			}
			if out == 0 { // at the bottom
				in, out = 0, len(references)
			}
			if next == "" || out-in > most {
				next, most = file, out-in
			}
		}
		below := left[next]
		delete(left, next)
		bottom := !slices.ContainsFunc(slices.Collect(maps.Keys(left)), func(file string) bool { return below[file] != "" })
		for _, other := range slices.Sorted(maps.Keys(left)) {
			if name := left[other][next]; name != "" && !bottom {
				up = append(up, other+" refers to "+name+" in "+next)
			}
		}
	}
	return up
}
