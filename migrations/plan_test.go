package migrations_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"

	"github.com/reiestr/reiestr/internal/dev/testdb"
	"github.com/reiestr/reiestr/migrations"
)

func TestPlanChangesNothing(t *testing.T) {
	t.Parallel()
	address := empty(t)
	conn := connect(t, address)
	all := count(t)
	for left := all; left >= 0; left-- {
		if left == all-1 { // the empty database cannot be restored: from here on migrations are applied
			must(t, migrations.Up(t.Context(), address))
			for range all - 1 {
				must(t, migrations.Down(t.Context(), address))
			}
		}
		before := portrait(t, conn)
		plan, err := migrations.Plan(t.Context(), address)
		must(t, err)
		compare(t, fmt.Sprintf("%d pending", left), portrait(t, conn), before)
		if plan == nil || len(plan) != left {
			t.Errorf("%d migrations planned, %d are pending", len(plan), left)
		}
		for i, migration := range plan {
			if want := int64(all - left + i + 1); migration.Version != want ||
				!strings.HasPrefix(migration.Name, fmt.Sprintf("%05d_", want)) {
				t.Errorf("%d pending, the plan's number %d is %+v", left, i+1, migration)
			}
		}
		if left > 0 && left < all {
			must(t, migrations.WithProvider(t.Context(), address,
				func(p *goose.Provider) error { _, err := p.UpByOne(t.Context()); return err }))
		}
	}
}

// On an empty database no session can wait for a lock.
func TestPlanOfAnEmptyDatabaseLocksNothing(t *testing.T) {
	t.Parallel()
	plan, err := migrations.Plan(t.Context(), empty(t))
	must(t, err)
	for _, migration := range plan {
		for _, statement := range migration.Statements {
			if len(statement.Locks) != 0 || statement.None == "" {
				t.Errorf("%s: %+v", migration.Name, statement)
			}
		}
	}
}

func TestSplit(t *testing.T) {
	t.Parallel()
	file := []byte(`-- head;
-- +goose NO TRANSACTION
-- +goose Up

-- said before
SELECT 1; -- said behind
SELECT 2 -- not yet;
    ; SELECT 3;
-- +goose StatementBegin
SELECT 4;
SELECT 5;
-- +goose StatementEnd
SELECT 6;
-- +goose Down
-- +goose StatementBegin
SELECT 7
-- +goose StatementEnd
SELECT 8;
`)
	statements, inTransaction, err := migrations.Split(file, "up")
	must(t, err)
	want := []string{"SELECT 1; -- said behind", "SELECT 2 -- not yet;\n    ; SELECT 3;", "SELECT 4;\nSELECT 5;",
		"SELECT 6;"}
	if inTransaction || !slices.Equal(statements, want) {
		t.Errorf("in a transaction: %t; %q", inTransaction, statements)
	}
	statements, inTransaction, err = migrations.Split(file, "down")
	must(t, err)
	if want := []string{"SELECT 7", "SELECT 8;"}; inTransaction || !slices.Equal(statements, want) {
		t.Errorf("down, in a transaction: %t; %q", inTransaction, statements)
	}
	for _, faulty := range []string{"-- +goose Up\nSELECT 1", "-- +goose Up\nSELECT 1\n-- +goose Down\n",
		"-- +goose ENVSUB ON\n-- +goose Up\nSELECT 1;\n", "-- +goose Up\n-- +goose StatementBegin\nSELECT 1;\n"} {
		if statements, _, err := migrations.Split([]byte(faulty), "up"); err == nil {
			t.Errorf("%q: no error but %q", faulty, statements)
		}
	}
}

// recorder records the statements of a connection.
type recorder struct{ statements []string }

func (r *recorder) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	r.statements = append(r.statements, strings.TrimSpace(data.SQL))
	return ctx
}
func (*recorder) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// The plan has exactly the statements that goose runs, in their order and in the same transactions.
func TestPlanHasTheStatementsOfGoose(t *testing.T) {
	t.Parallel()
	address := empty(t)
	plan, err := migrations.Plan(t.Context(), address)
	must(t, err)
	must(t, migrations.PrepareRoles(t.Context(), address))

	config, err := pgx.ParseConfig(address)
	must(t, err)
	testdb.Pin(config)
	config.RuntimeParams["role"] = "reiestr_owner"
	var done recorder
	config.Tracer = &done
	db := stdlib.OpenDB(*config)
	t.Cleanup(func() { db.Close() })
	store, err := database.NewStore(database.DialectPostgres, "ops.schema_versions")
	must(t, err)
	p, err := goose.NewProvider(goose.DialectCustom, db, migrations.FS, goose.WithStore(store))
	must(t, err)
	_, err = p.Up(t.Context())
	must(t, err)

	var want []string
	for _, migration := range plan {
		if migration.InTransaction {
			want = append(want, "begin")
		}
		for _, statement := range migration.Statements {
			want = append(want, statement.SQL)
		}
		want = append(want, "INSERT INTO ops.schema_versions (version_id, is_applied) VALUES ($1, $2)")
		if migration.InTransaction {
			want = append(want, "commit")
		}
	}
	// goose has created its history table before, and reads it between the statements.
	got := slices.DeleteFunc(done.statements, func(sql string) bool { return strings.HasPrefix(sql, "SELECT ") })
	if len(got) < len(want) {
		t.Fatalf("%d statements were run, %d planned", len(got), len(want))
	}
	for i, sql := range got[len(got)-len(want):] {
		if !strings.EqualFold(sql, want[i]) {
			t.Fatalf("run: %s\nplanned: %s", sql, want[i])
		}
	}
}

// standing are the existing tables, by oid.
func standing(t *testing.T, conn *pgx.Conn) map[uint32]string {
	t.Helper()
	tables := map[uint32]string{}
	rows, _ := conn.Query(t.Context(), `
		SELECT c.oid, n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND n.nspname IN ('ops', 'prm', 'medical_events')`)
	var oid uint32
	var name string
	_, err := pgx.ForEachRow(rows, []any{&oid, &name}, func() error { tables[oid] = name; return nil })
	must(t, err)
	return tables
}

// modes are the lock modes, the weakest first, with their names in pg_locks.
var modes = []struct {
	held string
	mode migrations.Mode
}{
	{"AccessShareLock", migrations.AccessShare},
	{"RowShareLock", migrations.RowShare},
	{"RowExclusiveLock", migrations.RowExclusive},
	{"ShareUpdateExclusiveLock", migrations.ShareUpdateExclusive},
	{"ShareLock", migrations.Share},
	{"ShareRowExclusiveLock", migrations.ShareRowExclusive},
	{"ExclusiveLock", migrations.Exclusive},
	{"AccessExclusiveLock", migrations.AccessExclusive},
}

// held are the strongest locks that a session has on tables.
func held(t *testing.T, conn *pgx.Conn, pid uint32, tables map[uint32]string) map[string]migrations.Mode {
	t.Helper()
	locks, strongest := map[string]migrations.Mode{}, map[string]int{}
	rows, _ := conn.Query(t.Context(), `
		SELECT relation, mode FROM pg_locks WHERE locktype = 'relation' AND granted AND pid = $1
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`, pid)
	var oid uint32
	var mode string
	_, err := pgx.ForEachRow(rows, []any{&oid, &mode}, func() error {
		for strength, m := range modes {
			if name, stands := tables[oid]; stands && m.held == mode && strength >= strongest[name] {
				locks[name], strongest[name] = m.mode, strength
			}
		}
		return nil
	})
	must(t, err)
	return locks
}

// check compares the locks of the plan with the locks taken. An assumed lock must be at least as strong as the one
// taken.
func check(t *testing.T, planned migrations.PlannedStatement, taken map[string]migrations.Mode) {
	t.Helper()
	said := map[string]migrations.Mode{}
	for _, lock := range planned.Locks {
		if said[lock.Table] = lock.Mode; lock.Blocks != lock.Mode.Blocks() {
			t.Errorf("%s blocks %s", lock.Mode, lock.Blocks)
		}
	}
	if slices.ContainsFunc(planned.Locks, func(l migrations.PlannedLock) bool { return l.Assumed }) {
		for table := range taken {
			if said[table] == "" && said[""] == "" {
				t.Errorf("%s: takes %v, assumed is %v", planned.SQL, taken, said)
			}
		}
		return
	}
	if !maps.Equal(said, taken) {
		t.Errorf("%s: the plan says %v, it takes %v", planned.SQL, said, taken)
	}
}

// Every statement of every migration takes the locks of the plan. Each is run after the earlier migrations.
func TestMigrationsTakeTheLocksOfThePlan(t *testing.T) {
	t.Parallel()
	address := empty(t)
	conn := connect(t, address)
	must(t, migrations.PrepareRoles(t.Context(), address))
	must(t, migrations.WithProvider(t.Context(), address,
		func(p *goose.Provider) error { _, err := p.GetDBVersion(t.Context()); return err }))
	exec(t, conn, `SET ROLE reiestr_owner`)
	plan, err := migrations.Plan(t.Context(), address)
	must(t, err)
	if len(plan) != count(t) {
		t.Fatalf("%d planned", len(plan))
	}
	var assumed []string
	carryOut := func(planned migrations.PlannedMigration) {
		t.Helper()
		tables := standing(t, conn)
		for _, statement := range planned.Statements {
			if slices.ContainsFunc(statement.Locks, func(l migrations.PlannedLock) bool { return l.Assumed }) {
				assumed = append(assumed, planned.Name)
			}
			if strings.Contains(statement.SQL, "CONCURRENTLY") {
				check(t, statement, takenConcurrently(t, address, conn, statement, tables))
				continue
			}
			exec(t, conn, "BEGIN")
			exec(t, conn, statement.SQL)
			check(t, statement, held(t, conn, conn.PgConn().PID(), tables))
			exec(t, conn, "COMMIT")
		}
	}
	for _, migration := range plan {
		// The plan is made again, because the earlier migrations have changed the tables.
		pending, err := migrations.Plan(t.Context(), address)
		must(t, err)
		carryOut(pending[0])
		exec(t, conn, fmt.Sprintf(`INSERT INTO ops.schema_versions (version_id, is_applied) VALUES (%d, true)`,
			migration.Version))
	}
	// The only block of code comments on the table of the migrations.
	if !slices.Equal(assumed, []string{"00001_schemas.sql"}) {
		t.Errorf("only assumed in %v", assumed)
	}
	assumed = nil
	for _, migration := range slices.Backward(plan) {
		down, err := migrations.PlanDown(t.Context(), address)
		must(t, err)
		if down.Version != migration.Version || down.InTransaction != migration.InTransaction || len(down.Statements) == 0 {
			t.Fatalf("down from %d: %+v", migration.Version, down)
		}
		carryOut(down)
		exec(t, conn, fmt.Sprintf(`DELETE FROM ops.schema_versions WHERE version_id = %d`, migration.Version))
	}
	if len(assumed) != 0 {
		t.Errorf("only assumed on the way down in %v", assumed)
	}
	if down, err := migrations.PlanDown(t.Context(), address); err == nil {
		t.Errorf("down from nothing: %+v", down)
	}
}

// takenConcurrently runs a statement that waits for the transactions that write its tables, and reads its locks while
// it waits.
func takenConcurrently(t *testing.T, address string, conn *pgx.Conn, statement migrations.PlannedStatement,
	tables map[uint32]string) map[string]migrations.Mode {
	t.Helper()
	if len(statement.Locks) == 0 {
		exec(t, conn, statement.SQL)
		return map[string]migrations.Mode{}
	}
	other := connect(t, address)
	exec(t, other, "BEGIN")
	exec(t, other, "LOCK TABLE "+statement.Locks[0].Table+" IN ROW EXCLUSIVE MODE")
	end := make(chan error, 1)
	pid := conn.PgConn().PID()
	go func() { _, err := conn.Exec(t.Context(), statement.SQL); end <- err }()
	for waits := "false"; waits != "true"; time.Sleep(2 * time.Millisecond) {
		select {
		case err := <-end:
			t.Fatalf("%s did not wait: %v", statement.SQL, err)
		default:
		}
		waits = column(t, other, `SELECT EXISTS (SELECT FROM pg_locks WHERE pid = $1 AND locktype = 'virtualxid'
			AND NOT granted)::text`, pid)[0]
	}
	taken := held(t, other, pid, tables)
	exec(t, other, "COMMIT")
	must(t, receive(t, end))
	return taken
}

func TestKindsOfStatementsTakeTheLocksOfThePlan(t *testing.T) {
	t.Parallel()
	address := testdb.New(t).URL
	conn := connect(t, address)
	exec(t, conn, `
		SET ROLE reiestr_owner;
		CREATE TABLE ops.parents (id int CONSTRAINT parents_pkey PRIMARY KEY, note text);
		CREATE TABLE ops.children (id int PRIMARY KEY, parent int CONSTRAINT children_parent_fkey REFERENCES ops.parents
			ON DELETE CASCADE, note text);
		CREATE TABLE ops.grandchildren (id int, child int REFERENCES ops.children ON DELETE CASCADE ON UPDATE CASCADE);
		CREATE TABLE ops.pets (id int, owner int CONSTRAINT pets_owner_fkey REFERENCES ops.parents, age int);
		ALTER TABLE ops.pets ADD CONSTRAINT pets_age CHECK (age > 0) NOT VALID;
		ALTER TABLE ops.pets ADD CONSTRAINT pets_id_fkey FOREIGN KEY (id) REFERENCES ops.parents NOT VALID;
		CREATE INDEX pets_age_idx ON ops.pets (age);
		INSERT INTO ops.parents VALUES (1), (2);
		INSERT INTO ops.children VALUES (1, 1);
		INSERT INTO ops.grandchildren VALUES (1, 1);
		CREATE FUNCTION ops.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
		CREATE TRIGGER quiet AFTER INSERT ON ops.pets FOR EACH ROW EXECUTE FUNCTION ops.nothing()`)
	tables := standing(t, conn)
	for _, statements := range []string{
		`ALTER TABLE ops.pets ADD COLUMN name text NOT NULL DEFAULT 'a, b';`,
		`ALTER TABLE ops.pets ADD COLUMN other int REFERENCES ops.children (id)`,
		`ALTER TABLE ops.pets DROP COLUMN age`,
		`ALTER TABLE ops.pets DROP COLUMN IF EXISTS owner`,
		`ALTER TABLE ops.parents DROP COLUMN id CASCADE`,
		`ALTER TABLE ops.pets ALTER COLUMN age TYPE bigint`,
		`ALTER TABLE ops.pets ALTER COLUMN owner TYPE bigint`,
		`ALTER TABLE ops.pets ALTER COLUMN age SET NOT NULL`,
		`ALTER TABLE ops.pets ALTER COLUMN age SET DEFAULT 1`,
		`ALTER TABLE ops.pets ALTER age SET STATISTICS 200`,
		`ALTER TABLE ops.pets RENAME COLUMN age TO years`,
		`ALTER TABLE ops.pets RENAME TO animals`,
		`ALTER TABLE ops.pets ADD CONSTRAINT young CHECK (age < 30) NOT VALID`,
		`ALTER TABLE ops.pets ADD CONSTRAINT young CHECK (age < 30)`,
		`ALTER TABLE ops.pets ADD CONSTRAINT one UNIQUE (id, owner)`,
		`ALTER TABLE ops.pets ADD CONSTRAINT other FOREIGN KEY (owner) REFERENCES ops.children (id) NOT VALID`,
		`ALTER TABLE IF EXISTS ONLY ops.pets ADD FOREIGN KEY (owner) REFERENCES ops.children`,
		`ALTER TABLE ops.pets VALIDATE CONSTRAINT pets_age`,
		`ALTER TABLE ops.pets VALIDATE CONSTRAINT pets_id_fkey`,
		`ALTER TABLE ops.pets DROP CONSTRAINT pets_age`,
		`ALTER TABLE ops.pets DROP CONSTRAINT IF EXISTS pets_owner_fkey`,
		`ALTER TABLE ops.parents DROP CONSTRAINT parents_pkey CASCADE`,
		`ALTER TABLE ops.pets SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0)`,
		`ALTER TABLE ops.pets RESET (fillfactor)`,
		`ALTER TABLE ops.pets SET (fillfactor = 70), VALIDATE CONSTRAINT pets_age, DISABLE TRIGGER quiet`,
		`ALTER TABLE ops.pets ENABLE ROW LEVEL SECURITY`,
		`ALTER TABLE ops.pets CLUSTER ON pets_age_idx`,
		`CREATE INDEX ON ops.pets (owner)`,
		`CREATE UNIQUE INDEX pets_id_key ON ops.pets (id) WHERE age > 1`,
		`DROP INDEX ops.pets_age_idx`,
		`DROP INDEX IF EXISTS ops.no_such_idx`,
		`CREATE TRIGGER loud AFTER UPDATE OF age ON ops.pets FOR EACH ROW EXECUTE FUNCTION ops.nothing()`,
		`CREATE OR REPLACE TRIGGER quiet AFTER DELETE ON ops.pets FOR EACH ROW EXECUTE FUNCTION ops.nothing()`,
		`DROP TRIGGER quiet ON ops.pets`,
		`DROP TABLE ops.pets`,
		`DROP TABLE IF EXISTS ops.pets, ops.grandchildren`,
		`DROP TABLE ops.parents CASCADE`,
		`DROP TABLE IF EXISTS ops.no_such_table`,
		`COMMENT ON TABLE ops.pets IS 'on ops.parents'`,
		`COMMENT ON COLUMN ops.pets.age IS 'a'`,
		`COMMENT ON CONSTRAINT pets_age ON ops.pets IS 'a'`,
		`COMMENT ON TRIGGER quiet ON ops.pets IS 'a'`,
		`COMMENT ON INDEX ops.pets_age_idx IS 'a'`,
		`COMMENT ON FUNCTION ops.nothing() IS 'a'`,
		`COMMENT ON SCHEMA ops IS 'a'`,
		`GRANT SELECT, INSERT ON ops.pets, ops.parents TO reiestr_app`,
		`GRANT UPDATE (age) ON ops.pets TO reiestr_app`,
		`REVOKE ALL ON ops.pets FROM reiestr_app`,
		`GRANT USAGE ON SCHEMA ops TO reiestr_app`,
		`REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA ops FROM PUBLIC`,
		`ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC`,
		`INSERT INTO ops.parents (id) VALUES (7)`,
		`INSERT INTO ops.children SELECT 7, id FROM ops.parents WHERE id = 2`,
		`UPDATE ops.pets SET age = 3 WHERE owner = 1`,
		`UPDATE ops.children SET parent = 2 WHERE note IS NULL`,
		`UPDATE ops.children AS c SET id = 9`,
		`UPDATE ops.children SET note = (SELECT max(note) FROM ops.pets, ops.parents)`,
		`UPDATE ONLY ops.parents SET note = 'x' FROM ops.grandchildren g WHERE g.id = parents.id`,
		`DELETE FROM ops.pets`,
		`DELETE FROM ops.grandchildren USING ops.pets WHERE false`,
		`DELETE FROM ops.parents WHERE id = 1`,
		`CREATE FUNCTION ops.more() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM ops.pets; RETURN NULL; END $$`,
		`CREATE OR REPLACE FUNCTION ops.nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$`,
		`CREATE FUNCTION ops.pet_count() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM ops.pets'`,
		`CREATE FUNCTION ops.pet_count() RETURNS bigint LANGUAGE sql RETURN (SELECT count(*) FROM ops.pets)`,
		`CREATE FUNCTION ops.pets_go() RETURNS void LANGUAGE sql AS $go$ DELETE FROM ops.parents; UPDATE ops.pets
			SET age = 4 $go$`,
		`DROP FUNCTION ops.schema_version()`,
		`CREATE VIEW ops.old_pets AS SELECT p.* FROM ops.pets p JOIN ops.parents o ON o.id = p.owner`,
		`CREATE TABLE ops.fleas (id int, pet int, parent int REFERENCES ops.parents (id) ON DELETE SET NULL)`,
		`CREATE TABLE ops.fleas (id int GENERATED ALWAYS AS IDENTITY, child int,
			CONSTRAINT c FOREIGN KEY (child) REFERENCES ops.children (id))`,
		`CREATE TYPE ops.size AS ENUM ('small')`,
		`SET LOCAL lock_timeout = '2s'`,
		`UPDATE prm.dictionary_values v SET description = (SELECT 'x' FROM prm.parameters LIMIT 1)
			FROM (VALUES ('A')) AS base (dictionary) WHERE v.dictionary = base.dictionary`,
	} {
		t.Run(statements, func(t *testing.T) {
			planned, err := migrations.ReadStatement(t.Context(), address, statements)
			must(t, err)
			if slices.ContainsFunc(planned.Locks, func(l migrations.PlannedLock) bool { return l.Assumed }) {
				t.Fatal("the plan does not know this kind of statement")
			}
			tx, err := conn.Begin(t.Context())
			must(t, err)
			defer tx.Rollback(t.Context()) //nolint:errcheck // the changes must not stay
			exec(t, conn, statements)
			check(t, planned, held(t, conn, conn.PgConn().PID(), tables))
		})
	}
}

// For a statement that the rules do not know the strongest lock is assumed.
func TestPlanAssumesTheWorst(t *testing.T) {
	t.Parallel()
	address := testdb.New(t).URL
	for sql, tables := range map[string][]string{
		`DO $$ BEGIN TRUNCATE ops.jobs; DELETE FROM ops.events; END $$`: {"ops.events", "ops.jobs"},
		`REINDEX TABLE prm.licenses`:                                    {"prm.licenses"},
		`COMMENT ON TABLE ops.nowhere IS 'a'`:                           {""}, // a table that the plan does not know
		`CALL ops.anything()`:                                           {""},
		`DROP SCHEMA prm CASCADE`:                                       {""},
		`DROP INDEX ops.no_such_idx`:                                    {""},
		`CREATE TABLE ops.copy (LIKE ops.jobs)`:                         {"ops.jobs"},
	} {
		planned, err := migrations.ReadStatement(t.Context(), address, sql)
		must(t, err)
		var got []string
		for _, lock := range planned.Locks {
			if got = append(got, lock.Table); lock.Mode != migrations.AccessExclusive || !lock.Assumed {
				t.Errorf("%s: %+v", sql, lock)
			}
		}
		if !slices.Equal(got, tables) {
			t.Errorf("%s: locks on %q, want %q", sql, got, tables)
		}
	}
}
