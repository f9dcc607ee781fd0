package main

import (
	"cmp"
	"path"
	"slices"
	"strings"
)

// packages have the tests of behaviour, those in front that find the most.
var packages = []string{"db", "db/pg", "worker", "api", "api/rest", "migrations"}

// slowPackage has tests of whole processes. They take minutes, so they run on demand only.
const slowPackage = "cmd/reiestr"

// leftOut are the tests that do not count, each with the reason. A test that -update would rewrite shows that something
// has changed, but not that a promise is broken.
var leftOut = []struct{ test, reason string }{
	{"TestLocks", "-update writes its outputs and docs/locks.md"},
	{"TestPlans", "-update-plans writes the plans, and the population takes a minute"},
	{"TestReads", "compares counts of rows and buffers, on the population of TestPlans"},
	{"TestDocument", "-update writes the OpenAPI documents"},
	{"TestPages", "-update writes docs/schema"},
	{"TestLint", "reads the text of the migrations and no database"},
	{"TestQueryFiles", "reads the text of sql/ and no database"},
}

// skipped is the pattern of leftOut for go test -skip.
func skipped() string {
	var names []string
	for _, t := range leftOut {
		names = append(names, t.test)
	}
	return "^(" + strings.Join(names, "|") + ")$"
}

// likelyTests are patterns of the tests that most often kill a mutant of a file. They run first, in the first package.
var likelyTests = map[string]string{
	"sql/jobs.sql":             "Jobs|Run|Claim|Postpone|CountAttempt|Accept",
	"sql/service_requests.sql": "Effects|Use|Release|Process|Complete|Expir|Run|Reserv",
	"sql/licenses.sql":         "License|Create",
	"sql/events.sql":           "Event|Publish",
	"sql/idempotency.sql":      "Idempot",
	"db/jobs.go":               "Job|Accept|Run|Claim|Await",
	"db/events.go":             "Event|Publish",
	"db/idempotency.go":        "Idempot",
	"db/licenses.go":           "License|Create|Held",
	"db/grants.go":             "Access|Grant",
	"db/access.go":             "Access|Grant",
}

// inOrder puts the packages first whose tests are likely to kill a mutant of the file.
func inOrder(file string, all []string) []string {
	likely := []string{path.Dir(file)}
	switch likely[0] {
	case "sql":
		likely = []string{"db"}
	case "migrations":
		likely = []string{"db", "migrations"}
	}
	rank := func(p string) int {
		if n := slices.Index(likely, p); n >= 0 {
			return n
		}
		return len(likely)
	}
	return slices.SortedStableFunc(slices.Values(all), func(a, b string) int { return cmp.Compare(rank(a), rank(b)) })
}
