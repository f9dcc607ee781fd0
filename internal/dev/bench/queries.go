package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// queries are the named queries of sql/ without their headers, by name.
type queries map[string]string

var (
	queryName    = regexp.MustCompile(`(?m)^-- name: (\w+) :\w+\n`)
	queryComment = regexp.MustCompile(`(?m)^\s*--.*\n`)
	// queryParameter is @name or sqlc.narg('name').
	queryParameter = regexp.MustCompile(`@([a-z_]+)|sqlc\.narg\('([a-z_]+)'\)`)
	queryEmbed     = regexp.MustCompile(`sqlc\.embed\((\w+)\)`)
)

func readQueries(folder string) (queries, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.sql"))
	if err != nil {
		return nil, err
	}
	q := queries{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		names := queryName.FindAllSubmatchIndex(text, -1)
		for i, at := range names {
			end := len(text)
			if i+1 < len(names) {
				end = names[i+1][0]
			}
			body := queryComment.ReplaceAllString(string(text[at[1]:end]), "")
			body = queryEmbed.ReplaceAllString(body, "$1.*")
			q[string(text[at[2]:at[3]])] = strings.TrimRight(strings.TrimSpace(body), ";")
		}
	}
	if len(q) == 0 {
		return nil, fmt.Errorf("no queries in %s", folder)
	}
	return q, nil
}

// binding holds the SQL expressions that replace the parameters of a query, by name. They may contain variables of
// pgbench.
type binding map[string]string

// scripts makes pgbench scripts from queries. A missing query, a parameter without an expression and an expression
// without a parameter are errors that err collects: a script that does not fit sql/ is never run.
type scripts struct {
	queries
	err error
}

// bound is a query whose parameters are replaced by expressions.
func (s *scripts) bound(name string, values binding) string {
	query, ok := s.queries[name]
	if !ok {
		s.fail("sql/ has no query %s", name)
		return ""
	}
	used := map[string]bool{}
	text := queryParameter.ReplaceAllStringFunc(query, func(found string) string {
		names := queryParameter.FindStringSubmatch(found)
		parameter := names[1] + names[2]
		value, ok := values[parameter]
		if !ok {
			s.fail("parameter %s of %s has no value", parameter, name)
		}
		used[parameter] = true
		return value
	})
	for parameter := range values {
		if !used[parameter] {
			s.fail("%s has no parameter %s", name, parameter)
		}
	}
	return text
}

func (s *scripts) fail(format string, args ...any) {
	s.err = errors.Join(s.err, fmt.Errorf(format, args...))
}

// steps is a script whose statements are sent one by one, in one transaction.
func steps(statements ...string) string {
	return "begin;\n" + each(statements...) + "commit;\n"
}

// each is a script whose statements are sent one by one, each in a transaction of its own.
func each(statements ...string) string {
	var b strings.Builder
	for _, s := range statements {
		b.WriteString(s)
		if !strings.HasSuffix(s, "\n") { // \gset ends a statement by itself
			b.WriteString(";\n")
		}
	}
	return b.String()
}

// pipelined is a script whose statements are sent together.
func pipelined(statements ...string) string {
	return "\\startpipeline\n" + each(statements...) + "\\endpipeline\n"
}
