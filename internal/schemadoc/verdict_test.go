package schemadoc

import (
	"strings"
	"testing"

	"github.com/reiestr/reiestr/migrations"
)

// statement is one that locks ops.jobs so; "": nothing.
func statement(sql string, mode migrations.Mode) migrations.PlannedStatement {
	s := migrations.PlannedStatement{SQL: sql}
	if mode != "" {
		s.Locks = []migrations.PlannedLock{{Table: "ops.jobs", Mode: mode, Blocks: mode.Blocks()}}
	}
	return s
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	timeout := statement("SET LOCAL lock_timeout = '2s';", "")
	for _, test := range []struct {
		name string
		way  way
		want string // how it begins
		says string
	}{
		{"nothing locked", way{PlannedMigration: of(statement("CREATE TABLE ops.notes (id int);", ""))}, "**Yes.** Nobody", ""},
		{"a column", way{PlannedMigration: of(timeout, statement("ALTER TABLE ops.jobs ADD COLUMN a text;", migrations.AccessExclusive))},
			"**Yes.** It stops reads and writes of `ops.jobs`", "waits 2s at most"},
		{"a column without a time-out", way{PlannedMigration: of(statement("ALTER TABLE ops.jobs ADD COLUMN a text;", migrations.AccessExclusive))}, "**No:**", "no lock_timeout"},
		{"a column that rewrites", way{PlannedMigration: of(timeout, statement("ALTER TABLE ops.jobs ADD COLUMN a uuid DEFAULT gen_random_uuid();", migrations.AccessExclusive)), rewritten: []string{"ops.jobs"}},
			"**No:**", "`ops.jobs` is rewritten"},
		{"a column that is checked", way{PlannedMigration: of(timeout, statement("ALTER TABLE ops.jobs ADD COLUMN a int CHECK (a > 0);", migrations.AccessExclusive))}, "**No:**", "grows with the table"},
		{"a constraint", way{PlannedMigration: of(timeout, statement("ALTER TABLE ops.jobs ADD CONSTRAINT c CHECK (attempts > 0);", migrations.AccessExclusive))}, "**No:**", "grows with the table"},
		{"a constraint that is not valid yet", way{PlannedMigration: of(timeout, statement("ALTER TABLE ops.jobs ADD CONSTRAINT c CHECK (attempts > 0) NOT VALID;", migrations.AccessExclusive))}, "**Yes.**", ""},
		{"its validation", way{PlannedMigration: of(timeout, statement("ALTER TABLE ops.jobs VALIDATE CONSTRAINT c;", migrations.ShareUpdateExclusive))}, "**Yes.** Nobody", "reads the whole table"},
		{"both", way{PlannedMigration: of(timeout, statement("ALTER TABLE ops.jobs ADD CONSTRAINT c CHECK (attempts > 0) NOT VALID;", migrations.AccessExclusive),
			statement("ALTER TABLE ops.jobs VALIDATE CONSTRAINT c;", migrations.ShareUpdateExclusive))}, "**No:**", "takes its time"},
		{"another type", way{PlannedMigration: of(timeout, statement("ALTER TABLE ops.jobs ALTER COLUMN attempts TYPE int;", migrations.AccessExclusive))}, "**No:**", "grows with the table"},
		{"not null", way{PlannedMigration: of(timeout, statement("ALTER TABLE ops.jobs ALTER COLUMN refusal SET NOT NULL;", migrations.AccessExclusive))}, "**No:**", "grows with the table"},
		{"null", way{PlannedMigration: of(timeout, statement("ALTER TABLE ops.jobs ALTER COLUMN refusal DROP NOT NULL;", migrations.AccessExclusive))}, "**Yes.**", ""},
		{"two actions, one of which takes its time", way{PlannedMigration: of(timeout, statement("ALTER TABLE ops.jobs ADD COLUMN a text, ALTER COLUMN refusal SET NOT NULL;", migrations.AccessExclusive))}, "**No:**", ""},
		{"an index", way{PlannedMigration: of(timeout, statement("CREATE INDEX i ON ops.jobs (action);", migrations.Share))}, "**No:**", "holds up writes of `ops.jobs`"},
		{"an index beside traffic", way{PlannedMigration: of(statement("CREATE INDEX CONCURRENTLY i ON ops.jobs (action);", migrations.ShareUpdateExclusive))}, "**Yes.** Nobody", "has to be dropped before"},
		{"the same, removed first", way{PlannedMigration: of(statement("DROP INDEX CONCURRENTLY IF EXISTS ops.i;", ""), statement("CREATE UNIQUE INDEX CONCURRENTLY i ON ops.jobs (action);", migrations.ShareUpdateExclusive))},
			"**Yes.** Nobody", "the next run drops first"},
		{"storage", way{PlannedMigration: of(timeout, statement("ALTER TABLE ops.jobs SET (fillfactor = 70);", migrations.ShareUpdateExclusive))}, "**Yes.** Nobody", ""},
		{"rows", way{PlannedMigration: of(timeout, statement("UPDATE ops.jobs SET attempts = 0;", migrations.RowExclusive))}, "**Yes.** Nobody", "changes rows of `ops.jobs`"},
		{"an unknown kind", way{PlannedMigration: of(timeout, migrations.PlannedStatement{SQL: "CALL ops.anything();", Locks: []migrations.PlannedLock{{Mode: migrations.AccessExclusive, Assumed: true}}})}, "**No:**", "not known"},
		{"a column goes, up", way{PlannedMigration: of(timeout, statement("ALTER TABLE ops.jobs DROP COLUMN a;", migrations.AccessExclusive))}, "**Yes.**", ""},
		{"a column goes, down", way{back: true, PlannedMigration: of(timeout, statement("ALTER TABLE ops.jobs DROP COLUMN a;", migrations.AccessExclusive))}, "**Only with the processes stopped:**", "DROP COLUMN a"},
		{"a right goes, down", way{back: true, PlannedMigration: of(timeout, statement("REVOKE SELECT ON ops.jobs FROM reiestr_app;", ""))}, "**Only with the processes stopped:**", ""},
		{"an index goes, down", way{back: true, PlannedMigration: of(statement("DROP INDEX CONCURRENTLY ops.i;", migrations.ShareUpdateExclusive))}, "**Yes.** Nobody", "dropped CONCURRENTLY"},
	} {
		if got := test.way.verdict(); !strings.HasPrefix(got, test.want) || !strings.Contains(got, test.says) {
			t.Errorf("%s: %q, want %q … %q", test.name, got, test.want, test.says)
		}
	}
}

func of(statements ...migrations.PlannedStatement) migrations.PlannedMigration {
	return migrations.PlannedMigration{InTransaction: true, Statements: statements}
}
