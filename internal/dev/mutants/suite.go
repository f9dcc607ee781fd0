package main

import (
	"cmp"
	"path"
	"regexp"
	"slices"
	"strings"
)

// packages have the tests of behaviour, those in front that find the most.
var packages = []string{"db", "db/pg", "worker", "api", "api/rest", "internal/bundle", "migrations"}

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

// likely are the tests of a package that most often kill some mutants, in the order of the files. For a mutant the
// first line counts that matches its id. Its tests run before all others.
var likely = []struct{ mutants, of, tests string }{
	{`^migrations/.*:(check|foreign-key|unique):`, "db", "^TestIllegalStatesAreRefusedByName$"},
	{`^migrations/.*:(grant|revoke):`, "migrations",
		"^Test(TheServiceHasTheGrants|TheRolesHaveNothingBut|ReadersSeeNoSecrets)"},
	{`final_status`, "db", "^TestFinalStatusStays$"},
	{`jobs_end_stays`, "db", "^TestAnEndedJobStays$"},
	{`event_feed_follows_the_clock|positions-grow`, "db", "^Test(PositionsGrow|EventsAfterARestore)"},
	{`^migrations/00018`, "migrations", "^TestReferenceDataOfTheOperatorStay$"},
	{`^migrations/00007`, "db", "^TestEvents"},
	{`^migrations/00010`, "db", "^Test(Access|Revocation)"},
	{`^migrations/00012`, "db", "^Test(Prune|Horizon)"},

	{`^sql/access`, "db", "^Test(Access|Revocation)"},
	{`^sql/bundle.*:(Remove|SetLicenses|LockBundles)`, "internal/bundle", "^Test(Known|Licenses|Load|Simultaneous)"},
	{`^sql/bundle`, "db", "^Test(Bundle|Load|LockedRows)"},
	{`^sql/events`, "db", "^Test(Events|Publish|OnePublisher)"},
	{`^sql/idempotency`, "db", "^Test(Forgetting|Idempot)"},
	{`^sql/jobs.*:Claim`, "db", "^Test(Run|Claim|LockedRows)"},
	{`^sql/jobs`, "db", "^Test(AnEndedJob|ATroubled|EndJobs|Accept(Adds|Fifty|Together))"},
	{`^sql/(legal_entities|licenses)`, "db", "License|LockedRows"},
	{`^sql/service_requests.*:(.*Expire|expiry)`, "db", "^Test(ExpireByState|ExpireTakes|LockedRows)"},
	{`^sql/service_requests.*:(\w+ServiceRequests:where)`, "db", "^TestEffects"},
	{`^sql/service_requests`, "db", "^Test(UseAndRelease|ProcessAndComplete)"},

	{`^db/(accept|jobs)\.go:(pending|equal|signal)`, "db", "^TestAccept"},
	{`^db/(actions|jobs)\.go:row-count`, "db", "^TestRunFails"},
	{`^db/jobs\.go:(told|last-look|subscriber)`, "db", "^TestAwait"},
	{`^db/jobs\.go:prune`, "db", "^TestPrune"},
	{`^db/jobs\.go:(panic|blame)`, "worker", "^Test"},
	{`^db/(actions|jobs)`, "db", "^Test(Run|Claim|CountAttempt|Estimate)"},
	{`^db/(access|grants)`, "db", "^Test(Access|Grants|NewAPIKey|NoGrant|Revocation)"},
	{`^db/bundle`, "internal/bundle", "^TestDryRun$"},
	{`^db/db`, "db", "^TestReady$"},
	{`^db/events`, "db", "^Test(AwaitEvents|Events|Prune|Publish)"},
	{`^db/idempotency`, "db", "^TestIdempot"},
	{`^db/licenses`, "db", "License|Held"},
	{`^db/news`, "db", "^Test(Await|News)"},
	{`^db/pg/group`, "db/pg", "^TestGroup"},
	{`^db/pg/waiting`, "db", "Held|Waiters"},
	{`^db/pg`, "db/pg", "^TestTransact"},
	{`^worker`, "worker", "^Test"},
	{`^api/rest/(oidc|prefer|server|.*key-length)`, "api/rest", "^Test"},
	{`^api/rest/idempotency`, "api", "Idempot|Gone"},
	{`^api/rest`, "api", "^TestBodies"},
}

// likelyTests answers the package and the pattern of the tests that run first for a mutant; "": there are none.
func likelyTests(id string) (of, tests string) {
	for _, l := range likely {
		if regexp.MustCompile(l.mutants).MatchString(id) {
			return l.of, l.tests
		}
	}
	return "", ""
}

// inOrder puts the packages first whose tests are likely to kill the mutant.
func inOrder(m mutant, all []string) []string {
	first, _ := likelyTests(m.id)
	own := path.Dir(m.file)
	if own == "sql" {
		own = "db"
	}
	rank := func(p string) int { return slices.Index([]string{own, first}, p) }
	return slices.SortedStableFunc(slices.Values(all), func(a, b string) int { return cmp.Compare(rank(b), rank(a)) })
}
