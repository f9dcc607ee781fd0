package migrations_test

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/reiestr/reiestr/internal/dev/testdb"
	"github.com/reiestr/reiestr/migrations"
)

var (
	queryOfFile   = regexp.MustCompile(`(?m)^-- name: (\w+) :\w+$`)
	generatedText = regexp.MustCompile("(?s)const \\w+ = `-- name: (\\w+) :\\w+\n(.*?)`")
)

// queriesOfTheService are the named queries except those of the owner, which are marked in the header of the query or
// of its file.
func queriesOfTheService(t *testing.T) map[string]string {
	t.Helper()
	read := func(pattern string) (texts []string) {
		files, err := filepath.Glob(pattern)
		must(t, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			must(t, err)
			texts = append(texts, string(text))
		}
		return texts
	}
	const owners = "Run by the owner"
	ofOwner := map[string]bool{}
	for _, text := range read("../sql/*.sql") {
		heads := queryOfFile.FindAllStringSubmatchIndex(text, -1)
		for i, head := range heads {
			end := len(text)
			if i+1 < len(heads) {
				end = heads[i+1][0]
			}
			ofOwner[text[head[2]:head[3]]] = strings.Contains(text[:heads[0][0]], owners) ||
				strings.Contains(text[head[0]:end], owners)
		}
	}
	queries := map[string]string{}
	for _, text := range read("../db/sqlc/*.go") {
		for _, found := range generatedText.FindAllStringSubmatch(text, -1) {
			isOwners, known := ofOwner[found[1]]
			if !known {
				t.Errorf("%s is in db/sqlc and not in sql/", found[1])
			}
			if !isOwners {
				queries[found[1]] = found[2]
			}
		}
	}
	if len(queries) < 30 || len(queries) == len(ofOwner) {
		t.Fatalf("%d queries of the service, %d in all", len(queries), len(ofOwner))
	}
	return queries
}

// privileges are the rights of a role on the objects of the database, as one statement each that would revoke it. The
// role "" stands for PUBLIC. PostgreSQL's default grants are included. Row types are left out: they have the rights of
// their tables.
const privileges = `
	WITH own AS (SELECT oid, nspname, nspowner, nspacl FROM pg_namespace
		WHERE nspname IN ('prm', 'medical_events', 'ops')),
	granted (acl, object, owner) AS (
		SELECT coalesce(nspacl, acldefault('n', nspowner)), format('%%s ON SCHEMA %I', nspname), nspowner FROM own
		UNION ALL
		SELECT coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner)),
			format('%%s ON %s %I.%I', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
				own.nspname, c.relname), c.relowner
		FROM pg_class c JOIN own ON own.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
		UNION ALL
		SELECT a.attacl, format('%%s (%I) ON TABLE %I.%I', a.attname, own.nspname, c.relname), c.relowner
		FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN own ON own.oid = c.relnamespace
			WHERE NOT a.attisdropped
		UNION ALL
		SELECT coalesce(p.proacl, acldefault('f', p.proowner)), format('%%s ON ROUTINE %s', p.oid::regprocedure), p.proowner
		FROM pg_proc p JOIN own ON own.oid = p.pronamespace
		UNION ALL
		SELECT coalesce(y.typacl, acldefault('T', y.typowner)), format('%%s ON TYPE %I.%I', own.nspname, y.typname),
			y.typowner
		FROM pg_type y JOIN own ON own.oid = y.typnamespace WHERE y.typrelid = 0 AND y.typelem = 0
	)
	SELECT 'REVOKE ' || format(object, privilege_type) FROM granted, aclexplode(acl)
	WHERE grantee = CASE $1 WHEN '' THEN 0 ELSE to_regrole($1)::oid END
	ORDER BY 1`

// TestTheServiceHasTheGrantsItNeeds revokes the grants of reiestr_app one after the other. For each of them a query of
// the service must fail.
func TestTheServiceHasTheGrantsItNeeds(t *testing.T) {
	t.Parallel()
	conn := connect(t, testdb.New(t).URL)
	tx, err := conn.Begin(t.Context())
	must(t, err)
	queries := queriesOfTheService(t)
	var names []string
	for name, text := range queries {
		_, err := tx.Prepare(t.Context(), name, text)
		must(t, err)
		names = append(names, name)
	}
	slices.Sort(names)
	// The planner must not drop a part of a plan because these parameters do not need it: only the parts of a plan ask for
	// their rights.
	_, err = tx.Exec(t.Context(), `SET LOCAL plan_cache_mode = force_generic_plan`)
	must(t, err)

	// try runs something, rolls it back, and answers its error.
	try := func(statements ...string) (err error) {
		savepoint, err := tx.Begin(t.Context())
		must(t, err)
		for _, sql := range statements {
			if _, err = savepoint.Exec(t.Context(), sql); err != nil {
				break
			}
		}
		must(t, savepoint.Rollback(t.Context()))
		return err
	}
	// run is the error of a query of the service without one grant ("": with all grants). A plan shows which rights the
	// query itself needs. A run without values shows which rights its triggers need, and may end with a violated
	// constraint.
	run := func(name, revoke string) error {
		statement, err := tx.Prepare(t.Context(), name, queries[name])
		must(t, err)
		execute := `EXECUTE ` + pgx.Identifier{name}.Sanitize()
		if n := len(statement.ParamOIDs); n > 0 {
			execute += `(` + strings.TrimSuffix(strings.Repeat(`NULL, `, n), `, `) + `)`
		}
		if err := try(revoke, `SET LOCAL ROLE reiestr_app`, `EXPLAIN `+execute); err != nil {
			return err
		}
		err = try(revoke, `SET LOCAL ROLE reiestr_app`, execute)
		if code := stateOf(err); strings.HasPrefix(code, "22") || strings.HasPrefix(code, "23") {
			return nil
		}
		return err
	}

	for _, name := range names {
		if err := run(name, ``); err != nil {
			t.Errorf("with all grants: %s: %v", name, err)
		}
	}
	if t.Failed() {
		return // a query that always fails would seem to need every grant
	}
	grants := column(t, conn, privileges, "reiestr_app")
	if len(grants) < 20 {
		t.Errorf("grants found: %v", grants)
	}
	for _, revoke := range grants {
		revoke += ` FROM reiestr_app`
		missed := slices.ContainsFunc(names, func(name string) bool {
			err := run(name, revoke)
			if err != nil && stateOf(err) != "42501" {
				t.Errorf("%s: %s: %v", revoke, name, err)
			}
			return err != nil
		})
		if !missed {
			t.Errorf("no query of the service needs the right that this revokes: %s", revoke)
		}
	}
}

func stateOf(err error) string {
	var pg *pgconn.PgError
	errors.As(err, &pg)
	if pg == nil {
		return ""
	}
	return pg.Code
}

// The roles have their grants and nothing else: no right of PUBLIC, no other role, no object of their own.
func TestTheRolesHaveNothingButTheirGrants(t *testing.T) {
	t.Parallel()
	conn := connect(t, testdb.New(t).URL)
	if all := column(t, conn, privileges, ""); len(all) != 0 {
		t.Errorf("PUBLIC has the rights that these would revoke: %v", all)
	}
	// The same holds for future functions.
	exec(t, conn, `SET ROLE reiestr_owner; CREATE FUNCTION ops.newborn() RETURNS int LANGUAGE sql RETURN 1; RESET ROLE`)
	if all := column(t, conn, privileges, ""); len(all) != 0 {
		t.Errorf("PUBLIC has the rights that these would revoke: %v", all)
	}
	for _, role := range []string{"reiestr_app", "reiestr_readonly"} {
		for what, sql := range map[string]string{
			"attributes": `SELECT rolname::text FROM pg_roles WHERE rolname = $1
				AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolcanlogin OR rolreplication OR rolbypassrls)`,
			"roles": `SELECT roleid::regrole::text FROM pg_auth_members WHERE member = $1::regrole`,
			"things of its own": `SELECT classid::regclass || ' ' || objid FROM pg_shdepend WHERE refobjid = $1::regrole
				AND deptype = 'o'`,
			"default rights": `SELECT defaclacl::text FROM pg_default_acl WHERE defaclacl::text ~ ($1 || '=')`,
		} {
			if found := column(t, conn, sql, role); len(found) != 0 {
				t.Errorf("%s has %s: %v", role, what, found)
			}
		}
	}
}

// TestRolesThatExistStayAsTheyAre: roles.sql may run again and again. It changes nothing of roles that exist, their
// attributes and settings included: a DBA who has given a role a login keeps it, and must take away a wrong one.
func TestRolesThatExistStayAsTheyAre(t *testing.T) {
	t.Parallel()
	script, err := migrations.FS.ReadFile("roles.sql")
	must(t, err)
	conn := connect(t, testdb.New(t).URL)
	tx, err := conn.Begin(t.Context()) // roles are common to the server: nothing of this is committed
	must(t, err)
	defer tx.Rollback(context.Background()) //nolint:errcheck // the connection is closed anyway
	roles := func() (all []string) {
		t.Helper()
		// Logins of other tests may become members at the same time.
		rows, err := tx.Query(t.Context(), `
			WITH own AS (SELECT oid FROM pg_roles WHERE rolname IN ('reiestr_owner', 'reiestr_app', 'reiestr_readonly'))
			SELECT r::text || coalesce((SELECT string_agg(m::text, ' ' ORDER BY m::text) FROM pg_auth_members m
				WHERE m.roleid = r.oid AND m.member IN (SELECT oid FROM own)), '') || coalesce((SELECT nspacl::text FROM pg_namespace WHERE nspname = 'ops'), '')
			FROM pg_roles r WHERE oid IN (SELECT oid FROM own) ORDER BY rolname`)
		must(t, err)
		all, err = pgx.CollectRows(rows, pgx.RowTo[string])
		must(t, err)
		return all
	}
	for _, change := range []string{
		`SELECT`,
		`ALTER ROLE reiestr_app LOGIN CONNECTION LIMIT 7`,
		`ALTER ROLE reiestr_readonly RESET statement_timeout`,
	} {
		_, err := tx.Exec(t.Context(), change)
		must(t, err)
		before := roles()
		_, err = tx.Exec(t.Context(), string(script))
		must(t, err)
		if after := roles(); len(before) != 3 || !slices.Equal(after, before) {
			t.Errorf("%s: the roles were %v, are %v", change, before, after)
		}
	}
}

// TestRolesWithMoreThanTheirGrantsAreRefused: roles.sql does not take a role away from the DBA, but it names one that
// exists with rights beyond its grants, and the statement that mends it.
func TestRolesWithMoreThanTheirGrantsAreRefused(t *testing.T) { // not parallel: another test changes the same roles
	script, err := migrations.FS.ReadFile("roles.sql")
	must(t, err)
	conn := connect(t, testdb.New(t).URL)
	for _, c := range []struct{ change, message string }{
		{"ALTER ROLE reiestr_app SUPERUSER",
			"role reiestr_app has more than its grants: ALTER ROLE reiestr_app NOSUPERUSER"},
		{"ALTER ROLE reiestr_readonly CREATEROLE CREATEDB REPLICATION BYPASSRLS",
			"role reiestr_readonly has more than its grants: ALTER ROLE reiestr_readonly NOCREATEROLE NOCREATEDB " +
				"NOREPLICATION NOBYPASSRLS"},
		{"GRANT reiestr_owner TO reiestr_app",
			"role reiestr_app has more than its grants: it is a member of reiestr_owner, REVOKE this"},
	} {
		tx, err := conn.Begin(t.Context()) // roles are common to the server: nothing of this is committed
		must(t, err)
		_, err = tx.Exec(t.Context(), c.change)
		must(t, err)
		_, err = tx.Exec(t.Context(), string(script))
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || refused.Message != c.message {
			t.Errorf("%s: %v, want %s", c.change, err, c.message)
		}
		must(t, tx.Rollback(t.Context()))
	}
}

// seenByReaders classifies every column of the database: first those that reiestr_readonly may read, then the others.
// 00013 gives the reasons.
var seenByReaders = map[string][2]string{
	"prm.dictionaries":      {"name is_active description labels", ""},
	"prm.dictionary_values": {"dictionary code description is_active parent_code", ""},
	"prm.parameters":        {"name value", ""},
	"prm.legal_entities":    {"id type status nhs_verified inserted_at updated_at", "edrpou name inserted_by updated_by"},
	"prm.divisions":         {"id legal_entity_id status inserted_at updated_at", "name inserted_by updated_by"},
	"prm.employees":         {"legal_entity_id employee_type status inserted_at updated_at", "id inserted_by updated_by"},
	"prm.licenses": {"id legal_entity_id type is_active is_primary issued_date issuer_status expiry_date " +
		"active_from_date inserted_at updated_at",
		"license_number issued_by what_licensed order_no inserted_by updated_by"},
	"medical_events.service_requests": {"id status program_id program_processing_status used_by_legal_entity_id " +
		"used_by_division_id category " +
		"requester_legal_entity_id expiration_date inserted_at updated_at",
		"requisition patient_id used_by_employee_id code_id completed_with program_service_id status_reason content " +
			"inserted_by updated_by"},
	"medical_events.service_request_history": {"sequence_number service_request_id status program_processing_status " +
		"used_by_legal_entity_id inserted_at",
		"used_by_employee_id status_reason inserted_by"},
	"ops.access_tokens": {"client_id scopes expires_at inserted_at revoked_at", "token_hash user_id"},
	"ops.access_epoch":  {"is_only_row epoch", ""},
	"ops.api_keys":      {"name inserted_at revoked_at", "key_hash"},
	"ops.jobs": {"id sequence_number action service_request_id client_id status refusal attempts not_before inserted_at " +
		"ended_at trace_context",
		"patient_id user_id body request_digest"},
	"ops.events": {"id sequence_number event_type entity_type entity_id event_time legal_entity_ids",
		"properties changed_by"},
	"ops.unpublished_events": {"sequence_number event_id", ""},
	"ops.event_feed":         {"legal_entity_id position event_id event_time", ""},
	"ops.event_horizons":     {"legal_entity_id position", ""},
	"ops.idempotency_records": {
		"client_id locked_until inserted_at code", "key user_key request_digest lease_id header body",
	},
	"ops.schema_versions": {"id version_id is_applied tstamp", ""},
}

func TestReadersSeeNoSecretsAndNoPersonalData(t *testing.T) {
	t.Parallel()
	conn := connect(t, testdb.New(t).URL)
	columns := column(t, conn, `
		SELECT format('%s.%s %s', n.nspname, c.relname, a.attname)
		FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname IN ('prm', 'medical_events', 'ops') AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0
			AND NOT a.attisdropped`)
	known := 0
	for _, both := range seenByReaders {
		known += len(strings.Fields(both[0])) + len(strings.Fields(both[1]))
	}
	if known != len(columns) {
		t.Errorf("%d columns are classified, the database has %d", known, len(columns))
	}
	exec(t, conn, `SET ROLE reiestr_readonly`)
	for _, name := range columns {
		table, column, _ := strings.Cut(name, " ")
		seen := slices.Contains(strings.Fields(seenByReaders[table][0]), column)
		if !seen && !slices.Contains(strings.Fields(seenByReaders[table][1]), column) {
			t.Errorf("%s is not classified in seenByReaders", name)
		}
		_, err := conn.Exec(t.Context(), `SELECT `+column+` FROM `+table)
		if seen && err != nil || !seen && stateOf(err) != "42501" {
			t.Errorf("%s, may be read: %t: %v", name, seen, err)
		}
	}
	for table := range seenByReaders {
		for _, sql := range []string{
			`INSERT INTO ` + table + ` DEFAULT VALUES`, `DELETE FROM ` + table, `TRUNCATE ` + table,
			`SELECT FROM ` + table + ` FOR KEY SHARE`,
		} {
			if _, err := conn.Exec(t.Context(), sql); stateOf(err) != "42501" {
				t.Errorf("%s: %v", sql, err)
			}
		}
	}
	// Nothing else: no right to write a column, and no function except the one that answers the version.
	others := slices.DeleteFunc(column(t, conn, privileges, "reiestr_readonly"), func(revoke string) bool {
		return regexp.MustCompile(`^REVOKE (SELECT \("?\w+"?\) ON TABLE|USAGE ON SCHEMA|` +
			`EXECUTE ON ROUTINE ops.schema_version\(\)$)`).MatchString(revoke)
	})
	if len(others) != 0 {
		t.Errorf("readers have the rights that these would revoke: %v", others)
	}
	column(t, conn, `SELECT ops.schema_version()::text`)
}

// The queries of the playbook work: those on our tables for readers, those on sessions and statements for a superuser.
func TestThePlaybookOfStatements(t *testing.T) {
	t.Parallel()
	conn := connect(t, testdb.New(t).URL)
	if strings.Contains(column(t, conn, `SHOW shared_preload_libraries`)[0], "pg_stat_statements") {
		exec(t, conn, `CREATE EXTENSION pg_stat_statements`)
	} else {
		exec(t, conn, `CREATE VIEW public.pg_stat_statements AS SELECT 0::oid AS dbid, '' AS query, 0 AS calls, 0 AS rows,
			0.0 AS total_exec_time, 0.0 AS mean_exec_time, 0.0 AS max_exec_time, 0 AS shared_blks_read, 0 AS wal_bytes`)
	}
	text, err := os.ReadFile("../docs/playbooks/statements.md")
	must(t, err)
	readers := 0
	for _, query := range regexp.MustCompile(`(?ms)^SELECT .*?;`).FindAllString(string(text), -1) {
		if !strings.Contains(query, "pg_stat_") {
			readers++
			exec(t, conn, `SET ROLE reiestr_readonly`)
		}
		exec(t, conn, query)
		exec(t, conn, `RESET ROLE`)
	}
	if readers < 3 {
		t.Errorf("%d questions of readers", readers)
	}
}

// Settings of a role apply to sessions that log in as the role, and not to those that SET ROLE to it. The comments on
// time-outs rest on this.
func TestSettingsOfARoleAreThoseOfItsLogin(t *testing.T) {
	t.Parallel()
	address := testdb.New(t).URL
	dba := connect(t, address)
	if settings := column(t, dba,
		`SELECT unnest(rolconfig) FROM pg_roles WHERE rolname = 'reiestr_readonly' ORDER BY 1`,
	); !slices.Equal(settings, []string{
		"default_transaction_read_only=on", "idle_in_transaction_session_timeout=1min", "lock_timeout=2s",
		"statement_timeout=5min",
	}) {
		t.Errorf("settings of reiestr_readonly: %v", settings)
	}
	login := "reiestr_login_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	exec(t, dba, `CREATE ROLE `+login+` LOGIN PASSWORD 'secret' IN ROLE reiestr_readonly`)
	t.Cleanup(func() {
		if _, err := dba.Exec(context.Background(), `DROP ROLE `+login); err != nil {
			t.Error(err)
		}
	})
	exec(t, dba, `ALTER ROLE `+login+` SET statement_timeout = '7s'`)
	timeout := func(address string) string {
		conn, err := pgx.Connect(t.Context(), address)
		if err != nil {
			t.Skipf("this server lets no other login in: %v", err)
		}
		defer conn.Close(t.Context())
		return column(t, conn, `SHOW statement_timeout`)[0]
	}
	query := func(set func(url.Values)) string {
		return change(t, address, func(u *url.URL) { q := u.Query(); set(q); u.RawQuery = q.Encode() })
	}
	if got, plain := timeout(query(func(q url.Values) { q.Set("role", login) })), timeout(address); got != plain {
		t.Errorf("taken on: %s, without: %s", got, plain)
	}
	as := change(t, query(func(q url.Values) { q.Del("user"); q.Del("password") }),
		func(u *url.URL) { u.User = url.UserPassword(login, "secret") })
	if got := timeout(as); got != "7s" {
		t.Errorf("logged in: %s", got)
	}
}

// The time-outs of a migrator, whatever the defaults of the database are. Other tests check that each file limits the
// wait for its locks.
func TestTimeoutsOfAMigrator(t *testing.T) {
	t.Parallel()
	address := testdb.New(t).URL
	dba := connect(t, address)
	for _, setting := range []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"} {
		exec(t, dba, `ALTER DATABASE `+dba.Config().Database+` SET `+setting+` = '17ms'`)
	}
	const timeouts = `SELECT current_user || ' ' || current_setting('application_name') || ': ' || concat_ws(' ',
		current_setting('statement_timeout'),
		current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout'))`
	conn, err := migrations.Connect(t.Context(), address)
	must(t, err)
	t.Cleanup(func() { conn.Close(context.Background()) })
	if got := column(t, conn, timeouts)[0]; !strings.HasSuffix(got, " reiestr migrate: 0 10s 1min") {
		t.Error(got)
	}
	owner, err := migrations.OpenAsOwner(address)
	must(t, err)
	t.Cleanup(func() { owner.Close() })
	var got string
	must(t, owner.QueryRowContext(t.Context(), timeouts).Scan(&got))
	if got != "reiestr_owner reiestr migrate: 0 0 1min" {
		t.Error(got)
	}
}
