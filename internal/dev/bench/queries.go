package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// queries are the project's own named queries, as they stand in sql/, without their headers.
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

// binding is what stands in a query for its parameters, by name: SQL expressions, also of pgbench's variables.
type binding map[string]string

// scripts writes pgbench scripts out of queries. What does not fit (no such query, a parameter without an expression,
// an expression without a parameter) is kept in err: a script that lags behind sql/ is never run.
type scripts struct {
	queries
	err error
}

// bound is a query with expressions for its parameters.
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

// steps is a script of statements that travel one by one, in one transaction.
func steps(statements ...string) string {
	return "begin;\n" + each(statements...) + "commit;\n"
}

// each is a script of statements that travel one by one, each a transaction of its own.
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

// pipelined is a script of statements that travel together.
func pipelined(statements ...string) string {
	return "\\startpipeline\n" + each(statements...) + "\\endpipeline\n"
}
