package schemadoc_test

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/reiestr/reiestr/internal/dev/schemadoc"
	"github.com/reiestr/reiestr/internal/dev/testdb"
)

const folder = "../../../docs/schema"

var update = flag.Bool("update", false, "write docs/schema instead of comparing it")

func TestMain(m *testing.M) { os.Exit(testdb.Main(m)) }

// TestPages compares docs/schema with the present database. make schema writes the pages.
func TestPages(t *testing.T) {
	pages, err := schemadoc.Render(t.Context(), testdb.New(t).URL, os.DirFS("../../../sql"))
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		must(t, os.RemoveAll(folder))
		must(t, os.MkdirAll(folder, 0o755))
		for name, text := range pages {
			must(t, os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644))
		}
	}
	files, err := os.ReadDir(folder)
	must(t, err)
	for _, file := range files {
		if _, known := pages[file.Name()]; !known {
			t.Errorf("docs/schema/%s is no page of the database: run make schema", file.Name())
		}
	}
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		committed, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil || string(committed) != pages[name] {
			t.Errorf("docs/schema/%s is out of date: run make schema\n%s", name, difference(string(committed), pages[name]))
		}
	}
	checkLinks(t, pages)
}

// difference is the first line in which two texts differ.
func difference(committed, rendered string) string {
	old, new := strings.Split(committed, "\n"), strings.Split(rendered, "\n")
	for i := range new {
		if i >= len(old) {
			return "+ " + new[i]
		}
		if old[i] != new[i] {
			return "- " + old[i] + "\n+ " + new[i]
		}
	}
	return "- " + old[len(new)]
}

var (
	linked  = regexp.MustCompile(`\]\(([^)#]*)(?:#([^)]*))?\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	dropped = regexp.MustCompile(`[^\pL\pN _-]`)
)

// checkLinks checks that every link leads to a page and one of its headings, or to a file of the project.
func checkLinks(t *testing.T, pages map[string]string) {
	anchors := map[string]map[string]int{}
	for name, text := range pages {
		anchors[name] = map[string]int{}
		for _, h := range heading.FindAllStringSubmatch(text, -1) {
			anchor := strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-")
			if anchors[name][anchor]++; anchors[name][anchor] > 1 {
				t.Errorf("%s has the heading %q twice", name, h[1])
			}
		}
	}
	followed := 0
	for name, text := range pages {
		for _, l := range linked.FindAllStringSubmatch(text, -1) {
			followed++
			page := l[1]
			if page == "" {
				page = name
			}
			if headings, known := anchors[page]; known {
				if l[2] != "" && headings[l[2]] == 0 {
					t.Errorf("%s: no heading for %s", name, l[0])
				}
			} else if _, err := os.Stat(filepath.Join(folder, page)); err != nil {
				t.Errorf("%s: %s leads nowhere", name, l[0])
			}
		}
	}
	if followed < 100 {
		t.Errorf("only %d links were found", followed)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestRollBackLeavesTheSchema: the page of migrations agrees with decision 16. The program of the release before works
// on the newer schema, so a roll-back of the program rolls back no migration.
func TestRollBackLeavesTheSchema(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/schema/migrations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(page), "\n## Roll back the newest\n")
	section, _, _ := strings.Cut(rest, "\n## ")
	first, after, _ := strings.Cut(strings.TrimSpace(section), "\n\n")
	if !found || strings.Contains(first, "migrate down") || !strings.Contains(first, "The schema stays") {
		t.Errorf("the roll-back changes more than the program:\n%s", section)
	}
	if !strings.Contains(after, "`bin/reiestr migrate down` is for development") {
		t.Errorf("the page does not say what migrate down is for:\n%s", section)
	}
	if strings.Contains(string(page), "starts only on the version that it was built for") {
		t.Error("the page says that a program does not start on a newer schema")
	}
}

// TestPageOfQueriesShowsTheNameOfAStatement: the name of a statement is a comment within its text (decision 15).
func TestPageOfQueriesShowsTheNameOfAStatement(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/schema/queries.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "has its name in a\ncomment, `SELECT /* GetJob */ …`") {
		t.Error("the page does not show the comment with the name of a statement")
	}
}
