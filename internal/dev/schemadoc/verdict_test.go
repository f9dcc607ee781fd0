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
	unknown := migrations.PlannedStatement{SQL: "CALL ops.anything();",
		Locks: []migrations.PlannedLock{{Mode: migrations.AccessExclusive, Assumed: true}}}
	for _, test := range []struct {
		name string
		way  way
		want string // how it begins
		says string
	}{
		{"nothing locked", up(statement("CREATE TABLE ops.notes (id int);", "")),
			"**Yes.** It blocks nothing", ""},
		{"a column", up(timeout, statement("ALTER TABLE ops.jobs ADD COLUMN a text;", migrations.AccessExclusive)),
			"**Yes.** It blocks reads and writes of `ops.jobs`", "waits at most 2s"},
		{"a column without a time-out", up(statement("ALTER TABLE ops.jobs ADD COLUMN a text;", migrations.AccessExclusive)),
			"**No:**", "no lock_timeout"},
		{"a column that rewrites", rewriting(timeout, statement("ALTER TABLE ops.jobs ADD COLUMN a uuid DEFAULT "+
			"gen_random_uuid();", migrations.AccessExclusive)),
			"**No:**", "`ops.jobs` is rewritten"},
		{"a column that is checked", up(timeout, statement("ALTER TABLE ops.jobs ADD COLUMN a int CHECK (a > 0);",
			migrations.AccessExclusive)),
			"**No:**", "grows with the table"},
		{"a constraint", up(timeout, statement("ALTER TABLE ops.jobs ADD CONSTRAINT c CHECK (attempts > 0);",
			migrations.AccessExclusive)),
			"**No:**", "grows with the table"},
		{"a constraint that is not valid yet", up(timeout, statement("ALTER TABLE ops.jobs ADD CONSTRAINT c CHECK (attempts "+
			"> 0) NOT VALID;", migrations.AccessExclusive)),
			"**Yes.**", ""},
		{"its validation", up(timeout, statement("ALTER TABLE ops.jobs VALIDATE CONSTRAINT c;",
			migrations.ShareUpdateExclusive)),
			"**Yes.** It blocks nothing", "reads the whole table"},
		{"both", up(timeout, statement("ALTER TABLE ops.jobs ADD CONSTRAINT c CHECK (attempts > 0) NOT VALID;",
			migrations.AccessExclusive),
			statement("ALTER TABLE ops.jobs VALIDATE CONSTRAINT c;", migrations.ShareUpdateExclusive)), "**No:**",
			"a statement that takes long"},
		{"another type", up(timeout, statement("ALTER TABLE ops.jobs ALTER COLUMN attempts TYPE int;",
			migrations.AccessExclusive)),
			"**No:**", "grows with the table"},
		{"not null", up(timeout, statement("ALTER TABLE ops.jobs ALTER COLUMN refusal SET NOT NULL;",
			migrations.AccessExclusive)),
			"**No:**", "grows with the table"},
		{"null", up(timeout, statement("ALTER TABLE ops.jobs ALTER COLUMN refusal DROP NOT NULL;",
			migrations.AccessExclusive)),
			"**Yes.**", ""},
		{"two actions, one of which takes its time", up(timeout, statement("ALTER TABLE ops.jobs ADD COLUMN a text, ALTER "+
			"COLUMN refusal SET NOT NULL;", migrations.AccessExclusive)),
			"**No:**", ""},
		{"an index", up(timeout, statement("CREATE INDEX i ON ops.jobs (action);", migrations.Share)),
			"**No:**", "blocks writes of `ops.jobs`"},
		{"an index beside traffic", up(statement("CREATE INDEX CONCURRENTLY i ON ops.jobs (action);",
			migrations.ShareUpdateExclusive)),
			"**Yes.** It blocks nothing", "has to be dropped before"},
		{"the same, removed first", up(statement("DROP INDEX CONCURRENTLY IF EXISTS ops.i;", ""),
			statement("CREATE UNIQUE INDEX CONCURRENTLY i ON ops.jobs (action);", migrations.ShareUpdateExclusive)),
			"**Yes.** It blocks nothing", "the next run drops first"},
		{"storage", up(timeout, statement("ALTER TABLE ops.jobs SET (fillfactor = 70);", migrations.ShareUpdateExclusive)),
			"**Yes.** It blocks nothing", ""},
		{"rows", up(timeout, statement("UPDATE ops.jobs SET attempts = 0;", migrations.RowExclusive)),
			"**Yes.** It blocks nothing", "changes rows of `ops.jobs`"},
		{"an unknown kind", up(timeout, unknown),
			"**No:**", "not known"},
		{"a column goes, up", up(timeout, statement("ALTER TABLE ops.jobs DROP COLUMN a;", migrations.AccessExclusive)),
			"**Yes.**", "must not need what is removed by `ALTER TABLE ops.jobs DROP COLUMN a`"},
		{"a column goes, down", down(timeout, statement("ALTER TABLE ops.jobs DROP COLUMN a;", migrations.AccessExclusive)),
			"**Only with the processes stopped:**", "DROP COLUMN a"},
		{"a right goes, down", down(timeout, statement("REVOKE SELECT ON ops.jobs FROM reiestr_app;", "")),
			"**Only with the processes stopped:**", ""},
		{"an index goes, down", down(statement("DROP INDEX CONCURRENTLY ops.i;", migrations.ShareUpdateExclusive)),
			"**Yes.** It blocks nothing", "dropped CONCURRENTLY"},
	} {
		if got := test.way.verdict(); !strings.HasPrefix(got, test.want) || !strings.Contains(got, test.says) {
			t.Errorf("%s: %q, want %q … %q", test.name, got, test.want, test.says)
		}
	}
}

func up(statements ...migrations.PlannedStatement) way {
	return way{PlannedMigration: migrations.PlannedMigration{InTransaction: true, Statements: statements}}
}

func rewriting(statements ...migrations.PlannedStatement) way {
	w := up(statements...)
	w.rewritten = []string{"ops.jobs"}
	return w
}

func down(statements ...migrations.PlannedStatement) way {
	w := up(statements...)
	w.back = true
	return w
}
