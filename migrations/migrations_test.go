package migrations_test

import (
	"context"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/pressly/goose/v3"

	"github.com/reiestr/reiestr/internal/dev/testdb"
	"github.com/reiestr/reiestr/migrations"
)

func TestMain(m *testing.M) { os.Exit(testdb.Main(m)) }

// empty is the URL of a new, empty database.
func empty(t *testing.T) string {
	t.Helper()
	return testdb.Empty(t).URL
}

func change(t *testing.T, address string, change func(*url.URL)) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	change(u)
	return u.String()
}

func connect(t *testing.T, address string) *pgx.Conn {
	t.Helper()
	conn, err := testdb.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func column(t *testing.T, conn *pgx.Conn, sql string, args ...any) []string {
	t.Helper()
	rows, _ := conn.Query(t.Context(), sql, args...)
	values, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return values
}

// must ends the test if a migration fails.
// receive is <-c with a bound: a test that waits in vain fails, and does not stop the tests of the package.
func receive[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(time.Minute):
		t.Fatal("nothing received within a minute")
		panic("unreachable")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// count is the number of migrations.
func count(t *testing.T) int {
	t.Helper()
	files, err := fs.Glob(migrations.FS, "0*.sql")
	must(t, err)
	return len(files)
}

// portrait describes a schema in lines: objects, owners, rights, comments and the base data.
func portrait(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	lines := column(t, conn, `
		WITH own AS (SELECT oid, nspname FROM pg_namespace WHERE nspname !~ '^pg_'
			AND nspname NOT IN ('information_schema', 'public'))
		SELECT format('schema %s %s %s %s', nspname, nspowner::regrole, nspacl, obj_description(oid, 'pg_namespace'))
		FROM pg_namespace WHERE oid IN (SELECT oid FROM own)
		UNION ALL
		SELECT format('relation %s.%s %s %s %s %s %s', n.nspname, c.relname, c.relkind, c.relowner::regrole, c.relacl,
			c.reloptions, obj_description(c.oid, 'pg_class'))
		FROM pg_class c JOIN own n ON n.oid = c.relnamespace WHERE c.relkind <> 'i'
		UNION ALL
		SELECT format('column %s.%s.%s %s %s %s %s %s %s', n.nspname, c.relname, a.attname, format_type(a.atttypid,
			a.atttypmod), a.attnotnull, a.attidentity,
			pg_get_expr(d.adbin, d.adrelid), a.attacl, col_description(c.oid, a.attnum))
		FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN own n ON n.oid = c.relnamespace
		LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
		WHERE c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
		UNION ALL
		SELECT format('constraint %s %s %s', x.conrelid::regclass, pg_get_constraintdef(x.oid), obj_description(x.oid,
			'pg_constraint'))
		FROM pg_constraint x JOIN own n ON n.oid = x.connamespace
		UNION ALL
		SELECT format('index %s %s', pg_get_indexdef(i.indexrelid), obj_description(i.indexrelid, 'pg_class'))
		FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN own n ON n.oid = c.relnamespace
		UNION ALL
		SELECT format('function %s %s %s %s', p.proowner::regrole,
			-- a right that was revoked and granted again is stored, where it was only a default before
			ARRAY(SELECT acl::text FROM unnest(coalesce(p.proacl, acldefault('f', p.proowner))) AS acl ORDER BY 1),
			pg_get_functiondef(p.oid), obj_description(p.oid, 'pg_proc'))
		FROM pg_proc p JOIN own n ON n.oid = p.pronamespace
		UNION ALL
		SELECT format('trigger %s %s %s', g.tgenabled, pg_get_triggerdef(g.oid), obj_description(g.oid, 'pg_trigger'))
		FROM pg_trigger g WHERE NOT g.tgisinternal
		UNION ALL
		SELECT format('type %s.%s %s', n.nspname, y.typname, y.typtype) FROM pg_type y JOIN own n ON n.oid = y.typnamespace
		UNION ALL
		SELECT format('default privileges %s %s %s', defaclrole::regrole, defaclobjtype, defaclacl) FROM pg_default_acl
		ORDER BY 1`)
	for _, table := range []string{"prm.dictionaries", "prm.dictionary_values", "prm.parameters"} {
		if column(t, conn, `SELECT coalesce(to_regclass($1)::text, '')`, table)[0] != "" {
			lines = append(lines, column(t, conn, `SELECT '`+table+` ' || x::text FROM `+table+` x ORDER BY 1`)...)
		}
	}
	return lines
}

// compare reports the lines that only one of two portraits has.
func compare(t *testing.T, what string, got, want []string) {
	t.Helper()
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("%s: has too much: %s", what, line)
		}
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("%s: lacks %s", what, line)
		}
	}
}

// applied checks Status and the version that the database itself answers. It answers the number of applied migrations.
func applied(t *testing.T, address string) int {
	t.Helper()
	steps, err := migrations.Status(t.Context(), address)
	must(t, err)
	if len(steps) == 0 || steps[len(steps)-1].Version != migrations.Latest() {
		t.Fatalf("steps %v, the latest is %d", steps, migrations.Latest())
	}
	n, newest := 0, int64(0)
	for i, step := range steps {
		if i > 0 && step.Version <= steps[i-1].Version ||
			!strings.HasPrefix(step.Name, fmt.Sprintf("%05d_", step.Version)) {
			t.Errorf("step %d is %+v", i+1, step)
		}
		if !step.AppliedAt.IsZero() {
			if n++; n != i+1 {
				t.Errorf("step %d is applied, one before it is not", i+1)
			}
			newest = step.Version
		}
	}
	if n > 0 {
		version := column(t, connect(t, address), `SELECT ops.schema_version()::text`)[0]
		if version != fmt.Sprint(newest) {
			t.Errorf("schema_version answers %s, %d is applied", version, newest)
		}
	}
	return n
}

func TestUpDownUp(t *testing.T) {
	t.Parallel()
	address := empty(t)
	conn := connect(t, address)
	all := count(t)

	if n := applied(t, address); n != 0 {
		t.Errorf("%d applied in an empty database", n)
	}
	if lines := portrait(t, conn); len(lines) != 0 {
		t.Errorf("Status left %v", lines)
	}
	for range 2 { // the second time there is nothing to do
		must(t, migrations.Up(t.Context(), address))
		if n := applied(t, address); n != all {
			t.Errorf("%d applied of %d", n, all)
		}
	}
	whole := portrait(t, conn)
	for n := all - 1; n >= 0; n-- {
		must(t, migrations.Down(t.Context(), address))
		if left := applied(t, address); left != n {
			t.Errorf("%d applied, want %d", left, n)
		}
	}
	if err := migrations.Down(t.Context(), address); err == nil {
		t.Error("down from nothing: no error")
	}
	for _, line := range portrait(t, conn) {
		if !strings.Contains(line, "schema ops ") && !strings.Contains(line, "schema_versions") {
			t.Errorf("left behind: %s", line)
		}
	}
	must(t, migrations.Up(t.Context(), address))
	compare(t, "up again", portrait(t, conn), whole)
}

func TestEveryStepUpDownUp(t *testing.T) {
	t.Parallel()
	address := empty(t)
	conn := connect(t, address)
	must(t, migrations.Up(t.Context(), address))
	whole := portrait(t, conn)
	for range count(t) {
		must(t, migrations.Down(t.Context(), address))
	}
	must(t, migrations.WithProvider(t.Context(), address, func(p *goose.Provider) error {
		before := portrait(t, conn)
		for version := range count(t) {
			if _, err := p.UpByOne(t.Context()); err != nil {
				return err
			}
			after := portrait(t, conn)
			if _, err := p.Down(t.Context()); err != nil {
				return err
			}
			// The first migration writes comments on the table of the migrations, which outlive it.
			if version > 0 {
				compare(t, fmt.Sprintf("migration %d, down", version+1), portrait(t, conn), before)
			}
			if _, err := p.UpByOne(t.Context()); err != nil {
				return err
			}
			compare(t, fmt.Sprintf("migration %d, up again", version+1), portrait(t, conn), after)
			before = after
		}
		return nil
	}))
	compare(t, "step by step", portrait(t, conn), whole)
}

// Base data that an operator has changed stay when their migration runs again.
func TestBaseDataOfTheOperatorStay(t *testing.T) {
	t.Parallel()
	address := testdb.New(t).URL
	conn := connect(t, address)
	exec(t, conn, `DELETE FROM ops.schema_versions WHERE version_id = 5`)
	exec(t, conn, `UPDATE prm.parameters SET value = 'false' WHERE name = 'release_requires_holder'`)
	exec(t, conn, `UPDATE prm.dictionary_values SET is_active = false WHERE dictionary = 'LICENSE_TYPE' AND code = 'MSP'`)
	want := portrait(t, conn)
	must(t, migrations.WithProvider(t.Context(), address, func(p *goose.Provider) error {
		_, err := p.ApplyVersion(t.Context(), 5, true)
		return err
	}))
	compare(t, "up", portrait(t, conn), want)
}

// Reference data add to what an operator has set, and change nothing of it.
func TestReferenceDataOfTheOperatorStay(t *testing.T) {
	t.Parallel()
	address := testdb.New(t).URL
	conn := connect(t, address)
	must(t, migrations.WithProvider(t.Context(), address, func(p *goose.Provider) error {
		_, err := p.DownTo(t.Context(), 17)
		return err
	}))
	exec(t, conn, `DELETE FROM prm.dictionary_values WHERE dictionary = 'EMPLOYEE_TYPE' AND code = 'HR'`)
	exec(t, conn, `UPDATE prm.dictionary_values SET description = 'own'
		WHERE dictionary = 'LICENSE_TYPE' AND code = 'MSP'`)
	exec(t, conn, `INSERT INTO prm.dictionaries (name, is_active) VALUES ('GENDER', false)`)
	exec(t, conn, `INSERT INTO prm.dictionary_values (dictionary, code) VALUES ('GENDER', 'OTHER')`)
	exec(t, conn, `INSERT INTO prm.parameters (name, value) VALUES ('SERVICE_REQUEST_EXPIRATION_DAYS', '"7"')`)
	must(t, migrations.WithProvider(t.Context(), address, func(p *goose.Provider) error {
		_, err := p.UpTo(t.Context(), 18)
		return err
	}))
	for sql, want := range map[string]string{
		`SELECT concat_ws('|', d.is_active, d.description, d.labels, v.code) FROM prm.dictionaries d
			JOIN prm.dictionary_values v ON v.dictionary = d.name WHERE d.name = 'GENDER'`: "f||{}|OTHER",
		`SELECT value::text FROM prm.parameters WHERE name = 'SERVICE_REQUEST_EXPIRATION_DAYS'`:                 `"7"`,
		`SELECT count(*)::text FROM prm.dictionary_values WHERE code = 'REORGANIZATION_OWNER'`:                  "0",
		`SELECT count(*)::text FROM prm.dictionary_values WHERE dictionary = 'SPECIALITY_TYPE'`:                 "4",
		`SELECT description FROM prm.dictionary_values WHERE dictionary = 'LICENSE_TYPE' AND code = 'MSP'`:      "own",
		`SELECT description FROM prm.dictionary_values WHERE dictionary = 'LICENSE_TYPE' AND code = 'PHARMACY'`: "Аптека",
		`SELECT concat_ws('|', description, labels) FROM prm.dictionaries WHERE name = 'LICENSE_TYPE'`:          "Типи ліцензій|{SYSTEM,EXTERNAL}",
	} {
		if got := column(t, conn, sql); len(got) != 1 || got[0] != want {
			t.Errorf("%s\n got %q\nwant %q", sql, got, want)
		}
	}
	// The code is added where only the migrations have written.
	fresh := connect(t, testdb.New(t).URL)
	got := column(t, fresh, `SELECT code FROM prm.dictionary_values WHERE code = 'REORGANIZATION_OWNER'`)
	if len(got) != 1 {
		t.Errorf("REORGANIZATION_OWNER: %v", got)
	}
}

func TestMigratorsAtOnce(t *testing.T) {
	t.Parallel()
	address := empty(t)
	var all sync.WaitGroup
	start := make(chan struct{})
	for range 5 {
		all.Go(func() {
			<-start
			if err := migrations.Up(t.Context(), address); err != nil {
				t.Error(err)
			}
		})
	}
	close(start)
	all.Wait()
	if n := applied(t, address); n != count(t) {
		t.Errorf("%d applied", n)
	}
	if rows := column(t, connect(t, address), `SELECT version_id::text FROM ops.schema_versions GROUP BY 1
		HAVING count(*) > 1`); len(rows) != 0 {
		t.Errorf("applied twice: %v", rows)
	}
}

func TestPreparingTheRolesAgainChangesNothing(t *testing.T) {
	t.Parallel()
	address := empty(t)
	conn := connect(t, address)
	must(t, migrations.PrepareRoles(t.Context(), address))
	before := portrait(t, conn)
	must(t, migrations.PrepareRoles(t.Context(), address))
	compare(t, "prepared again", portrait(t, conn), before)
	must(t, migrations.Up(t.Context(), address))
}

// Roles are common to the databases of a server, so migrators of different databases meet as well.
func TestDatabasesMigratedAtOnce(t *testing.T) {
	t.Parallel()
	addresses := []string{empty(t), empty(t), empty(t), empty(t)}
	var all sync.WaitGroup
	for _, address := range addresses {
		all.Go(func() {
			if err := migrations.Up(t.Context(), address); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, address := range addresses {
		if n := applied(t, address); n != count(t) {
			t.Errorf("%d applied", n)
		}
	}
}

// Another migrator makes the schema after this one has found that it does not exist.
func TestRolesPreparedByAnotherMigratorMeanwhile(t *testing.T) {
	t.Parallel()
	const gate = 42
	address := empty(t)
	other := connect(t, address)
	exec(t, other, fmt.Sprintf(`
		CREATE FUNCTION public.wait_at_the_gate() RETURNS event_trigger LANGUAGE plpgsql AS 
			$$ BEGIN PERFORM pg_advisory_xact_lock(%d); PERFORM FROM pg_class
				LIMIT 1; END $$; -- looking, it learns of the other's schema
		CREATE EVENT TRIGGER gate ON ddl_command_start WHEN TAG IN ('CREATE SCHEMA')
			EXECUTE FUNCTION public.wait_at_the_gate();
		SELECT pg_advisory_lock(%[1]d)`, gate))
	answer := make(chan error, 1)
	go func() { answer <- migrations.PrepareRoles(t.Context(), address) }()
	for waits := "false"; waits != "true"; time.Sleep(2 * time.Millisecond) {
		select {
		case err := <-answer:
			t.Fatalf("did not come to the gate: %v", err)
		default:
		}
		waits = column(t, other, `
			SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))::text`)[0]
	}
	exec(t, other, `CREATE SCHEMA ops AUTHORIZATION reiestr_owner`)
	exec(t, other, fmt.Sprintf(`SELECT pg_advisory_unlock(%d)`, gate))
	must(t, receive(t, answer))
}

func TestEverythingHasAComment(t *testing.T) {
	t.Parallel()
	conn := connect(t, testdb.New(t).URL)
	for what, sql := range map[string]string{
		"schema": `SELECT n.nspname, obj_description(n.oid, 'pg_namespace') FROM own n`,
		"relation": `SELECT c.oid::regclass::text, obj_description(c.oid, 'pg_class') FROM pg_class c JOIN own n
			ON n.oid = c.relnamespace
			WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')`,
		"column": `SELECT c.oid::regclass || '.' || a.attname, col_description(c.oid, a.attnum)
			FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN own n ON n.oid = c.relnamespace
			WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0 AND NOT a.attisdropped`,
		"constraint": `SELECT x.conname, obj_description(x.oid, 'pg_constraint') FROM pg_constraint x JOIN own n
			ON n.oid = x.connamespace WHERE x.contype <> 'n'`,
		// The comment of a constraint covers its index.
		"index": `SELECT i.indexrelid::regclass::text, obj_description(i.indexrelid, 'pg_class')
			FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN own n ON n.oid = c.relnamespace
			WHERE NOT EXISTS (SELECT FROM pg_constraint x WHERE x.conindid = i.indexrelid AND x.contype IN ('p', 'u', 'x'))`,
		"function": `SELECT p.oid::regprocedure::text, obj_description(p.oid, 'pg_proc') FROM pg_proc p JOIN own n
			ON n.oid = p.pronamespace`,
		"trigger": `SELECT g.tgname, obj_description(g.oid, 'pg_trigger')
			FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid JOIN own n ON n.oid = c.relnamespace
				WHERE NOT g.tgisinternal`,
	} {
		objects := column(t, conn, `
			WITH own AS (SELECT oid, nspname FROM pg_namespace WHERE nspname IN ('prm', 'medical_events', 'ops')),
			objects (name, comment) AS (`+sql+`)
			SELECT CASE WHEN coalesce(comment, '') = '' THEN name ELSE '' END FROM objects`)
		if len(objects) == 0 {
			t.Errorf("%s: none found", what)
		}
		for _, name := range objects {
			if name != "" {
				t.Errorf("%s %s has no comment", what, name)
			}
		}
	}
	if others := column(t, conn, `
		SELECT nspname::text FROM pg_namespace
		WHERE nspname !~ '^pg_'
			AND nspname NOT IN ('information_schema', 'public', 'prm', 'medical_events', 'ops')`); len(others) != 0 {
		t.Errorf("unknown schemas: %v", others)
	}
	if strays := column(t, conn,
		`SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'public'::regnamespace`); len(strays) != 0 {
		t.Errorf("in schema public: %v", strays)
	}
}

func TestEveryFileBoundsItsLocks(t *testing.T) {
	t.Parallel()
	const bound = `(?m)\A\s*SET LOCAL lock_timeout = '\d+s';$`
	files, err := fs.Glob(migrations.FS, "0*.sql")
	must(t, err)
	for _, file := range files {
		content, err := migrations.FS.ReadFile(file)
		must(t, err)
		head, rest, foundUp := strings.Cut(string(content), "-- +goose Up\n")
		up, down, foundDown := strings.Cut(rest, "-- +goose Down\n")
		if !foundUp || !foundDown {
			t.Errorf("%s: no Up or no Down", file)
			continue
		}
		concurrently := strings.HasPrefix(head, "-- +goose NO TRANSACTION\n")
		for direction, part := range map[string]string{"Up": up, "Down": down} {
			if concurrently {
				// Outside of a transaction SET LOCAL has no effect: only statements that hold up no other session may stand there.
				for statement := range strings.SplitSeq(regexp.MustCompile(`(?m)^--.*$`).ReplaceAllString(part, ""), ";\n") {
					if !regexp.MustCompile(
						`(?s)\A\s*((CREATE|CREATE UNIQUE|DROP) INDEX CONCURRENTLY .*|COMMENT ON INDEX .*)?\z`,
					).MatchString(statement) {
						t.Errorf("%s: %s holds up others: %s", file, direction, statement)
					}
				}
				continue
			}
			if !regexp.MustCompile(bound).MatchString(part) {
				t.Errorf("%s: %s does not begin with a lock_timeout", file, direction)
			}
		}
		if !regexp.MustCompile(`(?m)^-- Live: `).MatchString(head) {
			t.Errorf("%s does not describe its effect on a live database", file)
		}
	}
}

// The steps of a DBA, after which a login with no right but the roles can migrate.
func TestALoginWithoutSuperuserMigrates(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		prepare func(t *testing.T, dba *pgx.Conn, login string)
	}{
		{"after roles.sql", func(t *testing.T, dba *pgx.Conn, _ string) {
			script, err := migrations.FS.ReadFile("roles.sql")
			must(t, err)
			exec(t, dba, string(script))
		}},
		{"as owner of the database", func(t *testing.T, dba *pgx.Conn, login string) {
			exec(t, dba, `ALTER DATABASE `+dba.Config().Database+` OWNER TO `+login)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			address := empty(t)
			dba := connect(t, address)
			login := "reiestr_login_" + strings.ReplaceAll(uuid.NewString(), "-", "")
			exec(t, dba, `CREATE ROLE `+login+` LOGIN PASSWORD 'secret' NOSUPERUSER NOCREATEROLE NOCREATEDB`)
			t.Cleanup(func() {
				for _, sql := range []string{`REASSIGN OWNED BY ` + login + ` TO CURRENT_USER`, `DROP OWNED BY ` + login,
					`DROP ROLE ` + login} {
					if _, err := dba.Exec(context.Background(), sql); err != nil {
						t.Errorf("%s: %v", sql, err)
					}
				}
			})
			exec(t, dba, `GRANT reiestr_owner, reiestr_app TO `+login)
			test.prepare(t, dba, login)

			as := change(t, address, func(u *url.URL) {
				u.User = url.UserPassword(login, "secret")
				query := u.Query()
				query.Del("user")
				query.Del("password")
				u.RawQuery = query.Encode()
			})
			conn, err := testdb.Connect(t.Context(), as)
			if err != nil {
				t.Skipf("this server lets no other login in: %v", err)
			}
			t.Cleanup(func() { conn.Close(context.Background()) })

			must(t, migrations.Up(t.Context(), as))
			if n := applied(t, as); n != count(t) {
				t.Errorf("%d applied", n)
			}
			if owned := column(t, dba, `SELECT oid::regclass::text FROM pg_class WHERE relowner = $1::regrole`,
				login); len(owned) != 0 {
				t.Errorf("the login owns %v", owned)
			}
			must(t, migrations.Down(t.Context(), as))
			must(t, migrations.Up(t.Context(), as))
		})
	}
}

// A database is migrated whatever its defaults are.
func TestUpUnderHostileDefaults(t *testing.T) {
	t.Parallel()
	address := empty(t)
	conn := connect(t, address)
	for _, setting := range []string{
		`default_transaction_isolation = 'serializable'`, `default_transaction_read_only = on`, `search_path = 'nowhere'`,
		`timezone = 'Asia/Tokyo'`,
		`statement_timeout = '1ms'`,
	} {
		exec(t, conn, `ALTER DATABASE `+conn.Config().Database+` SET `+setting)
	}
	must(t, migrations.Up(t.Context(), address))
	exec(t, conn, `ALTER DATABASE `+conn.Config().Database+` RESET ALL`)
	if n := applied(t, address); n != count(t) {
		t.Errorf("%d applied", n)
	}
}

// The build of a concurrent index waits for all running transactions, without a time-out: an aborted build would leave
// an invalid index.
func TestConcurrentIndexWaits(t *testing.T) {
	t.Parallel()
	address := testdb.New(t).URL
	for applied(t, address) > 8 { // the index is made by the ninth
		must(t, migrations.Down(t.Context(), address))
	}
	writer := connect(t, address)
	exec(t, writer, `ALTER DATABASE `+writer.Config().Database+` SET lock_timeout = '1ms'`)
	exec(t, writer, `BEGIN; LOCK TABLE medical_events.service_requests IN ROW EXCLUSIVE MODE`)
	end := make(chan error, 1)
	go func() { end <- migrations.Up(t.Context(), address) }()
	other := connect(t, address)
	for waits := "false"; waits != "true"; time.Sleep(2 * time.Millisecond) {
		select {
		case err := <-end:
			t.Fatalf("did not wait: %v", err)
		default:
		}
		waits = column(t, other, `
			SELECT EXISTS (SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
			WHERE locktype = 'virtualxid' AND NOT granted AND datname = current_database()
				AND waitstart < clock_timestamp() - interval '20 ms')::text`)[0]
	}
	exec(t, writer, "COMMIT")
	must(t, receive(t, end))
	if invalid := column(t, other,
		`SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid`); len(invalid) != 0 {
		t.Errorf("invalid: %v", invalid)
	}
}

// A migration that meets a lock gives up soon, changes nothing, and can be run again.
func TestUpGivesUpALock(t *testing.T) {
	t.Parallel()
	address := testdb.New(t).URL
	for applied(t, address) > 4 { // down to the base data
		must(t, migrations.Down(t.Context(), address))
	}
	conn := connect(t, address)
	before := portrait(t, conn)
	tx, err := conn.Begin(t.Context())
	must(t, err)
	_, err = tx.Exec(t.Context(), `LOCK TABLE prm.parameters`)
	must(t, err)
	if err := migrations.Up(t.Context(), address); err == nil {
		t.Error("no error")
	}
	must(t, tx.Rollback(t.Context()))
	compare(t, "given up", portrait(t, conn), before)
	must(t, migrations.Up(t.Context(), address))
}

// A program on the schema of a newer release has nothing to migrate, reports the version, and rolls back no migration
// that it does not know.
func TestASchemaOfANewerRelease(t *testing.T) {
	t.Parallel()
	address := testdb.New(t).URL
	conn := connect(t, address)
	newer := migrations.Latest() + 1
	exec(t, conn, fmt.Sprintf(`INSERT INTO ops.schema_versions (version_id, is_applied) VALUES (%d, true)`, newer))
	before := portrait(t, conn)
	must(t, migrations.Up(t.Context(), address))
	if err := migrations.Down(t.Context(), address); err == nil ||
		!strings.Contains(err.Error(), "newer than this program") {
		t.Errorf("down: %v", err)
	}
	compare(t, "up and down", portrait(t, conn), before)
	plan, err := migrations.Plan(t.Context(), address)
	must(t, err)
	if len(plan) != 0 {
		t.Errorf("planned: %+v", plan)
	}
	if _, err := migrations.PlanDown(t.Context(), address); err == nil ||
		!strings.Contains(err.Error(), "newer than this program") {
		t.Errorf("plan of down: %v", err)
	}
	steps, err := migrations.Status(t.Context(), address)
	must(t, err)
	if last := steps[len(steps)-1]; len(steps) != count(t)+1 || last.Version != newer || last.Name != "" ||
		last.AppliedAt.IsZero() {
		t.Errorf("%d steps, the last is %+v", len(steps), last)
	}
}
