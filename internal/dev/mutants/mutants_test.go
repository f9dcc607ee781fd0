package main

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const root = "../../.."

// changed is the text with the mutant in it, as one line without comments.
func changed(text string, m mutant) string {
	text = text[:m.start] + m.replacement + text[m.end:]
	return strings.Join(strings.Fields(regexp.MustCompile(`--[^\n]*`).ReplaceAllString(text, "")), " ")
}

// within changes a part of the text, as one line without comments. The part must be in the text.
func within(t *testing.T, text string) func(part, instead string) string {
	t.Helper()
	line := changed(text, mutant{})
	return func(part, instead string) string {
		if !strings.Contains(line, part) {
			t.Fatalf("%s is not in the text", part)
		}
		return strings.Join(strings.Fields(strings.Replace(line, part, instead, 1)), " ")
	}
}

// differ compares the mutants of a text with the wanted ones, id by id.
func differ(t *testing.T, text string, got []mutant, want map[string]string) {
	t.Helper()
	found := map[string]string{}
	for _, m := range got {
		if found[m.id] != "" {
			t.Errorf("%s is found twice", m.id)
		}
		found[m.id] = changed(text, m)
	}
	for _, id := range slices.Sorted(maps.Keys(want)) {
		if found[id] != want[id] {
			t.Errorf("%s: got\n%s\nwant\n%s", id, found[id], want[id])
		}
		delete(found, id)
	}
	for id, text := range found {
		t.Errorf("%s is not wanted: %s", id, text)
	}
}

func TestMutantsOfLocks(t *testing.T) {
	t.Parallel()
	const text = `-- name: Claim :many
-- Locks: FOR UPDATE in a comment is none.
SELECT j.id
FROM (SELECT c.id FROM jobs c WHERE c.note = 'FOR UPDATE' ORDER BY c.n LIMIT @most FOR NO KEY UPDATE SKIP LOCKED) AS j
ORDER BY j.id;

-- name: Hold :exec
SELECT FROM jobs WHERE id = @id FOR UPDATE OF jobs NOWAIT;

-- name: Publish :exec
SELECT pg_advisory_xact_lock(7);

-- name: Load :exec
LOCK TABLE jobs IN SHARE ROW EXCLUSIVE MODE;`
	in := within(t, text)
	differ(t, text, queryMutants("sql/a.sql", text), map[string]string{
		"sql/a.sql:Claim:order:1":                  in("ORDER BY c.n LIMIT", "LIMIT"),
		"sql/a.sql:Claim:lock-share:1":             in("FOR NO KEY UPDATE", "FOR SHARE"),
		"sql/a.sql:Claim:skip-locked:1":            in("SKIP LOCKED)", ")"),
		"sql/a.sql:Claim:lock-none:1":              in("FOR NO KEY UPDATE SKIP LOCKED)", ")"),
		"sql/a.sql:Hold:lock-share:1":              in("FOR UPDATE OF", "FOR SHARE OF"),
		"sql/a.sql:Hold:nowait:1":                  in("OF jobs NOWAIT;", "OF jobs ;"),
		"sql/a.sql:Hold:lock-none:1":               in("FOR UPDATE OF jobs NOWAIT;", ";"),
		"sql/a.sql:Publish:advisory-lock-none:1":   in("pg_advisory_xact_lock(7)", "abs(7)"),
		"sql/a.sql:Publish:advisory-lock-shared:1": in("xact_lock(7)", "xact_lock_shared(7)"),
		"sql/a.sql:Load:table-lock-weak:1":         in("IN SHARE ROW EXCLUSIVE MODE", "IN ROW SHARE MODE"),
	})
}

func TestMutantsOfConditions(t *testing.T) {
	t.Parallel()
	const text = `-- name: Use :execrows
WITH used AS (
    UPDATE requests r SET holder = CASE WHEN a AND b THEN @holder END
    WHERE r.id = ANY (ARRAY(SELECT x FROM y WHERE x AND z)) AND r.n BETWEEN 1 AND 2 AND (r.a OR r.b)
    RETURNING r.id
)
INSERT INTO events SELECT id FROM used WHERE id > 1 AND id < 9 ON CONFLICT (id) DO UPDATE SET n = 1;

-- name: Forget :exec
DELETE FROM requests WHERE a OR b AND c;`
	in := within(t, text)
	differ(t, text, queryMutants("sql/b.sql", text), map[string]string{
		"sql/b.sql:Use:where:1": in("r.id = ANY (ARRAY(SELECT x FROM y WHERE x AND z))",
			"(r.id = ANY (ARRAY(SELECT x FROM y WHERE x AND z)) OR true)"),
		"sql/b.sql:Use:where:2":    in("r.n BETWEEN 1 AND 2", "(r.n BETWEEN 1 AND 2 OR true)"),
		"sql/b.sql:Use:where:3":    in("(r.a OR r.b)", "((r.a OR r.b) OR true)"),
		"sql/b.sql:Forget:where:1": in("a OR b AND c", "(a OR b AND c OR true)"),
	})
}

func TestMutantsOfMigrations(t *testing.T) {
	t.Parallel()
	const text = `-- +goose Up
CREATE TABLE ops.a (
    id uuid CONSTRAINT a_pkey PRIMARY KEY,
    CONSTRAINT a_known CHECK (x IN (1, 2)),
    CONSTRAINT a_b_fkey FOREIGN KEY (b) REFERENCES ops.b (id) ON DELETE CASCADE,
    CONSTRAINT a_once UNIQUE (x, id)
);
COMMENT ON CONSTRAINT a_known ON ops.a IS 'GRANT and CHECK in a comment are none;';
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS a_key ON ops.a (x);
CREATE FUNCTION ops.f() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM ops.b WHERE old AND (SELECT true FOR UPDATE);
END
$$;
REVOKE ALL ON FUNCTION ops.f() FROM PUBLIC;
CREATE TRIGGER t AFTER UPDATE OF x, y OR DELETE ON ops.a FOR EACH STATEMENT EXECUTE FUNCTION ops.f();
CREATE TRIGGER u BEFORE INSERT ON ops.a FOR EACH ROW WHEN (NEW.x > (1)) EXECUTE FUNCTION ops.f();
GRANT SELECT, UPDATE (x) ON ops.a TO reiestr_app;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
-- +goose Down
DELETE FROM ops.a WHERE true;
REVOKE SELECT ON ops.a FROM reiestr_app;`
	in := within(t, text)
	differ(t, text, migrationMutants("migrations/1.sql", text), map[string]string{
		"migrations/1.sql:a_known:check:1": in("CHECK (x IN (1, 2))", "CHECK ((x IN (1, 2)) OR true)"),
		"migrations/1.sql:a_b_fkey:foreign-key:1": in("FOREIGN KEY (b) REFERENCES ops.b (id) ON DELETE CASCADE",
			"CHECK (true)"),
		"migrations/1.sql:a_once:unique:1": in("UNIQUE (x, id)", "CHECK (true)"),
		"migrations/1.sql:a_key:unique:1":  in("UNIQUE INDEX", "INDEX"),
		"migrations/1.sql:ops.f:where:1":   in("WHERE old AND", "WHERE (old OR true) AND"),
		"migrations/1.sql:ops.f:where:2": in(
			"(SELECT true FOR UPDATE)",
			"((SELECT true FOR UPDATE) OR true)",
		),
		"migrations/1.sql:ops.f:lock-share:1":       in("true FOR UPDATE", "true FOR SHARE"),
		"migrations/1.sql:ops.f:lock-none:1":        in("true FOR UPDATE)", "true )"),
		"migrations/1.sql:ops.f:revoke:1":           in("REVOKE ALL ON FUNCTION ops.f() FROM PUBLIC;", ""),
		"migrations/1.sql:ops.a.t:trigger:1":        in("STATEMENT EXECUTE", "STATEMENT WHEN (false) EXECUTE"),
		"migrations/1.sql:ops.a.t:trigger-update:1": in("UPDATE OF x, y OR DELETE", "DELETE"),
		"migrations/1.sql:ops.a.t:trigger-delete:1": in("UPDATE OF x, y OR DELETE", "UPDATE OF x, y"),
		"migrations/1.sql:ops.a.u:trigger:1":        in("WHEN (NEW.x > (1))", "WHEN ((NEW.x > (1)) AND false)"),
		"migrations/1.sql:ops.a:grant:1":            in("GRANT SELECT, UPDATE (x) ON ops.a TO reiestr_app;", ""),
		"migrations/1.sql:default:revoke:1": in(
			"ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;",
			"",
		),
	})
}

// TestMutantsOfThisModule: each listed place exists, no lock of sql/ is overlooked, and ids are clear.
func TestMutantsOfThisModule(t *testing.T) {
	t.Parallel()
	all, err := find(root)
	if err != nil {
		t.Fatal(err)
	}
	locks, ids := 0, map[string]bool{}
	for _, m := range all {
		if ids[m.id] {
			t.Errorf("two mutants have the id %s", m.id)
		}
		ids[m.id] = true
		if strings.HasPrefix(m.file, "sql/") && strings.Contains(m.id, ":lock-none:") {
			locks++
		}
	}
	written, clause := 0, regexp.MustCompile(`\bFOR (NO KEY UPDATE|UPDATE|SHARE|KEY SHARE)\b`)
	paths, err := filepath.Glob(filepath.Join(root, "sql/*.sql"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		written += len(clause.FindAllString(changed(string(text), mutant{}), -1))
	}
	if locks != written || locks == 0 {
		t.Errorf("%d lock clauses are found, %d are written in sql/", locks, written)
	}
	for _, id := range []string{
		"sql/service_requests.sql:UseServiceRequests:where:4",
		"migrations/00010_access_epoch.sql:ops.access_tokens.access_epoch_advances:trigger-update:1",
		"migrations/00003_service_requests.sql:service_requests_reserved_has_holder:check:1",
		"migrations/00012_retention.sql:ops.prune_jobs:skip-locked:1",
		"migrations/00013_readonly_grants.sql:default:revoke:1",
		"db/jobs.go:row-count",
	} {
		if !ids[id] {
			t.Errorf("%s is not found", id)
		}
	}
	unseen, err := unseenMutants(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	for id, reason := range unseen {
		if !ids[id] || reason == "" {
			t.Errorf("%s lists %s, reason %q: there is no such mutant, or no reason", page, id, reason)
		}
	}
}

// TestMutantsLeaveOutTestsThatExist: a test that was renamed would count again. The page gives the reasons.
func TestMutantsLeaveOutTestsThatExist(t *testing.T) {
	t.Parallel()
	tests := ""
	err := files(root, func(name string) error {
		if !strings.HasSuffix(name, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		tests += string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	for _, out := range leftOut {
		if !strings.Contains(string(text), "\n| `"+out.test+"` | "+out.reason+" |\n") {
			t.Errorf("%s does not say why %s is left out", page, out.test)
		}
		if !strings.Contains(tests, "\nfunc "+out.test+"(") {
			t.Errorf("there is no test %s", out.test)
		}
	}
}

// TestMutantsHaveLikelyTests: each line of likely is of use: it is the first one for some mutant, and its package has
// such tests.
func TestMutantsHaveLikelyTests(t *testing.T) {
	t.Parallel()
	all, err := find(root)
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for _, m := range all {
		of, tests := likelyTests(m.id)
		used[of+" "+tests] = true
		if of == "" {
			t.Errorf("%s has no likely tests", m.id)
		}
	}
	for _, l := range likely {
		if !used[l.of+" "+l.tests] {
			t.Errorf("%s is the line of no mutant", l.mutants)
		}
		paths, err := filepath.Glob(filepath.Join(root, l.of, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, test := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(string(text), -1) {
				found = found || regexp.MustCompile(l.tests).MatchString(test[1])
			}
		}
		if !found || !slices.Contains(packages, l.of) {
			t.Errorf("%s has no test %s that runs", l.of, l.tests)
		}
	}
}

func TestMutantsOfLostPlaces(t *testing.T) {
	t.Parallel()
	fixture := "testdata/fixture"
	_, err := placeMutants(fixture, []place{
		{"queue.go", "there", "const Most = 2", "", ""},
		{"queue.go", "gone", "const Least = 2", "", ""},
		{"queue.go", "twice", "return", "", ""},
	})
	if err == nil || strings.Contains(err.Error(), "queue.go:there") ||
		!strings.Contains(err.Error(), "queue.go:gone: the text occurs 0 times") ||
		!strings.Contains(err.Error(), "queue.go:twice: the text occurs") {
		t.Errorf("got %v", err)
	}
}

// TestMutantsOfAFixture runs the tests of a small module against mutants of every outcome.
func TestMutantsOfAFixture(t *testing.T) {
	t.Parallel()
	fixture, err := filepath.Abs("testdata/fixture")
	if err != nil {
		t.Fatal(err)
	}
	c, err := copyModule(fixture, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c.skip = "^TestSnapshot$"
	took, err := c.baseline(t.Context(), ".", "")
	if err != nil {
		t.Fatal(err)
	}
	limit := limits{".": took}
	all, err := placeMutants(fixture, []place{
		{"queue.go", "bound", "len(q.Entries) >= Most", "len(q.Entries) > Most", ""},
		{"queue.go", "size", "const Most = 2", "const Most = 3", ""},
		{"queue.go", "type", "const Most = 2", `const Most = "two"`, ""},
		{"queue.go", "end", "q.Entries = q.Entries[1:]", "_ = 0", ""},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]outcome{"queue.go:bound": killed, "queue.go:size": survived, "queue.go:type": notMutant,
		"queue.go:end": timedOut}
	for _, m := range all {
		if m.id == "queue.go:end" {
			limit = limits{".": 3 * time.Second}
		}
		r, err := c.try(t.Context(), m, []string{"."}, limit, nil)
		if err != nil || r.Outcome != want[m.id] {
			t.Errorf("%s: %+v, %v, want %s", m.id, r, err, want[m.id])
		}
		if m.id == "queue.go:bound" && r.By != ". TestQueueIsBounded" {
			t.Errorf("killed by %q", r.By)
		}
		before, beforeErr := os.ReadFile(filepath.Join(fixture, m.file))
		after, afterErr := os.ReadFile(filepath.Join(c.dir, m.file))
		if beforeErr != nil || afterErr != nil || string(before) != string(after) {
			t.Errorf("%s is left in the copy", m.id)
		}
	}

	// A test that fails once, and not a second time, kills no mutant.
	mark := filepath.Join(t.TempDir(), "mark")
	c.env = []string{"FIXTURE_MARK=" + mark}
	if r, err := c.try(t.Context(), all[1], []string{"."}, limits{".": time.Minute}, nil); err != nil ||
		r.Outcome != survived {
		t.Errorf("beside a test that fails by itself: %+v, %v", r, err)
	}
	if _, err := os.Stat(mark); err != nil {
		t.Errorf("the test has not failed: %v", err)
	}

	// With a pattern of tests the others do not run.
	c.only = "^TestUnsteady$"
	if r, err := c.try(t.Context(), all[0], []string{"."}, limits{".": time.Minute}, nil); err != nil ||
		r.Outcome != survived {
		t.Errorf("with one test: %+v, %v", r, err)
	}
	c.only = ""

	// With the likely tests alone a mutant of none survives.
	c.likely = true
	if r, err := c.try(t.Context(), all[0], []string{"."}, limits{".": time.Minute}, nil); err != nil ||
		r.Outcome != survived {
		t.Errorf("without likely tests: %+v, %v", r, err)
	}
	c.likely = false

	// The checker judges what the tests let pass.
	r, err := c.try(t.Context(), all[1], []string{"."}, limits{".": time.Minute}, []string{"false"})
	if err != nil || r.Outcome != killed || !strings.HasPrefix(r.By, "checker") {
		t.Errorf("a checker that fails: %+v, %v", r, err)
	}
	// A tree whose tests fail judges nothing.
	c.skip = "^$"
	if _, _, err := c.apply(t.Context(), all[1]); err != nil {
		t.Fatal(err)
	}
	if _, err := c.baseline(t.Context(), ".", ""); err == nil {
		t.Error("a tree whose tests fail is taken")
	}
}

func TestMutantsAreComparedWithThePage(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "page.md")
	text := "# A\n\n| `other` | x |\n\n" + unseenHeading +
		"\n| mutant | why |\n|---|---|\n| `a` | the lock of b hides it |\n| `k` | x |\n\n### B\n\n| `later` | x |\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	unseen, err := unseenMutants(path)
	if err != nil || !maps.Equal(unseen, map[string]string{"a": "the lock of b hides it", "k": "x"}) {
		t.Fatalf("got %v, %v", unseen, err)
	}
	results := map[string]result{
		"a": {Outcome: survived}, "b": {Outcome: survived}, "k": {Outcome: killed}, "n": {Outcome: killed},
	}
	chosen := []mutant{{id: "a"}, {id: "n"}, {id: "not run"}}
	if err := compare(chosen, results, unseen); err != nil {
		t.Errorf("as listed: %v", err)
	}
	for _, id := range []string{"b", "k"} {
		if err := compare([]mutant{{id: id}}, results, unseen); err == nil || !strings.Contains(err.Error(), id) {
			t.Errorf("%s: got %v", id, err)
		}
	}
}

// TestMutantsGoOn: results of the same tree are kept, and a survivor runs only the tests that it has not met.
func TestMutantsGoOn(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "folder", "results.json")
	r := load(path, "one")
	r.Results["k"] = result{ID: "k", Outcome: killed, Ran: []string{"db"}}
	r.Results["s"] = result{ID: "s", Outcome: survived, Ran: []string{"db"}}
	if err := r.save(path); err != nil {
		t.Fatal(err)
	}
	if again := load(path, "two"); len(again.Results) != 0 {
		t.Error("results of another tree are kept")
	}
	again := load(path, "one")
	if !again.has("k", packages) || !again.has("s", []string{"db"}) || again.has("s", packages) ||
		again.has("n", packages) {
		t.Errorf("got %+v", again)
	}
}

func TestMutantsInShards(t *testing.T) {
	t.Parallel()
	all := []mutant{{id: "a1"}, {id: "b"}, {id: "a2"}, {id: "a3"}}
	seen := ""
	for _, shard := range []string{"1/2", "2/2"} {
		chosen, err := selected(all, options{only: regexp.MustCompile("a"), shard: shard})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range chosen {
			seen += m.id + " "
		}
	}
	if seen != "a1 a3 a2 " {
		t.Errorf("got %s", seen)
	}
	for _, shard := range []string{"", "0/2", "3/2"} {
		if _, err := selected(all, options{only: regexp.MustCompile(""), shard: shard}); err == nil {
			t.Errorf("shard %q is taken", shard)
		}
	}
	m := mutant{id: "migrations/1.sql:a:check:1", file: "migrations/1.sql"}
	if got := inOrder(m, packages); !slices.Equal(got[:2], []string{"db", "migrations"}) {
		t.Errorf("order of the packages: %v", got)
	}
}
