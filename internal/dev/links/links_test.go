// Package links tests that the links of the Markdown pages lead to existing files and headings. It has only tests.
package links

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/reiestr/reiestr/internal/dev/watched"
)

const root = "../../.."

var (
	link     = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	heading  = regexp.MustCompile(`^#{1,6} (.*)$`)
	codeSpan = regexp.MustCompile("`([^`]+)`")
	path     = regexp.MustCompile(`^(api|client|cmd|db|docs|internal|migrations|sql|tools|worker)(/[\w.*-]+)+/?$`)
)

// TestMain lets go test run the tests again after any change: the list of files comes from git.
func TestMain(m *testing.M) {
	if err := watched.Folders(root); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// files are the files of the working copy whose names match the patterns.
func files(t *testing.T, patterns ...string) []string {
	t.Helper()
	arguments := append([]string{"ls-files", "--cached", "--others", "--exclude-standard"}, patterns...)
	command := exec.CommandContext(t.Context(), "git", arguments...)
	command.Dir = root
	out, err := command.Output()
	if err != nil {
		t.Skip("not a working copy of git:", err)
	}
	return strings.Fields(string(out))
}

// pages are the Markdown files of the working copy, with their texts by name.
func pages(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, page := range files(t, "*.md") {
		raw, err := os.ReadFile(filepath.Join(root, page))
		if err == nil { // else the file was removed and this is not committed yet
			texts[page] = string(raw)
		}
	}
	if len(texts) < 10 {
		t.Fatalf("only %d pages are found", len(texts))
	}
	return texts
}

// TestPaths: each span of code that looks like a path leads to a file or folder. The end of a name may be left out, as
// in migrations/00014.
func TestPaths(t *testing.T) {
	t.Parallel()
	checked := 0
	for page, text := range pages(t) {
		for _, line := range prose(text) {
			for _, span := range codeSpan.FindAllStringSubmatch(line, -1) {
				if !path.MatchString(span[1]) {
					continue
				}
				checked++
				found, err := filepath.Glob(filepath.Join(root, span[1]) + "*")
				if err != nil || len(found) == 0 {
					t.Errorf("%s names %s: there is no such file", page, span[1])
				}
			}
		}
	}
	if checked < 30 {
		t.Errorf("only %d paths are found", checked)
	}
}

// TestLinks: each relative link of a page leads to a file or folder of the repository, and each anchor to a heading of
// the page.
func TestLinks(t *testing.T) {
	t.Parallel()
	checked := 0
	for page, text := range pages(t) {
		for _, target := range targets(text) {
			checked++
			if fault := follow(page, target); fault != "" {
				t.Errorf("%s links to %s: %s", page, target, fault)
			}
		}
	}
	if checked < 100 {
		t.Errorf("only %d links are found", checked)
	}
}

// follow answers why a link of a page is dead; "": it is not, or it leads to another site.
func follow(page, target string) (fault string) {
	parsed, err := url.Parse(target)
	if err != nil {
		return err.Error()
	}
	if parsed.Scheme != "" || parsed.Host != "" {
		return ""
	}
	file := page
	if parsed.Path != "" {
		file = filepath.Join(filepath.Dir(page), parsed.Path)
	}
	if _, err := os.Stat(filepath.Join(root, file)); err != nil {
		return "there is no such file"
	}
	if parsed.Fragment == "" {
		return ""
	}
	raw, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		return err.Error()
	}
	if !slices.Contains(anchors(string(raw)), parsed.Fragment) {
		return "the page has no such heading"
	}
	return ""
}

// targets are the targets of the links of a page. Blocks and spans of code are left out.
func targets(text string) []string {
	var all []string
	for _, line := range prose(text) {
		for _, match := range link.FindAllStringSubmatch(regexp.MustCompile("`[^`]*`").ReplaceAllString(line, "``"), -1) {
			all = append(all, match[1])
		}
	}
	return all
}

// anchors are the anchors that GitHub gives the headings of a page.
func anchors(text string) []string {
	var all []string
	for _, line := range prose(text) {
		match := heading.FindStringSubmatch(line)
		if match == nil {
			continue
		}
		var anchor strings.Builder
		title := regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(match[1], "$1")
		for _, r := range strings.ToLower(strings.TrimSpace(title)) {
			switch {
			case r == ' ':
				anchor.WriteRune('-')
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				anchor.WriteRune(r)
			}
		}
		name := anchor.String()
		for n := 1; slices.Contains(all, name); n++ {
			name = fmt.Sprintf("%s-%d", anchor.String(), n)
		}
		all = append(all, name)
	}
	return all
}

// prose is a page without its blocks of code.
func prose(text string) []string {
	var lines []string
	inCode := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			inCode = !inCode
			continue
		}
		if !inCode {
			lines = append(lines, line)
		}
	}
	return lines
}

// TestDeadLinks: a link to a missing file or heading is found.
func TestDeadLinks(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]string{
		"README.md":                       "",
		"README.md#start":                 "",
		"docs/":                           "",
		"https://example.org/nothing":     "",
		"NOTHING.md":                      "there is no such file",
		"README.md#nothing":               "the page has no such heading",
		"docs/decisions/README.md#absent": "the page has no such heading",
	} {
		if got := follow("README.md", target); got != want {
			t.Errorf("%s: %q, want %q", target, got, want)
		}
	}
	page := "a [b](c.md) `[no](link)`\n```\n[no](code)\n```\n# Two *words*, and `code`\n"
	if got := targets(page); !slices.Equal(got, []string{"c.md"}) {
		t.Errorf("targets: %v", got)
	}
	if got := anchors(page); !slices.Equal(got, []string{"two-words-and-code"}) {
		t.Errorf("anchors: %v", got)
	}
}

// TestNamedTestsExist: the tests and fuzz targets that pages name exist.
func TestNamedTestsExist(t *testing.T) {
	t.Parallel()
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	exists := map[string]bool{}
	for _, file := range files(t, "*_test.go") {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range function.FindAllStringSubmatch(string(text), -1) {
			exists[name[1]] = true
		}
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w*)`")
	for page, text := range pages(t) {
		for _, name := range named.FindAllStringSubmatch(text, -1) {
			if !exists[name[1]] {
				t.Errorf("%s names %s, which does not exist", page, name[1])
			}
		}
	}
}
