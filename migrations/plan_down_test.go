package migrations_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/reiestr/reiestr/internal/dev/testdb"
	"github.com/reiestr/reiestr/migrations"
)

// Every statement of every way down takes the locks of the plan. Each is run after the later migrations have been
// rolled back.
func TestWaysDownTakeTheLocksOfThePlan(t *testing.T) {
	t.Parallel()
	address := testdb.New(t).URL
	must(t, migrations.Up(t.Context(), address)) // for the rights on the database itself
	conn := connect(t, address)
	exec(t, conn, `SET ROLE reiestr_owner`)
	for version := count(t); version > 0; version-- {
		before := portrait(t, conn)
		planned, err := migrations.PlanDown(t.Context(), address)
		must(t, err)
		compare(t, fmt.Sprintf("plan down from %d", version), portrait(t, conn), before)
		if planned.Version != int64(version) || len(planned.Statements) == 0 {
			t.Fatalf("down from %d: %+v", version, planned)
		}
		tables := standing(t, conn)
		for _, statement := range planned.Statements {
			if strings.Contains(statement.SQL, "CONCURRENTLY") {
				if planned.InTransaction {
					t.Errorf("%s: CONCURRENTLY in a transaction", planned.Name)
				}
				check(t, statement, takenConcurrently(t, address, conn, statement, tables))
				continue
			}
			exec(t, conn, "BEGIN")
			exec(t, conn, statement.SQL)
			check(t, statement, held(t, conn, conn.PgConn().PID(), tables))
			exec(t, conn, "COMMIT")
		}
		exec(t, conn, fmt.Sprintf(`DELETE FROM ops.schema_versions WHERE version_id = %d`, version))
	}
	if _, err := migrations.PlanDown(t.Context(), address); err == nil {
		t.Error("with nothing applied there is a way down")
	}
}
