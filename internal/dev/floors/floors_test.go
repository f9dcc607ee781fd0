// Package floors holds the order of the packages, and of the files in the large ones, in which a newcomer can read
// them: imports and references point down, and a method stands in the file of its type. It has only tests.
package floors

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/reiestr/reiestr/internal/dev/watched"
)

const module = "github.com/reiestr/reiestr/"

// mayImport lists the packages of the module that each package may import, tests apart. The workshop, internal/dev, may
// import all.
var mayImport = map[string][]string{
	"cmd/reiestr": {"worker", "api", "api/rest", "db", "migrations",
		"internal/bundle", "internal/pgserver", "internal/telemetry"},
	"worker":     {"db"},
	"api":        {"api/rest", "db", "internal/recent"},
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

// ordered are the packages whose files have an order in which each refers only to files below it, and in which each
// method stands in the file of its type.
var ordered = []string{"api", "api/rest", "db", "db/pg", "worker"}

const workshop = "internal/dev/"

// TestMain lets go test run the tests again after any change: the list of files comes from git, that of packages from
// go list.
func TestMain(m *testing.M) {
	if err := watched.Folders("../../.."); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

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
	for _, name := range ordered {
		all := references(t, filepath.Join("../../..", name))
		if len(all) < 3 {
			t.Fatalf("%s: references of %d files were found", name, len(all))
		}
		if up := upward(all); len(up) > 0 {
			t.Errorf("%s: references between files point up:\n%s", name, strings.Join(up, "\n"))
		}
	}
}

func TestMethodsStandInTheFileOfTheirType(t *testing.T) {
	t.Parallel()
	for _, name := range ordered {
		methods, apart := methodsApart(parse(t, token.NewFileSet(), filepath.Join("../../..", name)))
		if methods == 0 {
			t.Errorf("%s: no method was found", name)
		}
		for _, m := range apart {
			t.Errorf("%s: %s", name, m)
		}
	}
}

func TestMethodsApartAreFound(t *testing.T) {
	t.Parallel()
	files := map[string]*ast.File{}
	for name, text := range map[string]string{
		"a.go": "package p\ntype A struct{}\ntype G[K, V any] struct{}\nfunc (a *A) Here() {}\nfunc f() {}",
		"b.go": "package p\ntype B int\nfunc (A) There() {}\nfunc (g *G[K, V]) There() {}\nfunc (b B) Here() {}",
	} {
		file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = file
	}
	methods, apart := methodsApart(files)
	want := []string{
		"A.There is in b.go, its type is in a.go",
		"G.There is in b.go, its type is in a.go",
	}
	if methods != 4 || !slices.Equal(apart, want) {
		t.Errorf("%d methods, %q", methods, apart)
	}
}

// methodsApart counts the methods of a package, and finds those in another file than their type.
func methodsApart(files map[string]*ast.File) (methods int, apart []string) {
	fileOf := map[string]string{} // by type
	for name, file := range files {
		for _, declaration := range file.Decls {
			if general, ok := declaration.(*ast.GenDecl); ok {
				for _, spec := range general.Specs {
					if declared, ok := spec.(*ast.TypeSpec); ok {
						fileOf[declared.Name.Name] = name
					}
				}
			}
		}
	}
	for name, file := range files {
		for _, declaration := range file.Decls {
			method, ok := declaration.(*ast.FuncDecl)
			if !ok || method.Recv == nil {
				continue
			}
			methods++
			if of := receiver(method.Recv.List[0].Type); fileOf[of] != name {
				apart = append(apart, of+"."+method.Name.Name+" is in "+name+", its type is in "+fileOf[of])
			}
		}
	}
	slices.Sort(apart)
	return methods, apart
}

// receiver is the name of the type of a receiver, which may be a pointer and may have type parameters.
func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
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

// parse reads the files of a package, tests apart, by name.
func parse(t *testing.T, fset *token.FileSet, dir string) map[string]*ast.File {
	t.Helper()
	p, err := build.ImportDir(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]*ast.File{}
	for _, name := range p.GoFiles {
		file, err := parser.ParseFile(fset, filepath.Join(dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = file
	}
	return files
}

// references finds, for each file of a package, the other files that it refers to, each with one name that it defines.
// Imports are not resolved: their definitions are in no file of the package.
func references(t *testing.T, dir string) map[string]map[string]string {
	t.Helper()
	fset := token.NewFileSet()
	files := parse(t, fset, dir)
	found := map[string]map[string]string{}
	for name := range files {
		found[name] = map[string]string{}
	}
	info := types.Info{Uses: map[*ast.Ident]types.Object{}}
	config := types.Config{Error: func(error) {}}                      // that the imports are missing
	config.Check(dir, fset, slices.Collect(maps.Values(files)), &info) //nolint:errcheck // see above
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
