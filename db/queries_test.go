package db_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	queryHead  = regexp.MustCompile(`(?m)^-- name: (\w+) :\w+$`)
	notAsked   = regexp.MustCompile(`(?i)\b(now\(\)|current_date|current_timestamp|localtimestamp|current_time)`)
	fromTable  = regexp.MustCompile(`(?i)\b(?:FROM|JOIN|INTO|UPDATE)\s+(?:ONLY\s+)?([a-z_]+(?:\.[a-z_]+)?)(\s*\()?`)
	commonName = regexp.MustCompile(`(?m)(?:WITH|,)\s*(?:RECURSIVE\s+)?([a-z_]+) AS (?:MATERIALIZED )?\(`)
)

// TestQueryFiles checks the rules for files of sql/: queries are in alphabetical order. Each has a header with its
// purpose, its locks, its index and its refusals. Tables are named with their schema, and the clock is a parameter.
func TestQueryFiles(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../sql/*.sql")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text := string(raw)
		starts := queryHead.FindAllStringSubmatchIndex(text, -1)
		var names []string
		for i, at := range starts {
			name, end := text[at[2]:at[3]], len(text)
			if i+1 < len(starts) {
				end = starts[i+1][0]
			}
			names = append(names, name)
			header, body := splitHeader(text[at[1]+1 : end])
			for _, part := range []string{"Locks: ", "Index: ", "Refusals"} {
				if !strings.Contains(header, "\n"+part) {
					t.Errorf("%s: the header of %s lacks %q", file, name, part)
				}
			}
			if purpose, _, _ := strings.Cut(header, "\nLocks: "); len(strings.TrimSpace(purpose)) < 20 {
				t.Errorf("%s: the header of %s lacks its purpose", file, name)
			}
			if found := notAsked.FindString(body); found != "" {
				t.Errorf("%s: %s asks %s: the moment of a decision is a parameter (ops.instant), that of a row "+
					"statement_timestamp()", file, name, found)
			}
			var known []string
			for _, m := range commonName.FindAllStringSubmatch(body, -1) {
				known = append(known, m[1])
			}
			for _, m := range fromTable.FindAllStringSubmatch(body, -1) {
				table, called := m[1], m[2] != ""
				aliased := regexp.MustCompile(`(?i)\)\s*(?:AS\s+)?` + table + `\b`).MatchString(body)
				if !strings.Contains(table, ".") && !called && !aliased && !slices.Contains(known, table) &&
					!slices.Contains([]string{"select", "set", "of", "skip", "nowait"}, strings.ToLower(table)) {
					t.Errorf("%s: %s names %s without its schema", file, name, table)
				}
			}
		}
		if !slices.IsSorted(names) {
			t.Errorf("%s: the queries are not in alphabetical order: %v", file, names)
		}
	}
}

// splitHeader separates the comment in front of a query from the query. It removes the comment marks of both.
func splitHeader(query string) (header, body string) {
	inHeader := true
	for line := range strings.Lines(query) {
		comment, isComment := strings.CutPrefix(strings.TrimSpace(line), "--")
		switch {
		case isComment && inHeader:
			header += "\n" + strings.TrimPrefix(comment, " ")
		case !isComment:
			inHeader = false
			statement, _, _ := strings.Cut(line, " --")
			body += statement
		}
	}
	return header, body
}
