package migrations_test

import (
	"errors"
	"io/fs"
	"os"
	osexec "os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/reiestr/reiestr/migrations"
)

// Two linters read each migration: Squawk, whose rules are in tools/migration-lint, and rules of this file for
// statements that Squawk does not know. A forbidden statement is allowed if a comment above it gives the reason.

// finding is a statement of a migration that a rule forbids.
type finding struct {
	line int // of the file
	rule string
	text string
}

// part is the way up or down of a migration, with as many lines above it as in the file.
type part struct {
	text          string
	down          bool
	inTransaction bool
}

func partsOf(content string) []part {
	up, down, _ := strings.Cut(content, "-- +goose Down\n")
	inTransaction := !strings.Contains(up, "-- +goose NO TRANSACTION\n")
	return []part{{up, false, inTransaction}, {strings.Repeat("\n", strings.Count(up, "\n")) + "-- +goose Down\n" + down,
		true, inTransaction}}
}

// squawk is the path of the binary.
func squawk(t *testing.T) string {
	t.Helper()
	if binary := os.Getenv("REIESTR_SQUAWK"); binary != "" {
		return binary
	}
	const installed = "../tools/migration-lint/node_modules/@squawk-cli/linux-x64/bin/squawk"
	if _, err := os.Stat(installed); err != nil {
		t.Skip("Squawk is not installed: npm --prefix tools/migration-lint ci")
	}
	return installed
}

// lintWithSquawk runs Squawk on a part of a migration.
func lintWithSquawk(t *testing.T, binary string, p part) []finding {
	t.Helper()
	var not []string
	assume := "--assume-in-transaction"
	if !p.inTransaction {
		// An index whose build is given up stays behind, invalid, so such a file has no time-out. It begins by dropping the
		// rest of an interrupted run, which IF NOT EXISTS would keep.
		assume, not = "--no-assume-in-transaction", []string{"require-lock-timeout", "prefer-robust-stmts"}
	}
	if p.down { // it removes objects that the way up has added
		not = append(not, "ban-drop-table", "ban-drop-column")
	}
	run := osexec.Command(binary, "--config", "../tools/migration-lint/squawk.toml", "--reporter", "gcc", assume)
	run.Stdin = strings.NewReader(p.text)
	output, err := run.Output()
	if failed := (*osexec.ExitError)(nil); err != nil && (!errors.As(err, &failed) || failed.ExitCode() != 1 ||
		len(output) == 0) {
		t.Fatalf("%s: %v", run, err)
	}
	var found []finding
	for line := range strings.Lines(string(output)) {
		m := regexp.MustCompile(`^stdin:(\d+):\d+: (?:warning|error): (\S+) (.*)\n$`).FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("Squawk says %q", line)
		}
		at, err := strconv.Atoi(m[1])
		must(t, err)
		if !slices.Contains(not, m[2]) {
			found = append(found, finding{at + 1, m[2], m[3]})
		}
	}
	return found
}

// forbidden are beginnings of statements that Squawk lets pass.
var forbidden = []struct{ begins, rule, text string }{
	{"update", "change-rows", "Changing the rows of a table in one transaction holds their locks and leaves as many " +
		"dead rows: let the program do it, in batches."},
	{"delete", "change-rows", "Removing the rows of a table in one transaction holds their locks: the program does it, " +
		"in batches."},
	{"merge", "change-rows", "Changing the rows of a table in one transaction holds their locks: the program does it, " +
		"in batches."},
	{"truncate", "change-rows", "Truncating a table loses its rows and blocks readers."},
	{"lock", "lock-table", "A statement takes the lock that it needs by itself."},
	{"cluster", "rewrite-table", "Blocks readers while it rewrites the table."},
	{"vacuum", "rewrite-table", "A migration does not vacuum."},
	{"refresh", "rewrite-table", "Blocks readers while it rewrites the view."},
	{"revoke", "take-away", "The program of the release before may use the right."},
	{"drop function", "take-away", "The program of the release before may call it."},
	{"drop procedure", "take-away", "The program of the release before may call it."},
	{"drop view", "take-away", "The program of the release before may read it."},
	{"drop materialized view", "take-away", "The program of the release before may read it."},
	{"drop trigger", "take-away", "The program of the release before may rely on it."},
	{"drop type", "take-away", "The program of the release before may name it."},
	{"drop domain", "take-away", "The program of the release before may name it."},
	{"drop sequence", "take-away", "The program of the release before may use it."},
	{"drop schema", "take-away", "The program of the release before uses the objects in it."},
	{"drop owned", "take-away", "The program of the release before uses the dropped objects."},
	{"drop role", "take-away", "The program of the release before may take it on."},
	{"do", "hidden", "A reader cannot see the locks of a block of code."},
	{"call", "hidden", "A reader cannot see the locks of a procedure."},
	{"select", "hidden", "A reader cannot see the locks of a function."},
	{"with", "hidden", "Write INSERT first, and the query behind it."},
}

// forbiddenActions are actions of ALTER TABLE that Squawk lets pass.
var forbiddenActions = []struct{ has, rule, text string }{
	{"set schema", "take-away", "The program of the release before looks for it where it was."},
	{"set logged", "rewrite-table", "Blocks readers while it rewrites the table."},
	{"set unlogged", "rewrite-table", "Blocks readers while it rewrites the table, and a crash would empty it."},
	{"set tablespace", "rewrite-table", "Blocks readers while it copies the table."},
	{"set access method", "rewrite-table", "Blocks readers while it rewrites the table."},
	{"disable trigger", "take-away", "The rule that the trigger enforces holds for all rows."},
	{"drop default", "take-away", "The program of the release before may leave the column out."},
	{"drop expression", "take-away", "The program of the release before leaves the column out."},
	{"drop identity", "take-away", "The program of the release before leaves the column out."},
}

// lintByOwnRules checks the way up. The way down only removes objects that the way up has added.
func lintByOwnRules(t *testing.T, p part) []finding {
	t.Helper()
	var found []finding
	if p.down {
		return nil
	}
	for line, sql := range statementsOf(t, p) {
		words := strings.Join(migrations.Words(sql), " ") + " "
		for _, f := range forbidden {
			if strings.HasPrefix(words, f.begins+" ") && !(f.begins == "revoke" && isOfThisFile(words, p)) {
				found = append(found, finding{line, f.rule, f.text})
			}
		}
		if !strings.HasPrefix(words, "alter table ") {
			continue
		}
		for _, f := range forbiddenActions {
			if strings.Contains(words, " "+f.has+" ") {
				found = append(found, finding{line, f.rule, f.text})
			}
		}
		if regexp.MustCompile(` add (column )?[^,]* check \( `).MatchString(words) &&
			!strings.Contains(words, " add constraint ") {
			found = append(found, finding{line, "scan-table", "Blocks readers while it reads all rows: add the " +
				"constraint NOT VALID, and validate it in the next file."})
		}
	}
	return found
}

var madeFunction = regexp.MustCompile(`(?m)^CREATE FUNCTION ([a-z_.]+)\(`)

// isOfThisFile tells whether nothing uses the revoked right yet, because the statement names only functions that the
// same file creates.
func isOfThisFile(words string, p part) bool {
	named := regexp.MustCompile(` ([a-z_]+\.[a-z_]+) `).FindAllStringSubmatch(words, -1)
	var made []string
	for _, m := range madeFunction.FindAllStringSubmatch(p.text, -1) {
		made = append(made, m[1])
	}
	return len(named) > 0 && !slices.ContainsFunc(named,
		func(name []string) bool { return !slices.Contains(made, name[1]) })
}

// statementsOf are the statements of a part of a migration, by the line where they begin.
func statementsOf(t *testing.T, p part) map[int]string {
	t.Helper()
	statements, _, err := migrations.Split([]byte(p.text), map[bool]string{false: "up", true: "down"}[p.down])
	must(t, err)
	all := map[int]string{}
	offset := 0
	for _, sql := range statements {
		at := offset + strings.Index(p.text[offset:], sql)
		all[strings.Count(p.text[:at], "\n")+1] = sql
		offset = at + len(sql)
	}
	return all
}

// lint finds all forbidden statements of a part of a migration that have no reason above them. A reason is a line of
// comment that begins with "Allowed: ".
func lint(t *testing.T, binary string, p part) []finding {
	t.Helper()
	if strings.Contains(p.text, "squawk-ignore") {
		t.Error("squawk-ignore gives no reason: say `-- Allowed: ` and why")
	}
	lines, statements := strings.Split(p.text, "\n"), statementsOf(t, p)
	return slices.DeleteFunc(append(lintByOwnRules(t, p), lintWithSquawk(t, binary, p)...), func(f finding) bool {
		begin := f.line
		for statements[begin] == "" && begin > 1 {
			begin--
		}
		for above := begin - 2; above >= 0 && strings.HasPrefix(lines[above], "--"); above-- {
			if strings.HasPrefix(lines[above], "-- Allowed: ") {
				return true
			}
		}
		return false
	})
}

// Migrations that were released before this test: their statements have no reason above them.
var releasedBefore = map[string]string{
	"00001_schemas.sql hidden": "comments on the table of the migrations, which no other program uses",
}

func TestLint(t *testing.T) {
	t.Parallel()
	binary := squawk(t)
	files, err := fs.Glob(migrations.FS, "0*.sql")
	must(t, err)
	if len(files) == 0 {
		t.Error("no migrations")
	}
	for _, file := range files {
		content, err := migrations.FS.ReadFile(file)
		must(t, err)
		for _, p := range partsOf(string(content)) {
			for _, f := range lint(t, binary, p) {
				if _, released := releasedBefore[file+" "+f.rule]; !released {
					t.Errorf("%s:%d: %s: %s", file, f.line, f.rule, f.text)
				}
			}
		}
	}
}

// Each dangerous statement is found by the rule for it, and safe statements pass.
func TestLintFindsDangers(t *testing.T) {
	t.Parallel()
	binary := squawk(t)
	const (
		inTransaction = "-- +goose Up\nSET LOCAL lock_timeout = '2s';\n"
		outside       = "-- +goose NO TRANSACTION\n-- +goose Up\n"
	)
	for _, c := range []struct{ head, sql, rule string }{
		{inTransaction, `ALTER TABLE prm.licenses ADD COLUMN a text NOT NULL;`, "adding-required-field"},
		{inTransaction, `ALTER TABLE prm.licenses ADD COLUMN a uuid DEFAULT gen_random_uuid();`, "adding-field-with-default"},
		{inTransaction, `ALTER TABLE prm.licenses ADD COLUMN a text GENERATED ALWAYS AS (type || 'x') STORED;`,
			"adding-field-with-default"},
		{inTransaction, `ALTER TABLE prm.licenses ADD COLUMN a text CHECK (a <> '');`, "scan-table"},
		{inTransaction, `ALTER TABLE prm.licenses ADD COLUMN a text UNIQUE;`, "disallowed-unique-constraint"},
		{inTransaction, `ALTER TABLE prm.licenses ADD COLUMN a uuid REFERENCES prm.legal_entities (id);`,
			"adding-foreign-key-constraint"},
		{inTransaction, `ALTER TABLE prm.licenses ALTER COLUMN order_no SET NOT NULL;`, "adding-not-nullable-field"},
		{inTransaction, `ALTER TABLE prm.licenses ALTER COLUMN issued_by DROP NOT NULL;`, "ban-drop-not-null"},
		{inTransaction, `ALTER TABLE prm.licenses ALTER COLUMN is_active DROP DEFAULT;`, "take-away"},
		{inTransaction, `ALTER TABLE prm.licenses ALTER COLUMN type TYPE varchar(10);`, "changing-column-type"},
		{inTransaction, `ALTER TABLE prm.licenses RENAME COLUMN type TO kind;`, "renaming-column"},
		{inTransaction, `ALTER TABLE prm.licenses RENAME TO licences;`, "renaming-table"},
		{inTransaction, `ALTER TABLE prm.licenses SET SCHEMA ops;`, "take-away"},
		{inTransaction, `ALTER TABLE prm.licenses SET UNLOGGED;`, "rewrite-table"},
		{inTransaction, `ALTER TABLE prm.licenses DROP COLUMN type;`, "ban-drop-column"},
		{inTransaction, `ALTER TABLE prm.licenses ADD CONSTRAINT a CHECK (type <> '');`, "constraint-missing-not-valid"},
		{inTransaction, `ALTER TABLE prm.licenses ADD CONSTRAINT a FOREIGN KEY (type) REFERENCES prm.dictionaries (name);`,
			"adding-foreign-key-constraint"},
		{inTransaction, `ALTER TABLE prm.licenses ADD CONSTRAINT a UNIQUE (type);`, "disallowed-unique-constraint"},
		{inTransaction, "ALTER TABLE prm.licenses ADD CONSTRAINT a CHECK (type <> '') NOT VALID;\nALTER TABLE prm.licenses " +
			"VALIDATE CONSTRAINT a;", "constraint-missing-not-valid"},
		{inTransaction, `DROP TABLE prm.licenses;`, "ban-drop-table"},
		{inTransaction, `DROP FUNCTION ops.instant(timestamptz);`, "take-away"},
		{inTransaction, `DROP SCHEMA prm CASCADE;`, "take-away"},
		{inTransaction, `REVOKE SELECT ON prm.licenses FROM reiestr_app;`, "take-away"},
		{inTransaction, `CREATE INDEX a ON prm.licenses (type);`, "require-concurrent-index-creation"},
		{inTransaction, `DROP INDEX prm.divisions_legal_entity_id_idx;`, "require-concurrent-index-deletion"},
		{inTransaction, `CREATE INDEX CONCURRENTLY a ON prm.licenses (type);`,
			"ban-concurrent-index-creation-in-transaction"},
		{inTransaction, `REINDEX TABLE prm.licenses;`, "require-concurrent-reindex"},
		{inTransaction, `UPDATE prm.licenses SET order_no = '';`, "change-rows"},
		{inTransaction, `DELETE FROM prm.licenses;`, "change-rows"},
		{inTransaction, `TRUNCATE prm.licenses;`, "change-rows"},
		{inTransaction, `LOCK TABLE prm.licenses;`, "lock-table"},
		{inTransaction, `CLUSTER prm.licenses USING licenses_pkey;`, "rewrite-table"},
		{inTransaction, "-- +goose StatementBegin\nDO $$ BEGIN DELETE FROM prm.licenses; END $$;\n-- +goose StatementEnd",
			"hidden"},
		{inTransaction, `WITH gone AS (DELETE FROM prm.licenses RETURNING id) SELECT count(*) FROM gone;`, "hidden"},
		{inTransaction, `COMMIT;`, "transaction-nesting"},
		{inTransaction, `CREATE TABLE things (id bigint);`, "require-table-schema"},
		{inTransaction, `CREATE TABLE ops.things (id int);`, "prefer-bigint-over-int"},
		{inTransaction, `CREATE TABLE ops.things (at timestamp);`, "prefer-timestamp-tz"},
		{"-- +goose Up\n", `ALTER TABLE prm.licenses ADD COLUMN a text;`, "require-lock-timeout"},
		{outside, `ALTER TABLE prm.licenses ADD COLUMN a text NOT NULL;`, "adding-required-field"},

		{inTransaction, `ALTER TABLE prm.licenses ADD COLUMN a text;`, ""},
		{inTransaction, `ALTER TABLE prm.licenses ADD COLUMN a text NOT NULL DEFAULT '';`, ""},
		{inTransaction, `ALTER TABLE prm.licenses ADD CONSTRAINT a CHECK (type <> '') NOT VALID;`, ""},
		{inTransaction, `ALTER TABLE prm.licenses VALIDATE CONSTRAINT a;`, ""},
		{inTransaction, "CREATE TABLE ops.things (id bigint);\nCREATE INDEX things_id_idx ON ops.things (id);", ""},
		{inTransaction, `GRANT SELECT ON prm.licenses TO reiestr_app;`, ""},
		{inTransaction, "CREATE FUNCTION ops.one() RETURNS bigint LANGUAGE sql RETURN 1;\nREVOKE ALL ON FUNCTION ops.one() " +
			"FROM PUBLIC;", ""},
		{inTransaction, "CREATE FUNCTION ops.one() RETURNS bigint LANGUAGE sql RETURN 1;\nREVOKE ALL ON FUNCTION " +
			"ops.one(), ops.instant(timestamptz) FROM PUBLIC;", "take-away"},
		{outside, "DROP INDEX CONCURRENTLY IF EXISTS prm.a;\nCREATE INDEX CONCURRENTLY a ON prm.licenses (type);", ""},
	} {
		found := lint(t, binary, partsOf(c.head + c.sql + "\n")[0])
		if c.rule == "" && len(found) > 0 || c.rule != "" &&
			!slices.ContainsFunc(found, func(f finding) bool { return f.rule == c.rule }) {
			t.Errorf("%s: found %+v, want %q", c.sql, found, c.rule)
		}
		if found := lint(t, binary, partsOf(c.head + "-- Allowed: this is\n-- a test.\n" + c.sql +
			"\n")[0]); len(found) > 0 && !strings.Contains(c.sql, "\n") {
			t.Errorf("%s: found %+v although there is a reason", c.sql, found)
		}
	}
}
