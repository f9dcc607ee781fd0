package links

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var queryName = regexp.MustCompile(`(?m)^-- name: (\w+) :`)

// TestDevelopmentPage: each row of docs/development.md names a file, and functions, types, variables or queries that
// this file has.
func TestDevelopmentPage(t *testing.T) {
	t.Parallel()
	checked := 0
	for _, line := range prose(pages(t)["docs/development.md"]) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || !strings.HasPrefix(cells[1], " `") {
			continue
		}
		file := strings.Trim(cells[1], " `")
		names := declared(t, file)
		for _, span := range codeSpan.FindAllStringSubmatch(cells[2], -1) {
			checked++
			if !slices.Contains(names, span[1]) {
				t.Errorf("%s has no %s", file, span[1])
			}
		}
	}
	if checked < 50 {
		t.Errorf("only %d names are found", checked)
	}
}

var (
	section   = regexp.MustCompile(`(?m)^##+ (\d(?:\.\d)?)\b`)
	reference = regexp.MustCompile(`[Cc]ontract,? (?:section )?(\d(?:\.\d)?)\b`)
)

// TestContractReferences: "contract 4.3" in code, SQL and pages is a section of docs/contract.md.
func TestContractReferences(t *testing.T) {
	t.Parallel()
	var sections []string
	for _, match := range section.FindAllStringSubmatch(pages(t)["docs/contract.md"], -1) {
		sections = append(sections, match[1])
	}
	checked := 0
	for _, file := range files(t, "*.go", "*.sql", "*.md") {
		raw, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			continue // the file was removed and this is not committed yet
		}
		for _, match := range reference.FindAllStringSubmatch(string(raw), -1) {
			checked++
			if !slices.Contains(sections, match[1]) {
				t.Errorf("%s: the contract has no section %s", file, match[1])
			}
		}
	}
	if checked < 10 {
		t.Errorf("only %d references are found", checked)
	}
}

// declared are the names in a Go file on the level of the package, methods with their type in front, or the queries of
// an SQL file.
func declared(t *testing.T, file string) []string {
	t.Helper()
	if strings.HasSuffix(file, ".sql") {
		raw, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, match := range queryName.FindAllStringSubmatch(string(raw), -1) {
			names = append(names, match[1])
		}
		return names
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, file), nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, declaration := range parsed.Decls {
		switch d := declaration.(type) {
		case *ast.FuncDecl:
			name := d.Name.Name
			if d.Recv != nil {
				name = receiver(d.Recv.List[0].Type) + "." + name
			}
			names = append(names, name)
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.TypeSpec:
					names = append(names, s.Name.Name)
				case *ast.ValueSpec:
					for _, name := range s.Names {
						names = append(names, name.Name)
					}
				}
			}
		}
	}
	return names
}

// receiver is the name of the type of a method.
func receiver(e ast.Expr) string {
	switch r := e.(type) {
	case *ast.StarExpr:
		return receiver(r.X)
	case *ast.IndexExpr:
		return receiver(r.X)
	case *ast.IndexListExpr:
		return receiver(r.X)
	case *ast.Ident:
		return r.Name
	}
	return ""
}
